//! The model against figures that others published of real servers and of a real loop.

mod common;

use common::setup;
use penstock_simulate::{Account, Behavior, Figures, Law, Objectives, Policy, Ramp, Rules, Select, Setup, Trace, run};

#[track_caller]
fn near(what: &str, simulated: f64, published: f64, tolerance: f64) {
    let off = simulated / published - 1.0;
    assert!(
        off.abs() <= tolerance,
        "{what}: {simulated:.3} simulated, {published:.3} published, {:+.0} %",
        off * 100.0
    );
}

/// So many clients at one replica, for 400 s.
fn closed(clients: u32, prompt: f64, output: f64) -> (f64, f64) {
    let sizes =
        Ramp { stages: vec![(20.0, 400.0)], prompt: (prompt, 0.0), output: (output, 0.0), poisson: false }.trace();
    let base = setup(&sizes);
    let setup =
        Setup { figures: Figures::LLAMA_70B, law: Law::Fixed, initial: 1, clients: Some((clients, 0.0)), ..base };
    let outcome = run(&sizes, &setup).unwrap();
    (outcome.tpot.p50, outcome.output_tokens as f64 / 400.0)
}

/// NVIDIA's table for NIM 1.8, Llama 3.3 70B in FP8 on two H100, 5,000 tokens in and 500 out: ms for a token, tokens a second.
#[test]
fn a_server_is_as_fast_as_the_table_says() {
    for (clients, ms, rate) in
        [(1, 18.58, 51.67), (5, 21.83, 218.48), (25, 38.75, 623.4), (50, 59.73, 814.37), (150, 92.86, 920.9)]
    {
        let (tpot, throughput) = closed(clients, 5_000.0, 500.0);
        near(&format!("time per token with {clients} clients"), tpot * 1000.0, ms, 0.15);
        near(&format!("throughput with {clients} clients"), throughput, rate, 0.1);
    }
}

/// llm-d: `peakPrefillThroughput` of Qwen3-32B on two H100 as measured (15,375 to 15,928), and TTFTs of prompts alone.
#[test]
fn a_prompt_takes_as_long_as_llm_d_measured() {
    let figures = Figures::QWEN3_32B;
    near("prefill throughput", figures.prefill_rate(), 15_652.0, 0.03);
    for (prompt, ttft) in [(256, 0.09), (2_048, 0.20), (8_192, 0.53)] {
        near(&format!("TTFT of {prompt} tokens"), figures.idle_ttft(prompt), ttft, 0.1);
    }
}

/// llm-d's ramp, as `guides/workload-autoscaling/slo-aware/benchmark-templates/scored-config.yml` has it.
fn ramp() -> Trace {
    let rates = [2.0, 4.0, 6.0, 8.0, 10.0, 4.0, 1.0];
    let lengths = [330.0, 360.0, 360.0, 360.0, 360.0, 360.0, 300.0];
    let stages = rates.into_iter().zip(lengths).collect();
    Ramp { stages, prompt: (4_000.0, 300.0), output: (1_000.0, 80.0), poisson: false }.trace()
}

fn as_benchmarked(trace: &Trace, foresight: bool) -> Setup {
    let up = Rules { window: 30, select: Select::Max, policies: vec![Policy::Percent(100, 60), Policy::Pods(4, 60)] };
    let down = Rules { window: 180, select: Select::Max, policies: vec![Policy::Pods(1, 120)] };
    Setup {
        cold_start: 100.0,
        law: Law::LlmdLatency { up: 0.55, down: 0.40, ttft: 3.0, tpot: 0.1, foresight },
        behavior: Behavior { up, down },
        min: 3,
        max: 8,
        initial: 3,
        scrape: 5.0,
        objectives: Objectives { ttft: 3.0, tpot: 0.1, attainment: 0.95 },
        account: Account::Floor,
        ..setup(trace)
    }
}

/// Published: 95.8 % of the requests within both objectives with 5.93 replicas on average. The predictor there was trained and is not
/// perfect, so it has to come between one that is and none.
#[test]
fn llm_ds_own_law_comes_to_llm_ds_own_figures() {
    let trace = ramp();
    let [blind, seeing] = [false, true].map(|foresight| run(&trace, &as_benchmarked(&trace, foresight)).unwrap());
    near("replicas with a perfect predictor", seeing.replicas_mean, 5.93, 0.05);
    near("replicas with none", blind.replicas_mean, 5.93, 0.1);
    assert!(blind.replicas_mean < 5.93 && 5.93 < seeing.replicas_mean);
    assert!(blind.attainment < 0.958 && 0.958 < seeing.attainment, "{} {}", blind.attainment, seeing.attainment);
    near("attainment with none", blind.attainment, 0.958, 0.05);
    let fixed = run(&trace, &Setup { law: Law::Fixed, initial: 8, ..as_benchmarked(&trace, true) }).unwrap();
    assert!(fixed.attainment >= 0.999, "a pool for the peak: 100 % published, {}", fixed.attainment);
}
