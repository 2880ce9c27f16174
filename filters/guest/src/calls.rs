//! Calls to other services.
//!
//! The SDK gives an answer to the context that it took for the current one when the call was made, and drops it where that is gone. But what
//! a service answers may matter when the request that asked is over. So all calls are made as the root context's: the SDK is told of an event
//! of the root context, in which the call is made.

use core::cell::{Cell, RefCell};

use penstock_exchange::{Call, CallMessage};
use penstock_units::Millis;

use crate::abi::{self, Status};

/// For how much longer than the request a call by gRPC is waited for: what it asked for counts all the same.
const LATE: Millis = Millis(10_000);

thread_local! {
    /// The call that is to be made in the root context.
    static CALL: RefCell<Option<Box<Call>>> = const { RefCell::new(None) };
    /// What came of that.
    static CALLED: Cell<Result<u32, Status>> = const { Cell::new(Err(Status::NOT_FOUND)) };
    /// A callback of the root context is under way.
    static IN_ROOT: Cell<bool> = const { Cell::new(false) };
}

/// Makes a call; answers the host's number for it.
pub fn dispatch(call: Box<Call>, root: u32) -> Result<u32, Status> {
    if IN_ROOT.get() {
        return make(&call);
    }
    CALL.set(Some(call));
    CALLED.set(Err(Status::NOT_FOUND));
    abi::tell_root(root);
    CALLED.get()
}

/// The root context has been told, by [`abi::tell_root`].
pub fn told() {
    if let Some(call) = CALL.take() {
        CALLED.set(make(&call));
    }
}

/// A callback of the root context.
pub fn in_root<T>(act: impl FnOnce() -> T) -> T {
    IN_ROOT.set(true);
    let out = act();
    IN_ROOT.set(false);
    out
}

fn make(call: &Call) -> Result<u32, Status> {
    let Call { cluster, timeout, message, .. } = call;
    let timeout = *timeout;
    let called = match message {
        CallMessage::Grpc { service, method, message } => {
            abi::grpc_call(cluster, service, method, message, timeout.saturating_add(LATE))
        }
        CallMessage::Http { headers, body } => {
            let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            abi::http_call(cluster, &headers, body, timeout)
        }
    };
    // A call that fails at once, as where the cluster has no host, is one that was not answered.
    called.inspect_err(|status| {
        if *status != Status::INTERNAL_FAILURE {
            log::warn!("{cluster:?} cannot be called: status {}", status.0);
        }
    })
}
