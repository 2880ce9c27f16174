//! The scenario runner on plugins of a few lines: what it must accept, and above all what it must refuse.

use super::format::{Scenario, parse};
use super::{HostExecutor, run_steps};
use crate::host::{Module, Plugin};

/// Lets everything pass; responses carry `x-seen: x`.
const MARKS: &str = r#"(module
    (import "env" "proxy_replace_header_map_value" (func $set (param i32 i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (func (export "proxy_abi_version_0_2_1"))
    (data (i32.const 0) "x-seen")
    (func (export "proxy_on_context_create") (param i32 i32))
    (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
        (call $set (i32.const 2) (i32.const 0) (i32.const 6) (i32.const 0) (i32.const 1))))"#;

fn scenario(text: &str) -> Result<Scenario, String> {
    parse(text).map(|mut all| all.remove(0))
}

fn run(steps: &str) -> Result<(), String> {
    let steps = steps.lines().map(|line| format!("  {line}\n")).collect::<String>();
    let scenario = scenario(&format!("- name: t\n  workers: 2\n  steps:\n{steps}")).unwrap();
    let module = Module::compile(MARKS.as_bytes()).unwrap();
    let plugin = Plugin { module, name: "t".into(), root_id: "t".into(), vm_id: "t".into(), configuration: vec![] };
    let mut executor = HostExecutor::with_plugins(&scenario, &[plugin]).unwrap();
    run_steps(&scenario, &mut executor).and_then(|()| executor.invariants())
}

#[test]
fn what_holds_passes() {
    run(r#"
- request:
    headers: {x-a: "k{n}"}
    body: {model: chat, n: 1}
    chunks: 3
    times: 4
    upstream: {status: 201, json: {a: {b: 1, c: 2}}, chunks: 2}
    expect:
      status: 201
      headers: {x-seen: x, x-none: {absent: true}, content-length: {min: 10, max: 20}, content-type: {prefix: application/}}
      body: {a: {b: 1}}
      upstream: {headers: {x-a: {prefix: k}}, body: {model: chat}, edits: []}
      same: [x-seen]
      spread: {x-seen: {x: 4}}
- request: {text: "{}", upstream: {sse: [{a: 1}, "[DONE]"]}, expect: {text: "data: {\"a\":1}\n\ndata: [DONE]\n\n"}}
- request: {text: "{}", upstream: {reset_after: 0}, expect: {status: 503}}
- request: {text: "{}", upstream: {text: abc, chunks: 3, reset_after: 2}, expect: {status: 200, reset: true, text: ab}}
- request: {text: "abcdef", abort_after: {bytes: 3}, expect: {reset: true}}
- request: {text: "{}", abort_after: {events: 1}, upstream: {sse: [a, b]}, expect: {text: "data: a\n\n", reset: true}}
- concurrent: {requests: [{text: "{}", times: 3}], admitted: 3}
"#)
    .unwrap();
}

#[test]
fn what_does_not_hold_fails_and_is_named() {
    for (expect, named) in [
        ("status: 404", "status: expected 404, got 200"),
        ("headers: {x-seen: y}", "x-seen"),
        ("headers: {x-seen: {absent: true}}", "x-seen"),
        ("headers: {x-none: {present: true}}", "x-none"),
        ("headers: {content-length: {max: 1}}", "content-length"),
        ("body: {a: 2}", "response body.a: expected 2, got 1"),
        ("body: {b: 1}", "response body.b"),
        ("body: {l: [1]}", "response body.l"),
        ("text: ''", "response body"),
        ("reset: true", "reset"),
        ("upstream: {called: false}", "upstream.called"),
        ("upstream: {headers: {x-none: a}}", "upstream header x-none"),
        ("upstream: {edits: [{from: chat, to: talk}]}", "differ from byte 10"),
        ("upstream: {edits: [{from: nothing, to: a}]}", "is not in the body"),
        ("same: [x-none]", "same: x-none"),
        ("spread: {x-seen: {x: 2}}", "spread: x-seen"),
    ] {
        let step = format!(
            "- request: {{body: {{model: chat}}, upstream: {{json: {{a: 1, l: [1, 2]}}}}, expect: {{{expect}}}}}"
        );
        let error = run(&step).expect_err(expect);
        assert!(error.contains(named), "{expect}: {error}");
    }
    assert!(run("- metrics: {nothing: 0}").unwrap_err().contains("no such series"));
    let admitted = run("- concurrent: {requests: [{text: a, times: 2}], admitted: 1}").unwrap_err();
    assert!(admitted.contains("expected 1, got 2 of 2"), "{admitted}");
    let lie = run("- request: {text: ab, headers: {content-length: '3'}}").unwrap_err();
    assert!(lie.contains("content-length says 3"), "{lie}");
}

#[test]
fn mistakes_in_the_file_are_named_with_their_path() {
    for (text, named) in [
        ("- name: a\n  steps:\n  - request: {bdy: {}}", "line 3: [0].steps[0].request.bdy: unknown field `bdy`"),
        ("- name: a\n  steps:\n  - advance: 2", "steps[0].advance"),
        ("- name: a\n  steps:\n  - advance: 2 s", "write 500ms, 2s, 1m"),
        ("- name: a\n  steps:\n  - request: {expect: {headers: {a: {is: b}}}}", "headers.a"),
        ("- name: a\n  steps:\n  - request: {text: a, hex: '00'}", "one of body, text, hex, repeat"),
        ("- name: a\n  steps:\n  - request: {hex: '0'}", "hexadecimal"),
        ("- name: a\n  steps:\n  - request: {worker: 1}", "worker 1"),
        ("- name: a\n  name: b\n  steps: []", "duplicate"),
        ("- name: a", "either steps or config_refused"),
    ] {
        let error = scenario(text).expect_err(text);
        assert!(error.contains(named), "{text}: {error}");
    }
}
