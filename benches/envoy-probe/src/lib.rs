//! A proxy-wasm plugin that counts the text of its configuration with the counter and with tiktoken-rs, in turns, and logs how long each
//! took. For measurements in Envoy's own engine.

use std::hint::black_box;
use std::time::Instant;

use penstock_tokens::Encoding;
use proxy_wasm::traits::{Context, RootContext};
use proxy_wasm::types::LogLevel;

/// Rounds of each of the two, in turns; the first warms up.
const ROUNDS: usize = 22;

struct Probe;

impl Context for Probe {}

impl RootContext for Probe {
    fn on_configure(&mut self, _: usize) -> bool {
        let Some(text) = self.get_plugin_configuration().and_then(|bytes| String::from_utf8(bytes).ok()) else {
            return false;
        };
        let Ok(theirs) = tiktoken_rs::o200k_base() else { return false };
        let mut line = String::from("probe");
        for round in 0..ROUNDS {
            let start = Instant::now();
            let ours_tokens = black_box(Encoding::O200kBase.count(black_box(&text)));
            let ours = start.elapsed();
            let start = Instant::now();
            let theirs_tokens = black_box(theirs.encode_ordinary(black_box(&text)).len() as u64);
            let theirs = start.elapsed();
            if ours_tokens != theirs_tokens {
                line.push_str(" differ");
            }
            if round > 0 {
                line.push_str(&format!(" {}/{}", ours.as_nanos(), theirs.as_nanos()));
            }
        }
        let _ = proxy_wasm::hostcalls::log(LogLevel::Warn, &line);
        true
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn _initialize() {
    proxy_wasm::set_root_context(|_| Box::new(Probe));
}
