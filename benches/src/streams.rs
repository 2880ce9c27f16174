//! What `penstock.wasm` does with a request and with the events of its answer, on the wasmtime host: fuel and memory.

use std::path::Path;

use penstock_harness::host::{Headers, Host, Module, Options, Plugin};

/// Streams that are open at the same time where their memory is measured.
const OPEN: usize = 1000;
/// Events of each of them.
const EVENTS_OPEN: u32 = 300;
/// Events of the stream that is measured.
const EVENTS: u32 = 1000;

/// What one request and its answer cost.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// Fuel for an event of about 200 bytes, its text counted.
    pub fuel_per_event: u64,
    /// Fuel for a byte of a request of 2 KB whose texts are not counted: headers read, body parsed, model, ceiling and usage written.
    pub fuel_per_request_byte: u64,
    /// Bytes of memory for one more stream whose answer is being read.
    pub bytes_per_stream: usize,
}

/// Measures `dist/penstock.wasm`.
///
/// # Errors
/// When it has not been built, or does not start.
pub fn measure(module: &Path) -> Result<Figures, String> {
    let module = Module::from_file(module)?;
    Ok(Figures {
        fuel_per_event: fuel_per_event(&module)?,
        fuel_per_request_byte: fuel_per_request_byte(&module)?,
        bytes_per_stream: bytes_per_stream(&module)?,
    })
}

/// One process with the filter, this configuration and so many workers.
///
/// # Errors
/// When it does not start.
pub fn host(module: &Module, configuration: &str, workers: usize) -> Result<Host, String> {
    host_of(module, "penstock", configuration, workers)
}

/// The same with one of the plugins, by its name.
///
/// # Errors
/// As [`host`].
pub fn host_of(module: &Module, plugin: &str, configuration: &str, workers: usize) -> Result<Host, String> {
    let plugin = Plugin {
        module: module.clone(),
        name: "penstock".to_owned(),
        root_id: plugin.to_owned(),
        vm_id: "penstock".to_owned(),
        configuration: configuration.as_bytes().to_vec(),
    };
    // As much as the shipped gateways let a filter hold.
    Host::start(&[plugin], &Options { workers, buffer_limit: 4 << 20, ..Options::default() })
}

/// The headers of a chat request.
pub fn chat() -> Headers {
    Headers::new([
        (":method", "POST"),
        (":path", "/v1/chat/completions"),
        (":authority", "models"),
        ("x-api-key", "key-1"),
    ])
}

/// The headers of a streamed answer.
pub fn event_stream() -> Headers {
    Headers::new([(":status", "200"), ("content-type", "text/event-stream")])
}

/// An event as vLLM sends it, of about 200 bytes.
pub fn event(i: u32) -> String {
    let word = ["the", " water", " turns", " a", " wheel", " and", " the", " stone"][i as usize % 8];
    format!(
        "data: {{\"id\":\"chatcmpl-5a0c8ad2b1f94d0c\",\"object\":\"chat.completion.chunk\",\"created\":1767225600,\"model\":\"llama-3.1-8b-instruct\",\
         \"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{word}\"}},\"logprobs\":null,\"finish_reason\":null}}]}}\n\n"
    )
}

fn fuel_per_event(module: &Module) -> Result<u64, String> {
    let host = host(module, r#"{"models":[{"name":"chat"}]}"#, 1)?;
    let mut worker = host.worker(0);
    let id = worker.open(chat(), false);
    worker.request_body(id, br#"{"model":"chat","stream":true,"messages":[{"role":"user","content":"Hi"}]}"#, true);
    worker.response_headers(id, event_stream(), false);
    (0..EVENTS).for_each(|i| worker.response_body(id, event(i).as_bytes(), false));
    let fuel = worker.fuel().get("proxy_on_response_body").copied().ok_or("no event was seen")?;
    Ok(fuel.total / u64::from(EVENTS))
}

fn fuel_per_request_byte(module: &Module) -> Result<u64, String> {
    let host = host(
        module,
        r#"{"countBytesMax":0,"models":[{"name":"chat","output":{"max":100},"versions":[{"name":"a","weight":1,"model":"llama"}]}]}"#,
        1,
    )?;
    let mut worker = host.worker(0);
    let text = "The water turns the wheel, and the wheel turns the stone.\\n".repeat(32);
    let body = format!(
        "{{\"model\": \"chat\", \"messages\": [{{\"role\": \"user\", \"content\": \"{text}\"}}], \"stream\": true, \"max_tokens\": 5000}}"
    );
    let id = worker.open(chat(), false);
    worker.request_body(id, body.as_bytes(), true);
    let sent = String::from_utf8_lossy(&worker.upstream(id).body).into_owned();
    if !(sent.contains("\"llama\"") && sent.contains("\"max_tokens\": 100") && sent.contains("include_usage")) {
        return Err(format!("the request was not edited: {sent}"));
    }
    let fuel = worker.fuel();
    let of = |name: &str| fuel.get(name).map_or(0, |fuel| fuel.total);
    Ok((of("proxy_on_request_headers") + of("proxy_on_request_body")) / body.len() as u64)
}

fn bytes_per_stream(module: &Module) -> Result<usize, String> {
    let host = host(module, r#"{"models":[{"name":"chat"}]}"#, 1)?;
    let mut worker = host.worker(0);
    let mut open = |streams: usize| {
        for _ in 0..streams {
            let id = worker.open(chat(), false);
            worker.request_body(
                id,
                br#"{"model":"chat","stream":true,"messages":[{"role":"user","content":"Hi"}]}"#,
                true,
            );
            worker.response_headers(id, event_stream(), false);
            // So many that texts were counted; and cut in the middle of an event, so that there is a part of one to keep.
            let events: String = (0..EVENTS_OPEN).map(event).collect();
            worker.response_body(id, events.as_bytes(), false);
            worker.response_body(id, &event(0).as_bytes()[..150], false);
        }
        worker.memory()
    };
    let before = open(OPEN);
    Ok((open(OPEN) - before) / OPEN)
}
