//! The queries of the shipped ScaledObjects, as they stand there, in promtool: on what gateways show in the situations that matter, each comes to
//! what [`super::oracle`] works out.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::oracle::{COUNTED, Figures, Gateway, Oracle, SCRAPE, Scrape, Shown};
use super::set::{SETS, Set, parse, root};
use super::tools;

/// One of what a gateway shows.
type Counter = fn(&Shown) -> f64;

/// Minutes, in scrapes.
const MINUTE: usize = 12;

/// A situation: what the gateways show, and the seconds at which a query is asked.
struct Case {
    name: &'static str,
    gateways: Vec<Gateway>,
    at: Vec<i64>,
}

/// Tokens a second of everything that is counted, and what is pending.
fn flow(prompt: f64, cached: f64, expected: f64) -> Shown {
    Shown { prompt, cached, expected, ..Shown::default() }
}

/// A gateway whose counters move each second as `flow` says for that scrape, and whose gauges are what it says. Counters are far from 0 to begin
/// with, as they are after a day.
fn gateway(pod: &'static str, scrapes: usize, flow: impl Fn(usize) -> Shown) -> Gateway {
    let mut counters = Shown { prompt: 1e6, cached: 1e6, expected: 1e6, shed: 1e6, ..Shown::default() };
    let seen = (0..=scrapes).map(|i| {
        let moved = flow(i);
        let seconds = SCRAPE as f64;
        counters.prompt += moved.prompt * seconds;
        counters.cached += moved.cached * seconds;
        counters.expected += moved.expected * seconds;
        counters.shed += moved.shed * seconds;
        Scrape::Seen(Shown { prefill: moved.prefill, decode: moved.decode, ..counters })
    });
    Gateway { pod, jobs: vec!["gateways"], scrapes: seen.collect(), counts: &COUNTED }
}

/// From a scrape on it is as said.
fn from(mut gateway: Gateway, scrape: usize, to: Scrape) -> Gateway {
    gateway.scrapes[scrape..].fill(to);
    gateway
}

/// Nobody's gateway until a scrape.
fn begun(mut gateway: Gateway, scrape: usize) -> Gateway {
    gateway.scrapes[..scrape].fill(Scrape::Gone);
    gateway
}

fn cases() -> Vec<Case> {
    let steady = |pod, prompt: f64| {
        let waiting =
            Shown { prefill: prompt / 2.0, decode: prompt / 8.0, ..flow(prompt, prompt / 4.0, prompt / 10.0) };
        gateway(pod, 30 * MINUTE, move |_| waiting)
    };
    let ramp = |slope: f64, base: f64| gateway("a", 15 * MINUTE, move |i| flow(base + slope * i as f64, 0.0, 0.0));
    let waiting = Shown { prefill: 300_000.0, decode: 9_000.0, ..flow(6_000.0, 0.0, 60.0) };
    let twice = Gateway { jobs: vec!["gateways", "again"], ..steady("a", 6_000.0) };
    let mut restarted = steady("a", 6_000.0);
    for scrape in &mut restarted.scrapes[12 * MINUTE..] {
        let Scrape::Seen(shown) = scrape else { continue };
        let begin = 1e6 + 6_000.0 * 60.0 * 12.0;
        *shown = Shown { prompt: shown.prompt - begin, expected: shown.expected - 1e6, ..*shown };
    }
    let mut paused = steady("a", 6_000.0);
    paused.scrapes[12 * MINUTE..12 * MINUTE + 6].fill(Scrape::Missed);
    let mut away = steady("a", 6_000.0);
    away.scrapes[12 * MINUTE..18 * MINUTE].fill(Scrape::Missed);
    let mut dark = steady("a", 6_000.0);
    dark.scrapes[12 * MINUTE..18 * MINUTE].fill(Scrape::Failed);
    vec![
        Case {
            name: "what arrives at two gateways",
            gateways: vec![steady("a", 6_000.0), steady("b", 18_000.0)],
            at: vec![600, 601, 609],
        },
        Case {
            name: "what is shed is wanted too",
            gateways: vec![gateway("a", 15 * MINUTE, |_| Shown { shed: 24_000.0, ..flow(6_000.0, 0.0, 90.0) })],
            at: vec![600],
        },
        Case { name: "a rise is foreseen", gateways: vec![ramp(40.0, 0.0)], at: vec![600, 660, 615] },
        Case { name: "a fall is not", gateways: vec![ramp(-40.0, 40.0 * 200.0)], at: vec![600, 660] },
        Case {
            name: "a burst that waits",
            gateways: vec![gateway(
                "a",
                15 * MINUTE,
                move |i| if i < 10 * MINUTE { flow(600.0, 0.0, 60.0) } else { waiting },
            )],
            at: vec![595, 600, 605, 630, 660, 685, 690, 695, 900],
        },
        Case {
            name: "what stands where nothing arrives any more",
            gateways: vec![gateway("a", 15 * MINUTE, |i| {
                let flow = flow(if i == 10 * MINUTE { 60_000.0 } else { 0.0 }, 0.0, 0.0);
                Shown { prefill: if i < 10 * MINUTE { 0.0 } else { 100_000.0 }, ..flow }
            })],
            at: vec![600, 630, 655, 660, 665, 685, 690, 695],
        },
        Case {
            name: "a backlog that begins with its gateway, and one beside it that comes and goes",
            gateways: vec![
                gateway("a", 15 * MINUTE, |i| Shown {
                    prefill: if i % 4 == 0 { 4_000.0 } else { 90_000.0 },
                    ..flow(600.0, 0.0, 60.0)
                }),
                begun(gateway("b", 15 * MINUTE, move |_| waiting), 10 * MINUTE),
            ],
            at: vec![600, 605, 640, 685, 690, 695, 730],
        },
        Case { name: "two jobs scrape one gateway", gateways: vec![twice, steady("b", 600.0)], at: vec![600] },
        Case {
            name: "a gateway cannot be scraped",
            gateways: vec![steady("a", 6_000.0), from(steady("b", 18_000.0), 12 * MINUTE, Scrape::Failed)],
            at: vec![715, 720, 780, 1_020, 1_310, 1_500],
        },
        Case {
            name: "more arrives while a gateway cannot be scraped",
            gateways: vec![
                gateway("a", 30 * MINUTE, |i| flow(if i < 14 * MINUTE { 6_000.0 } else { 60_000.0 }, 0.0, 0.0)),
                from(steady("b", 18_000.0), 12 * MINUTE, Scrape::Failed),
            ],
            at: vec![780, 960],
        },
        Case {
            name: "one of two jobs cannot scrape",
            gateways: vec![
                ramp(-40.0, 40.0 * 200.0),
                Gateway { jobs: vec!["again"], ..from(ramp(-40.0, 40.0 * 200.0), 12 * MINUTE, Scrape::Failed) },
            ],
            at: vec![715, 720, 800, 900],
        },
        Case {
            name: "a gateway is taken away",
            gateways: vec![steady("a", 6_000.0), from(steady("b", 18_000.0), 12 * MINUTE, Scrape::Gone)],
            at: vec![785, 1_200],
        },
        Case {
            name: "the filter is not there any more",
            gateways: vec![from(steady("a", 6_000.0), 12 * MINUTE, Scrape::Bare)],
            at: vec![720, 1_200, 1_315, 1_335, 1_700],
        },
        Case {
            name: "nothing was ever there",
            gateways: vec![from(steady("a", 0.0), 0, Scrape::Bare)],
            at: vec![0, 300, 1_200],
        },
        Case {
            name: "an older module",
            gateways: vec![Gateway { counts: &[], ..gateway("a", 15 * MINUTE, move |_| waiting) }],
            at: vec![600],
        },
        Case {
            name: "a Prometheus that keeps no tokens of one kind",
            gateways: vec![Gateway {
                counts: &["prompt", "expected", "shed"],
                ..gateway("a", 15 * MINUTE, move |_| waiting)
            }],
            at: vec![600],
        },
        Case {
            name: "a Prometheus that does not keep what is shed",
            gateways: vec![Gateway { counts: &["prompt", "cached", "expected"], ..steady("a", 6_000.0) }],
            at: vec![600],
        },
        Case { name: "a gateway began anew", gateways: vec![restarted], at: vec![725, 740, 780, 900] },
        Case { name: "Prometheus began anew", gateways: vec![paused], at: vec![745, 750, 755, 780, 900] },
        Case {
            name: "Prometheus was away for long",
            gateways: vec![away],
            at: vec![780, 1_075, 1_085, 1_110, 1_140, 1_440],
        },
        Case {
            name: "a gateway was dark for long",
            gateways: vec![dark, steady("b", 6_000.0)],
            at: vec![1_075, 1_085, 1_110, 1_140, 1_440],
        },
        Case { name: "nothing to do", gateways: vec![steady("a", 0.0)], at: vec![5, 60, 600, 1_200] },
        Case {
            name: "the first request after a long time, and nothing after it",
            gateways: vec![gateway("a", 30 * MINUTE, |i| {
                if i == 12 * MINUTE { flow(3.0, 0.0, 1.0) } else { flow(0.0, 0.0, 0.0) }
            })],
            at: vec![715, 720, 725, 775, 790, 1_100],
        },
        Case { name: "just begun", gateways: vec![steady("a", 6_000.0)], at: vec![0, 5, 20] },
    ]
}

/// A query of a shipped ScaledObject, with what it was made of; no figures where it is in pending tokens.
struct Asked {
    model: String,
    version: String,
    query: String,
    figures: Option<Figures>,
}

/// All of them.
fn shipped() -> Vec<Asked> {
    let set = Set::load(SETS[0]);
    let defaults = parse(&root().join("chart/values.yaml")).remove(0)["autoscaling"]["defaults"].take();
    let default = |key: &str| defaults[key].as_f64().unwrap_or_else(|| panic!("no default {key}"));
    let models = set.config()["models"].as_array().expect("models");
    let mut asked = Vec::new();
    for model in models {
        let versions = model["versions"].as_array().expect("versions");
        let weights: f64 = versions.iter().map(|version| version["weight"].as_f64().expect("a weight")).sum();
        for version in versions {
            let (name, of) = (model["name"].as_str().expect("a name"), version["name"].as_str().expect("a name"));
            let is_it = |object: &&super::set::Document| object.value["metadata"]["name"] == *format!("{name}-{of}");
            let object = set.of_kind("ScaledObject").find(is_it).expect("a ScaledObject for each version");
            let query = object.value["spec"]["triggers"][0]["metadata"]["query"].as_str().expect("a query").to_owned();
            let figures = model["replica"]["prefillTokensPerSecond"].as_f64().map(|prefill| Figures {
                prefill,
                decode: model["replica"]["decodeTokensPerSecond"].as_f64().expect("both or none"),
                share: version["weight"].as_f64().expect("a weight") / weights,
                utilization: default("utilization"),
                backlog_seconds: default("backlogSeconds"),
                surge: default("surge"),
                cold_start: default("coldStartSeconds") as i64,
                window: default("scaleDownWindowSeconds") as i64,
            });
            asked.push(Asked { model: name.to_owned(), version: of.to_owned(), query, figures });
        }
    }
    asked
}

/// What promtool reads: the cases, what the query is asked at each instant, and what has to come out, to a thousandth.
fn unit_tests(asked: &Asked, is_open: bool) -> Value {
    let expr = format!("round(({}), 0.001)", asked.query);
    let cases = cases().into_iter().map(|case| {
        let oracle = Oracle { gateways: &case.gateways, is_open };
        let samples = case.at.iter().map(|at| {
            let wanted = match &asked.figures {
                Some(figures) => oracle.replicas(figures, *at),
                None => oracle.pending(600, *at),
            };
            let wanted = wanted.map(|value| (value * 1000.0 + 0.5).floor() / 1000.0);
            let samples: Vec<_> = wanted.iter().map(|value| json!({"labels": "{}", "value": value})).collect();
            json!({"expr": expr, "eval_time": format!("{at}s"), "exp_samples": samples})
        });
        let samples: Vec<_> = samples.collect();
        let mut series: Vec<_> = case.gateways.iter().flat_map(|gateway| series(gateway, asked)).collect();
        // A target that is nobody's gateway, and never answers.
        series.push(json!({"series": "up{job=\"else\",namespace=\"llm\",pod=\"broken\"}", "values": "0x400"}));
        json!({"name": case.name, "interval": format!("{SCRAPE}s"), "input_series": series, "promql_expr_test": samples})
    });
    json!({"evaluation_interval": format!("{SCRAPE}s"), "tests": cases.collect::<Vec<_>>()})
}

/// What Prometheus has of a gateway.
fn series(gateway: &Gateway, asked: &Asked) -> Vec<Value> {
    let mut all = Vec::new();
    let (model, version) = (format!("model={:?}", asked.model), format!("version={:?}", asked.version));
    for job in &gateway.jobs {
        let target = format!("job={job:?},namespace=\"istio-ingress\",pod={:?}", gateway.pod);
        let mut add = |name: &str, labels: &[&str], value: &dyn Fn(&Scrape) -> Option<f64>| {
            let mut values = String::new();
            let mut was_there = false;
            for scrape in &gateway.scrapes {
                // A series that a scrape does not bring any more is marked stale, unless nobody has looked.
                match value(scrape) {
                    Some(value) => write!(values, "{value} "),
                    None if was_there && *scrape != Scrape::Missed => write!(values, "stale "),
                    None => write!(values, "_ "),
                }
                .expect("a string");
                was_there = value(scrape).is_some() || (was_there && *scrape == Scrape::Missed);
            }
            let labels = [labels, &[&target]].concat().join(",");
            all.push(json!({"series": format!("{name}{{{labels}}}"), "values": values.trim_end()}));
        };
        let seen = |of: fn(&Shown) -> f64| {
            move |scrape: &Scrape| if let Scrape::Seen(shown) = scrape { Some(of(shown)) } else { None }
        };
        let kinds: [(&str, Counter); 3] =
            [("prompt", |shown| shown.prompt), ("cached", |shown| shown.cached), ("expected", |shown| shown.expected)];
        for (kind, of) in kinds.into_iter().filter(|(kind, _)| gateway.counts.contains(kind)) {
            add("penstock_admitted_tokens_total", &[&model, &version, &format!("kind={kind:?}")], &seen(of));
        }
        if !gateway.counts.is_empty() {
            // Another version, and another reason, which are none of this one's business.
            add(
                "penstock_admitted_tokens_total",
                &[&model, "version=\"else\"", "kind=\"prompt\""],
                &seen(|shown| 3.0 * shown.prompt),
            );
            if gateway.counts.contains(&"shed") {
                add("penstock_refused_demand_tokens_total", &[&model, "reason=\"shed\""], &seen(|shown| shown.shed));
            }
            add(
                "penstock_refused_demand_tokens_total",
                &[&model, "reason=\"no_backend\""],
                &seen(|shown| shown.prompt),
            );
        }
        add("penstock_pending_tokens", &[&model, &version, "phase=\"prefill\""], &seen(|shown| shown.prefill));
        add("penstock_pending_tokens", &[&model, &version, "phase=\"decode\""], &seen(|shown| shown.decode));
        add("up", &[], &|scrape| match scrape {
            Scrape::Seen(_) | Scrape::Bare => Some(1.0),
            Scrape::Failed => Some(0.0),
            Scrape::Gone | Scrape::Missed => None,
        });
    }
    all
}

/// promtool, and whether it takes ranges without their first instant, as it does from 3.0 on. `None` where a test was skipped.
pub fn promtool(test: &str) -> Option<(PathBuf, bool)> {
    let Some(promtool) = tools::program("promtool", "PENSTOCK_PROMTOOL") else {
        tools::skip_or_fail(test, "no promtool; install Debian's package prometheus, or set PENSTOCK_PROMTOOL");
        return None;
    };
    let output = Command::new(&promtool).arg("--version").output().expect("promtool");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    let major = said.split("version ").nth(1).and_then(|version| version.split('.').next()?.parse::<u32>().ok());
    Some((promtool, major.unwrap_or_else(|| panic!("no version in {said}")) >= 3))
}

/// What promtool says against it; nothing where all is as expected.
pub fn failures(promtool: &Path, name: &str, tests: &Value) -> Option<String> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("demand");
    fs::create_dir_all(&folder).expect("a folder");
    // JSON is YAML.
    fs::write(folder.join(format!("{name}.json")), tests.to_string()).expect("written");
    let output = Command::new(promtool).args(["test", "rules", &format!("{name}.json")]).current_dir(&folder).output();
    let output = output.expect("promtool");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    (!output.status.success()).then_some(said)
}

#[test]
fn the_shipped_queries_come_to_what_is_wanted() {
    let Some((promtool, is_open)) = promtool("the_shipped_queries_come_to_what_is_wanted") else { return };
    let shipped = shipped();
    assert!(shipped.iter().any(|asked| asked.figures.is_some()) && shipped.iter().any(|asked| asked.figures.is_none()));
    for asked in shipped {
        let name = format!("{}-{}", asked.model, asked.version);
        if let Some(said) = failures(&promtool, &name, &unit_tests(&asked, is_open)) {
            panic!("{name}: {said}");
        }
    }
}

/// The cases leave nothing of a query out: whatever is changed in it, one of them sees it.
#[test]
fn a_query_that_is_changed_comes_to_something_else() {
    let Some((promtool, is_open)) = promtool("a_query_that_is_changed_comes_to_something_else") else { return };
    let changes: [&[(&str, &str)]; 2] = [
        &[
            ("max by (namespace, pod)", "sum by (namespace, pod)"),
            ("sum(max by (namespace, pod)", "sum(max by (namespace)"),
            ("rate(", "deriv("),
            ("[1m]", "[5m]"),
            ("kind=\"cached\"", "kind=\"expected\""),
            ("/ 12000", "/ 6000"),
            ("/ 1800", "/ 12000"),
            ("reason=\"shed\"", "reason=\"no_backend\""),
            (" * 0.95", ""),
            ("/ 0.7", "/ 0.78"),
            ("], 60)", "], 0)"),
            ("[300s:15s]", "[900s:15s]"),
            ("phase=\"prefill\"", "phase=\"decode\""),
            ("/ 2, scalar", "/ 1, scalar"),
            ("/ 2,\n      \"of\", \"standing\"", "/ 1,\n      \"of\", \"standing\""),
            (") * 2, 1)", ") * 3, 1)"),
            (") * 2, 1)", ") * 2, 0)"),
            ("clamp_min", "clamp_max"),
            ("min_over_time", "max_over_time"),
            ("[90s])", "[30s])"),
            (" and penstock_pending_tokens{model=\"chat\",version=\"stable\",phase=\"prefill\"} offset 90s", ""),
            ("offset 90s", "offset 15s"),
            (")) == 3", ")) > 0"),
            (" or vector(0)", ""),
            (">= 20", ">= 0"),
            ("min(count_over_time", "max(count_over_time"),
            (",version=\"stable\"", ""),
            ("up == 0", "up == 2"),
            ("present_over_time(penstock_pending_tokens{model=\"chat\",version=\"stable\"}[600s])", "up"),
            ("unless on (namespace, pod) penstock_pending_tokens{model=\"chat\",version=\"stable\"}", ""),
            ("[600s:15s]", "[60s:15s]"),
            ("or max_over_time", "or 0 * max_over_time"),
        ],
        &[
            ("max by (namespace, pod, phase)", "sum by (namespace, pod, phase)"),
            ("max by (namespace, pod, phase)", "max by (namespace, pod)"),
            ("up == 0", "up == 2"),
            ("or max_over_time", "or 0 * max_over_time"),
        ],
    ];
    let shipped = shipped();
    let of =
        |name: &str| shipped.iter().find(|asked| format!("{}-{}", asked.model, asked.version) == name).expect(name);
    for (name, changes) in ["chat-stable", "chat-small-stable"].into_iter().zip(changes) {
        for (find, replace) in changes {
            let query = of(name).query.replace(find, replace);
            assert_ne!(query, of(name).query, "{find} is not in the query of {name}");
            let changed = Asked {
                query,
                model: of(name).model.clone(),
                version: of(name).version.clone(),
                figures: of(name).figures,
            };
            let said = failures(&promtool, "changed", &unit_tests(&changed, is_open));
            assert!(said.is_some(), "{name}: {find} -> {replace} changes nothing");
        }
    }
}

/// KEDA asks by GET, and proxies in front of a Prometheus take lines of 8 KiB (nginx: `large_client_header_buffers`).
#[test]
fn the_queries_fit_into_a_line() {
    for asked in shipped() {
        // Each byte that is no letter or digit becomes three.
        let line: usize = asked
            .query
            .bytes()
            .map(|byte| if byte.is_ascii_alphanumeric() || b"_ ".contains(&byte) { 1 } else { 3 })
            .sum();
        assert!(line < 7_000, "{} {}: {line} bytes", asked.model, asked.version);
    }
}
