//! The APIs: what each asks, and how its answers and errors are written.
//!
//! Sources: OpenAI API reference (chat completions, completions, responses and their streaming events, embeddings); Anthropic API
//! reference ("Messages", "Streaming messages", "Errors").

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::completion::{Completion, refuse};
use super::count::Encoding;
use super::script::Script;
use super::{Shared, text};

/// An API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Api {
    Chat,
    Completions,
    Responses,
    Messages,
    Embeddings,
}

impl Api {
    /// What a real server would refuse; otherwise the request's own limit on the completion, in tokens.
    pub(super) fn check(self, request: &Value) -> Result<u32, String> {
        if request["model"].as_str().is_none_or(str::is_empty) {
            return Err("`model` is required and must be a string.".to_owned());
        }
        let (prompt, limits): (_, &[&str]) = match self {
            Self::Chat => ("messages", &["max_completion_tokens", "max_tokens"]),
            Self::Completions => ("prompt", &["max_tokens"]),
            Self::Responses => ("input", &["max_output_tokens"]),
            Self::Messages => ("messages", &["max_tokens"]),
            Self::Embeddings => ("input", &[]),
        };
        let is_empty = match &request[prompt] {
            Value::Array(items) => items.is_empty(),
            Value::String(_) => prompt == "messages",
            _ => true,
        };
        if is_empty {
            return Err(format!("`{prompt}` is required and must not be empty."));
        }
        for field in limits {
            let value = &request[field];
            if value.is_null() {
                continue;
            }
            return match value.as_u64() {
                Some(tokens) if tokens > 0 => Ok(u32::try_from(tokens).unwrap_or(u32::MAX)),
                _ => Err(format!("`{field}` must be at least 1, got {value}.")),
            };
        }
        if self == Self::Messages { Err("`max_tokens` is required.".to_owned()) } else { Ok(u32::MAX) }
    }

    /// What the completion depends on: the prompt, and no other part of the request.
    pub(super) fn prompt(self, request: &Value) -> String {
        let field = match self {
            Self::Chat | Self::Messages => "messages",
            Self::Completions => "prompt",
            Self::Responses | Self::Embeddings => "input",
        };
        request[field].to_string()
    }

    /// The tokens of the prompt.
    pub(super) fn count(self, encoding: Encoding, request: &Value) -> usize {
        match self {
            Self::Chat => encoding.count_chat(request),
            Self::Completions => encoding.count_prompt(&request["prompt"]),
            Self::Embeddings => encoding.count_prompt(&request["input"]),
            Self::Responses => encoding.count_framed(request, &["instructions", "input"]),
            Self::Messages => encoding.count_framed(request, &["system", "messages"]),
        }
    }

    /// Whether a stream begins with events before the first token.
    pub(super) fn has_opening(self) -> bool {
        self != Self::Completions
    }
}

impl Completion {
    fn id(&self) -> String {
        let prefix = match self.api {
            Api::Chat => "chatcmpl-",
            Api::Completions | Api::Embeddings => "cmpl-",
            Api::Responses => "resp_",
            Api::Messages => "msg_",
        };
        format!("{prefix}{}", self.ticket.id())
    }

    /// The events before the first token.
    pub(super) fn opening(&self) -> Bytes {
        match self.api {
            Api::Responses => events(&[
                json!({"type": "response.created", "sequence_number": 0, "response": self.response("in_progress")}),
                json!({"type": "response.output_item.added", "sequence_number": 1, "output_index": 0,
                    "item": {"id": "msg_0", "type": "message", "status": "in_progress", "role": "assistant", "content": []}}),
                json!({"type": "response.content_part.added", "sequence_number": 2, "item_id": "msg_0", "output_index": 0,
                    "content_index": 0, "part": {"type": "output_text", "text": "", "annotations": []}}),
            ]),
            Api::Messages => events(&[
                json!({"type": "message_start", "message": {"id": self.id(), "type": "message", "role": "assistant",
                    "content": [], "model": self.model, "stop_reason": null, "stop_sequence": null, "usage": self.usage(1)}}),
                json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
                json!({"type": "ping"}),
            ]),
            _ => self.chunk(json!({"role": "assistant", "content": ""}), None),
        }
    }

    /// The event of one token.
    pub(super) fn delta(&self, word: &str) -> Bytes {
        match self.api {
            Api::Responses => {
                events(&[json!({"type": "response.output_text.delta", "sequence_number": 3, "item_id": "msg_0",
                "output_index": 0, "content_index": 0, "delta": word, "logprobs": []})])
            }
            Api::Messages => events(&[
                json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}}),
            ]),
            Api::Completions => self.chunk(json!(word), None),
            _ => self.chunk(json!({"content": word}), None),
        }
    }

    /// The events after the last token.
    pub(super) fn closing(&self) -> Vec<Bytes> {
        let reports = self.script.usage != Some(false);
        match self.api {
            Api::Responses => {
                let part = json!({"type": "output_text", "text": self.text, "annotations": []});
                vec![events(&[
                    json!({"type": "response.output_text.done", "sequence_number": 4, "item_id": "msg_0", "output_index": 0,
                        "content_index": 0, "text": self.text, "logprobs": []}),
                    json!({"type": "response.content_part.done", "sequence_number": 5, "item_id": "msg_0", "output_index": 0,
                        "content_index": 0, "part": part}),
                    json!({"type": "response.output_item.done", "sequence_number": 6, "output_index": 0, "item": self.message()}),
                    json!({"type": if self.cut { "response.incomplete" } else { "response.completed" }, "sequence_number": 7,
                        "response": self.answer()}),
                ])]
            }
            Api::Messages => {
                let mut delta = json!({"type": "message_delta", "delta": {"stop_reason": self.stop_reason(), "stop_sequence": null},
                    "usage": {"output_tokens": self.tokens}});
                if !reports {
                    delta["usage"] = json!({"output_tokens": 0});
                }
                vec![
                    events(&[json!({"type": "content_block_stop", "index": 0})]),
                    events(&[delta]),
                    events(&[json!({"type": "message_stop"})]),
                ]
            }
            _ => {
                let last = if self.api == Api::Completions { json!("") } else { json!({}) };
                let mut closing = vec![self.chunk(last, Some(self.finish_reason()))];
                if self.include_usage && reports {
                    let mut chunk = self.envelope(json!([]), ".chunk");
                    chunk["usage"] = self.usage(self.tokens);
                    closing.push(event(&chunk.to_string()));
                }
                closing.push(event("[DONE]"));
                closing
            }
        }
    }

    /// The whole answer.
    pub(super) fn answer(&self) -> Value {
        let mut answer = match self.api {
            Api::Responses => self.response(if self.cut { "incomplete" } else { "completed" }),
            Api::Messages => json!({"id": self.id(), "type": "message", "role": "assistant", "model": self.model,
                "content": [{"type": "text", "text": self.text}], "stop_reason": self.stop_reason(), "stop_sequence": null}),
            Api::Completions => {
                let choice =
                    json!({"index": 0, "text": self.text, "logprobs": null, "finish_reason": self.finish_reason()});
                self.envelope(json!([choice]), "")
            }
            _ => {
                let message = json!({"role": "assistant", "content": self.text, "refusal": null});
                let choice =
                    json!({"index": 0, "message": message, "logprobs": null, "finish_reason": self.finish_reason()});
                self.envelope(json!([choice]), "")
            }
        };
        if self.script.usage != Some(false) {
            answer["usage"] = self.usage(self.tokens);
        }
        answer
    }

    fn finish_reason(&self) -> &'static str {
        if self.cut { "length" } else { "stop" }
    }

    fn stop_reason(&self) -> &'static str {
        if self.cut { "max_tokens" } else { "end_turn" }
    }

    /// A chunk of a stream of chat completions or completions, the delta being the text there.
    fn chunk(&self, delta: Value, finish_reason: Option<&str>) -> Bytes {
        let key = if self.api == Api::Completions { "text" } else { "delta" };
        let choice = json!({"index": 0, key: delta, "logprobs": null, "finish_reason": finish_reason});
        let mut chunk = self.envelope(json!([choice]), ".chunk");
        if self.include_usage {
            // With include_usage, OpenAI sends a null in every chunk but the last.
            chunk["usage"] = Value::Null;
        }
        event(&chunk.to_string())
    }

    fn envelope(&self, choices: Value, chunk: &str) -> Value {
        // Completions have one name for both.
        let object =
            if self.api == Api::Completions { "text_completion".to_owned() } else { format!("chat.completion{chunk}") };
        json!({"id": self.id(), "object": object, "created": 0, "model": self.model, "choices": choices})
    }

    /// The object of a response; without its output while it is in progress.
    fn response(&self, status: &str) -> Value {
        let output = if status == "in_progress" { json!([]) } else { json!([self.message()]) };
        let reason = (status == "incomplete").then(|| json!({"reason": "max_output_tokens"}));
        json!({"id": self.id(), "object": "response", "created_at": 0, "status": status, "error": null,
            "incomplete_details": reason, "instructions": null, "metadata": {}, "model": self.model, "output": output,
            "parallel_tool_calls": true, "temperature": 1.0, "tool_choice": "auto", "tools": [], "top_p": 1.0, "usage": null})
    }

    fn message(&self) -> Value {
        json!({"id": "msg_0", "type": "message", "status": "completed", "role": "assistant",
            "content": [{"type": "output_text", "text": self.text, "annotations": []}]})
    }

    fn usage(&self, completion: u32) -> Value {
        let completion = u64::from(completion);
        let cached = self.script.cached_tokens.unwrap_or(0);
        let reasoning = self.script.reasoning_tokens.unwrap_or(0);
        let total = self.prompt_tokens + completion;
        match self.api {
            Api::Responses => json!({
                "input_tokens": self.prompt_tokens, "input_tokens_details": {"cached_tokens": cached},
                "output_tokens": completion, "output_tokens_details": {"reasoning_tokens": reasoning}, "total_tokens": total,
            }),
            // There cached tokens are counted apart.
            Api::Messages => json!({
                "input_tokens": self.prompt_tokens.saturating_sub(cached), "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": cached, "output_tokens": completion,
            }),
            _ => json!({
                "prompt_tokens": self.prompt_tokens, "completion_tokens": completion, "total_tokens": total,
                "prompt_tokens_details": {"cached_tokens": cached},
                "completion_tokens_details": {"reasoning_tokens": reasoning},
            }),
        }
    }
}

/// `POST /v1/embeddings`: vectors of four numbers, which only depend on the input.
pub(super) async fn embeddings(
    State(shared): State<Arc<Shared>>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let ticket = shared.ledger.open(&uri.to_string(), &headers, &body);
    let request: Value = serde_json::from_slice(&body).unwrap_or_default();
    let script = match Script::from_headers(&headers) {
        Ok(script) => script,
        Err(message) => return refuse(Api::Embeddings, &shared, ticket, 400, &message),
    };
    if let Err(message) = Api::Embeddings.check(&request) {
        return refuse(Api::Embeddings, &shared, ticket, 400, &message);
    }
    if let Some(status) = script.status.filter(|status| *status != 200) {
        return refuse(Api::Embeddings, &shared, ticket, status, "The model failed.");
    }
    let tokens = Api::Embeddings.count(shared.options.encoding, &request) as u64;
    ticket.prompt(tokens);
    let inputs = match &request["input"] {
        Value::Array(inputs) if !inputs.iter().all(Value::is_number) => inputs.clone(),
        input => vec![input.clone()],
    };
    let vector = |input: &Value| {
        let draw = text::hash(0, input.to_string().as_bytes());
        [0u32, 16, 32, 48].map(|shift| f32::from((draw >> shift) as u16) / 65536.0)
    };
    let data: Vec<Value> = inputs
        .iter()
        .enumerate()
        .map(|(index, input)| {
            let numbers = vector(input);
            let embedding = if request["encoding_format"] == "base64" {
                json!(STANDARD.encode(numbers.map(f32::to_le_bytes).concat()))
            } else {
                json!(numbers)
            };
            json!({"object": "embedding", "index": index, "embedding": embedding})
        })
        .collect();
    ticket.status(200);
    ticket.finish(true);
    let usage = json!({"prompt_tokens": tokens, "total_tokens": tokens});
    axum::Json(json!({"object": "list", "data": data, "model": request["model"], "usage": usage})).into_response()
}

/// An error in the form of the API.
pub(super) fn error(api: Api, status: StatusCode, message: &str) -> Value {
    let client = status.is_client_error();
    if api == Api::Messages {
        let kind = match status.as_u16() {
            429 => "rate_limit_error",
            503 | 529 => "overloaded_error",
            _ if client => "invalid_request_error",
            _ => "api_error",
        };
        return json!({"type": "error", "error": {"type": kind, "message": message}});
    }
    let kind = if client { "invalid_request_error" } else { "server_error" };
    json!({"error": {"message": message, "type": kind, "param": null, "code": null}})
}

/// Events whose names are their types.
fn events(data: &[Value]) -> Bytes {
    let events = data.iter().map(|data| {
        let name = data["type"].as_str().unwrap_or_default();
        format!("event: {name}\ndata: {data}\n\n")
    });
    Bytes::from(events.collect::<String>())
}

fn event(data: &str) -> Bytes {
    Bytes::from(format!("data: {data}\n\n"))
}
