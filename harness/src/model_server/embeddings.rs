//! Embeddings: vectors of four numbers, which only depend on the input.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::api::Api;
use super::refusal::refuse;
use super::script::Script;
use super::shared::Shared;
use super::text::hash;

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
        let draw = hash(0, input.to_string().as_bytes());
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
