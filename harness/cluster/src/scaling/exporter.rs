//! What stands for a gateway where only its metrics matter: a page of series that a test sets.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::prometheus;

/// A page of metrics; gone when dropped.
#[derive(Debug)]
pub struct Exporter {
    address: SocketAddr,
    page: Arc<Mutex<Page>>,
    serving: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Page {
    is_dark: bool,
    /// By name and labels, so that what is of one name stands together.
    series: BTreeMap<(String, Labels), Value>,
}

type Labels = BTreeMap<String, String>;

#[derive(Clone, Copy, Debug)]
enum Value {
    Fixed(f64),
    Rising { from: f64, per_second: f64, since: Instant },
}

impl Value {
    fn now(self) -> f64 {
        match self {
            Self::Fixed(value) => value,
            Self::Rising { from, per_second, since } => from + per_second * since.elapsed().as_secs_f64(),
        }
    }
}

impl Exporter {
    /// Serves a page without series.
    ///
    /// # Errors
    /// When there is no port.
    pub async fn start() -> Result<Self, String> {
        let said = |error: std::io::Error| format!("an exporter: {error}");
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(said)?;
        let address = listener.local_addr().map_err(said)?;
        let page = Arc::new(Mutex::new(Page::default()));
        let router = Router::new().route(prometheus::PATH, get(serve)).with_state(Arc::clone(&page));
        let serving = tokio::spawn(async move { drop(axum::serve(listener, router).await) });
        Ok(Self { address, page, serving })
    }

    /// Where it is scraped.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets a series, which is made if it is not there.
    pub fn set(&self, name: &str, labels: &[(&str, &str)], value: f64) {
        lock(&self.page).series.insert(key(name, labels), Value::Fixed(value));
    }

    /// Lets a series rise from where it is, or from 0: a counter of what arrives. With 0 it stands still.
    pub fn rise(&self, name: &str, labels: &[(&str, &str)], per_second: f64) {
        let mut page = lock(&self.page);
        let value = page.series.entry(key(name, labels)).or_insert(Value::Fixed(0.0));
        *value = Value::Rising { from: value.now(), per_second, since: Instant::now() };
    }

    /// Sets the pending tokens of a version in both phases.
    pub fn pending(&self, model: &str, version: &str, prefill: f64, decode: f64) {
        for (phase, value) in [("prefill", prefill), ("decode", decode)] {
            self.set("penstock_pending_tokens", &[("model", model), ("phase", phase), ("version", version)], value);
        }
    }

    /// Takes all series away that have these labels; without labels all there are.
    pub fn forget(&self, labels: &[(&str, &str)]) {
        let is_meant = |has: &Labels| labels.iter().all(|(name, value)| has.get(*name).is_some_and(|own| own == value));
        lock(&self.page).series.retain(|(_, has), _| !is_meant(has));
    }

    /// Whether it cannot be scraped: it answers 503.
    pub fn dark(&self, is_dark: bool) {
        lock(&self.page).is_dark = is_dark;
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(State(page): State<Arc<Mutex<Page>>>) -> Response {
    let page = lock(&page);
    if page.is_dark {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], page.render()).into_response()
}

impl Page {
    fn render(&self) -> String {
        let mut text = String::new();
        for ((name, labels), value) in &self.series {
            let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
            // Nothing can go wrong with a string.
            let _ = writeln!(text, "{name}{{{}}} {}", labels.join(","), value.now());
        }
        text
    }
}

fn key(name: &str, labels: &[(&str, &str)]) -> (String, Labels) {
    let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    (name.to_owned(), labels.collect())
}

fn lock(page: &Mutex<Page>) -> MutexGuard<'_, Page> {
    page.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_what_was_set() {
        let mut page = Page::default();
        page.series.insert(key("b", &[("model", "chat"), ("kind", "prompt")]), Value::Fixed(2.5));
        page.series.insert(key("a", &[]), Value::Fixed(0.0));
        assert_eq!(page.render(), "a{} 0\nb{kind=\"prompt\",model=\"chat\"} 2.5\n");
    }
}
