//! What an autoscaling signal does to a trace of requests: a discrete simulation of model servers behind a gateway, and of the loop that
//! scales them (Prometheus, KEDA, the HPA).
//!
//! All of it is pure: a [`Trace`] and a [`Setup`] in, an [`Outcome`] out, the same every time. Nothing here reads a file or a clock; the
//! command `penstock simulate` does. What is simulated, and what that is worth, stands in `docs/simulate.md`.
//!
//! What it does not know: prefix caches, several gateways, nodes that have to be bought first, requests that are cancelled, networks.

mod engine;
mod fleet;
mod hpa;
mod law;
mod outcome;
mod random;
mod replica;
mod run;
mod scrape;
mod series;
mod trace;
mod tune;

pub use hpa::{Autoscaler, Behavior, Policy, Rules, Select};
pub use law::{Demand, Law};
pub use outcome::{Objectives, Outcome, Percentiles, Point};
pub use random::Random;
pub use replica::{Figures, never_meets};
pub use run::{Account, Setup, run};
pub use series::Series;
pub use trace::{Micros, Ramp, Request, SECOND, Trace, moment};
pub use tune::{Grid, Trial, best, grids, trials};
