//! What happens on the wire through a real Envoy: HTTP/1.1 and HTTP/2, large bodies, slow uploads, proxies that let headers wait and such
//! that do not, clients that hang up.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use penstock_harness::envoy::Envoy;
use penstock_harness::model_server::{ModelServer, Seen};
use penstock_tests::{PATIENCE, coded, gateway, until_metrics};
use reqwest::{Body, Client, Response, Version};
use serde_json::{Value, json};

/// Just below what `gateway.yaml` lets a filter hold.
const LARGE_BYTES: usize = 4 << 20;
const BROTLI: &str = "1ba500601c07b939ea8a85932257489f358842034b88627f9feacde627a70ae00bad0392a0d00d0e1c122bb120e4c4075ade73f8ca712964ebe42b08\
    13454ccd3514b89d18d44372370ccfbc91b2b34120962f5f6b0414a62168f7a6bff45cdbb6819896edb89e1f840691a2f295df7275a548d09a0a96bd\
    1f6f793596b0efdfbf03";
const TICK: Duration = Duration::from_millis(500);

/// How a client sends its body.
#[derive(Clone, Copy, Debug)]
enum Upload {
    /// At once, with its length.
    Whole,
    /// In chunks without a length, as fast as it goes.
    Chunks,
    /// In chunks with pauses, which together are longer than the filters wait for a body.
    Slow,
}

#[tokio::test(flavor = "multi_thread")]
async fn all_but_the_edits_arrives_as_it_was_sent_with_both_protocols() {
    let Some(stage) = Stage::start(&config(json!("auto")), true).await else { return };
    for (client, version) in [(http1(), Version::HTTP_11), (http2(), Version::HTTP_2)] {
        for upload in [Upload::Whole, Upload::Chunks] {
            for size in [0, 70_000, LARGE_BYTES - 1000] {
                let (sent, expected) = request(size);
                let answer = stage.send(&client, upload, sent.clone()).await;
                assert_eq!((answer.status().as_u16(), answer.version()), (200, version), "{upload:?} {size}");
                assert_eq!(answer.headers()["x-penstock-max-tokens"], "5", "{upload:?} {size}");
                let seen = stage.last();
                assert!(
                    seen.body.as_deref() == Some(&expected),
                    "{upload:?} {size}: the body is not what it should be"
                );
                let length = seen.header("content-length").map(|length| length.parse::<usize>());
                let told = matches!(upload, Upload::Whole).then_some(Ok(expected.len()));
                assert_eq!(length, told, "{upload:?} {size}");
            }
        }
    }
    assert_eq!(stage.server.totals().requests, 12);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_the_proxy_can_hold_is_told_and_costs_nothing() {
    let Some(stage) = Stage::start(&config(json!("auto")), true).await else { return };
    for client in [http1(), http2()] {
        let (sent, _) = request(LARGE_BYTES + 200_000);
        // Envoy answers before it has read everything, and then a client may also see the connection go.
        let answer = client.post(stage.url()).header("content-type", "application/json").body(sent).send().await;
        if let Ok(answer) = answer {
            assert_eq!(answer.status(), 413, "{:?}", answer.text().await);
        }
        let (small, _) = request(10);
        let answer = stage.send(&client, Upload::Whole, small).await;
        let remaining: u64 = answer.headers()["x-ratelimit-remaining-tokens"].to_str().unwrap().parse().unwrap();
        assert!(remaining > 50_000_000 - 200, "{remaining}");
    }
}

/// What comes compressed arrives as what it was, with its edits and its length, with and without headers that wait, up to what the proxy would
/// hold of a body that is not compressed.
#[tokio::test(flavor = "multi_thread")]
async fn compressed_requests_arrive_decoded() {
    for may_wait in [true, false] {
        let Some(stage) = Stage::start(&config(json!(may_wait)), may_wait).await else { return };
        for client in [http1(), http2()] {
            for size in [0, 70_000, LARGE_BYTES - 1000] {
                let (sent, expected) = request(size);
                let tokens = |answer: &Response| answer.headers()["x-penstock-prompt-tokens"].clone();
                let plain = tokens(&stage.send(&client, Upload::Whole, sent.clone()).await);
                let codings = [("gzip", coded::gzip(sent.as_bytes())), ("zstd", coded::zstd(sent.as_bytes()))];
                for ((coding, body), upload) in
                    codings.iter().flat_map(|coded| [(coded, Upload::Whole), (coded, Upload::Chunks)])
                {
                    let name = format!("may_wait {may_wait}, {coding}, {upload:?}, {size}");
                    let answer = stage.send_coded(&client, upload, Some(coding), body.clone()).await;
                    assert_eq!((answer.status().as_u16(), tokens(&answer)), (200, plain.clone()), "{name}");
                    let seen = stage.last();
                    assert!(seen.body.as_deref() == Some(&expected), "{name}: the body is not what it should be");
                    assert_eq!(seen.header("content-encoding"), None, "{name}");
                    let length = seen.header("content-length").map(|length| length.parse::<usize>());
                    let told = (may_wait && matches!(upload, Upload::Whole)).then_some(Ok(expected.len()));
                    assert_eq!(length, told, "{name}");
                }
            }
        }
        let mut broken = coded::gzip(request(1000).0.as_bytes());
        broken.pop();
        let arrived = stage.server.totals().requests;
        let answer = stage.send_coded(&http1(), Upload::Whole, Some("gzip"), broken).await;
        assert_eq!(answer.status(), 400, "may_wait {may_wait}");
        if may_wait {
            assert_eq!(stage.server.totals().requests, arrived);
        }
    }
}

/// A proxy that holds less of a body than what it becomes when it is decoded refuses it by itself, and nothing is charged.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_decoded_is_no_longer_than_what_is_held() {
    let limit = "/static_resources/listeners/0/per_connection_buffer_limit_bytes";
    let started = gateway(&config(json!(true)), |gateway| gateway.set(limit, json!(1 << 20))).await;
    let Some((envoy, server)) = started else { return };
    let stage = Stage { envoy, server };
    let (large, _) = request(3 << 20);
    for (coding, body) in [("gzip", coded::gzip(large.as_bytes())), ("zstd", coded::zstd(large.as_bytes()))] {
        assert!(body.len() < 1 << 20);
        let answer = stage.send_coded(&http1(), Upload::Whole, Some(coding), body).await;
        assert_eq!(answer.status(), 413, "{coding}");
        assert_eq!(stage.server.totals().requests, 0, "{coding}");
    }
    let answer = stage.send_coded(&http1(), Upload::Whole, Some("gzip"), coded::gzip(request(10).0.as_bytes())).await;
    let remaining: u64 = answer.headers()["x-ratelimit-remaining-tokens"].to_str().unwrap().parse().unwrap();
    assert!(answer.status() == 200 && remaining > 50_000_000 - 200, "{remaining}");
}

/// For other codings Envoy's own decompressor stands in front, as docs/clients.md has it.
#[tokio::test(flavor = "multi_thread")]
async fn envoy_may_decode_in_front() {
    let docs = std::fs::read_to_string(penstock_tests::checkout().join("docs/clients.md")).expect("docs/clients.md");
    let yaml = docs.split("```yaml").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
    let example: Value = serde_yaml_ng::from_str(yaml).expect("YAML");
    let filter = example["http_filters"][0].clone();
    let started = gateway(&config(json!(true)), |gateway| gateway.filter_in_front(filter)).await;
    let Some((envoy, server)) = started else { return };
    let stage = Stage { envoy, server };
    let (_, expected) = request(0);
    // The same request as `brotli` makes it.
    let digits: Vec<u8> = BROTLI.bytes().map(|digit| (digit as char).to_digit(16).expect("a digit") as u8).collect();
    let body = digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    let answer = stage.send_coded(&http1(), Upload::Whole, Some("br"), body).await;
    assert_eq!(answer.status(), 200);
    assert!(answer.headers().contains_key("x-penstock-prompt-tokens"));
    let seen = stage.last();
    assert_eq!((seen.body.as_deref(), seen.header("content-encoding")), (Some(&*expected), None));
    // Other codings pass it, and are decoded behind it.
    let answer = stage.send_coded(&http1(), Upload::Whole, Some("zstd"), coded::zstd(request(0).0.as_bytes())).await;
    assert_eq!((answer.status().as_u16(), stage.last().body.as_deref()), (200, Some(&*expected)));
}

/// `waitForBody: auto`, on a proxy whose headers may wait and on one where they may not, with quick and with slow uploads first: nobody
/// hangs, every prompt is counted, the limit holds, and what the filters found out is the truth.
#[tokio::test(flavor = "multi_thread")]
async fn whether_headers_may_wait_is_found_out() {
    for may_wait in [true, false] {
        for first in [Upload::Whole, Upload::Slow] {
            let name = format!("may_wait {may_wait}, first {first:?}");
            let mut config = config(json!("auto"));
            config["limits"] = json!([{"name": "ten", "tokens": 1, "every": "1h", "burst": 60}]);
            config["models"][0]["output"] = json!({"max": 1});
            let Some(stage) = Stage::start(&config, may_wait).await else { return };
            // What one connection shows is not believed.
            let client = Client::builder().http1_only().pool_max_idle_per_host(0).build().expect("a client");
            for (i, upload) in
                [first, first, Upload::Whole, Upload::Slow, Upload::Whole, Upload::Whole, first].into_iter().enumerate()
            {
                let (sent, _) = request(0);
                let answer = stage.send(&client, upload, sent).await;
                assert_eq!(answer.status(), 200, "{name}: request {i}");
                assert!(answer.headers().contains_key("x-penstock-prompt-tokens"), "{name}: request {i}");
                let sent: Value = serde_json::from_str(stage.last().body.as_deref().unwrap()).unwrap();
                assert_eq!(sent["max_tokens"], 1, "{name}: request {i}");
            }
            // 8 tokens each: the eighth does not fit.
            for upload in [Upload::Whole, Upload::Slow] {
                let answer = stage.send(&client, upload, request(0).0).await;
                assert_eq!(answer.status(), 429, "{name}");
                assert_eq!(answer.headers()["x-penstock-limit"], "ten", "{name}");
            }
            let log = stage.envoy.log();
            let warnings = log.matches("does not let headers wait").count();
            if may_wait {
                assert_eq!(warnings, 0, "{name}:\n{log}");
            } else {
                assert!((1..=2).contains(&warnings), "{name}: at most once by each worker\n{log}");
            }
            assert_eq!(stage.server.totals().requests, 7, "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_ends_the_generation_and_pays_for_what_was_generated() {
    let Some(stage) = Stage::start(&config(json!("auto")), true).await else { return };
    for client in [http1(), http2()] {
        let body =
            json!({"model": "chat", "stream": true, "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]});
        let script = json!({"tokens": 100_000, "inter_token_ms": 5}).to_string();
        let answer = client.post(stage.url()).header("x-model-server", script).json(&body).send().await.unwrap();
        let mut events = answer.bytes_stream();
        events.next().await.expect("an event").expect("bytes");
        drop(events);
        let seen = stage.until_done().await;
        assert!(seen.client_gone, "the server was not told: {seen:?}");
        until_metrics(&stage.envoy, |metrics| metrics.sum("penstock_tokens_total", &[("kind", "prompt")]) > 0.0).await;
    }
    let abandoned = [("outcome", "abandoned")];
    until_metrics(&stage.envoy, |metrics| metrics.sum("penstock_requests_total", &abandoned) == 2.0).await;
}

/// A body that trailers follow is over with them, and not before: HTTP/2 allows that to any client.
#[tokio::test(flavor = "multi_thread")]
async fn trailers_end_a_body() {
    for may_wait in [true, false] {
        let Some(stage) = Stage::start(&config(json!("auto")), may_wait).await else { return };
        let address = stage.envoy.url().replace("http://", "");
        for _ in 0..3 {
            let tcp = tokio::net::TcpStream::connect(&address).await.expect("Envoy listens");
            let (client, connection) = h2::client::handshake(tcp).await.expect("HTTP/2");
            let driver = tokio::spawn(connection);
            let mut client = client.ready().await.expect("a stream");
            let (body, edited) = request(1000);
            let body = body.replace("8e1", "80");
            // While such a proxy forwards a body it cannot be edited; it is counted and limited all the same.
            let expected = if may_wait { edited } else { body.clone() };
            let head = http::Request::post(stage.url()).header("content-type", "application/json").body(()).unwrap();
            let (answer, mut send) = client.send_request(head, false).expect("sent");
            send.send_data(body.into_bytes().into(), false).expect("sent");
            let mut trailers = http::HeaderMap::new();
            trailers.insert("x-checksum", "abc".parse().unwrap());
            send.send_trailers(trailers).expect("sent");
            let answer = tokio::time::timeout(PATIENCE, answer).await.expect("no hang").expect("an answer");
            let (head, mut body) = answer.into_parts();
            let said = body.data().await.map(|data| data.map(|data| String::from_utf8_lossy(&data).into_owned()));
            assert_eq!(head.status, 200, "may_wait {may_wait}: {said:?} {:?}", stage.server.requests().last());
            assert_eq!(head.headers.contains_key("x-penstock-max-tokens"), may_wait);
            assert!(
                head.headers.contains_key("x-penstock-prompt-tokens")
                    && head.headers.contains_key("x-ratelimit-limit-tokens")
            );
            let seen = stage.last().body.unwrap_or_default();
            assert!(seen == expected, "may_wait {may_wait}: {seen:.120}\n{}", stage.envoy.log());
            drop((send, client));
            driver.abort();
        }
    }
}

struct Stage {
    envoy: Envoy,
    server: ModelServer,
}

impl Stage {
    /// `None` where there is no Envoy.
    async fn start(config: &Value, may_wait: bool) -> Option<Self> {
        let (envoy, server) = gateway(config, |gateway| gateway.headers_may_wait(may_wait)).await?;
        Some(Self { envoy, server })
    }

    fn url(&self) -> String {
        format!("{}/v1/chat/completions", self.envoy.url())
    }

    async fn send(&self, client: &Client, upload: Upload, body: String) -> Response {
        self.send_coded(client, upload, None, body.into_bytes()).await
    }

    async fn send_coded(&self, client: &Client, upload: Upload, coding: Option<&str>, body: Vec<u8>) -> Response {
        let pause = if matches!(upload, Upload::Slow) { TICK } else { Duration::ZERO };
        let body = match upload {
            Upload::Whole => Body::from(body),
            Upload::Chunks | Upload::Slow => {
                let size = if pause.is_zero() { 10_000 } else { body.len().div_ceil(4) };
                let pieces: Vec<Vec<u8>> = body.chunks(size).map(<[u8]>::to_vec).collect();
                let pieces = futures_util::stream::iter(pieces.into_iter().enumerate());
                Body::wrap_stream(pieces.then(move |(i, piece)| async move {
                    tokio::time::sleep(if i > 0 { pause } else { Duration::ZERO }).await;
                    Ok::<_, std::io::Error>(piece)
                }))
            }
        };
        let mut request = client.post(self.url()).header("content-type", "application/json").body(body);
        if let Some(coding) = coding {
            request = request.header("content-encoding", coding);
        }
        // Who hangs does so until Envoy's `request_timeout`, which is twice as long.
        tokio::time::timeout(PATIENCE, request.send()).await.expect("it does not hang").expect("an answer")
    }

    fn last(&self) -> Seen {
        self.server.requests().pop().expect("a request")
    }

    async fn until_done(&self) -> Seen {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let seen = self.last();
            if seen.done {
                return seen;
            }
            assert!(Instant::now() < deadline, "the server still generates: {seen:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn http1() -> Client {
    Client::builder().http1_only().build().expect("a client")
}

fn http2() -> Client {
    Client::builder().http2_prior_knowledge().build().expect("a client")
}

fn config(wait: Value) -> Value {
    json!({
        "waitForBody": wait,
        "countBytesMax": 100_000,
        "models": [{"name": "chat", "output": {"max": 5},
            "versions": [{"name": "stable", "weight": 1, "model": "llama \"r2\""}]}],
        "limits": [{"name": "tpm", "tokens": 50_000_000, "every": "1h"}],
    })
}

/// A request with about so many bytes of text, written as nobody would write it, and what is to become of it.
fn request(bytes: usize) -> (String, String) {
    // No two lines are the same, so that it does not become a hundredth when it is compressed.
    let line = |i: usize| {
        let i = i * 40_503 % 65_536;
        format!("r\\u00e9{:03x}\\u00E9 \\\"{:x}\\\" 你好 \\ud83d\\ude42\\t", i >> 4, i % 16)
    };
    let text: String = (0..bytes / 45).map(line).collect();
    let body = |model: &str, max: &str| {
        format!(
            "\n {{ \"temperature\" : 1.50, \"model\"\t: {model} ,\r\n\"messages\":[ {{\"content\": \"{text}\",\"role\":\"user\" }} ],\
             \"seed\": 12345678901234567890, \"max_tokens\" :{max}, \"logit_bias\":{{}} }}\n\n"
        )
    };
    (body("\"ch\\u0061t\"", " 8e1"), body("\"llama \\\"r2\\\"\"", " 5"))
}
