//! What an exchange is told, what it answers, and what it needs of the outside.

use std::collections::BTreeMap;

use penstock_dialects::Splice;
use penstock_units::Millis;

use crate::metrics::SeriesId;

/// The headers of one message, names in lower case, in the order of the wire.
pub type Headers = Vec<(String, Vec<u8>)>;

/// What happens to a request.
pub enum Event<'a> {
    /// Its headers are here.
    RequestHead {
        /// With the pseudo headers `:method` and `:path`.
        headers: &'a Headers,
        /// There is no body.
        end: bool,
    },
    /// The next bytes of its body are here.
    RequestChunk {
        /// Those that were not given before.
        bytes: &'a [u8],
        /// They are the last.
        end: bool,
    },
    /// Trailers follow what is here of its body, which therefore is all.
    RequestTrailers,
    /// The response's headers are here; also those of a reply that the proxy itself makes.
    ResponseHead {
        /// With the pseudo header `:status`.
        headers: &'a Headers,
        /// There is no body.
        end: bool,
    },
    /// The next bytes of the response's body are here.
    ResponseChunk {
        /// They.
        bytes: &'a [u8],
        /// They are the last.
        end: bool,
    },
    /// A call that was asked for with [`Effect::Call`] has ended, or has taken too long. Then, and also when it is all over, the answer is
    /// told if it comes after all.
    CallDone {
        /// Which.
        id: CallId,
        /// What came of it; `None` where nothing did so far.
        answer: Option<CallAnswer<'a>>,
    },
    /// A tick has passed, or [`Effect::Wake`] names this one. Reaches exchanges that asked for it with [`Effect::Ticks`].
    Tick,
    /// It is over, however it ended. Comes once, last but for answers to calls.
    Closed,
}

/// What an exchange wants done. In this order, and all before the next event.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Set a request header, replacing others of that name.
    RequestHeader(&'static str, Vec<u8>),
    /// Remove a request header.
    DropRequestHeader(String),
    /// Set a response header, replacing others of that name.
    ResponseHeader(&'static str, Vec<u8>),
    /// Remove a response header.
    DropResponseHeader(&'static str),
    /// Forward these bytes of the response's body instead of those of the event.
    ResponseBytes(Vec<u8>),
    /// Forward this instead of the request's body, which has been held back. Its `content-length` has been set or dropped.
    RequestBody(Vec<u8>),
    /// Edit the request's body, which has been held back. Its `content-length` has been set or dropped.
    Splice(Vec<Splice>),
    /// Hold the request back until [`Effect::Resume`] or [`Effect::Reply`].
    Pause,
    /// Let the request go.
    Resume,
    /// Answer the request here.
    Reply {
        /// HTTP status.
        status: u32,
        /// Besides the content type.
        headers: Vec<(&'static str, String)>,
        /// JSON.
        body: Vec<u8>,
    },
    /// Call another service.
    Call(Box<Call>),
    /// From now on, or no longer, [`Event::Tick`] is wanted.
    Ticks(bool),
    /// Tell these exchanges of the worker that a tick has passed: in this order, after this event, and before any other that is not their own.
    Wake(Vec<u32>),
    /// Leave the facts for later plugins and the access log.
    Publish(Vec<u8>),
    /// Add to a counter. The amount is not zero. What the series is, the worker's [`crate::metrics::Registry`] knows.
    Count(SeriesId, u64),
    /// Set a gauge.
    Gauge(SeriesId, u64),
    /// Observe a value of a histogram.
    Observe(SeriesId, u64),
    /// Say something to the operator. Never contains text of a prompt or a completion.
    Log(Level, String),
}

/// Which call of an exchange: it numbers them itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallId(pub u32);

/// A call to another service. An exchange may have several on their way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Comes back with [`Event::CallDone`].
    pub id: CallId,
    /// Whether the request is held until then.
    pub hold: bool,
    /// A cluster of the proxy.
    pub cluster: String,
    /// How long the request waits for it.
    pub timeout: Millis,
    /// What is sent.
    pub message: CallMessage,
}

/// What a call sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallMessage {
    /// By gRPC.
    Grpc {
        /// `package.Service`
        service: &'static str,
        /// The method.
        method: &'static str,
        /// The message, protobuf.
        message: Vec<u8>,
    },
    /// By HTTP.
    Http {
        /// With the pseudo headers `:method`, `:path` and `:authority`.
        headers: Vec<(&'static str, String)>,
        /// The body; empty for none.
        body: Vec<u8>,
    },
}

/// What a service answered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum CallAnswer<'a> {
    /// With gRPC status 0: the message.
    Grpc(&'a [u8]),
    /// By HTTP.
    Http {
        /// With the pseudo header `:status`.
        headers: &'a Headers,
        /// The body.
        body: &'a [u8],
    },
    /// Nothing, as the proxy has no such cluster.
    NoCluster,
}

/// How much an operator should care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Something was done otherwise than configured.
    Warn,
    /// Something that happens once.
    Info,
}

/// A value could not be updated because others kept updating it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contended;

/// Makes a new value of an old one; `None` leaves it as it is.
pub type Change<'a> = &'a mut dyn FnMut(Option<&[u8]>) -> Option<Vec<u8>>;

/// What all workers share: values of bytes under keys, updated one at a time.
pub trait Store {
    /// The value under `key`.
    fn get(&mut self, key: &str) -> Option<Vec<u8>>;

    /// Replaces the value under `key` by what `change` makes of it; `change` may be called again when others were
    /// faster. Where it answers `None` the value stays. Returns how many times others were faster.
    ///
    /// # Errors
    /// [`Contended`] after a bounded number of attempts.
    fn update(&mut self, key: &str, change: Change<'_>) -> Result<u32, Contended>;
}

/// That of a process with one worker.
impl Store for BTreeMap<String, Vec<u8>> {
    fn get(&mut self, key: &str) -> Option<Vec<u8>> {
        BTreeMap::get(self, key).cloned()
    }

    fn update(&mut self, key: &str, change: Change<'_>) -> Result<u32, Contended> {
        if let Some(new) = change(BTreeMap::get(self, key).map(Vec::as_slice)) {
            self.insert(key.to_owned(), new);
        }
        Ok(0)
    }
}

/// What the proxy knows of the current request, by path.
pub trait Properties {
    /// The value at `path`, as the proxy serialises it.
    fn get(&self, path: &[&str]) -> Option<Vec<u8>>;

    /// A part of the request's body, which is being held back.
    fn body(&self, part: core::ops::Range<usize>) -> Option<Vec<u8>>;
}
