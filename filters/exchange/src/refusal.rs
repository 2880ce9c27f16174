//! Refusals: why, in words that name the fix, and when to come back. One constructor for each reason.

use penstock_bucket::credit::Exhausted;
use penstock_dialects::{Coding, Dialect, ErrorKind, Undecodable, Unreadable, error_body};
use penstock_units::{Millis, Nanos, Tokens};

use crate::config::Model;
use crate::facts::Outcome;
use crate::limits::RateLimitStatus;
use crate::port::Effect;

/// When to come back to a model that is full.
const SATURATED: Millis = Millis(2000);
/// When to come back to a model that has no server: one takes longer to start, and a client gives up after some attempts.
const COLD: Millis = Millis(10_000);
/// When to come back where nothing tells: a request may have ended, or a service answer, by then.
const A_MOMENT: Millis = Millis(1000);

/// Why a request is refused, as `penstock_refused_total{reason}` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Who asks cannot be told, or is not known.
    Identity,
    /// The tenant or the model is suspended.
    Suspended,
    /// The path is not open.
    Path,
    /// The model is not served here, or not to this tenant.
    Model,
    /// The body cannot be read.
    Unreadable,
    /// The answer is to be worked on after the response.
    Background,
    /// It names something whose size is not in the request, and that has no price.
    Unpriced,
    /// The prompt is longer than the model takes.
    Context,
    /// It is larger than the limit ever is.
    TooLarge,
    /// A limit is reached.
    Limited,
    /// The model has no room.
    Shed,
    /// The model has no server, and none came while it waited.
    NoBackend,
    /// A limit cannot be checked.
    Unavailable,
    /// What is said of an answer cannot be taken.
    Feedback,
}

impl Reason {
    /// As a label value.
    pub fn label(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Suspended => "suspended",
            Self::Path => "path",
            Self::Model => "model",
            Self::Unreadable => "unreadable",
            Self::Background => "background",
            Self::Unpriced => "unpriced",
            Self::Context => "context",
            Self::TooLarge => "too_large",
            Self::Limited => "limited",
            Self::Shed => "shed",
            Self::NoBackend => "no_backend",
            Self::Unavailable => "unavailable",
            Self::Feedback => "feedback",
        }
    }
}

/// A request that is answered here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// How it counts.
    pub outcome: Outcome,
    /// Why.
    pub reason: Reason,
    /// What kind of error it is: its status, and its names in the dialects.
    pub kind: ErrorKind,
    /// For whoever reads the error: which limit, how much, and when.
    pub message: String,
    /// The field of the request that it is about.
    pub param: Option<&'static str>,
    /// The limit that refused.
    pub limit: Option<String>,
    /// Besides the content type.
    pub headers: Vec<(&'static str, String)>,
}

impl Refusal {
    fn new(reason: Reason, outcome: Outcome, kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { outcome, reason, kind, message: message.into(), param: None, limit: None, headers: Vec::new() }
    }

    fn about(mut self, param: &'static str) -> Self {
        self.param = Some(param);
        self
    }

    fn by(mut self, limit: &str) -> Self {
        self.limit = Some(limit.to_owned());
        self.headers.push(("x-penstock-limit", limit.to_owned()));
        self
    }

    /// In whole seconds, as every client reads it.
    fn after(mut self, wait: Millis) -> Self {
        self.headers.push(("retry-after", wait.to_seconds_ceil().to_string()));
        self
    }

    /// Also in milliseconds, as the SDKs read it.
    fn after_exactly(self, wait: Millis) -> Self {
        let mut out = self.after(wait);
        out.headers.push(("retry-after-ms", wait.to_string()));
        out
    }

    /// A tenant that may not ask for anything.
    pub fn suspended_tenant() -> Self {
        Self::new(Reason::Suspended, Outcome::Denied, ErrorKind::Permission, "this tenant is suspended")
    }

    fn no_feedback(kind: ErrorKind, message: impl Into<String>) -> Self {
        let outcome = if kind == ErrorKind::Permission { Outcome::Denied } else { Outcome::ClientError };
        Self::new(Reason::Feedback, outcome, kind, message)
    }

    /// Something is said of a request that is none, somebody else's, too old, or was spoken of.
    pub fn feedback(why: penstock_canary::feedback::Refused) -> Self {
        use penstock_canary::feedback::Refused;
        let (kind, message) = match why {
            Refused::Unknown => {
                (ErrorKind::NotFound, "no request has this id; send the x-penstock-request-id of its answer")
            }
            Refused::Foreign => (ErrorKind::Permission, "the request of this id is somebody else's"),
            Refused::Expired => (ErrorKind::InvalidRequest, "the request of this id is too long ago"),
            Refused::Used => (ErrorKind::InvalidRequest, "something was said of this request before, and that counts"),
        };
        Self::no_feedback(kind, message).about("request_id")
    }

    /// What is said cannot be read.
    pub fn feedback_unread(error: &serde_json::Error) -> Self {
        let message = format!("not read: {error}; send {{\"request_id\": \"…\", \"score\": 1}}");
        Self::no_feedback(ErrorKind::InvalidRequest, message)
    }

    /// The score is none.
    pub fn feedback_score(score: f64) -> Self {
        let message = format!("{score} is not a score; send a number from -1 to 1");
        Self::no_feedback(ErrorKind::InvalidRequest, message).about("score")
    }

    /// Nothing is said.
    pub fn feedback_empty() -> Self {
        Self::no_feedback(ErrorKind::InvalidRequest, "nothing is said; send {\"request_id\": \"…\", \"score\": 1}")
    }

    /// It is too long.
    pub fn feedback_too_long(most: usize) -> Self {
        Self::no_feedback(ErrorKind::TooLarge, format!("feedback has {most} bytes at most"))
    }

    /// It cannot be held here until it has been read.
    pub fn feedback_unheld() -> Self {
        Self::no_feedback(
            ErrorKind::Overloaded,
            "this proxy cannot hold headers until the body is there, which feedback needs",
        )
    }

    /// Others kept winning.
    pub fn feedback_contended() -> Self {
        Self::no_feedback(ErrorKind::Overloaded, "not taken, as too many do so at the moment; send it again")
            .after(A_MOMENT)
    }

    /// A caller without identity.
    pub fn anonymous() -> Self {
        let message = "no identity was found in the request; send the credentials that this gateway asks for";
        Self::new(Reason::Identity, Outcome::Denied, ErrorKind::Authentication, message)
    }

    /// A caller with a key that no tenant has.
    pub fn unknown_key() -> Self {
        let message = "this API key is not known here; the gateway knows those of tenants.*.apiKeys";
        Self::new(Reason::Identity, Outcome::Denied, ErrorKind::Authentication, message)
    }

    /// A request that only asks for its count, where nobody answers that.
    pub fn no_counting() -> Self {
        let message = "requests are not counted on their own here: countEndpoints is set to refuse";
        Self::new(Reason::Path, Outcome::ClientError, ErrorKind::NotFound, message)
    }

    /// A path that is no API's, and that nobody opened.
    pub fn closed_path() -> Self {
        let message = "this path is not open here: what is not an API's own path, to the letter, has to be named under paths.allow";
        Self::new(Reason::Path, Outcome::ClientError, ErrorKind::NotFound, message)
    }

    /// A body that cannot be read.
    pub fn unreadable(error: &Unreadable) -> Self {
        Self::new(Reason::Unreadable, Outcome::ClientError, ErrorKind::InvalidRequest, format!("penstock: {error}"))
    }

    /// A client that waits for a word of the server before it sends its body, when the server is not asked before the body is here.
    pub fn expectation() -> Self {
        let message = "the proxy passes `expect: 100-continue` on, and this request waits for its body first; send it without expect. \
                       Operators: proxy_100_continue: false, or ENABLE_100_CONTINUE_HEADERS=false for istiod, lets the proxy say 100";
        Self::new(Reason::Unreadable, Outcome::ClientError, ErrorKind::Expectation, message)
    }

    /// A body in a coding that nobody decodes here, or in several (RFC 9110, 15.5.16).
    pub fn unsupported_coding() -> Self {
        let all = Coding::ALL;
        let message = format!(
            "this content-encoding is not read here; send the body without content-encoding, or by one of {all}"
        );
        let mut out = Self::new(Reason::Unreadable, Outcome::ClientError, ErrorKind::Unsupported, message);
        out.headers.push(("accept-encoding", all.to_owned()));
        out
    }

    /// A body that was to be decoded, into no more than `most` bytes.
    pub fn undecodable(coding: Coding, error: Undecodable, most: usize) -> Self {
        let coding = coding.name();
        let (kind, message) = match error {
            Undecodable::TooLong => {
                let message = format!(
                    "the body becomes longer than {most} bytes when {coding} is decoded (decodedBytesMax, or a hundred times what came); \
                     send less, or send it without content-encoding"
                );
                (ErrorKind::TooLarge, message)
            }
            _ => (ErrorKind::InvalidRequest, format!("the body cannot be decoded as {coding}: {error}")),
        };
        Self::new(Reason::Unreadable, Outcome::ClientError, kind, message)
    }

    /// A body that would have to be replaced when the proxy no longer lets it.
    pub fn late_trailers(coding: Coding) -> Self {
        let message =
            format!("a body that is compressed ({}) cannot end with trailers here; send it without", coding.name());
        Self::new(Reason::Unreadable, Outcome::ClientError, ErrorKind::InvalidRequest, message)
    }

    /// A request that names no model.
    pub fn no_model() -> Self {
        let message = "model is missing; name the model in the request (defaultModel in the gateway's configuration is for those that name none)";
        Self::new(Reason::Unreadable, Outcome::ClientError, ErrorKind::InvalidRequest, message).about("model")
    }

    /// The choice of a version that the model does not have.
    pub fn unknown_version(header: &str, name: &[u8], model: &Model) -> Self {
        let known: Vec<&str> = model.versions.iter().map(|version| version.name.as_str()).collect();
        // Whatever it is, it goes back to whoever sent it.
        let name = core::str::from_utf8(name).ok().filter(|name| name.len() <= 64).unwrap_or("another name");
        let message = format!("{header}: the model has no version {name:?}; it has {}", known.join(", "));
        Self::new(Reason::Model, Outcome::ClientError, ErrorKind::InvalidRequest, message)
    }

    /// A model that is not configured, or not for this caller: one cannot be told from the other.
    pub fn unknown_model(name: &str) -> Self {
        let message = format!(
            "the model {name:?} is not served here; the gateway serves what models[].name and models[].aliases say"
        );
        Self::new(Reason::Model, Outcome::ClientError, ErrorKind::NotFound, message).about("model")
    }

    /// An answer that is worked on after its response, when nothing of it is seen here.
    pub fn background() -> Self {
        let message = "background: true is not served here, as what it uses is not seen; leave it out (the gateway's configuration \
                       opens it with background: reserve)";
        Self::new(Reason::Background, Outcome::ClientError, ErrorKind::InvalidRequest, message).about("background")
    }

    /// Something whose size is not in the request, for a model without a price for that.
    pub fn no_price(what: &str, key: &str) -> Self {
        let message = format!(
            "the request names {what} by URL or id, so that it cannot be told what that costs; send its data instead (the gateway's \
             configuration opens it with models[].media.{key}, a price in tokens)"
        );
        Self::new(Reason::Unpriced, Outcome::ClientError, ErrorKind::InvalidRequest, message)
    }

    /// A prompt that is longer than the model takes, in the words of whoever made the API: clients look for them.
    pub fn too_long(dialect: Dialect, tokens: Tokens, context: Tokens) -> Self {
        let (message, param) = match dialect {
            Dialect::Messages => (format!("prompt is too long: {tokens} tokens > {context} maximum"), "messages"),
            _ => {
                let param = match dialect {
                    Dialect::Chat => "messages",
                    Dialect::Completions => "prompt",
                    _ => "input",
                };
                let message = format!(
                    "This model's maximum context length is {context} tokens. However, your {param} resulted in {tokens} tokens. \
                     Please reduce the length of the {param}."
                );
                (message, param)
            }
        };
        Self::new(Reason::Context, Outcome::ClientError, ErrorKind::ContextLength, message).about(param)
    }

    /// A model that is not served, whoever asks.
    pub fn suspended_model() -> Self {
        Self::new(Reason::Suspended, Outcome::Shed, ErrorKind::Overloaded, "this model is suspended").about("model")
    }

    /// A model without room.
    pub fn saturated(model: &str) -> Self {
        let message = format!("{model:?} is saturated; try again later");
        Self::new(Reason::Shed, Outcome::Shed, ErrorKind::Overloaded, message).after(SATURATED)
    }

    /// A model that has no server, when the request has waited for so long.
    pub fn no_server_came(model: &str, waited: Nanos) -> Self {
        let seconds = waited.to_millis().to_seconds_ceil();
        let message =
            format!("{model:?} has no server at the moment, and none came within {seconds} s; try again later");
        Self::new(Reason::NoBackend, Outcome::Shed, ErrorKind::Overloaded, message).after(COLD)
    }

    /// A model that has no server, when as many requests wait for one as may.
    pub fn no_server_to_wait_for(model: &str) -> Self {
        let message =
            format!("{model:?} has no server at the moment, and no more requests may wait for one; try again later");
        Self::new(Reason::NoBackend, Outcome::Shed, ErrorKind::Overloaded, message).after(COLD)
    }

    /// When to come back, in words of the header `retry-after`, where the proxy itself has said that a model has no server.
    pub fn no_server_again() -> Effect {
        Effect::ResponseHeader("retry-after", COLD.to_seconds_ceil().to_string().into_bytes())
    }

    /// A prompt that is longer than all that may be pending for a model.
    pub fn never_has_room(model: &str, prompt: Tokens, ceiling: Tokens) -> Self {
        let message = format!(
            "the prompt has {prompt} tokens and no more than {ceiling} may be pending for {model:?} (pending.ceiling); send less"
        );
        Self::new(Reason::TooLarge, Outcome::Shed, ErrorKind::TooLarge, message)
    }

    /// Others kept changing what the limits share.
    pub fn contended(limit: Option<&str>) -> Self {
        let message = "the limits' state is contended; try again";
        let out = Self::new(Reason::Unavailable, Outcome::Shed, ErrorKind::Overloaded, message).after(A_MOMENT);
        match limit {
            Some(limit) => out.by(limit),
            None => out,
        }
    }

    /// A limit whose service does not answer.
    pub fn unavailable(limit: &str) -> Self {
        let message = format!("limit {limit:?} cannot be checked at the moment; try again");
        Self::new(Reason::Unavailable, Outcome::Shed, ErrorKind::Overloaded, message).after(A_MOMENT).by(limit)
    }

    /// So many requests are under way already.
    pub fn too_many_at_once(limit: &str, max: u64) -> Self {
        let message =
            format!("limit {limit:?} of {max} requests at the same time is reached; try again when one has ended");
        Self::new(Reason::Limited, Outcome::Limited, ErrorKind::RateLimit, message).by(limit).after_exactly(A_MOMENT)
    }

    /// A session's credit is used up. No time brings it back, and the SDKs would try again.
    pub fn session_over(limit: &str, exhausted: Exhausted) -> Self {
        let what = match exhausted {
            Exhausted::Tokens(left) => format!("{left} tokens are left, and the request needs more"),
            Exhausted::Calls => "all its calls are made".to_owned(),
            Exhausted::ToolCalls => "all its tool calls are made".to_owned(),
            Exhausted::WallClock => "its time is over".to_owned(),
        };
        let message = format!("the credit of this session under limit {limit:?} is used up: {what}");
        let mut out = Self::new(Reason::Limited, Outcome::Limited, ErrorKind::RateLimit, message).by(limit);
        out.headers.push(("x-should-retry", "false".to_owned()));
        out
    }

    /// The request is larger than the limit ever is.
    pub fn never_fits(limit: &str, cost: Tokens, burst: Tokens) -> Self {
        let message = format!(
            "the request needs {cost} tokens and limit {limit:?} never holds more than {burst}; send less or lower max_tokens"
        );
        Self::new(Reason::TooLarge, Outcome::Limited, ErrorKind::TooLarge, message).by(limit)
    }

    /// The limit has too little left.
    pub fn limited(status: &RateLimitStatus, cost: Tokens, wait: Nanos) -> Self {
        let RateLimitStatus { limit, burst, remaining, .. } = status;
        let wait = wait.to_millis_ceil();
        let message = format!(
            "limit {limit:?} of {burst} tokens is reached: {remaining} left, {cost} needed; try again in {wait} ms"
        );
        Self::new(Reason::Limited, Outcome::Limited, ErrorKind::RateLimit, message).by(limit).after_exactly(wait)
    }

    /// What it would be if it were enforced, for a request that goes on: `limited; limit=tpm`.
    pub fn would(&self) -> String {
        let reason = self.reason.label();
        self.limit.as_ref().map_or_else(|| reason.to_owned(), |limit| format!("{reason}; limit={limit}"))
    }

    /// The answer, in the caller's dialect.
    pub fn reply(&self, dialect: Dialect) -> Effect {
        let mut headers = self.headers.clone();
        headers.push(("content-type", "application/json".to_owned()));
        let body = error_body(dialect, self.kind, &self.message, self.param);
        Effect::Reply { status: self.kind.status(), headers, body }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_dialects::Fault;

    type Row = (Refusal, u32, &'static str, &'static str, &'static [(&'static str, &'static str)]);

    /// Every reason: its status, its code for OpenAI's dialects, its type for Anthropic's, and its headers.
    fn table() -> Vec<Row> {
        let status = RateLimitStatus {
            limit: "tpm".into(),
            burst: Tokens(60),
            remaining: Tokens(5),
            reset: Nanos(55 * Nanos::SECOND.0),
        };
        let unreadable = Unreadable { at: 3, what: Fault::Truncated };
        let session = Refusal::session_over("agent", Exhausted::Tokens(Tokens(7)));
        vec![
            (Refusal::suspended_tenant(), 403, "permission_denied", "permission_error", &[]),
            (Refusal::anonymous(), 401, "invalid_api_key", "authentication_error", &[]),
            (Refusal::no_counting(), 404, "not_found", "not_found_error", &[]),
            (Refusal::closed_path(), 404, "not_found", "not_found_error", &[]),
            (Refusal::unknown_key(), 401, "invalid_api_key", "authentication_error", &[]),
            (Refusal::unreadable(&unreadable), 400, "invalid_request", "invalid_request_error", &[]),
            (
                Refusal::unsupported_coding(),
                415,
                "unsupported_media_type",
                "invalid_request_error",
                &[("accept-encoding", "gzip, zstd")],
            ),
            (
                Refusal::undecodable(Coding::Zstd, Undecodable::Window, 7),
                400,
                "invalid_request",
                "invalid_request_error",
                &[],
            ),
            (
                Refusal::undecodable(Coding::Gzip, Undecodable::TooLong, 7),
                413,
                "request_too_large",
                "request_too_large",
                &[],
            ),
            (Refusal::late_trailers(Coding::Gzip), 400, "invalid_request", "invalid_request_error", &[]),
            (Refusal::no_model(), 400, "invalid_request", "invalid_request_error", &[]),
            (Refusal::unknown_model("x"), 404, "model_not_found", "not_found_error", &[]),
            (Refusal::no_price("a film", "video"), 400, "invalid_request", "invalid_request_error", &[]),
            (Refusal::background(), 400, "invalid_request", "invalid_request_error", &[]),
            (
                Refusal::too_long(Dialect::Chat, Tokens(9), Tokens(8)),
                400,
                "context_length_exceeded",
                "invalid_request_error",
                &[],
            ),
            (Refusal::suspended_model(), 503, "overloaded", "overloaded_error", &[]),
            (Refusal::saturated("chat"), 503, "overloaded", "overloaded_error", &[("retry-after", "2")]),
            (
                Refusal::no_server_came("chat", Nanos(5 * Nanos::SECOND.0)),
                503,
                "overloaded",
                "overloaded_error",
                &[("retry-after", "10")],
            ),
            (Refusal::no_server_to_wait_for("chat"), 503, "overloaded", "overloaded_error", &[("retry-after", "10")]),
            (Refusal::contended(None), 503, "overloaded", "overloaded_error", &[("retry-after", "1")]),
            (
                Refusal::contended(Some("tpm")),
                503,
                "overloaded",
                "overloaded_error",
                &[("retry-after", "1"), ("x-penstock-limit", "tpm")],
            ),
            (
                Refusal::unavailable("tpm"),
                503,
                "overloaded",
                "overloaded_error",
                &[("retry-after", "1"), ("x-penstock-limit", "tpm")],
            ),
            (
                Refusal::too_many_at_once("streams", 2),
                429,
                "rate_limit_exceeded",
                "rate_limit_error",
                &[("x-penstock-limit", "streams"), ("retry-after", "1"), ("retry-after-ms", "1000")],
            ),
            (
                session,
                429,
                "rate_limit_exceeded",
                "rate_limit_error",
                &[("x-penstock-limit", "agent"), ("x-should-retry", "false")],
            ),
            (
                Refusal::never_fits("tpm", Tokens(70), Tokens(60)),
                413,
                "request_too_large",
                "request_too_large",
                &[("x-penstock-limit", "tpm")],
            ),
            (
                Refusal::limited(&status, Tokens(9), Nanos(3_000_000_001)),
                429,
                "rate_limit_exceeded",
                "rate_limit_error",
                &[("x-penstock-limit", "tpm"), ("retry-after", "4"), ("retry-after-ms", "3001")],
            ),
        ]
    }

    #[test]
    fn every_reason_reads_right_in_every_dialect() {
        use Dialect::{Chat, Completions, Embeddings, Messages, Responses};
        for (refusal, code, openai, anthropic, expected) in table() {
            for dialect in [Chat, Completions, Responses, Embeddings, Messages] {
                let Effect::Reply { status, headers, body } = refusal.reply(dialect) else { panic!("{refusal:?}") };
                let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
                let name = if dialect == Messages { &body["error"]["type"] } else { &body["error"]["code"] };
                let wanted = if dialect == Messages { anthropic } else { openai };
                assert_eq!((status, name.as_str()), (code, Some(wanted)), "{refusal:?} {dialect:?}");
                assert_eq!(body["error"]["message"], refusal.message);
                if dialect != Messages {
                    assert_eq!(body["error"]["param"].as_str(), refusal.param);
                }
                let (last, others) = headers.split_last().unwrap();
                assert_eq!(*last, ("content-type", "application/json".to_owned()));
                let others: Vec<(&str, &str)> = others.iter().map(|(name, value)| (*name, value.as_str())).collect();
                assert_eq!(others, expected, "{refusal:?}");
            }
            let named = expected.iter().find(|(name, _)| *name == "x-penstock-limit").map(|(_, limit)| *limit);
            assert_eq!(refusal.limit.as_deref(), named);
            // What is said names what it is about.
            assert!(named.is_none_or(|limit| refusal.kind == ErrorKind::Overloaded || refusal.message.contains(limit)));
        }
    }
}
