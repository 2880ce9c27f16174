//! What the filters run in: a real Envoy, or the sandbox.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

#[cfg(not(feature = "sandbox"))]
use super::no_sandbox::Sandbox;
#[cfg(feature = "sandbox")]
use super::sandbox::Sandbox;
use crate::envoy::{Envoy, Gateway, Metrics};

const WORKERS: u32 = 2;
/// The listener that has no filters.
const PLAIN: &str = "plain";

/// The model servers' addresses by version.
type Servers = BTreeMap<&'static str, SocketAddr>;

/// What the filters run in.
pub(super) enum Proxy {
    Envoy(Envoy),
    Sandbox(Sandbox),
}

impl Proxy {
    pub(super) async fn envoy(binary: &Path, gateway: Gateway, servers: Servers) -> Result<Self, String> {
        let gateway = servers.into_iter().fold(gateway, |gateway, (name, address)| gateway.cluster(name, address));
        let config = gateway.and_listener_without(PLAIN).render();
        Ok(Self::Envoy(Envoy::start(binary, &config, WORKERS).await?))
    }

    pub(super) async fn sandbox(module: &Path, mut gateway: Gateway, servers: Servers) -> Result<Self, String> {
        Ok(Self::Sandbox(Sandbox::start(module, gateway.configuration(), servers, WORKERS as usize).await?))
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Envoy(_) => "envoy",
            Self::Sandbox(_) => "sandbox",
        }
    }

    pub(super) fn url(&self) -> String {
        match self {
            Self::Envoy(envoy) => envoy.url(),
            Self::Sandbox(sandbox) => sandbox.url(),
        }
    }

    pub(super) fn url_without(&self) -> String {
        match self {
            Self::Envoy(envoy) => envoy.url_of(PLAIN).unwrap_or_default(),
            Self::Sandbox(sandbox) => sandbox.url_without(),
        }
    }

    pub(super) async fn metrics(&self) -> Result<Metrics, String> {
        match self {
            Self::Envoy(envoy) => envoy.metrics().await,
            Self::Sandbox(sandbox) => Ok(sandbox.metrics()),
        }
    }
}
