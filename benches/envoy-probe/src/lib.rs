//! A proxy-wasm plugin that counts the text of its configuration, after the first line, with the counter and with tiktoken-rs, in turns,
//! and logs how long each took. The first line displaces what the counter remembers. For measurements in Envoy's own engine.

use std::hint::black_box;
use std::time::{Duration, Instant};

use penstock_tokens::Encoding;
use proxy_wasm::traits::{Context, RootContext};
use proxy_wasm::types::LogLevel;

/// Rounds of each of the two, in turns, after those in which the engine warms up.
const ROUNDS: usize = 21;
const WARM_UP: usize = 6;
/// Counts of a round.
const TIMES: usize = 60;

struct Probe;

impl Context for Probe {}

impl RootContext for Probe {
    fn on_configure(&mut self, _: usize) -> bool {
        let configuration = self.get_plugin_configuration().and_then(|bytes| String::from_utf8(bytes).ok());
        let Some((strange, text)) = configuration.as_deref().and_then(|texts| texts.split_once('\n')) else {
            return false;
        };
        let Ok(theirs) = tiktoken_rs::o200k_base() else { return false };
        let mut line = String::from("probe");
        for round in 0..WARM_UP + ROUNDS {
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
                line.push_str(&format!(" {}/{}", ours.as_nanos(), theirs_time.as_nanos()));
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
