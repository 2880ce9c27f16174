//! Plans are held against their properties, and against [servers](super::simulation) that know nothing of the formulas.

use proptest::prelude::*;

use super::decide::{Never, Plan, TOLERANCE, plan};
use super::explain::reasons;
use super::figures::{Figures, Measured};
use super::replica::Replica;
use super::simulation::{Spread, share_within};
use super::tree::Tree;
use super::values::{Target, values};

fn chat() -> Measured {
    Measured {
        prefill_tokens_per_second: 12_000.0,
        decode_tokens_per_second: 1800.0,
        batch: 64.0,
        prefill_chunk: 2048.0,
        cold_start_seconds: 120.0,
        ttft_seconds: 2.0,
        inter_token_seconds: None,
        requests_per_second: 40.0,
        quiet_requests_per_second: 0.0,
        ramp_seconds: None,
        prompt_tokens: 1500.0,
        prompt_tokens_p95: None,
        cached: 0.3,
        output_tokens: 256.0,
        min: 1.0,
        headroom: 0.2,
        gateways: 1.0,
    }
}

/// Long prompts, of which half is cached; short answers.
fn documents() -> Measured {
    Measured { prompt_tokens: 6000.0, cached: 0.5, output_tokens: 200.0, requests_per_second: 20.0, ..chat() }
}

fn planned(measured: &Measured) -> Plan {
    plan(&measured.check().unwrap()).unwrap_or_else(|never| panic!("{measured:?}: {never:?}"))
}

fn never(measured: &Measured) -> Never {
    plan(&measured.check().unwrap()).unwrap_err()
}

/// What is planned keeps the objective at the peak, and all but keeps it where few replicas are as full as they are scaled to; three quarters
/// of it do not.
#[test]
fn what_is_planned_holds_and_clearly_fewer_do_not() {
    let code =
        Measured { prompt_tokens: 300.0, cached: 0.0, output_tokens: 600.0, requests_per_second: 30.0, ..chat() };
    let small = Measured {
        prefill_tokens_per_second: 8000.0,
        decode_tokens_per_second: 600.0,
        batch: 16.0,
        prompt_tokens: 2000.0,
        cached: 0.0,
        requests_per_second: 6.0,
        min: 4.0,
        ..chat()
    };
    let large = Measured {
        prefill_tokens_per_second: 40_000.0,
        decode_tokens_per_second: 6000.0,
        batch: 256.0,
        prefill_chunk: 8192.0,
        ttft_seconds: 1.0,
        prompt_tokens: 4000.0,
        cached: 0.6,
        output_tokens: 500.0,
        requests_per_second: 60.0,
        min: 2.0,
        ..chat()
    };
    let alike = Measured { prompt_tokens: 3000.0, cached: 0.0, ttft_seconds: 1.0, requests_per_second: 15.0, ..chat() };
    let tailed = Measured { prompt_tokens_p95: Some(18_840.0), ..documents() };
    let cases = [
        ("chat", chat(), Spread::Exponential),
        ("documents", documents(), Spread::Exponential),
        ("documents soon", Measured { ttft_seconds: 1.5, ..documents() }, Spread::Exponential),
        ("code", code, Spread::Exponential),
        ("small batches", small, Spread::Exponential),
        ("large batches", large, Spread::Exponential),
        ("prompts all alike", Measured { prompt_tokens_p95: Some(3000.0), ..alike }, Spread::None),
        ("a long tail", tailed, Spread::LogNormal(1.0)),
    ];
    let mut wrong = Vec::new();
    for (name, measured, spread) in cases {
        let plan = planned(&measured);
        let share = |requests, servers| {
            (1..=3).map(|seed| share_within(&measured, requests, servers, spread, seed)).sum::<f64>() / 3.0
        };
        let peak = measured.requests_per_second;
        let few = plan.held * 3 / 4;
        let (held, fewer) = (share(peak, plan.held), share(peak, few));
        let quiet = share(peak * plan.utilization * f64::from(plan.min) / plan.offered, plan.min);
        println!("{name}: {} keep {held:.3}, {few} {fewer:.3}; {} as full as they get {quiet:.3}", plan.held, plan.min);
        if !(held >= 0.95 && fewer < 0.95 && quiet >= 0.94) {
            wrong.push(name);
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn a_figure_that_is_none_is_named() {
    type Field = fn(&mut Measured) -> &mut f64;
    let fields: [(&str, Field); 14] = [
        ("prefill-tokens-per-second", |all| &mut all.prefill_tokens_per_second),
        ("decode-tokens-per-second", |all| &mut all.decode_tokens_per_second),
        ("batch", |all| &mut all.batch),
        ("prefill-chunk", |all| &mut all.prefill_chunk),
        ("cold-start-seconds", |all| &mut all.cold_start_seconds),
        ("ttft-seconds", |all| &mut all.ttft_seconds),
        ("inter-token-seconds", |all| all.inter_token_seconds.insert(0.0)),
        ("requests-per-second", |all| &mut all.requests_per_second),
        ("ramp-seconds", |all| all.ramp_seconds.insert(0.0)),
        ("prompt-tokens", |all| &mut all.prompt_tokens),
        ("prompt-tokens-p95", |all| all.prompt_tokens_p95.insert(0.0)),
        ("output-tokens", |all| &mut all.output_tokens),
        ("min", |all| &mut all.min),
        ("gateways", |all| &mut all.gateways),
    ];
    let none = [0.0, -0.0, -1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300, -1e300];
    let named =
        |measured: &Measured| measured.check().unwrap_err().iter().map(|problem| problem.option).collect::<Vec<_>>();
    for (option, field) in fields {
        for value in none {
            let mut measured = chat();
            *field(&mut measured) = value;
            assert_eq!(named(&measured), [option], "{value}");
        }
    }
    // These may be 0.
    let may: [(&str, Field); 3] = [
        ("quiet-requests-per-second", |all| &mut all.quiet_requests_per_second),
        ("cached", |all| &mut all.cached),
        ("headroom", |all| &mut all.headroom),
    ];
    for (option, field) in may {
        for value in none.into_iter().filter(|value| *value != 0.0) {
            let mut measured = chat();
            *field(&mut measured) = value;
            assert_eq!(named(&measured), [option], "{value}");
        }
    }
    for (measured, option) in [
        (Measured { cached: 1.0, ..chat() }, "cached"),
        (Measured { batch: 1.5, ..chat() }, "batch"),
        (Measured { batch: 4096.0, ..chat() }, "prefill-chunk"),
        (Measured { quiet_requests_per_second: 41.0, ..chat() }, "quiet-requests-per-second"),
        (Measured { prompt_tokens_p95: Some(1499.0), ..chat() }, "prompt-tokens-p95"),
    ] {
        assert_eq!(named(&measured), [option]);
    }
}

#[test]
fn every_wrong_figure_is_told_at_once() {
    let measured = Measured { batch: f64::NAN, cached: 2.0, min: 0.0, ..chat() };
    assert_eq!(measured.check().unwrap_err().len(), 3);
}

#[test]
fn a_replica_that_never_keeps_the_objective_is_told_with_the_reason() {
    let cases = [
        (Measured { ttft_seconds: 0.2, ..chat() }, "takes a replica", "more replicas do not help"),
        (
            Measured { prompt_tokens_p95: Some(40_000.0), ..chat() },
            "a prompt of 28000 uncached tokens",
            "faster replica",
        ),
        (
            Measured { inter_token_seconds: Some(0.02), ..chat() },
            "one for each stream every 36 ms",
            "a batch of 36 or less",
        ),
        (Measured { ramp_seconds: Some(150.0), ..chat() }, "the cold start of 120 s", "--min 11"),
        (Measured { requests_per_second: 1e6, ..chat() }, "the most that is planned", "units"),
        (
            Measured { ttft_seconds: 0.372_84, requests_per_second: 4000.0, ..chat() },
            "replicas, and",
            "any time to wait",
        ),
    ];
    for (measured, why, fix) in cases {
        let never = never(&measured);
        assert!(never.why.contains(why) && never.fix.contains(fix), "{never:?}");
    }
}

/// What is told as a way out is one.
#[test]
fn the_way_out_leads_out() {
    planned(&Measured { ramp_seconds: Some(150.0), min: 11.0, ..chat() });
    planned(&Measured { inter_token_seconds: Some(0.02), batch: 36.0, ..chat() });
    assert_eq!(planned(&Measured { ramp_seconds: Some(151.0), ..chat() }).min, 11);
}

#[test]
fn traffic_that_grows_sooner_than_replicas_start_is_met_by_those_that_stay() {
    let with = |ramp| planned(&Measured { ramp_seconds: ramp, quiet_requests_per_second: 4.0, ..chat() }).min;
    assert_eq!([None, Some(3600.0), Some(600.0), Some(300.0)].map(with), [2, 2, 4, 6]);
}

/// The simulation says from where on a trend is worth what it costs.
#[test]
fn arrivals_are_predicted_where_replicas_take_more_than_a_minute() {
    let with = |cold_start_seconds| planned(&Measured { cold_start_seconds, ..chat() }).ahead;
    assert_eq!([20.0, 60.0, 60.5, 120.0].map(with), [0.0, 0.0, 61.0, 120.0]);
}

fn measured() -> impl Strategy<Value = Measured> {
    let server = (200.0..100_000.0, 20.0..20_000.0, 1_u32..512, 0.02..900.0);
    let traffic = (0.01..500.0, 0.0..1.0, 1.0..20_000.0, 1.0..6.0, 0.0..0.99, 1.0..4000.0);
    let wishes = (0.1..60.0, 1_u32..20, 0.0..3.0, 1_u32..10, proptest::option::of(10.0..10_000.0));
    (server, traffic, wishes).prop_map(|(server, traffic, wishes)| {
        let (prefill, decode, batch, cold_start) = server;
        let (peak, quiet, prompt, long, cached, output) = traffic;
        let (ttft, min, headroom, gateways, ramp) = wishes;
        Measured {
            prefill_tokens_per_second: prefill,
            decode_tokens_per_second: decode,
            batch: f64::from(batch),
            prefill_chunk: 2048.0,
            cold_start_seconds: cold_start,
            ttft_seconds: ttft,
            inter_token_seconds: None,
            requests_per_second: peak,
            quiet_requests_per_second: peak * quiet,
            ramp_seconds: ramp,
            prompt_tokens: prompt,
            prompt_tokens_p95: Some(prompt * long),
            cached,
            output_tokens: output,
            min: f64::from(min),
            headroom,
            gateways: f64::from(gateways),
        }
    })
}

/// Never fewer: where there is no plan, no number is enough.
fn at_least(more: &Result<Plan, Never>, less: &Result<Plan, Never>) -> bool {
    match (more, less) {
        (Ok(more), Ok(less)) => {
            more.held >= less.held && more.asked >= less.asked && more.max >= less.max && more.min >= less.min
        }
        (Err(_), _) => true,
        (Ok(_), Err(_)) => false,
    }
}

fn of(measured: &Measured) -> Result<Plan, Never> {
    plan(&measured.check().expect("figures"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    /// A slower replica, dearer requests, more of them, and a nearer objective never take fewer replicas.
    #[test]
    fn more_to_do_never_takes_fewer(all in measured(), by in 1.0..3.0_f64) {
        let plan = of(&all);
        let harder = [
            Measured { prefill_tokens_per_second: (all.prefill_tokens_per_second / by).max(1.0), ..all.clone() },
            Measured { decode_tokens_per_second: (all.decode_tokens_per_second / by).max(1.0), ..all.clone() },
            Measured { requests_per_second: all.requests_per_second * by, ..all.clone() },
            Measured {
                prompt_tokens: all.prompt_tokens * by,
                prompt_tokens_p95: all.prompt_tokens_p95.map(|tokens| tokens * by),
                ..all.clone()
            },
            Measured { prompt_tokens_p95: all.prompt_tokens_p95.map(|tokens| tokens * by), ..all.clone() },
            Measured { output_tokens: all.output_tokens * by, ..all.clone() },
            Measured { cached: all.cached / by, ..all.clone() },
            Measured { ttft_seconds: all.ttft_seconds / by, ..all.clone() },
            Measured { cold_start_seconds: all.cold_start_seconds * by, ..all.clone() },
            Measured { ramp_seconds: all.ramp_seconds.map(|seconds| seconds / by), ..all.clone() },
            Measured { headroom: all.headroom * by, ..all.clone() },
        ];
        for (i, harder) in harder.iter().enumerate() {
            let more = of(harder);
            prop_assert!(at_least(&more, &plan), "{i}: {more:?} for {harder:?}, {plan:?}");
        }
    }

    /// The unit of time is nobody's business, and twice the traffic is twice the work.
    #[test]
    fn units_do_not_matter(all in measured()) {
        let all = Measured { ramp_seconds: None, ..all };
        let in_half_seconds = Measured {
            prefill_tokens_per_second: all.prefill_tokens_per_second * 2.0,
            decode_tokens_per_second: all.decode_tokens_per_second * 2.0,
            requests_per_second: all.requests_per_second * 2.0,
            quiet_requests_per_second: all.quiet_requests_per_second * 2.0,
            ttft_seconds: all.ttft_seconds / 2.0,
            ..all.clone()
        };
        let counts = |plan: Plan| (plan.held, plan.asked, plan.min, plan.max, plan.utilization, plan.per_replica);
        prop_assert_eq!(of(&all).map(counts).ok(), of(&in_half_seconds).map(counts).ok());
        let twice = of(&Measured { requests_per_second: all.requests_per_second * 2.0, ..all.clone() });
        if let (Ok(once), Ok(twice)) = (of(&all), twice) {
            prop_assert_eq!(once.offered * 2.0, twice.offered);
            prop_assert_eq!(once.utilization, twice.utilization);
            prop_assert!(twice.held <= once.held * 2 && twice.held + 1 >= once.held * 2);
        }
    }

    /// What comes out can be set as it is.
    #[test]
    fn what_is_planned_is_whole(all in measured()) {
        let figures = all.check().expect("figures");
        if let Ok(plan) = plan(&figures) {
            sound(&figures, &plan)?;
        }
    }
}

fn sound(figures: &Figures, plan: &Plan) -> Result<(), TestCaseError> {
    let replica = Replica(figures);
    prop_assert!(1 <= plan.min && plan.min <= plan.max && plan.held <= plan.asked && plan.asked < plan.max);
    prop_assert!(0.0 < plan.utilization && plan.utilization * TOLERANCE <= plan.bearable + 1e-9 && plan.bearable < 1.0);
    // No replica less would bear the peak, and what is held does.
    prop_assert!(replica.holds(plan.offered / f64::from(plan.held) * 0.999_999, figures.min));
    prop_assert!(plan.held == 1 || !replica.holds(plan.offered / f64::from(plan.held - 1), figures.min));
    // What waits on average asks for nobody.
    let waiting = replica.requests(plan.utilization) * figures.prompt * replica.prefill_seconds(plan.utilization);
    prop_assert!(plan.backlog * figures.prefill >= 1.99 * waiting);
    prop_assert!(plan.ceiling * figures.gateways >= plan.per_replica * f64::from(plan.max), "{plan:?}");
    prop_assert!(plan.cooldown > plan.window + f64::from(plan.max - 1) * plan.period);
    for whole in [plan.per_replica, plan.ceiling, plan.window, plan.period, plan.cooldown] {
        prop_assert!(whole >= 1.0 && whole.fract() == 0.0 && whole < 1e15, "{plan:?}");
    }
    let values = values(&Target::fresh("chat", None), figures, plan, &reasons(figures, plan));
    prop_assert!(super::allowed(&values).is_ok(), "{}", values.yaml());
    Ok(())
}

#[test]
fn yaml_is_what_was_put_into_it() {
    let mut tree = Tree::map();
    tree.at("a").put("b", 1.5, &["why"]);
    tree.at("a").put(
        "true",
        vec![Tree::from("no"), Tree::from("x: y"), Tree::from("#"), Tree::from("two\nlines")],
        &[],
    );
    tree.put("empty", Tree::map(), &[]);
    tree.put("none", Vec::<Tree>::new(), &[]);
    tree.put("*", 1e9, &["one", "two"]);
    let long = |n: usize| Tree::from(&*"x".repeat(n));
    let mut item = Tree::map();
    item.put("name", "n", &[]);
    item.put("texts", vec![long(60), long(60)], &[]);
    item.at("deep").at("deeper").put("key", 1.0, &["why"]);
    tree.put("list", vec![item.clone(), item], &[]);
    let read: serde_json::Value =
        serde_yaml_ng::from_str(&tree.yaml()).unwrap_or_else(|error| panic!("{error}: {}", tree.yaml()));
    assert_eq!(read, tree.json(), "{}", tree.yaml());
    assert!(tree.yaml().contains("# one\n# two\n\"*\": 1000000000\n"), "{}", tree.yaml());
}
