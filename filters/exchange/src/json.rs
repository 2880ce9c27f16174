//! JSON that is written field by field: a general serialiser costs several times as much.

/// A number as a text, in digits.
pub fn decimal(value: u64) -> String {
    let mut out = Json::with_room(20);
    out.digits(value);
    out.into_text()
}

/// A number as a text, in sixteen hexadecimal digits.
pub fn hexadecimal(value: u64) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |place: u32| {
        DIGITS.get((value >> place.saturating_mul(4)) as usize & 0xf).map_or('0', |digit| char::from(*digit))
    };
    (0..16).rev().map(digit).collect()
}

/// JSON that is being written. Every `key` is whatever stands in front of the value, with its punctuation.
pub struct Json(Vec<u8>);

impl Json {
    /// With so much room.
    pub fn with_room(room: usize) -> Self {
        Self(Vec::with_capacity(room))
    }

    /// What was written.
    pub fn finish(self) -> Vec<u8> {
        self.0
    }

    fn into_text(self) -> String {
        String::from_utf8(self.0).unwrap_or_default()
    }

    /// As it stands.
    pub fn raw(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
    }

    /// As it stands, or not at all.
    pub fn flag(&mut self, text: &str, is_set: bool) {
        if is_set {
            self.raw(text);
        }
    }

    /// As [`Json::text`], where there is one.
    pub fn any_text(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(key, value);
        }
    }

    /// As [`Json::number`], where there is one.
    pub fn any_number(&mut self, key: &str, value: Option<u64>) {
        if let Some(value) = value {
            self.number(key, value);
        }
    }

    /// A string; its opening quotation mark stands in `key`.
    pub fn text(&mut self, key: &str, value: &str) {
        self.raw(key);
        if value.bytes().any(|byte| byte < b' ' || byte == b'"' || byte == b'\\') {
            self.escaped(value);
        } else {
            self.raw(value);
        }
        self.0.push(b'"');
    }

    /// A string that is known to have nothing in it that would have to be escaped.
    pub fn word(&mut self, key: &str, value: &str) {
        self.raw(key);
        self.raw(value);
        self.0.push(b'"');
    }

    /// What cannot stand in a string as it is; names rarely have such.
    #[cold]
    fn escaped(&mut self, value: &str) {
        let mut quoted = Vec::new();
        // Nothing can go wrong with a string.
        let _ = serde_json::to_writer(&mut quoted, value);
        self.0.extend_from_slice(quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default());
    }

    /// A number, in digits.
    pub fn number(&mut self, key: &str, value: u64) {
        self.raw(key);
        self.digits(value);
    }

    fn digits(&mut self, value: u64) {
        let mut digits = [0; 20];
        let (mut at, mut rest) = (digits.len(), value);
        while let Some(digit) = at.checked_sub(1).and_then(|at| digits.get_mut(at)) {
            *digit = b'0'.saturating_add((rest % 10) as u8);
            at = at.saturating_sub(1);
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        self.0.extend_from_slice(digits.get(at..).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_library() {
        for shift in 0..64 {
            for value in [u64::MAX >> shift, 1 << shift, 0x1234_5678_9abc_def0 >> shift, 10u64.saturating_pow(shift)] {
                assert_eq!(decimal(value), value.to_string());
                assert_eq!(hexadecimal(value), format!("{value:016x}"));
            }
        }
        assert_eq!((decimal(0), hexadecimal(0)), ("0".to_owned(), "0".repeat(16)));
    }
}
