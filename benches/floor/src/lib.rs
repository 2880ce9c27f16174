//! A filter that makes the calls which a filter like Penstock cannot do without, and decides nothing: what a proxy spends on them.
//!
//! It waits for the body, reads and writes shared data twice, sets three headers of the request and five of the answer, replaces the body,
//! writes one filter state, and moves five metrics.

use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, BufferType, ContextType, MapType, MetricType, Status};

const SHARED: [&str; 2] = ["floor/bucket", "floor/slot"];
/// As much as is read and written each time: a page of buckets has some rows.
const SHARED_BYTES: usize = 240;
const REQUEST_HEADERS: [&str; 3] = ["x-penstock-model", "x-penstock-version", "x-penstock-prompt-tokens"];
const RESPONSE_HEADERS: [&str; 5] = [
    "x-penstock-version",
    "x-ratelimit-limit-tokens",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-reset-tokens",
    "x-penstock-prompt-tokens",
];
const METRICS: [&str; 5] = ["floor_requests", "floor_prompt", "floor_completion", "floor_ttft", "floor_duration"];

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|_| Box::new(Root { metrics: [0; 5] }));
}}

struct Root {
    metrics: [u32; 5],
}

struct Stream {
    metrics: [u32; 5],
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _: usize) -> bool {
        for (id, name) in self.metrics.iter_mut().zip(METRICS) {
            match hostcalls::define_metric(MetricType::Counter, name) {
                Ok(defined) => *id = defined,
                Err(_) => return false,
            }
        }
        SHARED.iter().all(|key| hostcalls::set_shared_data(key, Some(&[0; SHARED_BYTES]), None).is_ok())
    }

    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream { metrics: self.metrics }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

impl Context for Stream {}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _: usize, is_last: bool) -> Action {
        if is_last { Action::Continue } else { Action::Pause }
    }

    fn on_http_request_body(&mut self, bytes: usize, is_last: bool) -> Action {
        if !is_last {
            return Action::Pause;
        }
        // A call that fails would be cheap, so that it must not go unseen.
        if let Err(status) = request(bytes) {
            self.send_http_response(500, vec![], Some(format!("{status:?}").as_bytes()));
            return Action::Pause;
        }
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _: usize, _: bool) -> Action {
        let set = |name: &&str| hostcalls::set_map_value(MapType::HttpResponseHeaders, name, Some("100000"));
        if RESPONSE_HEADERS.iter().try_for_each(set).is_err() {
            let _ = hostcalls::set_map_value(MapType::HttpResponseHeaders, ":status", Some("500"));
        }
        Action::Continue
    }

    fn on_log(&mut self) {
        for metric in self.metrics {
            let _ = hostcalls::increment_metric(metric, 1);
        }
    }
}

fn request(bytes: usize) -> Result<(), Status> {
    let body = hostcalls::get_buffer(BufferType::HttpRequestBody, 0, bytes)?.ok_or(Status::Empty)?;
    for key in SHARED {
        let (value, cas) = hostcalls::get_shared_data(key)?;
        hostcalls::set_shared_data(key, value.as_deref(), cas)?;
    }
    for name in REQUEST_HEADERS {
        hostcalls::set_map_value(MapType::HttpRequestHeaders, name, Some("stable"))?;
    }
    hostcalls::set_buffer(BufferType::HttpRequestBody, 0, bytes, &body)?;
    hostcalls::set_property(vec!["penstock.exchange"], Some(&[b'0'; SHARED_BYTES]))
}
