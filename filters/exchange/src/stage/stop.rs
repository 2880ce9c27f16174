//! Why a request does not go on to the next stage.

use crate::port::Call;
use crate::refusal::Refusal;

/// Why a request does not go on to the next stage.
#[derive(Debug)]
pub enum Stop {
    /// It is refused.
    Refuse(Box<Refusal>),
    /// A service is to be asked first. Nothing is charged until it has answered.
    Call(Box<Call>),
    /// It is none of ours: passes untouched.
    Pass,
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refuse(Box::new(refusal))
    }
}
