//! A test's part of the chain: all of it, emptied.

use std::sync::{Mutex, OnceLock, PoisonError};

use penstock_cluster::kubernetes::Kubernetes;
use penstock_cluster::place::Place;
use penstock_cluster::scaling::{Options, Prometheus, Scaling};
use penstock_harness::skipped;
use tokio::runtime::Runtime;

/// What all tests share.
struct Base {
    place: Place,
    kubernetes: Kubernetes,
}

/// What a test has.
pub struct Stage<'a> {
    pub place: &'a Place,
    pub kubernetes: &'a Kubernetes,
    pub scaling: &'a mut Scaling,
}

type Shared = (Runtime, Result<(Base, Mutex<Scaling>), String>);

fn base() -> &'static Shared {
    static BASE: OnceLock<Shared> = OnceLock::new();
    BASE.get_or_init(|| {
        let runtime = Runtime::new().expect("a runtime");
        let base = runtime.block_on(async {
            let place = Place::find()?;
            let kubernetes = Kubernetes::start(&place).await?;
            let scaling = Scaling::start(&place, &kubernetes, Options::default()).await?;
            Ok((Base { place, kubernetes }, Mutex::new(scaling)))
        });
        (runtime, base)
    })
}

/// Runs a test's steps on the emptied chain; without a cluster, or without a Prometheus, it says so, loudly.
pub fn run(options: Options, test: impl AsyncFnOnce(&mut Stage<'_>) -> Result<(), String>) {
    let cluster = std::env::var_os("PENSTOCK_CLUSTER_PROGRAMS");
    let cluster = cluster.map(drop).ok_or_else(|| "there is no cluster; `cargo xtask test --cluster`".to_owned());
    if let Err(missing) = cluster.and_then(|()| Prometheus::possible()) {
        return skipped(&missing);
    }
    let (runtime, base) = base();
    let (base, scaling) = base.as_ref().unwrap_or_else(|message| panic!("{message}"));
    // Also after a test that failed: whatever it left is cleared.
    let mut scaling = scaling.lock().unwrap_or_else(PoisonError::into_inner);
    let done = runtime.block_on(async {
        scaling.reset(&base.kubernetes, options).await?;
        test(&mut Stage { place: &base.place, kubernetes: &base.kubernetes, scaling: &mut scaling }).await
    });
    done.unwrap_or_else(|message| panic!("{message}\n{:#?}", scaling.record));
}
