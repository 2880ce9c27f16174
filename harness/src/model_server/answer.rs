//! How each API writes its answer, streamed and whole.
//!
//! Sources: OpenAI API reference (chat completions, completions, responses and their streaming events); Anthropic API reference
//! ("Messages", "Streaming messages").

use axum::body::Bytes;
use serde_json::{Value, json};

use super::api::Api;

/// All that is written in an answer.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) api: Api,
    /// The request's number on this server.
    pub(super) number: u64,
    pub(super) model: String,
    /// A stream ends with the usage.
    pub(super) include_usage: bool,
    pub(super) usage: Usage,
    /// The request's own limit ended it.
    pub(super) cut: bool,
    /// What was generated so far.
    pub(super) text: String,
}

/// What is reported of the tokens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Usage {
    /// Whether anything is reported at all.
    pub(super) reported: bool,
    pub(super) prompt: u64,
    pub(super) cached: u64,
    /// All tokens of the completion, once it is written.
    pub(super) completion: u32,
    pub(super) reasoning: u64,
}

impl Answer {
    fn id(&self) -> String {
        let prefix = match self.api {
            Api::Chat => "chatcmpl-",
            Api::Completions | Api::Embeddings => "cmpl-",
            Api::Responses => "resp_",
            Api::Messages => "msg_",
        };
        format!("{prefix}{}", self.number)
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
                    "content": [], "model": self.model, "stop_reason": null, "stop_sequence": null, "usage": self.report(1)}}),
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
        let reports = self.usage.reported;
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
                        "response": self.whole()}),
                ])]
            }
            Api::Messages => {
                let mut delta = json!({"type": "message_delta", "delta": {"stop_reason": self.stop_reason(), "stop_sequence": null},
                    "usage": {"output_tokens": self.usage.completion}});
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
                    chunk["usage"] = self.report(self.usage.completion);
                    closing.push(event(&chunk.to_string()));
                }
                closing.push(event("[DONE]"));
                closing
            }
        }
    }

    /// The whole answer.
    pub(super) fn whole(&self) -> Value {
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
        if self.usage.reported {
            answer["usage"] = self.report(self.usage.completion);
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

    /// The usage, when so many tokens have been written.
    fn report(&self, completion: u32) -> Value {
        let completion = u64::from(completion);
        let Usage { prompt, cached, reasoning, .. } = self.usage;
        let total = prompt + completion;
        match self.api {
            Api::Responses => json!({
                "input_tokens": prompt, "input_tokens_details": {"cached_tokens": cached},
                "output_tokens": completion, "output_tokens_details": {"reasoning_tokens": reasoning}, "total_tokens": total,
            }),
            // There cached tokens are counted apart.
            Api::Messages => json!({
                "input_tokens": prompt.saturating_sub(cached), "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": cached, "output_tokens": completion,
            }),
            _ => json!({
                "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total,
                "prompt_tokens_details": {"cached_tokens": cached},
                "completion_tokens_details": {"reasoning_tokens": reasoning},
            }),
        }
    }
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
