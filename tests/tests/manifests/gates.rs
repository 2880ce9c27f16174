//! What Argo Rollouts and Flagger ask Prometheus of a canary: every shipped query with data and without, and that nothing in it is idle.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::demand::{failures, promtool};
use super::set::{Folders, Set, list};

/// A shipped query, for the canary of `chat`: of this metric, over ten minutes, and with what it says where it cannot judge.
struct Asked {
    metric: String,
    query: String,
    otherwise: Option<f64>,
}

const WINDOW: &str = "10m";
const REQUESTS_MIN: &str = "25";

/// What is put in for the variables of a query: as Argo writes them, and as Flagger does.
pub fn filled(query: &str) -> String {
    let values = [
        ("model", "chat"),
        ("version", "canary"),
        ("stable", "stable"),
        ("window", WINDOW),
        ("min-requests", REQUESTS_MIN),
        ("minRequests", REQUESTS_MIN),
    ];
    let mut query = query.replace("{{ interval }}", WINDOW);
    for (name, value) in values {
        query = query.replace(&format!("{{{{args.{name}}}}}"), value);
        query = query.replace(&format!("{{{{ variables.{name} }}}}"), value);
    }
    assert!(!query.contains("{{"), "{query}");
    query
}

/// Of Argo's templates and of Flagger's, each as (its name, its metric, its query as it stands there).
pub fn queries(set: &Set) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let mut queries = Vec::new();
    for template in set.of_kind("AnalysisTemplate") {
        for metric in list(&template.value["spec"]["metrics"]) {
            let query = text(&metric["provider"]["prometheus"]["query"]);
            queries.push((text(&template.value["metadata"]["name"]), text(&metric["name"]), query));
        }
    }
    for template in set.of_kind("MetricTemplate") {
        let name = text(&template.value["metadata"]["name"]);
        let metric = name.strip_prefix("penstock-").expect("the release's name").to_owned();
        queries.push((name, metric, text(&template.value["spec"]["query"])));
    }
    queries
}

fn asked() -> BTreeMap<String, Asked> {
    let mut asked = BTreeMap::new();
    let sets: [(Folders, bool); 2] = [(&["rollout/argo"], false), (&["rollout/flagger"], true)];
    for (folders, is_flaggers) in sets {
        for (template, metric, query) in queries(&Set::load(folders)) {
            let neutral = if ["tokens", "cost"].contains(&metric.as_str()) { 1.0 } else { 0.0 };
            let otherwise = is_flaggers.then_some(neutral);
            asked.insert(format!("{template}-{metric}"), Asked { metric, query: filled(&query), otherwise });
        }
    }
    asked
}

/// What there is in Prometheus, each minute, and what has to come out of each metric. None: no answer, or what the query has in its place.
struct Case {
    name: &'static str,
    /// Series, and by how much each grows.
    grow: Vec<(String, u32)>,
    /// Series that do not.
    stand: Vec<(String, u32)>,
    wanted: [(&'static str, Option<f64>); 6],
}

fn requests(version: &str, outcome: &str, pod: &str) -> String {
    format!(
        "penstock_requests_total{{model=\"chat\",version=\"{version}\",tenant=\"a\",outcome=\"{outcome}\",pod=\"{pod}\"}}"
    )
}

fn tokens(version: &str, kind: &str) -> String {
    format!("penstock_tokens_total{{model=\"chat\",version=\"{version}\",tenant=\"a\",kind=\"{kind}\",pod=\"x\"}}")
}

fn cost(version: &str) -> String {
    format!("penstock_cost_microdollars_total{{model=\"chat\",version=\"{version}\",tenant=\"a\",pod=\"x\"}}")
}

fn state(version: &str, pod: &str) -> String {
    format!("penstock_canary_state{{model=\"chat\",version=\"{version}\",pod=\"{pod}\"}}")
}

fn ttft(version: &str, counts: [u32; 4]) -> Vec<(String, u32)> {
    let bucket = |(le, count): (&str, u32)| {
        let labels = format!("model=\"chat\",version=\"{version}\",le=\"{le}\",pod=\"x\"");
        (format!("penstock_ttft_milliseconds_bucket{{{labels}}}"), count)
    };
    ["100", "1000", "2500", "+Inf"].into_iter().zip(counts).map(bucket).collect()
}

fn cases() -> Vec<Case> {
    let none = ["errors", "ttft", "tokens", "cost", "requests", "guard"].map(|metric| (metric, None));
    let with = |wanted: &[(&str, f64)]| {
        none.map(|(metric, _)| (metric, wanted.iter().find(|(own, _)| *own == metric).map(|(_, value)| *value)))
    };
    let stable = || {
        let mut all = vec![
            (requests("stable", "ok", "x"), 100),
            (requests("stable", "upstream_error", "x"), 50),
            (tokens("stable", "completion"), 10_000),
            (tokens("stable", "prompt"), 70_000),
            (cost("stable"), 5_000),
        ];
        all.extend(ttft("stable", [1, 1, 1, 100]));
        all
    };
    let canary = || {
        let mut all = vec![
            (requests("canary", "ok", "x"), 6),
            (requests("canary", "ok", "y"), 3),
            (requests("canary", "upstream_error", "y"), 1),
            (requests("canary", "limited", "x"), 40),
            (tokens("canary", "completion"), 1_800),
            (tokens("canary", "prompt"), 90_000),
            (cost("canary"), 540),
        ];
        all.extend(ttft("canary", [5, 9, 10, 10]));
        all
    };
    let without = |series: Vec<(String, u32)>, what: &str| {
        series.into_iter().filter(|(name, _)| !name.contains(what)).collect::<Vec<_>>()
    };
    let of = |label: &str| Some((label.to_owned(), 1)).into_iter().collect::<Vec<_>>();
    vec![
        Case { name: "nothing at all", grow: Vec::new(), stand: Vec::new(), wanted: none },
        Case {
            name: "both serve",
            grow: [stable(), canary()].concat(),
            stand: vec![(state("canary", "x"), 1), (state("stable", "x"), 2)],
            // One of ten; between 1000 and 2500, by half; 200 over 100 tokens, 60 over 50 millionths.
            wanted: with(&[
                ("errors", 0.1),
                ("ttft", 1750.0),
                ("tokens", 2.0),
                ("cost", 1.2),
                ("requests", 100.0),
                ("guard", 0.0),
            ]),
        },
        Case {
            name: "nobody asks the canary",
            grow: stable(),
            stand: canary().into_iter().map(|(series, _)| (series, 7)).chain(of(&state("canary", "x"))).collect(),
            wanted: with(&[("requests", 0.0), ("guard", 0.0)]),
        },
        Case {
            name: "too few to judge by, half of whom failed",
            grow: [
                stable(),
                vec![(requests("canary", "ok", "x"), 1), (requests("canary", "upstream_error", "x"), 1)],
                without(canary(), "requests_total"),
            ]
            .concat(),
            stand: Vec::new(),
            wanted: with(&[("requests", 20.0)]),
        },
        Case {
            name: "enough to judge by, most of whom failed",
            grow: [
                stable(),
                vec![(requests("canary", "ok", "x"), 1), (requests("canary", "upstream_error", "y"), 3)],
                vec![(tokens("canary", "completion"), 150), (cost("canary"), 75)],
                ttft("canary", [5, 9, 10, 10]),
            ]
            .concat(),
            stand: Vec::new(),
            wanted: with(&[("errors", 0.75), ("ttft", 1750.0), ("tokens", 1.5), ("cost", 1.5), ("requests", 40.0)]),
        },
        Case {
            name: "none ever failed, none is streamed, and nothing has a price",
            grow: [without(stable(), "cost"), without(without(without(canary(), "upstream_error"), "ttft"), "cost")]
                .concat(),
            stand: ttft("canary", [0; 4]),
            wanted: with(&[("errors", 0.0), ("tokens", 2.0), ("requests", 90.0)]),
        },
        Case {
            name: "nothing is generated, and nothing paid for",
            grow: vec![(requests("canary", "ok", "x"), 9), (requests("stable", "ok", "x"), 9)],
            stand: ["canary", "stable"]
                .into_iter()
                .flat_map(|version| [(tokens(version, "completion"), 5), (cost(version), 5)])
                .collect(),
            wanted: with(&[("errors", 0.0), ("requests", 90.0)]),
        },
        Case {
            name: "nobody asks the stable one; the guard of one gateway has seen enough",
            grow: canary(),
            stand: [vec![(state("canary", "x"), 1), (state("canary", "y"), 2)], stable()].concat(),
            wanted: with(&[("errors", 0.1), ("ttft", 1750.0), ("requests", 100.0), ("guard", 1.0)]),
        },
        Case {
            name: "the guard may let it go on",
            grow: canary(),
            stand: vec![(state("canary", "x"), 3)],
            wanted: with(&[("errors", 0.1), ("ttft", 1750.0), ("requests", 100.0), ("guard", 0.0)]),
        },
    ]
}

fn unit_tests(asked: &Asked) -> Value {
    let tests = cases().into_iter().map(|case| {
        let grow = case.grow.iter().map(|(series, by)| json!({"series": series, "values": format!("0+{by}x30")}));
        let stand = case.stand.iter().map(|(series, at)| json!({"series": series, "values": format!("{at}x30")}));
        let (_, wanted) = case.wanted.iter().find(|(metric, _)| *metric == asked.metric).expect("a metric");
        let wanted = wanted.or(asked.otherwise);
        let samples: Vec<_> = wanted.iter().map(|value| json!({"labels": "{}", "value": value})).collect();
        let expr = format!("round(({}), 0.001)", asked.query);
        json!({
            "name": case.name, "interval": "1m", "input_series": grow.chain(stand).collect::<Vec<_>>(),
            "promql_expr_test": [{"expr": expr, "eval_time": "30m", "exp_samples": samples}],
        })
    });
    json!({"evaluation_interval": "1m", "tests": tests.collect::<Vec<_>>()})
}

#[test]
fn the_gates_come_to_what_is_wanted() {
    let Some((promtool, _)) = promtool("the_gates_come_to_what_is_wanted") else { return };
    let asked = asked();
    assert_eq!(asked.len(), 3 + 4 + 6, "{:?}", asked.keys());
    for (name, asked) in asked {
        if let Some(said) = failures(&promtool, &name, &unit_tests(&asked)) {
            panic!("{name}: {}\n{said}", asked.query);
        }
    }
}

/// The cases leave nothing of a query out: whatever is changed in it, one of them sees it.
#[test]
fn a_gate_that_is_changed_comes_to_something_else() {
    let Some((promtool, _)) = promtool("a_gate_that_is_changed_comes_to_something_else") else { return };
    let changes = [
        ("outcome=\"upstream_error\"", "outcome=~\"limited|upstream_error\""),
        ("outcome=~\"ok|upstream_error\"", "outcome=~\"ok\""),
        (">= 25", ">= 0"),
        ("or vector(0)\n", "\n"),
        ("version=\"canary\"", "version=\"stable\""),
        ("version=\"canary\"", "version=~\".*\""),
        ("version=\"stable\"", "version=\"canary\""),
        ("0.95", "0.5"),
        (" >= 0\n", "\n"),
        ("[10m]", "[20m:1m]"),
        ("outcome=\"ok\"", "outcome=~\".*\""),
        (",kind=\"completion\"", ""),
        ("> 0\n    )", "\n    )"),
        ("max(", "min("),
        ("== bool 2", ">= bool 2"),
        ("== bool 2", "== bool 1"),
        ("or vector(", "or 2 * vector(1 + "),
    ];
    let mut idle: Vec<_> = changes.iter().collect();
    // What watches a canary and what lets it take over ask in part the same.
    let mut known = BTreeSet::new();
    for (name, asked) in asked().into_iter().filter(|(_, asked)| known.insert(asked.query.clone())) {
        for (find, replace) in changes {
            let query = asked.query.replace(find, replace);
            // A ratio of what rises evenly is the same over twice the time; and where nothing comes of it, Flagger's query says 0 anyway.
            let is_same = (find == "[10m]" && asked.metric != "requests")
                || (find == "or vector(0)\n" && asked.otherwise.is_some());
            if query == asked.query || is_same {
                continue;
            }
            idle.retain(|(known, other)| (known, other) != (&find, &replace));
            let changed = Asked { metric: asked.metric.clone(), query, otherwise: asked.otherwise };
            let said = failures(&promtool, "changed-gate", &unit_tests(&changed));
            assert!(said.is_some(), "{name}: {find} -> {replace} changes nothing");
        }
    }
    assert!(idle.is_empty(), "no query has {idle:?}");
}
