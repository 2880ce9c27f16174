//! In the sandbox's place where it is not built in: a sandbox that there never is.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use crate::envoy::Metrics;

const NOT_BUILT_IN: &str = "this `penstock` has no sandbox built in, so the demo needs an Envoy (`cargo xtask tools` installs one, or \
    PENSTOCK_ENVOY names one); with the sandbox, which takes minutes to compile: `cargo run -p penstock-cli -- demo`";

/// Nothing.
pub(super) enum Sandbox {}

impl Sandbox {
    pub(super) async fn start(
        _module: &Path,
        _configuration: String,
        _servers: BTreeMap<&'static str, SocketAddr>,
        _workers: usize,
    ) -> Result<Self, String> {
        Err(NOT_BUILT_IN.to_owned())
    }

    pub(super) fn url(&self) -> String {
        match *self {}
    }

    pub(super) fn url_without(&self) -> String {
        match *self {}
    }

    pub(super) fn metrics(&self) -> Metrics {
        match *self {}
    }
}
