//! `penstock plan` as people and CI call it: what it writes is values of the chart that `penstock check` passes, and the page's example is
//! what the command says.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// The page's example, without its values file.
const CHAT: [&str; 22] = [
    "--model",
    "chat",
    "--prefill-tokens-per-second",
    "12000",
    "--decode-tokens-per-second",
    "1800",
    "--batch",
    "64",
    "--cold-start-seconds",
    "120",
    "--ttft-seconds",
    "2",
    "--requests-per-second",
    "40",
    "--prompt-tokens",
    "1500",
    "--cached",
    "0.3",
    "--output-tokens",
    "256",
    "--gateways",
    "2",
];
const EXAMPLE: &str = "istio/chart/examples/two-models.yaml";
const OVER: [&str; 4] = ["--version", "stable", "--values", EXAMPLE];
const PAGE: &str = "docs/plan.md";

/// `UPDATE_DOCS=1` writes it anew.
#[test]
fn the_page_shows_what_the_command_says() {
    let page = fs::read_to_string(root().join(PAGE)).unwrap();
    let (command, shown) = (block(&page, "sh run"), block(&page, "yaml"));
    let words: Vec<&str> = command.split_whitespace().filter(|word| *word != "\\").collect();
    let (name, arguments) = words.split_at(2);
    assert_eq!(name, ["penstock", "plan"]);
    let said = text(&penstock(arguments));
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(root().join(PAGE), page.replace(shown, &said)).unwrap();
        return;
    }
    assert_eq!(shown, said, "UPDATE_DOCS=1 writes {PAGE} anew");
}

#[test]
fn values_are_those_of_the_chart_and_pass_the_check() {
    let schema = fs::read_to_string(root().join("istio/chart/values.schema.json")).unwrap();
    let schema = jsonschema::validator_for(&serde_json::from_str(&schema).unwrap()).unwrap();
    for arguments in [CHAT.to_vec(), [&CHAT[..], &OVER].concat()] {
        let said = text(&penstock(&arguments));
        let values: Value = serde_yaml_ng::from_str(&said).unwrap();
        let errors: Vec<_> = schema.iter_errors(&values).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{errors:?}: {said}");
        let own = values["autoscaling"]["models"]["chat"].as_object().unwrap().values().next().unwrap();
        let keys: Vec<_> = own.as_object().unwrap().keys().map(String::as_str).collect();
        let mut wanted = [
            "min",
            "max",
            "utilization",
            "backlogSeconds",
            "coldStartSeconds",
            "scaleDownWindowSeconds",
            "scaleDownPeriodSeconds",
            "cooldownSeconds",
        ];
        wanted.sort_unstable();
        assert_eq!(keys, wanted);
        let file = scratch("values.yaml");
        fs::write(&file, &said).unwrap();
        let check =
            Command::new(env!("CARGO_BIN_EXE_penstock")).args(["check", "--strict"]).arg(&file).output().unwrap();
        assert!(check.status.success() && check.stdout.is_empty(), "{check:?}");
    }
}

/// Nothing of the other models, or of what the model has besides, is lost: Helm puts the list in the place of the one that was there.
#[test]
fn what_it_is_laid_over_keeps_what_it_has() {
    let before: Value = serde_yaml_ng::from_str(&fs::read_to_string(root().join(EXAMPLE)).unwrap()).unwrap();
    let mut after: Value = serde_yaml_ng::from_str(&text(&penstock(&[&CHAT[..], &OVER].concat()))).unwrap();
    let (before, after) = (&before["config"]["models"], &mut after["config"]["models"]);
    assert_eq!(after[0]["replica"]["prefillTokensPerSecond"], 12_000);
    assert!(after[0]["pending"]["ceiling"].as_u64().is_some_and(|ceiling| ceiling != 400_000));
    for (key, value) in before[0]["pending"].as_object().unwrap() {
        let is_planned = ["perReplica", "ceiling"].contains(&key.as_str());
        assert!(is_planned || after[0]["pending"][key] == *value, "{key}");
    }
    for key in ["replica", "pending"] {
        after[0].as_object_mut().unwrap().remove(key);
    }
    let mut before = before.clone();
    for key in ["replica", "pending"] {
        before[0].as_object_mut().unwrap().remove(key);
    }
    assert_eq!(*after, before);
}

/// What Helm makes of a plan over the example: the ScaledObject that it is for is as planned, and the others are as they were.
#[test]
fn what_it_is_laid_over_is_rendered() {
    let Some(helm) = std::env::var_os("PENSTOCK_HELM") else {
        // Past the capture of the test runner, so that it is seen.
        return writeln!(std::io::stderr(), "SKIPPED what_it_is_laid_over_is_rendered: no PENSTOCK_HELM").unwrap();
    };
    let plan = scratch("plan.yaml");
    let report = text(&penstock(&[&CHAT[..], &OVER, &["--json", "--out", plan.to_str().unwrap()]].concat()));
    let report: Value = serde_json::from_str(&report).unwrap();
    let planned = &report["values"]["autoscaling"]["models"]["chat"]["stable"];
    let render = |files: &[&str]| {
        let mut command = Command::new(&helm);
        command.args(["template", "penstock", "istio/chart", "--namespace", "istio-ingress"]).current_dir(root());
        for file in files {
            command.args(["-f", file]);
        }
        for folder in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            command.env(folder, scratch("helm"));
        }
        let said = text(&command.output().unwrap());
        let documents = said.split("\n---").map(|text| serde_yaml_ng::from_str::<Value>(text).unwrap());
        documents.filter(|document| document["kind"] == "ScaledObject").collect::<Vec<_>>()
    };
    let (before, after) = (render(&[EXAMPLE]), render(&[EXAMPLE, plan.to_str().unwrap()]));
    let [was, is] = [&before, &after]
        .map(|objects| objects.iter().partition::<Vec<_>, _>(|object| object["metadata"]["name"] == "chat-stable"));
    assert_eq!((is.0.len(), was.0.len()), (1, 1));
    let names =
        |objects: &[&Value]| objects.iter().map(|object| object["metadata"]["name"].clone()).collect::<Vec<_>>();
    assert_eq!(names(&is.1), names(&was.1));
    let spec = &is.0[0]["spec"];
    let behavior = &spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"];
    for (rendered, key) in [
        (&spec["minReplicaCount"], "min"),
        (&spec["maxReplicaCount"], "max"),
        (&spec["cooldownPeriod"], "cooldownSeconds"),
        (&behavior["stabilizationWindowSeconds"], "scaleDownWindowSeconds"),
        (&behavior["policies"][0]["periodSeconds"], "scaleDownPeriodSeconds"),
    ] {
        assert_eq!(*rendered, planned[key], "{key}");
    }
    let query = spec["triggers"][0]["metadata"]["query"].as_str().unwrap();
    for key in ["utilization", "backlogSeconds", "coldStartSeconds"] {
        assert!(query.contains(&planned[key].to_string()), "{key}: {query}");
    }
}

/// Two plans over one file: the second has what the first has said.
#[test]
fn plans_are_laid_over_one_another() {
    let first = scratch("stable.yaml");
    let first = first.to_str().unwrap();
    text(&penstock(&[&CHAT[..], &OVER, &["--out", first]].concat()));
    let more = ["--version", "canary", "--values", EXAMPLE, "--values", first, "--min", "2"];
    let second: Value = serde_yaml_ng::from_str(&text(&penstock(&[&CHAT[..], &more].concat()))).unwrap();
    assert_eq!(second["config"]["models"][0]["replica"]["prefillTokensPerSecond"], 12_000);
    assert_eq!(second["config"]["models"][1]["name"], "chat-small");
    assert_eq!(second["autoscaling"]["models"]["chat"]["canary"]["min"], 2);
}

#[test]
fn a_file_gets_the_values_and_stdout_the_reasons() {
    let file = scratch("out.yaml");
    let said = text(&penstock(&[&CHAT[..], &["--out", file.to_str().unwrap()]].concat()));
    assert_eq!(fs::read_to_string(&file).unwrap(), text(&penstock(&CHAT)));
    for about in
        ["in flight: Little's law", "queueing: ", "utilization 0.", "ceiling ", "cooldownSeconds ", "headroom: "]
    {
        assert_eq!(said.lines().filter(|line| line.starts_with(about)).count(), 1, "{about}: {said}");
    }
}

#[test]
fn json_has_the_same_values_and_reasons() {
    let report: Value = serde_json::from_str(&text(&penstock(&[&CHAT[..], &["--json"]].concat()))).unwrap();
    let values: Value = serde_yaml_ng::from_str(&text(&penstock(&CHAT))).unwrap();
    assert_eq!(report["values"], values);
    assert!(report["reasons"]["in flight"].as_str().unwrap().starts_with("Little's law"));
    assert!(report["replicasAtPeak"]["held"].as_u64().unwrap() <= report["replicasAtPeak"]["asked"].as_u64().unwrap());
}

#[test]
fn what_cannot_be_planned_says_why_and_fails() {
    let cases: [(&[&str], &[&str]); 8] = [
        (&["--batch", "0"], &["--batch: 0 is not a whole number from 1"]),
        (&["--ttft-seconds", "-1", "--cached", "NaN"], &["--ttft-seconds: -1", "--cached: NaN"]),
        (&["--requests-per-second", "inf"], &["--requests-per-second: inf"]),
        (&["--ttft-seconds", "0.1"], &["no plan for chat", "to read with nobody waiting", "more replicas do not help"]),
        (&["--inter-token-seconds", "0.01"], &["one for each stream every 36 ms", "a batch of 18 or less"]),
        (&["--ramp-seconds", "60"], &["traffic grows to the peak in 60 s", "--min 11"]),
        (
            &["--model", "chta", "--values", EXAMPLE],
            &["two-models.yaml: config.models has no `chta`; it has chat, chat-small"],
        ),
        (&["--values", EXAMPLE], &["say which --version of `chat`; it has stable, canary"]),
    ];
    for (edit, wanted) in cases {
        let mut arguments = CHAT.to_vec();
        for pair in edit.chunks(2) {
            match arguments.iter().position(|word| *word == pair[0]) {
                Some(at) => arguments[at + 1] = pair[1],
                None => arguments.extend(pair),
            }
        }
        let output = penstock(&arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{edit:?}: {said}");
        assert!(output.stdout.is_empty() && wanted.iter().all(|wanted| said.contains(wanted)), "{edit:?}: {said}");
    }
}

#[test]
fn what_is_refused_is_json_too() {
    let output = penstock(&[&CHAT[..20], &["--gateways", "0", "--json"]].concat());
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(said["refused"][0]["option"], "--gateways");
}

/// Files that are broken, or no values, are told as `penstock check` tells them.
#[test]
fn values_that_cannot_be_read_are_told() {
    for (name, content, wanted) in [
        ("broken.yaml", "config: {models: [\n", "error PS002"),
        ("other.yaml", "a: 1\n", "no `config` of Penstock's"),
        ("none.yaml", "config: {tenants: {}, hosts: [a.example]}\n", "no list config.models"),
        ("wrong.yaml", "config: {models: [{name: chat, versoins: []}]}\n", "versoins"),
    ] {
        let file = scratch(name);
        fs::write(&file, content).unwrap();
        let output = penstock(&[&CHAT[..], &["--values", file.to_str().unwrap()]].concat());
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(1) && output.stdout.is_empty() && said.contains(wanted), "{name}: {said}");
    }
}

/// The first block of a page in this language.
fn block<'a>(page: &'a str, language: &str) -> &'a str {
    let fence = format!("\n```{language}\n");
    let from = page.find(&fence).unwrap_or_else(|| panic!("{PAGE} has a block of {language}")) + fence.len();
    &page[from..from + page[from..].find("```").unwrap()]
}

fn penstock(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_penstock")).arg("plan").args(arguments).current_dir(root()).output().unwrap()
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("plan");
    fs::create_dir_all(&folder).unwrap();
    folder.join(name)
}
