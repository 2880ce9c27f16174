//! A server that takes any path and says what arrived.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What a model server would answer: 8 tokens of prompt, one of completion.
const ANSWER: &str =
    r#"{"object":"chat.completion","choices":[],"usage":{"prompt_tokens":8,"completion_tokens":1,"total_tokens":9}}"#;

/// The server; every request as it arrived, head and body.
pub struct Recorder {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Recorder {
    /// On a free port. With a redirect, whatever does not end in `again` is led there.
    pub async fn start(redirect: Option<String>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let recorder = Self { address: listener.local_addr().expect("an address"), seen: Arc::default() };
        let seen = Arc::clone(&recorder.seen);
        tokio::spawn(async move {
            while let Ok((wire, _)) = listener.accept().await {
                tokio::spawn(serve(wire, Arc::clone(&seen), redirect.clone()));
            }
        });
        recorder
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What arrived since this was asked last.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.seen.lock().expect("no test panicked with it"))
    }
}

async fn serve(mut wire: TcpStream, seen: Arc<Mutex<Vec<String>>>, redirect: Option<String>) {
    let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
            let length = length.unwrap_or(0);
            let is_chunked = head.contains("transfer-encoding: chunked") && !body.ends_with("0\r\n\r\n");
            if body.len() >= length && !is_chunked {
                let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                seen.lock().expect("no test panicked with it").push(text.clone());
                bytes.clear();
                let answer = match &redirect {
                    Some(to) if !path.ends_with("again") => {
                        format!("HTTP/1.1 307 Temporary Redirect\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n")
                    }
                    _ => {
                        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length";
                        format!("{head}: {}\r\n\r\n{ANSWER}", ANSWER.len())
                    }
                };
                if wire.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
                continue;
            }
        }
        match wire.read(&mut piece).await {
            Ok(0) | Err(_) => return,
            Ok(size) => bytes.extend_from_slice(&piece[..size]),
        }
    }
}
