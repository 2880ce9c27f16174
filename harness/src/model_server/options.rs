//! How a model server behaves.

use std::net::Ipv4Addr;

use super::count::Encoding;

/// How the model server behaves. Every request can deviate from it with the header `x-model-server`, see `Script`.
#[derive(Clone, Debug)]
pub struct Options {
    /// Address to listen on, one of this machine's own.
    pub host: Ipv4Addr,
    /// Port to listen on (0: any free one).
    pub port: u16,
    /// What this server calls itself in `x-served-by` and in the label `model_name`.
    pub name: String,
    /// A model that is served; repeat for several. Without any, every model name is accepted.
    pub models: Vec<String>,
    /// Encoding that `usage` is counted with.
    pub encoding: Encoding,
    /// Milliseconds until the first token.
    pub ttft_ms: u64,
    /// Milliseconds between two tokens.
    pub inter_token_ms: u64,
    /// The longest completion the model would write if the request set no limit, in tokens.
    pub completion_tokens: u32,
    /// Share of requests that fail with 500, from 0 to 1.
    pub error_rate: f64,
    /// Requests that are worked on at the same time.
    pub concurrency: usize,
    /// Requests that may wait for their turn; one more is answered with 503.
    pub queue: usize,
    /// Prompt tokens that are read per second, one prompt after the other (0: any number).
    pub prefill_tokens_per_second: u64,
    /// Tokens that are generated per second, by all streams together (0: any number).
    pub decode_tokens_per_second: u64,
    /// Milliseconds from the start during which everything is answered with 503, `/health` too: the model is being loaded.
    pub load_ms: u64,
    /// Seed of completion lengths, texts and errors: the same prompt and seed give the same completion.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            host: Ipv4Addr::LOCALHOST,
            port: 0,
            name: "model-server".to_owned(),
            models: Vec::new(),
            encoding: Encoding::O200kBase,
            ttft_ms: 20,
            inter_token_ms: 2,
            completion_tokens: 64,
            error_rate: 0.0,
            concurrency: 256,
            queue: 1024,
            prefill_tokens_per_second: 0,
            decode_tokens_per_second: 0,
            load_ms: 0,
            seed: 0,
        }
    }
}
