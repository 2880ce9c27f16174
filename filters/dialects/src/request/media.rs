//! What a request has in it that is neither text nor an image: how much of it there is, judged by the length of what was sent.
//!
//! How long a sound, a film or a document is stands somewhere in data that is not decoded here, so these are estimates, which grow with what
//! was sent and are never nothing. Of what is sent by name only, as a URL or the id of a file, not even the length is known: it is told
//! apart, and priced by whoever knows the server.

use crate::request::base64::bytes;

/// Bytes of a second of compressed sound: 64 kbit/s, which is usual for MP3.
const SOUND: u64 = 8_000;
/// The most bytes of a second of a WAV that are believed: two channels of 16 bits at 96 kHz.
const WAV_MAX: u64 = 384_000;
/// Bytes of a second of film: 400 kbit/s, which is that of a small picture.
const FILM: u64 = 50_000;
/// The fewest bytes that a document counts as: a page.
const PAGE: u64 = 24_000;
/// Bytes of one vector: 1,024 numbers of two bytes, which is what the smallest models have.
const VECTOR: u64 = 2_048;
/// The shortest sound or film.
const SECOND: u64 = 1_000;

/// What a piece of data is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An image.
    Image,
    /// A sound.
    Audio,
    /// A film.
    Video,
    /// A document.
    File,
    /// What an encoder made of something, in the place of tokens.
    Vectors,
}

/// How much a request has of each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Media {
    /// Milliseconds of sound.
    pub audio_ms: u64,
    /// Milliseconds of film.
    pub video_ms: u64,
    /// Bytes of documents, of which each has those of a page at least.
    pub document_bytes: u64,
    /// Vectors in the place of tokens.
    pub vectors: u64,
    /// Bytes of what is taken for text by its length: what is in fields that nothing is known of, and names beyond their usual length.
    pub text_bytes: u64,
    /// What the request only names.
    pub named: Named,
}

/// How many sounds, films and documents a request only names, by URL or id: nothing in it says how large they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// Sounds.
    pub audio: u64,
    /// Films.
    pub video: u64,
    /// Documents.
    pub files: u64,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Image, Self::Audio, Self::Video, Self::File, Self::Vectors];
}

impl Media {
    /// So many bytes of data of this kind, which begin with this base64. Images are read elsewhere.
    pub fn add(&mut self, kind: Kind, start: &str, bytes: u64) {
        match kind {
            Kind::Audio => {
                self.audio_ms = self.audio_ms.saturating_add(millis(bytes, byte_rate(start)).max(SECOND));
            }
            Kind::Video => self.video_ms = self.video_ms.saturating_add(millis(bytes, FILM).max(SECOND)),
            Kind::File | Kind::Image => self.document_bytes = self.document_bytes.saturating_add(bytes.max(PAGE)),
            Kind::Vectors => self.vectors = self.vectors.saturating_add(bytes.div_ceil(VECTOR).max(1)),
        }
    }

    /// So many bytes of text.
    pub fn text(&mut self, bytes: u64) {
        self.text_bytes = self.text_bytes.saturating_add(bytes);
    }

    /// One that is only named. An image is none of these: its price has a bound whatever its size is.
    pub fn name(&mut self, kind: Kind) {
        let named = match kind {
            Kind::Audio => &mut self.named.audio,
            Kind::Video => &mut self.named.video,
            Kind::File | Kind::Vectors | Kind::Image => &mut self.named.files,
        };
        *named = named.saturating_add(1);
    }
}

/// How long so many bytes last.
fn millis(bytes: u64, bytes_per_second: u64) -> u64 {
    let millis = bytes.saturating_mul(1000).checked_div(bytes_per_second);
    millis.unwrap_or(u64::MAX)
}

/// How many bytes of a sound are a second. A WAV that is not compressed, which its format at byte 20 tells, says it: channels at byte 22,
/// samples a second at byte 24, bits at byte 34 (RFC 2361 and Microsoft, "Multimedia Programming Interface and Data Specifications 1.0").
fn byte_rate(start: &str) -> u64 {
    let bytes = bytes(start);
    let number = |at: usize, length: usize| {
        let bytes = bytes.get(at..at.checked_add(length)?)?;
        Some(bytes.iter().rev().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte)))
    };
    let wav = || {
        let is_wav = bytes.starts_with(b"RIFF") && bytes.get(8..16) == Some(b"WAVEfmt ");
        // Whole numbers, floating point ones, and what is told in more detail behind.
        let is_plain = matches!(number(20, 2)?, 1 | 3 | 0xfffe);
        let bits = number(22, 2)?.checked_mul(number(24, 4)?)?.checked_mul(number(34, 2)?)?;
        (is_wav && is_plain && bits >= 8).then_some((bits / 8).min(WAV_MAX))
    };
    wav().unwrap_or(SOUND)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: Kind, data: &str) -> Media {
        let mut media = Media::default();
        media.add(kind, data.get(..96).unwrap_or(data), data.len() as u64 * 3 / 4);
        media
    }

    /// The header of a WAV: mono, 16 kHz, 16 bits, as base64, and silence behind it.
    fn wav(seconds: usize) -> String {
        let header = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAgD4AAAB9AAACABAAZGF0YQAAAAAA";
        format!("{header}{}", "A".repeat(seconds * 32_000 * 4 / 3))
    }

    #[test]
    fn a_sound_is_as_long_as_its_bytes_say() {
        assert!((10_000..10_010).contains(&read(Kind::Audio, &wav(10)).audio_ms));
        // 8,000 bytes of MP3 are a second.
        assert_eq!(read(Kind::Audio, &"A".repeat(32_000)).audio_ms, 3_000);
        assert_eq!(read(Kind::Audio, &"A".repeat(100)).audio_ms, 1_000);
        assert_eq!(read(Kind::Audio, "").audio_ms, 1_000);
    }

    #[test]
    fn a_header_that_lies_makes_nothing_free() {
        // So many samples a second as four bytes hold.
        let lie = wav(30).replacen("gD4AAA", "/////w", 1);
        assert!(read(Kind::Audio, &lie).audio_ms >= 2_500);
        // MP3 in a WAV, a format that is none, and another chunk than that of the format.
        for (header, other) in [("IBAAAAAB", "IBAAAABV"), ("IBAAAAAB", "IBAAAAAA"), ("QVZFZm10", "QVZFSlVO")] {
            let lie = wav(30).replacen(header, other, 1);
            assert_ne!(lie, wav(30));
            assert!(read(Kind::Audio, &lie).audio_ms >= 120_000, "{other}");
        }
        let none = wav(30).replacen("gD4AAA", "AAAAAA", 1);
        assert!(read(Kind::Audio, &none).audio_ms >= 30_000);
    }

    #[test]
    fn films_documents_and_vectors_count_by_their_length() {
        assert_eq!(read(Kind::Video, &"A".repeat(4_000_000)).video_ms, 60_000);
        assert_eq!(read(Kind::File, &"A".repeat(400_000)).document_bytes, 300_000);
        assert_eq!(read(Kind::File, "AAAA").document_bytes, 24_000);
        assert_eq!(read(Kind::Vectors, &"A".repeat(40_960)).vectors, 15);
        assert_eq!(read(Kind::Vectors, "AAAA").vectors, 1);
    }
}
