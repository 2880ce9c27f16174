//! What the tests of this crate share.

use penstock_simulate::{Account, Behavior, Figures, Law, Objectives, Setup, Trace};

/// Penstock's trigger on the reference replica, as the command has it by default.
pub fn setup(trace: &Trace) -> Setup {
    let figures = Figures::QWEN3_32B;
    Setup {
        figures,
        cold_start: 60.0,
        law: Law::penstock(&figures, trace, 0.75, 1.0),
        behavior: Behavior::one_step(32, 300, 60),
        min: 1,
        max: 32,
        initial: figures.initial(trace),
        scrape: 15.0,
        polling: 5.0,
        cooldown: 600.0,
        hold: None,
        clients: None,
        objectives: Objectives { ttft: 2.0, tpot: f64::INFINITY, attainment: 0.95 },
        account: Account::Span,
    }
}

/// Prompt and output tokens of all its requests.
#[allow(dead_code, reason = "not every test counts them")]
pub fn tokens(trace: &Trace) -> (u64, u64) {
    let sum =
        |of: fn(&penstock_simulate::Request) -> u32| trace.requests.iter().map(|request| u64::from(of(request))).sum();
    (sum(|request| request.prompt), sum(|request| request.output))
}
