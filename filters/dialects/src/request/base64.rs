//! Base64 (RFC 4648, sections 4 and 5): the beginning of data, and data that is text.

use crate::sink::PromptSink;

/// The six bits that a character stands for, in either alphabet.
pub fn bits(byte: u8) -> Option<u32> {
    let value = match byte {
        b'A'..=b'Z' => byte.wrapping_sub(b'A'),
        b'a'..=b'z' => byte.wrapping_sub(b'a').wrapping_add(26),
        b'0'..=b'9' => byte.wrapping_sub(b'0').wrapping_add(52),
        b'+' | b'-' => 62,
        b'/' | b'_' => 63,
        _ => return None,
    };
    Some(u32::from(value))
}

/// Whether this can be base64: a text has blanks sooner or later.
pub fn is_base64(part: &str) -> bool {
    part.bytes().all(|byte| bits(byte).is_some() || matches!(byte, b'=' | b'\r' | b'\n'))
}

/// The bytes of some base64. What is none is left out, as lenient decoders do: else a line's end would hide what stands behind it.
pub fn bytes(text: &str) -> Vec<u8> {
    let mut joined = Joined::default();
    text.bytes().filter_map(bits).filter_map(|bits| joined.add(bits)).collect()
}

/// How much of a text has so many characters of base64, in bytes; `None` where it has fewer.
pub fn length_of(characters: usize, text: &str) -> Option<usize> {
    let mut ends = text.bytes().zip(1..).filter_map(|(byte, end)| bits(byte).map(|_| end));
    ends.nth(characters.checked_sub(1)?)
}

/// Bits that are no whole byte yet.
#[derive(Default)]
pub struct Joined {
    bits: u32,
    n: u32,
}

impl Joined {
    /// Six more; the byte that is whole with them.
    pub fn add(&mut self, bits: u32) -> Option<u8> {
        self.bits = (self.bits << 6) | bits;
        self.n = self.n.wrapping_add(6);
        (self.n >= 8).then(|| {
            self.n = self.n.wrapping_sub(8);
            let byte = (self.bits >> self.n) as u8;
            self.bits &= !(u32::MAX << self.n);
            byte
        })
    }
}

/// Decodes a text as it comes.
#[derive(Default)]
pub struct Decoder {
    joined: Joined,
    /// The beginning of a character whose end has not come.
    begun: Vec<u8>,
}

impl Decoder {
    /// The next piece, in base64. What is none is left out, as lenient decoders do; what is not UTF-8 becomes U+FFFD.
    pub fn push(&mut self, text: &str, sink: &mut impl PromptSink) {
        let Self { joined, begun } = self;
        begun.extend(text.bytes().filter_map(bits).filter_map(|bits| joined.add(bits)));
        let mut rest = Vec::new();
        for chunk in begun.utf8_chunks() {
            if !rest.is_empty() {
                sink.part("\u{fffd}");
            }
            if !chunk.valid().is_empty() {
                sink.part(chunk.valid());
            }
            rest = chunk.invalid().to_vec();
        }
        *begun = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Text(String);

    impl PromptSink for Text {
        fn part(&mut self, text: &str) {
            self.0.push_str(text);
        }
        fn end(&mut self) {}
    }

    #[test]
    fn a_text_is_the_same_in_pieces_of_any_length() {
        for (base64, text) in [
            ("R3LDvMOfZSwgd2VsdCDinKg=", "Grüße, welt ✨"),
            ("R3LD\r\nvMOfZQ", "Grüße"),
            ("_-8gYQ", "\u{fffd}\u{fffd} a"),
        ] {
            for n in 1..=base64.len() {
                let (mut decoder, mut out) = (Decoder::default(), Text::default());
                for piece in base64.as_bytes().chunks(n) {
                    decoder.push(core::str::from_utf8(piece).unwrap(), &mut out);
                }
                assert_eq!(out.0, text, "{n}");
            }
        }
        for text in ["iVBORw==", "i\r\nVBORw", "=iVB=ORw=="] {
            assert_eq!(bytes(text), b"\x89PNG", "{text:?}");
        }
        assert_eq!(["", "=a", "a\n\n=b", "ä b"].map(|text| length_of(2, text)), [None, None, Some(5), None]);
    }
}
