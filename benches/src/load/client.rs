//! A client of its own for what wrk does not do: requests at even distances, and answers that come event by event.
//!
//! Threads that block: a timer of tokio's wakes up once in a millisecond, which at 3,000 requests a second is not even.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use penstock_harness::envoy::Envoy;
use serde_json::json;

/// Connections over which evenly spaced requests are spread.
const CONNECTIONS: u32 = 16;
/// Streams that are open at the same time.
pub const STREAMS: usize = 8;
/// Bytes of each prompt.
const PROMPT: usize = 2_000;
/// How many different prompts there are.
const PROMPTS: usize = 256;
/// How long an answer may keep silent.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// Asks at even distances, for that long: the milliseconds from when each request was due to its answer's end.
pub fn paced(envoy: &Envoy, rate: u32, took: Duration) -> Result<Vec<f64>, String> {
    let requests = requests(envoy, "json", "{}", false);
    let every = Duration::from_secs(1) / rate;
    // All have their connections by then.
    let start = Instant::now() + Duration::from_millis(50);
    let ask = |connection: u32| -> Result<Vec<f64>, String> {
        let mut answers = Connection::open(envoy)?;
        let mut latencies = Vec::new();
        for number in (connection..).step_by(CONNECTIONS as usize) {
            let due = start + every * number;
            if due >= start + took {
                break;
            }
            let early = due.saturating_duration_since(Instant::now());
            // The system is late by as much as it likes; a connection that still waits for an answer counts as waiting.
            let since = if early.is_zero() { due } else { due.max(slept(early)) };
            answers.ask(&requests[number as usize % requests.len()])?;
            latencies.push(since.elapsed().as_secs_f64() * 1e3);
        }
        Ok(latencies)
    };
    let all = at_once(CONNECTIONS, ask)?;
    Ok(all.into_iter().flatten().collect())
}

fn slept(time: Duration) -> Instant {
    thread::sleep(time);
    Instant::now()
}

/// Reads streams of so many events, all at the same time, to their ends.
pub fn events(envoy: &Envoy, events: u32) -> Result<(), String> {
    let requests = requests(envoy, "streamed", &json!({"tokens": events}).to_string(), true);
    at_once(STREAMS as u32, |stream| Connection::open(envoy)?.ask(&requests[stream as usize])).map(drop)
}

/// Does it on so many threads.
fn at_once<T: Send>(threads: u32, work: impl Fn(u32) -> Result<T, String> + Sync) -> Result<Vec<T>, String> {
    thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = (0..threads).map(|number| scope.spawn(move || work(number))).collect();
        threads.into_iter().map(|thread| thread.join().map_err(|_| "a client panicked".to_owned())?).collect()
    })
}

/// Whole requests as they are written, with a prompt each.
fn requests(envoy: &Envoy, answer: &str, script: &str, stream: bool) -> Vec<Vec<u8>> {
    let text = text(PROMPTS * 100 + PROMPT);
    let host = envoy.url().replace("http://", "");
    let request = |number: usize| {
        let body = body(&text[number * 100..][..PROMPT], stream);
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\nx-api-key: key-1\r\n\
             x-answer: {answer}\r\nx-model-server: {script}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        (head + &body).into_bytes()
    };
    (0..PROMPTS).map(request).collect()
}

/// The body of a request with this prompt.
pub fn body(prompt: &str, stream: bool) -> String {
    json!({"messages": [{"content": prompt, "role": "user"}], "model": "chat", "stream": stream}).to_string()
}

/// English words at random, that need no escaping in JSON.
pub fn text(bytes: usize) -> String {
    let english: String = include_str!("../../corpus/english.txt").replace(['"', '\\'], "");
    let words: Vec<&str> = english.split_whitespace().filter(|word| word.is_ascii()).collect();
    // Knuth's generator (MMIX), whose high bits are good enough for this.
    let mut state: u64 = 1;
    let mut text = String::with_capacity(bytes + 20);
    while text.len() < bytes {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text.push_str(words[(state >> 33) as usize % words.len()]);
        text.push(' ');
    }
    text
}

/// A connection on which one request follows the other.
struct Connection {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Connection {
    fn open(envoy: &Envoy) -> Result<Self, String> {
        let address = envoy.url().replace("http://", "");
        let open = || -> std::io::Result<TcpStream> {
            let stream = TcpStream::connect(&address)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(SILENCE_MAX))?;
            Ok(stream)
        };
        Ok(Self { stream: open().map_err(|error| format!("{address}: {error}"))?, answer: Vec::new() })
    }

    /// Sends a request, and reads its answer to the end.
    fn ask(&mut self, request: &[u8]) -> Result<(), String> {
        self.stream.write_all(request).map_err(|error| format!("a request: {error}"))?;
        self.answer.clear();
        let mut buffer = [0; 1 << 14];
        while !is_whole(&self.answer) {
            let read = self.stream.read(&mut buffer).map_err(|error| format!("an answer: {error}"))?;
            if read == 0 {
                return Err(format!("an answer ended early: {}", String::from_utf8_lossy(&self.answer)));
            }
            self.answer.extend_from_slice(&buffer[..read]);
        }
        if !self.answer.starts_with(b"HTTP/1.1 200") {
            return Err(format!("no answer of 200: {}", String::from_utf8_lossy(&self.answer)));
        }
        Ok(())
    }
}

/// Whether an answer is there as far as it goes: as long as it says, or with its last chunk.
fn is_whole(answer: &[u8]) -> bool {
    let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { return false };
    let (head, body) = (String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase(), &answer[end + 4..]);
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    length.map_or_else(|| body.ends_with(b"0\r\n\r\n"), |length: usize| body.len() >= length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_at_its_end() {
        let whole: [&[u8]; 2] = [
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        ];
        for answer in whole {
            (0..answer.len()).for_each(|end| assert!(!is_whole(&answer[..end]), "{end}"));
            assert!(is_whole(answer));
        }
    }
}
