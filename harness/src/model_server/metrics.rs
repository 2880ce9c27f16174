//! The server's own metrics under vLLM's names, in Prometheus' text format.

use std::fmt::Write;

use super::capacity::Capacity;
use super::ledger::{Histogram, INTER_TOKEN_BUCKETS, Ledger, TTFT_BUCKETS};

pub(super) fn render(model: &str, capacity: &Capacity, ledger: &Ledger) -> String {
    let totals = ledger.totals();
    let (ttft, inter_token) = ledger.histograms();
    let mut text = String::new();
    let mut single = |name: &str, kind: &str, value: f64| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "# TYPE vllm:{name} {kind}\nvllm:{name}{{model_name=\"{model}\"}} {value}");
    };
    single("num_requests_running", "gauge", capacity.running() as f64);
    single("num_requests_waiting", "gauge", capacity.waiting() as f64);
    single("kv_cache_usage_perc", "gauge", capacity.used());
    single("prompt_tokens_total", "counter", totals.prompt_tokens as f64);
    single("generation_tokens_total", "counter", totals.completion_tokens as f64);
    histogram(&mut text, model, "time_to_first_token_seconds", TTFT_BUCKETS, &ttft);
    histogram(&mut text, model, "inter_token_latency_seconds", INTER_TOKEN_BUCKETS, &inter_token);
    text
}

fn histogram(text: &mut String, model: &str, name: &str, bounds: &[f64], observed: &Histogram) {
    let _ = writeln!(text, "# TYPE vllm:{name} histogram");
    let mut below = 0;
    let bounds = bounds.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
    for (index, bound) in bounds.enumerate() {
        below += observed.counts.get(index).copied().unwrap_or_default();
        let _ = writeln!(text, "vllm:{name}_bucket{{model_name=\"{model}\",le=\"{bound}\"}} {below}");
    }
    let _ = writeln!(text, "vllm:{name}_sum{{model_name=\"{model}\"}} {}", observed.sum);
    let _ = writeln!(text, "vllm:{name}_count{{model_name=\"{model}\"}} {below}");
}
