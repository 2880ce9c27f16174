//! `penstock check` as people and CI call it: each thing that may be wrong is found where it stands, and nothing else is.
//!
//! `check/good` has files that are right; each test breaks one thing of one of them.

#[path = "check/edits.rs"]
mod edits;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use edits::{EDITS, Edit};

#[test]
fn what_is_right_is_passed_in_silence() {
    for file in fs::read_dir(good()).unwrap() {
        let file = file.unwrap().path();
        let output = penstock(&["--strict", file.to_str().unwrap()], "");
        assert!(
            output.status.success() && output.stdout.is_empty() && output.stderr.is_empty(),
            "{file:?}: {output:?}"
        );
    }
}

/// One fault, one finding, with its code and its line.
#[test]
fn each_fault_is_found_where_it_is_and_nothing_else() {
    let mut wrong = Vec::new();
    for (i, edit) in EDITS.iter().enumerate() {
        let (text, line) = broken(edit);
        let file = scratch(&format!("edit-{i}-{}.yaml", edit.code));
        fs::write(&file, text).unwrap();
        let found = found(&[&file]);
        if found != [(edit.code.to_owned(), line)] {
            wrong.push(format!(
                "{} -> {}: wanted {} in line {line}, found {found:?}",
                edit.find, edit.replace, edit.code
            ));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), EDITS.len(), wrong.join("\n"));
}

/// Each code of the table, or the test of files below, has a fault that shows it.
#[test]
fn every_code_is_shown_by_a_test() {
    let listed = String::from_utf8(penstock(&["--list"], "").stdout).unwrap();
    let all: BTreeSet<&str> =
        listed.lines().filter(|line| !line.contains("(retired)")).map(|line| &line[..5]).collect();
    let shown: BTreeSet<&str> = EDITS.iter().map(|edit| edit.code).chain(FILES).collect();
    assert_eq!(all, shown);
    assert!(all.len() >= 40, "{listed}");
}

/// Codes of the tests of files and folders.
const FILES: [&str; 8] = ["PS001", "PS002", "PS004", "PS005", "PS006", "PS007", "PS008", "PS009"];

#[test]
fn files_that_cannot_be_read_are_told_apart() {
    let deep = "[".repeat(200);
    let bomb = format!(
        "a0: &a0 [penstock]\n{}",
        (1..40).map(|i| format!("a{i}: &a{i} [*a{0}, *a{0}]\n", i - 1)).collect::<String>()
    );
    let cases: [(&str, &[u8], &str, usize); 12] = [
        ("words.yaml", b"kind: [penstock\n", "PS002", 2),
        ("tabs.yaml", b"penstock:\n\t- x\n", "PS002", 2),
        ("binary.yaml", b"penstock\0\x01\x02", "PS002", 1),
        ("latin.yaml", b"penstock: \xe9\n", "PS002", 1),
        ("empty.yaml", b"", "PS004", 1),
        ("comments.yaml", b"# nothing\n---\n", "PS004", 1),
        ("deep.yaml", deep.as_bytes(), "PS005", 1),
        ("bomb.yaml", bomb.as_bytes(), "PS005", 19),
        ("template.yaml", b"kind: X\n{{- if .Values.penstock }}\na: {{ b }}\n{{- end }}\n", "PS009", 2),
        ("mesh.yaml", b"meshConfig: {defaultConfig: {}}\n", "PS006", 1),
        ("other.yaml", b"kind: ConfigMap\napiVersion: v1\n", "PS006", 1),
        ("typo.yaml", b"modles: []\n", "PS006", 1),
    ];
    for (name, text, code, line) in cases {
        let file = scratch(name);
        fs::write(&file, text).unwrap();
        assert_eq!(found(&[&file]), [(code.to_owned(), line)], "{name}");
    }
    assert_eq!(found(&[&scratch("not-there.yaml")]), [("PS001".to_owned(), 1)]);
    let huge = scratch("huge.yaml");
    fs::write(&huge, "# penstock\n".repeat(1 << 20)).unwrap();
    assert_eq!(found(&[&huge]), [("PS005".to_owned(), 1)]);
    fs::remove_file(huge).unwrap();
}

/// Each gateway has the ceiling, and there may be as many as something here says.
#[test]
fn replicas_are_held_against_the_ceilings_of_all_gateways() {
    let istio = fs::read_to_string(good().join("istio.yaml")).unwrap();
    let file = scratch("gateways.yaml");
    let codes_with = |replicas: u32, more: &str| {
        let text = istio.replace("maxReplicaCount: 4\n", &format!("maxReplicaCount: {replicas}\n"));
        fs::write(&file, format!("{text}---\n{more}\n")).unwrap();
        codes(&[&file])
    };
    let scaler = |namespace: &str| {
        format!(
            "apiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: {{name: gateway, namespace: {namespace}}}\nspec: {{maxReplicas: 3}}"
        )
    };
    let deployment =
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: gateway, namespace: gateways}\nspec: {replicas: 3}";
    let values = |more: &str| format!("podAnnotations: {{sidecar.istio.io/extraStatTags: \"{TAGS}\"}}\n{more}");
    assert_eq!(codes_with(40, ""), ["PS607"]);
    for three in [
        scaler("gateways"),
        deployment.to_owned(),
        values("autoscaling: {maxReplicas: 3}"),
        values("replicaCount: 3\nautoscaling: {enabled: false, maxReplicas: 1}"),
    ] {
        assert_eq!(codes_with(40, &three), [""; 0], "{three}");
        assert_eq!(codes_with(60, &three), ["PS607"], "{three}");
    }
    assert_eq!(codes_with(40, &scaler("llm")), ["PS607"], "of another namespace");
}

/// Those of the mesh in `good/istio.yaml`.
const TAGS: &str = "model,version,tenant,outcome,kind,phase,reason,limit,handling";

#[test]
fn a_kustomization_is_what_its_lists_reach() {
    let folder = scratch("kustomize");
    let _ = fs::remove_dir_all(&folder);
    let write = |name: &str, text: &str| {
        let file = folder.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    };
    let istio = fs::read_to_string(good().join("istio.yaml")).unwrap();
    write("base/istio.yaml", &istio);
    write("base/kustomization.yaml", "resources: [istio.yaml]\n");
    write("base/unused.yaml", "penstock: [");
    write("live/kustomization.yaml", "resources:\n- ../base\n");
    let live = folder.join("live");
    assert_eq!(found(&[&live]), []);
    // Moved: the names of the filters that the EnvoyFilter replaces have the namespace in them.
    write("live/kustomization.yaml", "resources: [../base]\nnamespace: elsewhere\n");
    assert_eq!(codes(&[&live]), ["PS207"]);
    write("live/kustomization.yaml", "resources:\n- ../base\n- gone.yaml\npatches: [{path: x.yaml}]\n");
    assert_eq!(found(&[&live]), [("PS007".to_owned(), 3), ("PS008".to_owned(), 4)]);
    write("live/kustomization.yaml", "resources: [../live]\n");
    assert_eq!(codes(&[&live]), ["PS005"]);
}

/// Overlays below a folder are each a choice; what is named is applied together.
#[test]
fn overlays_are_alternatives_and_arguments_are_not() {
    let folder = scratch("overlays");
    let _ = fs::remove_dir_all(&folder);
    let istio = fs::read_to_string(good().join("istio.yaml")).unwrap();
    for name in ["one", "two"] {
        fs::create_dir_all(folder.join(name)).unwrap();
        fs::write(folder.join(name).join("istio.yaml"), &istio).unwrap();
        fs::write(folder.join(name).join("kustomization.yaml"), "resources: [istio.yaml]\n").unwrap();
    }
    assert_eq!(found(&[&folder]), []);
    assert_eq!(codes(&[&folder.join("one"), &folder.join("two")]), ["PS206"]);
    // What they share is for one of them at least.
    let other =
        fs::read_to_string(good().join("gateway-api.yaml")).unwrap().replace("- name: chat\n", "- name: small\n");
    fs::write(folder.join("two/istio.yaml"), other).unwrap();
    let rules = |model: &str| {
        format!("groups: [{{rules: [{{record: x, expr: 'penstock_pending_tokens{{model=\"{model}\"}}'}}]}}]\n")
    };
    for (model, wanted) in [("chat", vec![]), ("small", vec![]), ("large", vec!["PS601"])] {
        fs::write(folder.join("rules.yaml"), rules(model)).unwrap();
        let mut found = codes(&[&folder]);
        found.dedup();
        assert_eq!(found, wanted, "{model}");
    }
}

#[test]
fn the_shipped_files_are_right() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for folder in ["envoy", "istio"] {
        // A digest is to be had only of a module that somebody has pushed.
        let other: Vec<_> = codes(&[&root.join(folder)]).into_iter().filter(|code| code != "PS211").collect();
        assert!(other.is_empty(), "{folder}: {other:?}");
        let output = penstock(&[root.join(folder).to_str().unwrap()], "");
        assert!(output.status.success(), "{folder}: {output:?}");
    }
}

#[test]
fn warnings_fail_only_where_they_are_to() {
    let edit = EDITS.iter().find(|edit| edit.code == "PS209").unwrap();
    let file = scratch("warning.yaml");
    fs::write(&file, broken(edit).0).unwrap();
    let file = file.to_str().unwrap();
    let lax = penstock(&[file], "");
    let said = String::from_utf8(lax.stdout).unwrap();
    assert!(lax.status.success() && said.contains(": warning PS209: ") && said.lines().count() == 1, "{said}");
    assert_eq!(penstock(&["--strict", file], "").status.code(), Some(1));
}

#[test]
fn standard_input_is_a_file_too() {
    let config = fs::read_to_string(good().join("config.yaml")).unwrap();
    assert!(penstock(&["-"], &config).status.success());
    let output = penstock(&["-"], &config.replace("max: 4096", "maximum: 4096"));
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.starts_with("-:5: error PS101: models[0].output.maximum: unknown field `maximum`"), "{said}");
}

#[test]
fn what_files_say_moves_no_cursor() {
    let output = penstock(&["-"], "\"\\e[2Jtenant\": 1\ntenants: {}\nmodels: []\n");
    assert!(!output.stdout.is_empty() && !output.stdout.contains(&0x1b), "{output:?}");
}

#[test]
fn codes_are_explained_in_either_case_and_unknown_ones_are_errors() {
    for code in ["PS101", "ps606"] {
        let output = penstock(&["--explain", code], "");
        let said = String::from_utf8(output.stdout).unwrap();
        for part in ["**What.**", "**Why.**", "**Mend.**", "**Not seen.**"] {
            assert!(said.contains(part), "{code} has no {part}: {said}");
        }
    }
    let output = penstock(&["--explain", "PS000"], "");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("penstock check --list"));
}

/// The page has a section for each code of the table, in its order, with its level, title and four parts.
#[test]
fn the_page_and_the_table_are_one() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/checks.md")).unwrap();
    let list = String::from_utf8(penstock(&["--list"], "").stdout).unwrap();
    let wanted: Vec<String> = list
        .lines()
        .map(|line| {
            let (code, rest) = line.split_once(' ').unwrap();
            let (level, title) = rest.split_once(' ').unwrap();
            format!("{code}: {} ({level})", title.trim())
        })
        .collect();
    let sections: Vec<&str> = page.split("\n### ").skip(1).collect();
    let headings: Vec<&str> = sections.iter().filter_map(|section| section.lines().next()).collect();
    assert_eq!(headings, wanted);
    for section in sections {
        let places: Vec<_> =
            ["**What.**", "**Why.**", "**Mend.**", "**Not seen.**"].map(|part| section.find(part)).into();
        assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{section}");
    }
}

/// A good file with one thing broken, and the line where that is to be found.
fn broken(edit: &Edit) -> (String, usize) {
    let mut text = fs::read_to_string(good().join(edit.base)).unwrap();
    for (find, replace) in
        [(edit.find, edit.replace), edit.also[0], edit.also[1]].into_iter().filter(|(find, _)| !find.is_empty())
    {
        assert_eq!(text.matches(find).count(), 1, "{find} in {}", edit.base);
        text = text.replace(find, replace);
    }
    let at = text.find(edit.at).unwrap_or_else(|| panic!("{} is not in the edited file", edit.at));
    assert_eq!(text.matches(edit.at).count(), 1, "{} after the edit", edit.at);
    let line = text[..at].matches('\n').count() + 1;
    (text, line)
}

/// Codes and lines of what is found.
fn found(paths: &[&Path]) -> Vec<(String, usize)> {
    let mut arguments = vec!["--format", "json"];
    arguments.extend(paths.iter().map(|path| path.to_str().unwrap()));
    let output = penstock(&arguments, "");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let code = if report["errors"] == 0 { 0 } else { 1 };
    assert_eq!(output.status.code(), Some(code), "{report:#}");
    let findings = report["findings"].as_array().unwrap().iter();
    findings
        .map(|finding| {
            for key in ["message", "fix", "file", "level"] {
                let text = finding[key].as_str().unwrap();
                assert!(!text.is_empty() && !text.contains("{}"), "{finding:#}");
            }
            let line = finding["line"].as_u64().and_then(|line| usize::try_from(line).ok());
            (finding["code"].as_str().unwrap().to_owned(), line.unwrap())
        })
        .collect()
}

fn codes(paths: &[&Path]) -> Vec<String> {
    found(paths).into_iter().map(|(code, _)| code).collect()
}

fn penstock(arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_penstock"));
    command.arg("check").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // Who does not read it is done without it.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn good() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/check/good")
}

fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("check");
    fs::create_dir_all(&folder).unwrap();
    folder.join(name)
}
