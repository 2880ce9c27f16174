//! JSON read as it arrives: a lexer, where its events stand in the document, and what can be wrong with a document.

pub mod lexer;
pub mod number;
pub mod path;
pub mod unreadable;

#[cfg(test)]
mod tests;
