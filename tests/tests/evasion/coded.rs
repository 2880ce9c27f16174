//! Bodies that are compressed: how much they may become, and that nobody reads them otherwise than they are read here.

use penstock_tests::coded;
use reqwest::Response;
use serde_json::{Value, json};

use super::stage::Stage;

const CHAT: &str = "/v1/chat/completions";
const TEXT: &str = r#"{"model":"chat","messages":[{"role":"user","content":"hello"}]}"#;

impl Stage {
    /// Sends a body that says that it is compressed like this.
    async fn send_coded(&self, coding: &str, body: Vec<u8>) -> Response {
        let request = self.client.post(format!("{}{CHAT}", self.envoy.url())).header("content-encoding", coding);
        request.header("content-type", "application/json").body(body).send().await.expect("an answer")
    }

    /// Each is refused with this status, in the form of its API; nothing of it arrives, and nothing is charged.
    async fn refuses_coded(&self, status: u16, bodies: impl IntoIterator<Item = (&str, Vec<u8>)>) {
        let before = self.arrived();
        for (coding, body) in bodies {
            let answer = self.send_coded(coding, body).await;
            assert_eq!(answer.status(), status, "{coding}");
            let known = answer.headers().get("accept-encoding").map(|value| value.to_str().unwrap().to_owned());
            assert_eq!(known.as_deref(), (status == 415).then_some("gzip, zstd"), "{coding}");
            let error: Value = answer.json().await.expect("JSON");
            assert!(error["error"]["message"].as_str().is_some_and(|message| !message.is_empty()), "{coding}: {error}");
        }
        assert_eq!(self.arrived(), before);
        let answer = self.send_coded("gzip", coded::gzip(TEXT.as_bytes())).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["x-ratelimit-remaining-tokens"], "1982");
    }
}

fn config() -> Value {
    // A request is charged what it costs, and all that is charged is there again for the next.
    json!({
        "models": [{"name": "chat", "output": {"expect": 10, "max": 10}}],
        "limits": [{"name": "tpm", "tokens": 2000, "every": "1s"}],
    })
}

/// What becomes longer than the proxy would hold, or costs more than it is long, is refused when it is that far.
#[tokio::test(flavor = "multi_thread")]
async fn bombs() {
    let Some(stage) = Stage::start(&config()).await else { return };
    // A gigabyte in 33 KB, and 64 MiB in 66 KB.
    stage.refuses_coded(413, [("zstd", coded::zstd_bomb()), ("gzip", coded::gzip_bomb())]).await;
    let tables = [("gzip", coded::gzip_tables(100_000)), ("zstd", coded::zstd_tables(100_000))];
    stage.refuses_coded(400, tables).await;
}

/// What one program reads to its end and another does not, and what is not read here.
#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_decode_differently() {
    let Some(stage) = Stage::start(&config()).await else { return };
    let both = [("gzip", coded::gzip(TEXT.as_bytes())), ("zstd", coded::zstd(TEXT.as_bytes()))];
    for (coding, body) in both {
        let (mut cut, mut more) = (body.clone(), body.clone());
        cut.pop();
        more.push(b' ');
        let plain = TEXT.as_bytes().to_vec();
        stage.refuses_coded(400, [cut, more, body.repeat(2), plain].map(|body| (coding, body))).await;
        stage.refuses_coded(415, [(&*format!("{coding}, {coding}"), body.clone()), ("br", body.clone())]).await;
        // A header that is there twice is a list.
        let twice = stage.client.post(format!("{}{CHAT}", stage.envoy.url())).header("content-encoding", coding);
        let twice = twice.header("content-encoding", "identity").body(body.clone()).send().await.expect("an answer");
        assert_eq!(twice.status(), 415);
    }
}
