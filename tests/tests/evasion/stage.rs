//! An Envoy with the filters, in front of a model server that says what it saw.

use penstock_harness::envoy::{Envoy, Gateway, Metrics};
use penstock_harness::model_server::{ModelServer, Seen};
use penstock_tests::{PATIENCE, gateway};
use reqwest::{Client, Method, Response};
use serde_json::Value;

/// Where the gateway's HTTP connection manager stands in its configuration.
pub const MANAGER: &str = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";

/// The gateway of a test.
pub struct Stage {
    pub envoy: Envoy,
    pub server: ModelServer,
    pub client: Client,
}

impl Stage {
    /// With this configuration of the all-in-one, and two workers; `None` where there is no Envoy.
    pub async fn start(config: &Value) -> Option<Self> {
        Self::start_as(config, |gateway| gateway).await
    }

    /// The same, of a gateway that is changed first.
    pub async fn start_as(config: &Value, change: impl FnOnce(Gateway) -> Gateway) -> Option<Self> {
        let (envoy, server) = gateway(config, change).await?;
        Some(Self { envoy, server, client: Client::new() })
    }

    /// Sends a request; who hangs does so until Envoy's `request_timeout`, which is twice as long.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<String>,
    ) -> Response {
        let url = format!("{}{path}", self.envoy.url());
        let mut request = self.client.request(method, url).header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.body(body.into()).send();
        tokio::time::timeout(PATIENCE, answer).await.expect("it does not hang").expect("an answer")
    }

    /// Sends a chat.
    pub async fn chat(&self, headers: &[(&str, &str)], body: &Value) -> Response {
        self.send(Method::POST, "/v1/chat/completions", headers, body.to_string()).await
    }

    /// What the model server saw last.
    pub fn last(&self) -> Seen {
        self.server.requests().pop().expect("a request")
    }

    /// How many requests the model server saw.
    pub fn arrived(&self) -> u64 {
        self.server.totals().requests
    }

    pub async fn metrics(&self) -> Metrics {
        self.envoy.metrics().await.expect("metrics")
    }
}
