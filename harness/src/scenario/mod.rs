//! Scenarios: what clients send, what the model server answers, and what must come of it, as YAML that needs no code.
//!
//! The same file runs on the wasmtime host and on a real Envoy, with the four plugins in a row and with all in one; the answers must be the
//! same. (A scenario that lets more than 3 s pass in one step is for the simulated clock alone.) Every file under `tests/scenarios/` is a list of scenarios of this form (unknown keys are errors):
//!
//! ```yaml
//! - name: a limit refuses before it is exceeded      # printed with the result
//!   why: what would go wrong otherwise               # optional
//!   workers: 2                                       # default 1; requests go round them unless they name one
//!   wait_for_body: false                             # default true: headers may wait for the body
//!   config: {models: []}                             # pluginConfig, given to every plugin as JSON
//!   config_refused: ["models[0].name"]               # instead of steps: the config is refused, and the log has these words
//!   steps:
//!   - request:
//!       method: POST                                 # default POST, and GET where there is no body
//!       path: /v1/chat/completions                   # the default
//!       headers: {x-api-key: "key-{n}", x-raw: {hex: ff00}, x-long: {text: a, times: 1000}} # {n} counts the repetitions from 0
//!       body: {model: chat}                          # sent as compact JSON with sorted keys; or one of those below. `{answer x-a}` in a body is
//!                                                    # the header x-a of the last answer that had one, outside of `concurrent`
//!       text: "raw text"
//!       hex: 7b7d
//!       repeat: {before: "", text: "a ", times: 1000, after: ""}
//!       chunks: 3                                    # default 1: in how many pieces the body arrives
//!       body_after: 2s                               # default 0s: how long after the headers the body begins
//!       worker: 0
//!       abort_after: {bytes: 10}                     # the client leaves after so much of its body, or {events: 2} of the answer, or
//!                                                    # {waiting: 1s} without an answer
//!       times: 5                                     # default 1
//!       upstream:                                    # the model server's answer; default 200 with the JSON {}
//!         status: 200
//!         headers: {x-model: a}
//!         json: {id: 1}                              # or text: "…", or
//!         sse: [{choices: []}, "[DONE]"]             # one piece per event
//!         chunks: 2                                  # json and text: in how many pieces
//!         delay: 200ms                               # before the headers
//!         every: 20ms                                # between pieces
//!         reset_after: 1                             # the connection breaks after so many pieces; 0: before the headers
//!         unreachable: no_host                       # the proxy answers itself: also no_cluster, refused (connections)
//!         follow: {json: {id: 1}}                    # the proxy follows this answer to its location, where this is the answer
//!       expect:                                      # everything optional; holds for every repetition
//!         status: 200
//!         headers: {x-a: "1", x-b: {present: true}, x-c: {absent: true}, x-d: {prefix: ab}, x-e: {min: 1, max: 9}}
//!         body: {usage: {prompt_tokens: 8}}          # a part of the JSON: objects may have more keys, all else is equal
//!         text: "the whole body"
//!         reset: false                               # whether the answer was broken off
//!         upstream:
//!           called: true
//!           headers: {x-a: "1"}
//!           body: {model: b}
//!           text: "the whole body"
//!           edits: [{from: "a", to: "b"}]            # the body that was sent, byte for byte but for these replacements
//!         same: [x-penstock-version]                 # over all repetitions: response headers with one value
//!         spread: {x-penstock-version: {canary: {min: 1, max: 9}}}   # over all repetitions: how often each value comes
//!   - concurrent:                                    # requests in flight together, answered when all have been sent
//!       requests: [{times: 20, body: {}}]            # as above; `expect` holds for those that are admitted
//!       waiting: [{advance: 1s}]                     # steps before it is asked what became of them, for requests that may be held
//!       admitted: {min: 9, max: 10}                  # how many reach the model server
//!       meanwhile: [{advance: 1s}, {metrics: {}}]    # steps while they are in flight
//!       refused: {status: 429}                       # expectation for the rest
//!   - advance: 2s                                    # time passes
//!   - servers: {stable: 503, canary: silent}         # what clusters answer from now on to calls that the plugins make by HTTP; before, 200.
//!                                                    # The clusters no-host, no-cluster and refused are what they are called
//!   - configure: {models: []}                        # another pluginConfig is in force; requests in flight keep theirs
//!   - metrics: {'penstock_requests_total{…}': 1, other: {min: 1}}   # series as Prometheus shows them, absent reads 0 where the name exists
//! ```
//!
//! Besides the expectations, every run checks what must always hold: no VM traps, `content-length` tells the truth in both directions, and no
//! context of a finished stream is left.

mod chain;
mod check;
mod exchange;
mod format;
mod on_envoy;
#[cfg(feature = "sandbox")]
mod on_host;
mod run;
mod wire;

#[cfg(all(test, feature = "sandbox"))]
mod tests;

pub use chain::Chain;
pub use exchange::{Answer, Exchange, Sent};
pub use format::Unreachable;
pub use format::{Scenario, load};
pub use on_envoy::{OnEnvoy, run_on_envoy};
#[cfg(feature = "sandbox")]
pub use on_host::{HostExecutor, run_on_host};
pub use run::{Executor, run_steps};
