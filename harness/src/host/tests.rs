//! The host's own behaviour, tried with small hand-written modules.

use std::time::Duration;

use super::*;

/// What every test module needs: memory, an allocator that only grows, and room below 4096 for constants and results.
fn module(imports: &str, body: &str) -> Module {
    let text = format!(
        r#"(module {imports}
            (memory (export "memory") 4)
            (func (export "proxy_abi_version_0_2_1"))
            (global $free (mut i32) (i32.const 4096))
            (func (export "malloc") (param $size i32) (result i32)
                global.get $free
                (global.set $free (i32.add (global.get $free) (local.get $size))))
            (func (export "proxy_on_context_create") (param i32 i32))
            {body})"#
    );
    Module::compile(text.as_bytes()).unwrap()
}

fn plugin(module: &Module, root_id: &str) -> Plugin {
    Plugin {
        module: module.clone(),
        name: root_id.to_owned(),
        root_id: root_id.to_owned(),
        vm_id: "test".to_owned(),
        configuration: b"{}".to_vec(),
    }
}

fn host(chain: &[Plugin], options: Options) -> Host {
    Host::start(chain, &options).unwrap()
}

fn get() -> Headers {
    Headers::new([(":method", "POST"), (":path", "/v1"), (":authority", "test")])
}

fn ok() -> Headers {
    Headers::new([(":status", "200")])
}

/// Pauses at the headers and at every piece of the body but the last, then sets `x-size` to the size it was told (one digit), or to `!` when the
/// edit is refused.
const COUNTS_THE_BODY: &str = r#"
    (data (i32.const 0) "x-size")
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (i32.const 1))
    (func (export "proxy_on_request_body") (param $context i32) (param $size i32) (param $end i32) (result i32)
        (i32.store8 (i32.const 16) (i32.add (i32.const 48) (local.get $size)))
        (if (local.get $end) (then
            (drop (call $set (i32.const 0) (i32.const 0) (i32.const 6) (i32.const 16) (i32.const 1)))
            (return (i32.const 0))))
        (i32.const 1))
"#;
const SET_HEADER: &str =
    r#"(import "env" "proxy_replace_header_map_value" (func $set (param i32 i32 i32 i32 i32) (result i32)))"#;

#[test]
fn a_body_that_is_held_is_seen_whole_and_headers_may_be_edited_until_it_goes_on() {
    let module = module(SET_HEADER, COUNTS_THE_BODY);
    let host = host(&[plugin(&module, "a"), plugin(&module, "b")], Options::default());
    let mut worker = host.worker(0);
    let stream = worker.open(get(), false);
    worker.request_body(stream, b"abc", false);
    worker.request_body(stream, b"de", false);
    assert!(worker.upstream(stream).headers.is_none(), "the headers wait");
    worker.request_body(stream, b"", true);
    let upstream = worker.upstream(stream);
    assert_eq!(upstream.header("x-size").as_deref(), Some("5"), "the whole body, not the last piece");
    assert_eq!((upstream.body.as_slice(), upstream.pieces.as_slice(), upstream.end), (&b"abcde"[..], &[5][..], true));
    worker.response_headers(stream, ok(), false);
    worker.response_body(stream, b"hi", true);
    assert!(worker.finished(stream));
    assert_eq!(worker.contexts(), 2, "only the root contexts are left");
}

#[test]
fn more_than_the_buffer_holds_is_413() {
    let module = module(SET_HEADER, COUNTS_THE_BODY);
    let host = host(&[plugin(&module, "a")], Options { buffer_limit: 4, ..Options::default() });
    let mut worker = host.worker(0);
    let stream = worker.open(get(), false);
    worker.request_body(stream, b"abcd", false);
    assert!(!worker.finished(stream));
    worker.request_body(stream, b"e", false);
    assert_eq!(worker.client(stream).status(), 413);
    assert!(worker.finished(stream));
}

/// Pauses at the headers and resumes at the first tick; writes the size and end it was told into the gauge `body`, and the status of a header
/// edit made there into the gauge `edit`.
const RESUMES_AT_TICK: &str = r#"
    (data (i32.const 0) "bodyeditx")
    (func (export "proxy_on_configure") (param $context i32) (param i32) (result i32)
        (drop (call $period (i32.const 500)))
        (i32.const 1))
    (func (export "proxy_on_request_headers") (param $context i32) (param i32 i32) (result i32)
        (i32.store (i32.const 32) (local.get $context))
        (i32.const 1))
    (func (export "proxy_on_tick") (param i32)
        (drop (call $effective (i32.load (i32.const 32))))
        (drop (call $continue (i32.const 0))))
    (func (export "proxy_on_request_body") (param $context i32) (param $size i32) (param $end i32) (result i32)
        (drop (call $define (i32.const 1) (i32.const 0) (i32.const 4) (i32.const 64)))
        (drop (call $record (i32.load (i32.const 64)) (i64.extend_i32_u (i32.add (i32.mul (local.get $size) (i32.const 10)) (local.get $end)))))
        (drop (call $define (i32.const 1) (i32.const 4) (i32.const 4) (i32.const 64)))
        (drop (call $record (i32.load (i32.const 64))
            (i64.extend_i32_u (call $set (i32.const 0) (i32.const 8) (i32.const 1) (i32.const 8) (i32.const 1)))))
        (i32.const 0))
"#;
const RESUME_IMPORTS: &str = r#"
    (import "env" "proxy_set_tick_period_milliseconds" (func $period (param i32) (result i32)))
    (import "env" "proxy_set_effective_context" (func $effective (param i32) (result i32)))
    (import "env" "proxy_continue_stream" (func $continue (param i32) (result i32)))
    (import "env" "proxy_define_metric" (func $define (param i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_record_metric" (func $record (param i32 i64) (result i32)))
    (import "env" "proxy_replace_header_map_value" (func $set (param i32 i32 i32 i32 i32) (result i32)))
"#;

#[test]
fn where_headers_cannot_wait_the_body_comes_in_one_piece_after_the_resume() {
    let module = module(RESUME_IMPORTS, RESUMES_AT_TICK);
    let host = host(&[plugin(&module, "a")], Options { wait_for_body: false, ..Options::default() });
    let stream = host.worker(0).open(get(), false);
    host.worker(0).request_body(stream, b"ab", false);
    host.worker(0).request_body(stream, b"c", true);
    assert!(host.metrics().prometheus().is_empty(), "no body callback while the headers wait");
    host.advance(Duration::from_millis(499));
    assert!(host.worker(0).upstream(stream).headers.is_none());
    host.advance(Duration::from_millis(1));
    let metrics = host.metrics().prometheus();
    assert_eq!(metrics["body"], 31, "three bytes and the end at once");
    assert_eq!(metrics["edit"], Status::BadArgument as u64, "the headers are gone");
    assert_eq!(host.worker(0).upstream(stream).body, b"abc");
}

#[test]
fn where_headers_may_wait_the_body_callback_comes_while_paused() {
    let module = module(RESUME_IMPORTS, RESUMES_AT_TICK);
    let host = host(&[plugin(&module, "a")], Options::default());
    let stream = host.worker(0).open(get(), false);
    host.worker(0).request_body(stream, b"ab", false);
    let metrics = host.metrics().prometheus();
    assert_eq!((metrics["body"], metrics["edit"]), (20, 0));
    assert_eq!(host.worker(0).upstream(stream).header("x").as_deref(), Some("x"));
}

#[test]
fn a_frozen_worker_does_not_tick() {
    let module = module(RESUME_IMPORTS, RESUMES_AT_TICK);
    let host = host(&[plugin(&module, "a")], Options { wait_for_body: false, workers: 2, ..Options::default() });
    host.worker(1).freeze(true);
    let streams = [host.worker(0).open(get(), true), host.worker(1).open(get(), true)];
    host.advance(Duration::from_secs(2));
    assert!(host.worker(0).upstream(streams[0]).end);
    assert!(!host.worker(1).upstream(streams[1]).end);
    host.worker(1).freeze(false);
    host.advance(Duration::from_millis(1));
    assert!(host.worker(1).upstream(streams[1]).end, "an overdue timer fires at once");
}

#[test]
fn filter_state_set_by_one_plugin_is_read_by_the_next() {
    let module = module(
        r#"(import "env" "proxy_get_property" (func $get (param i32 i32 i32 i32) (result i32)))
           (import "env" "proxy_set_property" (func $put (param i32 i32 i32 i32) (result i32)))
           (import "env" "proxy_replace_header_map_value" (func $set (param i32 i32 i32 i32 i32) (result i32)))"#,
        r#"(data (i32.const 0) "filter_state\00wasm.fact")
           (data (i32.const 64) "x-facty")
           (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
               (if (i32.eqz (call $get (i32.const 0) (i32.const 22) (i32.const 128) (i32.const 132))) (then
                   (drop (call $set (i32.const 0) (i32.const 64) (i32.const 6) (i32.load (i32.const 128)) (i32.load (i32.const 132)))))
               (else (drop (call $put (i32.const 18) (i32.const 4) (i32.const 70) (i32.const 1)))))
               (i32.const 0))"#,
    );
    let host = host(&[plugin(&module, "a"), plugin(&module, "b")], Options::default());
    let mut worker = host.worker(0);
    let stream = worker.open(get(), true);
    assert_eq!(worker.upstream(stream).header("x-fact").as_deref(), Some("y"));
    assert_eq!(worker.filter_state(stream, "wasm.fact").as_deref(), Some(&b"y"[..]));
}

/// Answers 429 at the headers, twice; marks responses that pass with `x-seen`, counts log calls in the counter `logs`.
const REFUSES: &str = r#"
    (data (i32.const 0) "nologsx-seen")
    (func (export "proxy_on_request_headers") (param $context i32) (param i32 i32) (result i32)
        (drop (call $reply (i32.const 429) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 2) (i32.const 0) (i32.const 0) (i32.const -1)))
        (drop (call $reply (i32.const 500) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 2) (i32.const 0) (i32.const 0) (i32.const -1)))
        (i32.const 0))
    (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
        (call $set (i32.const 2) (i32.const 6) (i32.const 6) (i32.const 0) (i32.const 2)))
    (func (export "proxy_on_log") (param i32)
        (drop (call $define (i32.const 0) (i32.const 2) (i32.const 4) (i32.const 64)))
        (drop (call $increment (i32.load (i32.const 64)) (i64.const 1))))
"#;

#[test]
fn a_local_reply_passes_the_response_filters_once_and_everyone_logs() {
    let module = module(
        r#"(import "env" "proxy_send_local_response" (func $reply (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
           (import "env" "proxy_define_metric" (func $define (param i32 i32 i32 i32) (result i32)))
           (import "env" "proxy_increment_metric" (func $increment (param i32 i64) (result i32)))
           (import "env" "proxy_replace_header_map_value" (func $set (param i32 i32 i32 i32 i32) (result i32)))"#,
        REFUSES,
    );
    let host = host(&[plugin(&module, "a"), plugin(&module, "b")], Options::default());
    let mut worker = host.worker(0);
    let stream = worker.open(get(), false);
    let client = worker.client(stream);
    assert_eq!((client.status(), client.body.as_slice(), client.end), (429, &b"no"[..], true));
    assert_eq!(client.header("x-seen").as_deref(), Some("no"), "its own response callback ran");
    assert!(worker.upstream(stream).headers.is_none());
    drop(worker);
    assert_eq!(host.metrics().prometheus()["logs"], 2, "the second plugin logs a request that it never saw");
    assert_eq!(host.worker(0).contexts(), 2);
}

#[test]
fn a_trap_kills_the_vm_until_a_reload() {
    let module = module(
        "",
        r#"(func (export "proxy_on_request_headers") (param i32 i32) (param $end i32) (result i32)
               (if (local.get $end) (then unreachable))
               (i32.const 0))"#,
    );
    let serve = |host: &Host, end| {
        let mut worker = host.worker(0);
        let stream = worker.open(get(), end);
        worker.response_headers(stream, ok(), true);
        worker.client(stream).status()
    };
    for (fail, trapped, next, later) in
        [(FailPolicy::Closed, 503, 503, 503), (FailPolicy::Reload, 503, 503, 200), (FailPolicy::Open, 200, 200, 200)]
    {
        let host = host(&[plugin(&module, "a")], Options { fail, ..Options::default() });
        assert_eq!(serve(&host, false), 200);
        assert_eq!(serve(&host, true), trapped, "{fail:?}");
        assert_eq!(serve(&host, false), next, "{fail:?}, at once");
        host.advance(Duration::from_secs(1));
        assert_eq!(serve(&host, false), later, "{fail:?}, a second later");
        assert!(
            host.log().iter().any(|line| line.message.contains("proxy_on_request_headers")),
            "the log names the callback"
        );
    }
}

/// As Envoy does, which takes none of them; and each is told by its name, and by why.
#[test]
fn what_no_proxy_could_run_is_refused_with_the_reason() {
    let refused = |text: &str| match Module::compile(text.as_bytes()) {
        Err(why) => why,
        Ok(module) => match Host::start(&[plugin(&module, "coffee")], &Options::default()) {
            Err(why) => why,
            Ok(_) => panic!("this runs: {text}"),
        },
    };
    let own = r#"(memory (export "memory") 1) (func (export "proxy_abi_version_0_2_1"))"#;
    for (text, whys) in [
        ("GIF89a".to_owned(), &["no WebAssembly module"][..]),
        (r#"(module (memory (export "memory") 1))"#.to_owned(), &["none for a proxy", "proxy_abi_version_0_2_1"]),
        (
            format!(r#"(module (import "env" "proxy_make_coffee" (func)) (import "env" "proxy_log" (func)) {own})"#),
            &["coffee: imports what no proxy has: env.proxy_make_coffee"],
        ),
        (format!(r#"(module (func $f unreachable) (start $f) {own})"#), &["coffee: does not start", "unreachable"]),
        (
            format!(r#"(module {own} (func (export "_initialize") unreachable))"#),
            &["coffee: _initialize", "unreachable"],
        ),
        (format!(r#"(module {own} (func (export "_start") unreachable))"#), &["coffee: _start", "unreachable"]),
        (
            format!(r#"(module {own} (func (export "proxy_on_vm_start") (param i32 i32) (result i32) unreachable))"#),
            &["coffee: proxy_on_vm_start", "unreachable"],
        ),
        (format!(r#"(module {own} (func (export "_start") (loop (br 0))))"#), &["coffee: _start: took more than"]),
    ] {
        let refused = refused(&text);
        assert!(whys.iter().all(|why| refused.contains(why)), "{text}: {refused}");
    }
}

#[test]
fn aborts_and_upstream_resets_end_the_stream() {
    let module = module("", "");
    let host = host(&[plugin(&module, "a")], Options::default());
    let mut worker = host.worker(0);
    let early = worker.open(get(), true);
    worker.upstream_reset(early);
    assert_eq!(worker.client(early).status(), 503);
    let late = worker.open(get(), true);
    worker.response_headers(late, ok(), false);
    worker.response_body(late, b"x", false);
    worker.upstream_reset(late);
    assert_eq!((worker.client(late).status(), worker.client(late).reset), (200, true));
    let left = worker.open(get(), false);
    worker.client_abort(left);
    assert!(worker.upstream(left).reset && worker.finished(left));
    assert_eq!(worker.contexts(), 1);
}

#[test]
fn callouts_are_recorded_and_answered() {
    let module = module(
        r#"(import "env" "proxy_grpc_call" (func $grpc (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
           (import "env" "proxy_continue_stream" (func $continue (param i32) (result i32)))
           (import "env" "proxy_set_effective_context" (func $effective (param i32) (result i32)))
           (import "env" "proxy_get_buffer_bytes" (func $buffer (param i32 i32 i32 i32 i32) (result i32)))
           (import "env" "proxy_replace_header_map_value" (func $set (param i32 i32 i32 i32 i32) (result i32)))"#,
        r#"(data (i32.const 0) "rlsSvcMethodaskx-answer")
           (func (export "proxy_on_request_headers") (param $context i32) (param i32 i32) (result i32)
               (i32.store (i32.const 200) (local.get $context))
               (drop (call $grpc (i32.const 0) (i32.const 3) (i32.const 3) (i32.const 3) (i32.const 6) (i32.const 6)
                   (i32.const 0) (i32.const 0) (i32.const 12) (i32.const 3) (i32.const 100) (i32.const 64)))
               (i32.const 1))
           (func (export "proxy_on_grpc_receive") (param $context i32) (param $token i32) (param $size i32)
               (drop (call $effective (i32.load (i32.const 200))))
               (drop (call $buffer (i32.const 5) (i32.const 0) (i32.const 99) (i32.const 72) (i32.const 76)))
               (drop (call $set (i32.const 0) (i32.const 15) (i32.const 8) (i32.load (i32.const 72)) (i32.load (i32.const 76))))
               (drop (call $continue (i32.const 0))))"#,
    );
    let host = host(&[plugin(&module, "a")], Options::default());
    let mut worker = host.worker(0);
    let stream = worker.open(get(), true);
    let calls = worker.callouts();
    assert_eq!(
        (calls[0].method.as_str(), calls[0].body.as_slice(), calls[0].upstream.as_slice()),
        ("Svc/Method", &b"ask"[..], &b"rls"[..])
    );
    assert!(!worker.upstream(stream).end);
    assert!(worker.answer_grpc(calls[0].token, 0, b"yes"));
    assert_eq!(worker.upstream(stream).header("x-answer").as_deref(), Some("yes"));
    assert!(!worker.answer_grpc(calls[0].token, 0, b"yes"), "once");

    let left = worker.open(get(), true);
    let calls = worker.callouts();
    assert_eq!((calls.len(), calls[0].stream), (1, Some(left)));
    worker.client_abort(left);
    assert!(
        worker.answer_grpc(calls[0].token, 0, b"late"),
        "a call is its root context's and outlives the stream, as in Envoy"
    );
    assert!(worker.failures().is_empty() && worker.callouts().is_empty());
}

/// Makes two HTTP calls and one gRPC call at the headers, and once more at the first tick. Logs the number of the call that is answered, and
/// then what it can read: the context, headers and body of an HTTP answer, the message or the status of a gRPC answer. Cancels at the
/// end of a request: the first HTTP call, its gRPC call, and that once more; logs the three statuses.
const CALLS_IMPORTS: &str = r#"
    (import "env" "proxy_http_call" (func $http (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_grpc_call" (func $grpc (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_grpc_cancel" (func $cancel (param i32) (result i32)))
    (import "env" "proxy_grpc_close" (func $close (param i32) (result i32)))
    (import "env" "proxy_get_buffer_bytes" (func $buffer (param i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_get_header_map_pairs" (func $pairs (param i32 i32 i32) (result i32)))
    (import "env" "proxy_get_status" (func $status (param i32 i32 i32) (result i32)))
    (import "env" "proxy_set_tick_period_milliseconds" (func $period (param i32) (result i32)))
    (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
"#;
const CALLS: &str = r#"
    (func $digit (param $number i32)
        (i32.store8 (i32.const 120) (i32.add (i32.const 48) (local.get $number)))
        (drop (call $log (i32.const 2) (i32.const 120) (i32.const 1))))
    (func $say_given (drop (call $log (i32.const 2) (i32.load (i32.const 72)) (i32.load (i32.const 76)))))
    (func $say_which (param $token i32)
        (if (i32.eq (local.get $token) (i32.load (i32.const 64))) (then (call $digit (i32.const 1))))
        (if (i32.eq (local.get $token) (i32.load (i32.const 68))) (then (call $digit (i32.const 2))))
        (if (i32.eq (local.get $token) (i32.load (i32.const 60))) (then (call $digit (i32.const 3)))))
    (func $ask (param $body i32) (param $out i32)
        (drop (call $http (i32.const 0) (i32.const 3) (i32.const 256) (i32.const SIZE) (local.get $body) (i32.const 3)
            (i32.const 0) (i32.const 0) (i32.const 100) (local.get $out))))
    (func $calls
        (call $ask (i32.const 12) (i32.const 64))
        (call $ask (i32.const 15) (i32.const 68))
        (drop (call $grpc (i32.const 0) (i32.const 3) (i32.const 3) (i32.const 3) (i32.const 6) (i32.const 6)
            (i32.const 0) (i32.const 0) (i32.const 18) (i32.const 3) (i32.const 100) (i32.const 60))))
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (drop (call $period (i32.const 500)))
        (call $calls)
        (i32.const 1))
    (func (export "proxy_on_tick") (param i32)
        (drop (call $period (i32.const 0)))
        (call $calls))
    (func (export "proxy_on_http_call_response") (param $context i32) (param $token i32) (param $headers i32) (param $size i32) (param i32)
        (call $say_which (local.get $token))
        (call $digit (local.get $context))
        (call $digit (local.get $headers))
        (drop (call $pairs (i32.const 6) (i32.const 72) (i32.const 76)))
        (call $say_given)
        (i64.store (i32.const 72) (i64.const 0))
        (call $digit (call $buffer (i32.const 4) (i32.const 0) (local.get $size) (i32.const 72) (i32.const 76)))
        (call $say_given))
    (func (export "proxy_on_grpc_receive") (param i32) (param $token i32) (param $size i32)
        (call $say_which (local.get $token))
        (call $digit (call $buffer (i32.const 5) (i32.const 0) (local.get $size) (i32.const 72) (i32.const 76)))
        (call $say_given))
    (func (export "proxy_on_grpc_close") (param i32) (param $token i32) (param $code i32)
        (call $say_which (local.get $token))
        (drop (call $status (i32.const 80) (i32.const 72) (i32.const 76)))
        (call $digit (i32.sub (i32.load (i32.const 80)) (i32.const 10)))
        (call $say_given))
    (func (export "proxy_on_log") (param i32)
        (call $digit (call $cancel (i32.load (i32.const 64))))
        (call $digit (call $cancel (i32.load (i32.const 60))))
        (call $digit (call $close (i32.load (i32.const 60)))))
"#;

fn calls() -> Module {
    let headers = pairs::serialize(&Headers::new([(":method", "GET"), (":path", "/"), (":authority", "svc")]));
    let escaped: String = headers.iter().map(|byte| format!("\\{byte:02x}")).collect();
    let data = format!(r#"(data (i32.const 0) "svcSvcMethodonetwosix") (data (i32.const 256) "{escaped}")"#);
    module(CALLS_IMPORTS, &(data + &CALLS.replace("SIZE", &headers.len().to_string())))
}

/// What the plugins logged since the last time.
fn news(host: &Host, seen: &mut usize) -> Vec<String> {
    let log = host.log();
    let news = log[*seen..].iter().map(|line| line.message.clone()).collect();
    *seen = log.len();
    news
}

#[test]
fn several_calls_of_a_stream_and_of_the_root_context_are_answered_by_token() {
    let host = host(&[plugin(&calls(), "a")], Options::default());
    let (answered, mut seen) = (Headers::new([(":status", "200"), ("x-a", "b")]), 0);
    let form = String::from_utf8_lossy(&pairs::serialize(&answered)).into_owned();
    let stream = host.worker(0).open(get(), true);
    for owner in [Some(stream), None] {
        let sent = host.worker(0).callouts();
        let told: Vec<_> = sent.iter().map(|call| (call.protocol, call.body.as_slice(), call.stream)).collect();
        let expected: [(_, &[u8], _); 3] =
            [(Protocol::Http, b"one", owner), (Protocol::Http, b"two", owner), (Protocol::Grpc, b"six", owner)];
        assert_eq!(told, expected);
        assert_eq!((sent[0].upstream.as_slice(), sent[0].timeout_ms), (&b"svc"[..], 100));
        assert_eq!(sent[0].headers.text(":path").as_deref(), Some("/"));

        assert!(!host.worker(0).answer_grpc(sent[1].token, 0, b""), "an HTTP call has no gRPC answer");
        assert!(host.worker(0).answer_call(sent[1].token, answered.clone(), b"second"));
        assert_eq!(news(&host, &mut seen), ["2", "1", "2", &form, "0", "second"], "call, context, headers, body");
        assert!(host.worker(0).answer_grpc(sent[2].token, 0, b"third"));
        assert_eq!(news(&host, &mut seen), ["3", "0", "third"]);
        assert!(host.worker(0).fail_call(sent[0].token));
        assert_eq!(news(&host, &mut seen), ["1", "1", "0", "", "1", ""], "no headers, no body");
        assert!(!host.worker(0).fail_call(sent[0].token), "once");
        host.advance(Duration::from_millis(500));
    }
    assert!(host.worker(0).failures().is_empty() && host.worker(0).callouts().is_empty());
}

#[test]
fn a_grpc_call_can_fail_and_be_cancelled_and_an_http_call_cannot_be_cancelled() {
    let host = host(&[plugin(&calls(), "a")], Options::default());
    let (mut worker, mut seen) = (host.worker(0), 0);
    let stream = worker.open(get(), true);
    let failing = worker.callouts()[2].token;
    assert!(worker.fail_call(failing));
    assert_eq!(news(&host, &mut seen), ["3", "4", "failed"], "14, UNAVAILABLE");
    worker.client_abort(stream);
    let (bad, none) = (Status::BadArgument as u32, Status::NotFound as u32);
    assert_eq!(news(&host, &mut seen), [bad, none, none].map(|status| status.to_string()));

    let other = worker.open(get(), true);
    let cancelled = worker.callouts().last().unwrap().token;
    worker.client_abort(other);
    assert_eq!(news(&host, &mut seen), [bad, 0, none].map(|status| status.to_string()));
    assert!(!worker.answer_grpc(cancelled, 0, b"late"));
    assert_eq!(worker.callouts().len(), 4, "the HTTP calls still wait");
}

/// Holds requests at their body. At the tick, switches to the first stream, where it sets a header, replaces the body, sets filter state
/// and goes on; then to the second, where it answers 403; then back to itself, where no header can be set: the gauge `root` has the status.
const SWITCHES: &str = r#"
    (data (i32.const 0) "rootxynokey")
    (global $first (mut i32) (i32.const 0))
    (global $second (mut i32) (i32.const 0))
    (func (export "proxy_on_configure") (param i32 i32) (result i32)
        (drop (call $period (i32.const 500)))
        (i32.const 1))
    (func (export "proxy_on_request_headers") (param $context i32) (param i32 i32) (result i32)
        (global.set $first (global.get $second))
        (global.set $second (local.get $context))
        (i32.const 1))
    (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32) (i32.const 1))
    (func (export "proxy_on_tick") (param $root i32)
        (drop (call $effective (global.get $first)))
        (drop (call $set (i32.const 0) (i32.const 4) (i32.const 1) (i32.const 5) (i32.const 1)))
        (drop (call $buffer (i32.const 0) (i32.const 0) (i32.const 99) (i32.const 64) (i32.const 68)))
        (drop (call $property (i32.const 8) (i32.const 3) (i32.load (i32.const 64)) (i32.load (i32.const 68))))
        (drop (call $replace (i32.const 0) (i32.const 0) (i32.const 99) (i32.const 6) (i32.const 2)))
        (drop (call $continue (i32.const 0)))
        (drop (call $effective (global.get $second)))
        (drop (call $reply (i32.const 403) (i32.const 0) (i32.const 0) (i32.const 6) (i32.const 2) (i32.const 0) (i32.const 0) (i32.const -1)))
        (drop (call $effective (local.get $root)))
        (drop (call $define (i32.const 1) (i32.const 0) (i32.const 4) (i32.const 72)))
        (drop (call $record (i32.load (i32.const 72))
            (i64.extend_i32_u (call $set (i32.const 0) (i32.const 4) (i32.const 1) (i32.const 5) (i32.const 1))))))
"#;

#[test]
fn host_calls_act_on_the_stream_that_the_root_context_switched_to() {
    let imports = r#"
        (import "env" "proxy_get_buffer_bytes" (func $buffer (param i32 i32 i32 i32 i32) (result i32)))
        (import "env" "proxy_set_buffer_bytes" (func $replace (param i32 i32 i32 i32 i32) (result i32)))
        (import "env" "proxy_set_property" (func $property (param i32 i32 i32 i32) (result i32)))
        (import "env" "proxy_send_local_response" (func $reply (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))"#;
    let module = module(&[RESUME_IMPORTS, imports].concat(), SWITCHES);
    let host = host(&[plugin(&module, "a")], Options::default());
    let [first, second] = [(); 2].map(|()| {
        let mut worker = host.worker(0);
        let stream = worker.open(get(), false);
        worker.request_body(stream, b"body", true);
        stream
    });
    host.advance(Duration::from_millis(500));
    let worker = host.worker(0);
    let upstream = worker.upstream(first);
    assert_eq!(
        (upstream.header("x").as_deref(), upstream.body.as_slice(), upstream.end),
        (Some("y"), &b"no"[..], true)
    );
    assert_eq!(worker.filter_state(first, "wasm.key").as_deref(), Some(&b"body"[..]));
    assert!(!worker.finished(first));
    let client = worker.client(second);
    assert_eq!((client.status(), client.body.as_slice(), worker.finished(second)), (403, &b"no"[..], true));
    assert!(worker.upstream(second).headers.is_none());
    assert_eq!(host.metrics().prometheus()["root"], Status::BadArgument as u64);
    assert!(worker.failures().is_empty());
}

#[test]
fn workers_on_their_own_threads_lose_no_update_that_compares() {
    let module = module(
        r#"(import "env" "proxy_get_shared_data" (func $get (param i32 i32 i32 i32 i32) (result i32)))
           (import "env" "proxy_set_shared_data" (func $put (param i32 i32 i32 i32 i32) (result i32)))"#,
        r#"(data (i32.const 0) "n")
           (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
               (loop $again
                   (i32.store (i32.const 16) (i32.const 1))
                   (i32.store (i32.const 72) (i32.const -16))
                   (if (i32.eqz (call $get (i32.const 0) (i32.const 1) (i32.const 64) (i32.const 68) (i32.const 72))) (then
                       (i32.store (i32.const 16) (i32.add (i32.load (i32.load (i32.const 64))) (i32.const 1)))))
                   (br_if $again (call $put (i32.const 0) (i32.const 1) (i32.const 16) (i32.const 4) (i32.load (i32.const 72)))))
               (i32.const 0))"#,
    );
    const EACH: u32 = 1000;
    let host = host(&[plugin(&module, "a")], Options { workers: 4, ..Options::default() });
    std::thread::scope(|scope| {
        for index in 0..4 {
            let host = &host;
            scope.spawn(move || {
                for _ in 0..EACH {
                    host.worker(index).open(get(), true);
                }
            });
        }
    });
    let shared = host.shared_data();
    assert_eq!(shared.get("test", "n").unwrap().0, (4 * EACH).to_le_bytes());
}

#[test]
fn fuel_is_repeatable_and_memory_is_measured() {
    let module = module(SET_HEADER, COUNTS_THE_BODY);
    let measure = || {
        let host = host(&[plugin(&module, "a")], Options::default());
        let mut worker = host.worker(0);
        let stream = worker.open(get(), false);
        worker.request_body(stream, b"abc", true);
        (worker.fuel()["proxy_on_request_body"], worker.memory())
    };
    let (fuel, memory) = measure();
    assert!(fuel.calls == 1 && fuel.max > 0, "{fuel:?}");
    assert_eq!(memory, 4 * 65536);
    assert_eq!(measure().0, fuel);
}
