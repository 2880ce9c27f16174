//! The keys at the top of a body, each of which has to mean the same to every server.

use crate::json::path::Field;
use crate::json::unreadable::Fault;

/// Which fields have been there: a bit for each.
#[derive(Default)]
pub struct Keys([u64; 2]);

const _: () = assert!((Field::Other as usize) < 128);

impl Keys {
    /// A key has come. What is wrong with it: of two that are the same some servers read the first and some the last, and servers that do
    /// not tell capital letters from small ones read one that looks like a field.
    pub fn see(&mut self, field: Field, key: &str) -> Option<Fault> {
        if field == Field::Other {
            let field = Field::but_for_case(key);
            return (field != Field::Other).then(|| Fault::Miscased(field.name()));
        }
        let word = self.0.get_mut(field as usize / 64)?;
        let bit = 1u64 << (field as u32 % 64);
        let is_new = *word & bit == 0;
        *word |= bit;
        if is_new { None } else { Some(Fault::Repeated(field.name())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_may_take_for_a_field_is_found() {
        for (key, field) in [
            ("Model", Field::Model),
            ("MODEL", Field::Model),
            ("Max_Tokens", Field::MaxTokens),
            ("max_to\u{212a}ens", Field::MaxTokens),
            ("me\u{17f}\u{17f}ages", Field::Messages),
            ("N", Field::N),
        ] {
            assert_eq!(Keys::default().see(Field::Other, key), Some(Fault::Miscased(field.name())), "{key}");
        }
        for key in ["", "metadata", "Metadata", "modeł", "model ", "\u{ff4d}odel", "m\u{0}odel"] {
            assert_eq!(Keys::default().see(Field::Other, key), None, "{key}");
        }
    }

    #[test]
    fn a_field_is_there_once() {
        let mut keys = Keys::default();
        assert_eq!(keys.see(Field::Model, "model"), None);
        assert_eq!(keys.see(Field::Messages, "messages"), None);
        assert_eq!(keys.see(Field::Model, "model"), Some(Fault::Repeated("model")));
    }
}
