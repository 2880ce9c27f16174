//! What a request costs and what a configuration would do with it: questions and answers as JSON, for a page and for `penstock count`.
//!
//! The decisions are those of the filters, as it is their code that is asked ([`proxy`]). Nothing here knows a clock or the outside: time is
//! simulated, and the same question always has the same answer.
//!
//! What this crate does not do: it is no proxy, so a service that a limit would ask does not answer, and an answer is there at once.

pub mod count;
pub mod play;
mod proxy;
pub mod scale;
pub mod settings;
pub mod vocabulary;

use serde::{Deserialize, Serialize};

/// What may be asked.
#[derive(Debug, Deserialize)]
#[serde(tag = "ask", rename_all = "camelCase", deny_unknown_fields)]
pub enum Question {
    /// What a text costs, and its pieces.
    Text(count::OfText),
    /// What a request costs, and what becomes of it when it is sent some times.
    Request(play::Play),
    /// Which version each of many callers gets.
    Split(play::Split),
    /// How many replicas each signal asks for over a trace.
    Scale(scale::Scale),
}

/// What is answered.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Answer {
    Text(count::Text),
    Played(Box<play::Played>),
    Split(play::Shares),
    Scaled(scale::Scaled),
    Wrong { error: String },
}

/// Answers a question, both as JSON.
pub fn answer(question: &[u8]) -> Vec<u8> {
    let answer = match serde_json::from_slice(question) {
        Ok(Question::Text(text)) => count::of_text(&text).map(Answer::Text),
        Ok(Question::Request(play)) => Ok(Answer::Played(Box::new(play::play(&play)))),
        Ok(Question::Scale(asked)) => scale::scale(&asked).map(Answer::Scaled),
        Ok(Question::Split(split)) => play::split(&split).map(Answer::Split),
        Err(error) => Err(format!("the question is not understood: {error}")),
    };
    let answer = answer.unwrap_or_else(|error| Answer::Wrong { error });
    serde_json::to_vec(&answer).unwrap_or_default()
}
