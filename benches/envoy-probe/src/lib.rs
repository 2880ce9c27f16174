//! A proxy-wasm plugin that counts a text with the counter and with tiktoken-rs, in turns, and logs how long each took. For measurements
//! in Envoy's own engine.
//!
//! Its configuration has three texts with a NUL between them: one that displaces what the counter remembers, one to warm up with, and the
//! one that is measured.

use std::hint::black_box;
use std::time::{Duration, Instant};

use penstock_tokens::Encoding;
use proxy_wasm::traits::{Context, RootContext};
use proxy_wasm::types::LogLevel;

/// Rounds of each of the two, in turns, after those to warm up.
const ROUNDS: usize = 21;
const WARM_UP: usize = 6;
/// Counts of a round.
const TIMES: u128 = 60;

struct Probe;

impl Context for Probe {}

impl RootContext for Probe {
    fn on_configure(&mut self, _: usize) -> bool {
        let configuration = self.get_plugin_configuration().and_then(|bytes| String::from_utf8(bytes).ok());
        let texts: Vec<&str> = configuration.iter().flat_map(|texts| texts.split('\0')).collect();
        let [strange, warm, held_out] = *texts else { return false };
        let Ok(theirs) = tiktoken_rs::o200k_base() else { return false };
        let mut line = String::from("probe");
        for round in 0..WARM_UP + ROUNDS {
            let text = if round < WARM_UP { warm } else { held_out };
            let (mut ours, mut theirs_time) = (Duration::ZERO, Duration::ZERO);
            let (mut ours_tokens, mut theirs_tokens) = (0, 0);
            for _ in 0..TIMES {
                black_box(Encoding::O200kBase.count(black_box(strange)));
                let start = Instant::now();
                ours_tokens = black_box(Encoding::O200kBase.count(black_box(text)));
                ours += start.elapsed();
                let start = Instant::now();
                theirs_tokens = black_box(theirs.encode_ordinary(black_box(text)).len() as u64);
                theirs_time += start.elapsed();
            }
            if ours_tokens != theirs_tokens {
                line.push_str(" differ");
            }
            if round >= WARM_UP {
                line.push_str(&format!(" {}/{}", ours.as_nanos() / TIMES, theirs_time.as_nanos() / TIMES));
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
