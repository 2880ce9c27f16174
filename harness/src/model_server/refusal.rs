//! Errors, in the form of each API.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::api::Api;
use super::ledger::Ticket;
use super::shared::Shared;

/// Refuses a request: the error is written, and the ticket is closed.
pub(super) fn refuse(api: Api, shared: &Shared, ticket: Ticket, status: u16, message: &str) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    ticket.status(status.as_u16());
    ticket.finish(false);
    let error = error(api, status, message);
    (status, [("x-served-by", shared.options.name.clone())], axum::Json(error)).into_response()
}

/// An error in the form of the API.
fn error(api: Api, status: StatusCode, message: &str) -> Value {
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
