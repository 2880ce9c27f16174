//! Host functions, call by call: the same calls are made in a real Envoy and in the sandbox, at each callback of a request, and every status and
//! every size that comes back has to be the same.
//!
//! The module is written here, as text: it makes one call after the other and logs what each returned. It is nobody's filter, so it shows too
//! that the sandbox runs others than Penstock's.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use penstock_harness::envoy::{Chain, Envoy, Gateway};
use penstock_harness::host::{Headers, Host, Module, Options, Plugin};
use penstock_harness::model_server::{ModelServer, Options as Answers};
use penstock_tests::{checkout, find_envoy, need};
use serde_json::json;

/// The host functions that are called, with what they take.
const IMPORTS: [(&str, &str); 28] = [
    ("proxy_log", "i32 i32 i32"),
    ("proxy_get_shared_data", "i32 i32 i32 i32 i32"),
    ("proxy_set_shared_data", "i32 i32 i32 i32 i32"),
    ("proxy_define_metric", "i32 i32 i32 i32"),
    ("proxy_increment_metric", "i32 i64"),
    ("proxy_record_metric", "i32 i64"),
    ("proxy_get_metric", "i32 i32"),
    ("proxy_get_property", "i32 i32 i32 i32"),
    ("proxy_set_property", "i32 i32 i32 i32"),
    ("proxy_get_header_map_value", "i32 i32 i32 i32 i32"),
    ("proxy_add_header_map_value", "i32 i32 i32 i32 i32"),
    ("proxy_replace_header_map_value", "i32 i32 i32 i32 i32"),
    ("proxy_remove_header_map_value", "i32 i32 i32"),
    ("proxy_get_header_map_pairs", "i32 i32 i32"),
    ("proxy_get_buffer_bytes", "i32 i32 i32 i32 i32"),
    ("proxy_get_buffer_status", "i32 i32 i32"),
    ("proxy_set_buffer_bytes", "i32 i32 i32 i32 i32"),
    ("proxy_set_effective_context", "i32"),
    ("proxy_set_tick_period_milliseconds", "i32"),
    ("proxy_http_call", "i32 i32 i32 i32 i32 i32 i32 i32 i32 i32"),
    ("proxy_grpc_call", "i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32"),
    ("proxy_grpc_cancel", "i32"),
    ("proxy_call_foreign_function", "i32 i32 i32 i32 i32 i32"),
    ("proxy_register_shared_queue", "i32 i32 i32"),
    ("proxy_resolve_shared_queue", "i32 i32 i32 i32 i32"),
    ("proxy_dequeue_shared_queue", "i32 i32 i32"),
    ("proxy_enqueue_shared_queue", "i32 i32 i32"),
    ("proxy_get_status", "i32 i32 i32"),
];
/// Where results are written: a place, a size, a number.
const RESULT: &str = "(i32.const 1024) (i32.const 1028)";
const NUMBER: &str = "(i32.const 1032)";
/// What stands in a line of the log before what is compared.
const MARK: &str = "call: ";

/// In what the sandbox is different, and why.
const DIFFERENT: [(&str, &str); 2] = [
    ("trailers", "it has none, and Envoy makes some at the end of a body for who asks"),
    (
        "proxy_grpc_call: what is no service",
        "it takes any name of a service, where Envoy wants a message that says which",
    ),
];

/// A module that makes calls.
struct Script {
    data: String,
    next: usize,
    callbacks: BTreeMap<&'static str, String>,
    labels: Vec<String>,
}

impl Script {
    fn new() -> Self {
        Self { data: String::new(), next: 4096, callbacks: BTreeMap::new(), labels: Vec::new() }
    }

    /// A constant, as place and length.
    fn text(&mut self, text: &str) -> String {
        let at = self.next;
        let bytes: String = text.bytes().map(|byte| format!("\\{byte:02x}")).collect();
        writeln!(self.data, "(data (i32.const {at}) \"{bytes}\")").expect("a string");
        self.next += text.len();
        format!("(i32.const {at}) (i32.const {})", text.len())
    }

    /// Makes a call in a callback, and logs its status and the size that it gives.
    fn call(&mut self, callback: &'static str, function: &str, what: &str, arguments: &str) {
        let label = format!("{callback}: {function}: {what}");
        assert!(!self.labels.contains(&label), "{label} twice");
        self.labels.push(label.clone());
        let label = self.text(&format!("{label} = "));
        let body = self.callbacks.entry(callback).or_default();
        writeln!(
            body,
            "(i32.store (i32.const 1028) (i32.const 0)) (call $say {label} (call ${function} {arguments}) (i32.load (i32.const 1028)))"
        )
        .expect("a string");
    }

    /// A module that a proxy takes.
    fn module(mut self) -> Vec<u8> {
        let mark = self.text(MARK);
        let mut text = String::from("(module\n");
        for (name, takes) in IMPORTS {
            writeln!(text, "(import \"env\" \"{name}\" (func ${name} (param {takes}) (result i32)))")
                .expect("a string");
        }
        let of = |name: &str| self.callbacks.get(name).cloned().unwrap_or_default();
        write!(
            text,
            r#"(memory (export "memory") 64)
            {data}
            (global $free (mut i32) (i32.const 1048576))
            (global $at (mut i32) (i32.const 0))
            (func (export "proxy_abi_version_0_2_1"))
            (func $allocate (export "proxy_on_memory_allocate") (param $size i32) (result i32)
                (global.get $free)
                (global.set $free (i32.add (global.get $free) (i32.and (i32.add (local.get $size) (i32.const 15)) (i32.const -16)))))
            (func $put (param $from i32) (param $length i32)
                (memory.copy (global.get $at) (local.get $from) (local.get $length))
                (global.set $at (i32.add (global.get $at) (local.get $length))))
            (func $digits (param $number i32)
                (if (i32.ge_u (local.get $number) (i32.const 10))
                    (then (call $digits (i32.div_u (local.get $number) (i32.const 10)))))
                (i32.store8 (global.get $at) (i32.add (i32.const 48) (i32.rem_u (local.get $number) (i32.const 10))))
                (global.set $at (i32.add (global.get $at) (i32.const 1))))
            (func $say (param $label i32) (param $length i32) (param $status i32) (param $size i32)
                (global.set $at (i32.const 65536))
                (call $put {mark})
                (call $put (local.get $label) (local.get $length))
                (call $digits (local.get $status))
                (i32.store8 (global.get $at) (i32.const 32))
                (global.set $at (i32.add (global.get $at) (i32.const 1)))
                (call $digits (local.get $size))
                (drop (call $proxy_log (i32.const 5) (i32.const 65536) (i32.sub (global.get $at) (i32.const 65536)))))
            (func (export "proxy_on_vm_start") (param i32 i32) (result i32) (i32.const 1))
            (func (export "proxy_on_configure") (param i32 i32) (result i32) (i32.const 1))
            (func (export "proxy_on_context_create") (param i32 i32))
            (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) {request_headers} (i32.const 0))
            (func (export "proxy_on_request_body") (param $context i32) (param $size i32) (param $end i32) (result i32)
                (if (i32.eqz (local.get $end)) (then (return (i32.const 1))))
                {request_body} (i32.const 0))
            (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32) {response_headers} (i32.const 0))
            (func (export "proxy_on_response_body") (param $context i32) (param $size i32) (param $end i32) (result i32)
                (if (i32.eqz (local.get $end)) (then (return (i32.const 1))))
                {response_body} (i32.const 0))
            (func (export "proxy_on_done") (param i32) (result i32) (i32.const 1))
            (func (export "proxy_on_log") (param i32) {log})
            (func (export "proxy_on_delete") (param i32)))"#,
            data = self.data,
            request_headers = of("request headers"),
            request_body = of("request body"),
            response_headers = of("response headers"),
            response_body = of("response body"),
            log = of("log"),
        )
        .expect("a string");
        wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}"))
    }
}

/// Requests and responses: headers 0 and 2, trailers 1 and 3, those of a callout's answer 6.
const MAPS: [(&str, u32); 6] = [
    ("request headers", 0),
    ("request trailers", 1),
    ("response headers", 2),
    ("response trailers", 3),
    ("a callout's headers", 6),
    ("no such map", 99),
];
const BUFFERS: [(&str, u32); 5] =
    [("request body", 0), ("response body", 1), ("a callout's body", 4), ("configuration", 7), ("no such buffer", 99)];

fn script() -> Script {
    let mut script = Script::new();
    let numbered = |number: u32| format!("(i32.const {number})");
    for callback in ["request headers", "request body", "response headers", "response body", "log"] {
        let key = script.text(&format!("a key of {callback}"));
        let (value, name, cluster) = (script.text("value"), script.text("x-name"), script.text("no-such-cluster"));
        let (nothing, path) = (script.text(""), script.text("/x"));

        if callback.ends_with("headers") {
            // The body will have another length.
            let (map, length) =
                (numbered(if callback == "request headers" { 0 } else { 2 }), script.text("content-length"));
            script.call(callback, "proxy_remove_header_map_value", "content-length", &format!("{map} {length}"));
        }
        let read = format!("{key} {RESULT} {NUMBER}");
        script.call(callback, "proxy_get_shared_data", "before it is set", &read);
        script.call(callback, "proxy_set_shared_data", "a new key, compared", &format!("{key} {value} (i32.const 7)"));
        script.call(callback, "proxy_set_shared_data", "not compared", &format!("{key} {value} (i32.const 0)"));
        script.call(callback, "proxy_get_shared_data", "after it", &read);
        script.call(
            callback,
            "proxy_set_shared_data",
            "by another number",
            &format!("{key} {value} (i32.const 999999)"),
        );
        script.call(callback, "proxy_set_shared_data", "by its number", &format!("{key} {value} (i32.load {NUMBER})"));
        script.call(
            callback,
            "proxy_set_shared_data",
            "by a number that is over",
            &format!("{key} {value} (i32.load {NUMBER})"),
        );
        script.call(callback, "proxy_set_shared_data", "nothing", &format!("{key} {nothing} (i32.const 0)"));
        script.call(callback, "proxy_get_shared_data", "nothing", &read);

        let metric = script.text("a_counter");
        for (what, kind) in [("a counter", 0), ("a gauge", 1), ("a histogram", 2), ("no kind", 9)] {
            let name = script.text(&format!("{callback} {what}").replace(' ', "_"));
            script.call(callback, "proxy_define_metric", what, &format!("{} {name} {NUMBER}", numbered(kind)));
            if kind > 2 {
                continue;
            }
            let id = format!("(i32.load {NUMBER})");
            script.call(callback, "proxy_increment_metric", what, &format!("{id} (i64.const 5)"));
            script.call(
                callback,
                "proxy_increment_metric",
                &format!("{what}, downwards"),
                &format!("{id} (i64.const -2)"),
            );
            script.call(callback, "proxy_record_metric", what, &format!("{id} (i64.const 3)"));
            script.call(callback, "proxy_get_metric", what, &format!("{id} (i32.const 1028)"));
        }
        script.call(callback, "proxy_define_metric", "again", &format!("(i32.const 0) {metric} (i32.const 1036)"));
        script.call(
            callback,
            "proxy_define_metric",
            "as another kind",
            &format!("(i32.const 1) {metric} (i32.const 1036)"),
        );
        for unknown in [0x00f0_0000_u32, 0x00f0_0001, 0x00f0_0002, 0x00f0_0003] {
            let (id, what) = (numbered(unknown), format!("unknown, kind {}", unknown % 4));
            script.call(callback, "proxy_increment_metric", &what, &format!("{id} (i64.const 1)"));
            script.call(callback, "proxy_record_metric", &what, &format!("{id} (i64.const 1)"));
            script.call(callback, "proxy_get_metric", &what, &format!("{id} (i32.const 1028)"));
        }

        for what in [
            "",
            "\0",
            "nothing",
            "request\0path",
            "request\0method",
            "request\0nothing",
            "response\0code",
            "plugin_root_id",
            "plugin_vm_id",
        ] {
            let property = script.text(what);
            script.call(callback, "proxy_get_property", &what.replace('\0', "."), &format!("{property} {RESULT}"));
        }
        let own = script.text(&format!("own {callback}"));
        script.call(callback, "proxy_set_property", "an own one", &format!("{own} {value}"));
        let own = script.text(&format!("wasm.own {callback}"));
        script.call(callback, "proxy_get_property", "an own one", &format!("{own} {RESULT}"));

        for (what, map) in MAPS {
            let map = numbered(map);
            let (present, missing) = (script.text(":path"), script.text("x-missing"));
            script.call(
                callback,
                "proxy_get_header_map_value",
                &format!("{what}, missing"),
                &format!("{map} {missing} {RESULT}"),
            );
            if what == "request headers" {
                script.call(
                    callback,
                    "proxy_get_header_map_value",
                    &format!("{what}, present"),
                    &format!("{map} {present} {RESULT}"),
                );
            }
            let before = script.callbacks.get(callback).map_or(0, String::len);
            script.call(callback, "proxy_get_header_map_pairs", what, &format!("{map} {RESULT}"));
            // How long all headers are is the proxy's affair.
            let body = script.callbacks.get_mut(callback).expect("it was called");
            let patched = body.split_off(before).replace("(i32.load (i32.const 1028))", "(i32.const 0)");
            body.push_str(&patched);
            script.call(callback, "proxy_add_header_map_value", what, &format!("{map} {name} {value}"));
            script.call(callback, "proxy_replace_header_map_value", what, &format!("{map} {name} {value}"));
            script.call(
                callback,
                "proxy_get_header_map_value",
                &format!("{what}, what was set"),
                &format!("{map} {name} {RESULT}"),
            );
            script.call(callback, "proxy_remove_header_map_value", what, &format!("{map} {name}"));
            script.call(
                callback,
                "proxy_remove_header_map_value",
                &format!("{what}, what is not there"),
                &format!("{map} {name}"),
            );
        }

        for (what, buffer) in BUFFERS {
            let buffer = numbered(buffer);
            for (range, start, length) in [
                ("all", 0, 1 << 20),
                ("the middle", 1, 2),
                ("nothing", 0, 0),
                ("from behind its end", 1000, 10),
                ("a wrapping range", 5, -1),
            ] {
                let range = format!("{what}, {range}");
                script.call(
                    callback,
                    "proxy_get_buffer_bytes",
                    &range,
                    &format!("{buffer} (i32.const {start}) (i32.const {length}) {RESULT}"),
                );
            }
            script.call(
                callback,
                "proxy_get_buffer_status",
                what,
                &format!("{buffer} (i32.const 1028) (i32.const 1032)"),
            );
        }
        if matches!(callback, "request body" | "response body") {
            let buffer = numbered(u32::from(callback == "response body"));
            let size = format!("{buffer} (i32.const 1028) (i32.const 1032)");
            for (what, start, length) in [
                ("in front", 0, 0),
                ("behind its end", 100_000, 0),
                ("two bytes of the middle", 1, 2),
                ("all", 0, 1 << 20),
                ("what is behind its end", 100_000, 5),
            ] {
                script.call(
                    callback,
                    "proxy_set_buffer_bytes",
                    what,
                    &format!("{buffer} (i32.const {start}) (i32.const {length}) {value}"),
                );
                script.call(callback, "proxy_get_buffer_status", &format!("after {what}"), &size);
            }
        } else {
            script.call(
                callback,
                "proxy_set_buffer_bytes",
                "none",
                &format!("(i32.const 0) (i32.const 0) (i32.const 0) {value}"),
            );
        }

        script.call(callback, "proxy_set_effective_context", "none", "(i32.const 12345)");
        script.call(callback, "proxy_set_tick_period_milliseconds", "none", "(i32.const 0)");
        let no_pairs = "(i32.const 0) (i32.const 0)";
        script.call(
            callback,
            "proxy_http_call",
            "a cluster that is not there, without headers",
            &format!("{cluster} {no_pairs} {nothing} {no_pairs} (i32.const 1000) {NUMBER}"),
        );
        script.call(
            callback,
            "proxy_grpc_call",
            "what is no service",
            &format!("{path} {path} {path} {no_pairs} {nothing} (i32.const 1000) {NUMBER}"),
        );
        script.call(callback, "proxy_grpc_cancel", "none", "(i32.const 4711)");
        let foreign = script.text("no_such_function");
        script.call(callback, "proxy_call_foreign_function", "none", &format!("{foreign} {value} {RESULT}"));
        let vm = script.text("another-vm");
        script.call(callback, "proxy_resolve_shared_queue", "none", &format!("{vm} {name} {NUMBER}"));
        script.call(callback, "proxy_dequeue_shared_queue", "none", &format!("(i32.const 4711) {RESULT}"));
        script.call(callback, "proxy_enqueue_shared_queue", "none", &format!("(i32.const 4711) {value}"));
        script.call(callback, "proxy_get_status", "outside of an answer", &format!("{NUMBER} {RESULT}"));
    }
    script
}

/// What each call returned, by its label.
fn transcript<'a>(lines: impl Iterator<Item = &'a str>) -> BTreeMap<String, String> {
    let said = lines.filter_map(|line| line.split_once(MARK)?.1.split_once(" = "));
    said.map(|(label, returned)| (label.to_owned(), returned.trim().to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_returns_what_it_does_in_an_envoy() {
    let binary = need!(find_envoy());
    let script = script();
    let labels = script.labels.clone();
    let wasm = script.module();
    let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("calls.wasm");
    std::fs::write(&file, &wasm).expect("written");
    let body = json!({"model": "chat", "messages": []}).to_string();

    let server =
        ModelServer::start(Answers { ttft_ms: 0, inter_token_ms: 0, ..Answers::default() }).await.expect("a port");
    let gateway = Gateway::load(&checkout(), "gateway.yaml").expect("gateway.yaml").cluster("stable", server.address());
    let rendered = gateway.chain(Chain::One).module(&file).render();
    let envoy = Envoy::start(&binary, &rendered, 1).await.expect("Envoy starts");
    let client = reqwest::Client::builder().timeout(penstock_tests::PATIENCE).build().expect("a client");
    let url = format!("{}/v1/chat/completions", envoy.url());
    let answer = client.post(url).header("content-type", "application/json").body(body.clone()).send().await;
    if let Err(error) = answer {
        panic!("{error}: {}", envoy.log());
    }
    let last = labels.last().expect("calls");
    let deadline = std::time::Instant::now() + penstock_tests::PATIENCE;
    let real = loop {
        let real = transcript(envoy.log().lines());
        if real.contains_key(last) || std::time::Instant::now() > deadline {
            break real;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };

    let module = Module::compile(&wasm).expect("a module");
    let plugin = Plugin {
        module,
        name: "penstock".to_owned(),
        root_id: "penstock".to_owned(),
        vm_id: "penstock".to_owned(),
        configuration: gateway_configuration(),
    };
    let host = Host::start(&[plugin], &Options::default()).expect("it starts");
    let mut worker = host.worker(0);
    let headers = [(":method", "POST"), (":path", "/v1/chat/completions"), (":authority", "test")];
    let stream = worker.open(Headers::new(headers), false);
    worker.request_body(stream, body.as_bytes(), true);
    worker.response_headers(stream, Headers::new([(":status", "200")]), false);
    // As much as came from the server there.
    let size = real["response body: proxy_get_buffer_status: response body"]
        .split(' ')
        .nth(1)
        .and_then(|size| size.parse().ok());
    worker.response_body(stream, &vec![b'x'; size.expect("a size")], true);
    drop(worker);
    let log = host.log();
    let ours = transcript(log.iter().map(|line| line.message.as_str()));

    let is_known = |label: &&String| DIFFERENT.iter().any(|(what, _)| label.contains(what));
    for (what, why) in DIFFERENT {
        let is_so = |label: &&String| label.contains(what) && real.get(*label) != ours.get(*label);
        assert!(labels.iter().any(|label| is_so(&label)), "`{what}` is no difference any more, although {why}");
    }
    let differ: Vec<String> = labels
        .iter()
        .filter(|label| !is_known(label) && real.get(*label) != ours.get(*label))
        .map(|label| format!("{label}: Envoy {:?}, here {:?}", real.get(label), ours.get(label)))
        .collect();
    assert!(real.len() == labels.len(), "{} of {} calls were made in Envoy", real.len(), labels.len());
    assert!(differ.is_empty(), "{} of {} differ:\n{}", differ.len(), labels.len(), differ.join("\n"));
}

/// What `envoy/gateway.yaml` has for the plugin: here only its length counts.
fn gateway_configuration() -> Vec<u8> {
    let mut gateway = Gateway::load(&checkout(), "gateway.yaml").expect("gateway.yaml");
    gateway.configuration().into_bytes()
}
