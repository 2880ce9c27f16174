//! A stand-in for a GPU server: the APIs of OpenAI and Anthropic in front of a made-up model.
//!
//! What is true about it is what a proxy can be checked against: `usage` is counted with tiktoken and is exact for the text that was sent
//! and received; time to first token, inter-token time, concurrency and queue are what the options say; every request is kept for
//! inspection, together with whether its client stayed until the end. What is not true is the text: it is a string of common words.
//!
//! ```no_run
//! # async fn example() -> std::io::Result<()> {
//! use penstock_harness::model_server::{ModelServer, Options};
//!
//! let server = ModelServer::start(Options { ttft_ms: 5, ..Options::default() }).await?;
//! println!("{}", server.address());
//! # Ok(())
//! # }
//! ```

mod alone;
mod answer;
mod api;
mod capacity;
mod completion;
mod count;
mod embeddings;
mod ledger;
mod metrics;
mod options;
mod pace;
mod refusal;
mod script;
mod server;
mod shared;
mod text;

#[cfg(test)]
mod tests;

pub use alone::Alone;
pub use count::Encoding;
pub use ledger::{Seen, Totals};
pub use options::Options;
pub use script::Script;
pub use server::ModelServer;
