//! `penstock model-server`: a stand-in for a GPU server.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use penstock_harness::model_server::{Encoding, ModelServer, Options};

/// How the model server behaves. Every request can deviate from it with the header `x-model-server`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  penstock model-server --port 8081")]
pub struct Arguments {
    /// Port to listen on, on 127.0.0.1 (0: any free one).
    #[arg(long, default_value_t = Options::default().port)]
    port: u16,
    /// What this server calls itself in `x-served-by` and in the label `model_name`.
    #[arg(long, default_value_t = Options::default().name)]
    name: String,
    /// A model that is served; repeat for several. Without any, every model name is accepted.
    #[arg(long = "model")]
    models: Vec<String>,
    /// Encoding that `usage` is counted with.
    #[arg(long, default_value = Options::default().encoding.name(), value_parser = encoding())]
    encoding: Encoding,
    /// Milliseconds until the first token.
    #[arg(long, default_value_t = Options::default().ttft_ms)]
    ttft_ms: u64,
    /// Milliseconds between two tokens.
    #[arg(long, default_value_t = Options::default().inter_token_ms)]
    inter_token_ms: u64,
    /// The longest completion the model would write if the request set no limit, in tokens.
    #[arg(long, default_value_t = Options::default().completion_tokens)]
    completion_tokens: u32,
    /// Share of requests that fail with 500, from 0 to 1.
    #[arg(long, default_value_t = Options::default().error_rate)]
    error_rate: f64,
    /// Requests that are worked on at the same time.
    #[arg(long, default_value_t = Options::default().concurrency)]
    concurrency: usize,
    /// Requests that may wait for their turn; one more is answered with 503.
    #[arg(long, default_value_t = Options::default().queue)]
    queue: usize,
    /// Prompt tokens that are read per second, one prompt after the other (0: any number).
    #[arg(long, default_value_t = Options::default().prefill_tokens_per_second)]
    prefill_tokens_per_second: u64,
    /// Tokens that are generated per second, by all streams together (0: any number).
    #[arg(long, default_value_t = Options::default().decode_tokens_per_second)]
    decode_tokens_per_second: u64,
    /// Milliseconds from the start during which everything is answered with 503, `/health` too: the model is being loaded.
    #[arg(long, default_value_t = Options::default().load_ms)]
    load_ms: u64,
    /// Seed of completion lengths, texts and errors: the same prompt and seed give the same completion.
    #[arg(long, default_value_t = Options::default().seed)]
    seed: u64,
}

fn encoding() -> impl TypedValueParser<Value = Encoding> {
    let named = |name: String| Encoding::ALL.into_iter().find(|encoding| encoding.name() == name);
    PossibleValuesParser::new(Encoding::ALL.map(Encoding::name))
        .try_map(move |name| named(name).ok_or("there is no such encoding"))
}

impl From<Arguments> for Options {
    fn from(arguments: Arguments) -> Self {
        let Arguments { port, name, models, encoding, ttft_ms, inter_token_ms, completion_tokens, .. } = arguments;
        let Arguments { error_rate, concurrency, queue, seed, .. } = arguments;
        let Arguments { prefill_tokens_per_second, decode_tokens_per_second, load_ms, .. } = arguments;
        Self {
            port,
            name,
            models,
            encoding,
            ttft_ms,
            inter_token_ms,
            completion_tokens,
            error_rate,
            concurrency,
            queue,
            prefill_tokens_per_second,
            decode_tokens_per_second,
            load_ms,
            seed,
            ..Self::default()
        }
    }
}

/// Serves until it is interrupted.
///
/// # Errors
/// When the port is taken.
pub async fn run(arguments: Arguments) -> Result<(), String> {
    let options = Options::from(arguments);
    let name = options.name.clone();
    let server = ModelServer::start(options).await.map_err(|error| error.to_string())?;
    println!("{name} listens on http://{}", server.address());
    tokio::signal::ctrl_c().await.map_err(|error| error.to_string())
}
