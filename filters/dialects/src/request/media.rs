//! What a request has in it that is neither text nor an image: how much of it there is, judged by the length of what was sent.
//!
//! How long a sound, a film or a document is stands somewhere in data that is not decoded here, so these are estimates, and never nothing.
//! Of what is sent by name only, as a URL or the id of a file, not even the length is known; there it is what is usual. Nothing is less for
//! looking like a name.

use crate::json::lexer::Event;
use crate::request::head::Head;
use crate::request::image::base64;

/// Bytes of a second of compressed sound: 64 kbit/s, which is usual for MP3.
const SOUND: u64 = 8_000;
/// The most bytes of a second of a WAV that are believed: two channels of 16 bits at 96 kHz.
const WAV_MAX: u64 = 384_000;
/// Bytes of a second of film: 1 Mbit/s.
const FILM: u64 = 125_000;
/// Bytes of a page of a document.
const PAGE: u64 = 50 * 1024;
/// Bytes of one vector: 1,024 numbers of two bytes, which is what the smallest models have.
const VECTOR: u64 = 2_048;
/// The shortest sound or film.
const SECOND: u64 = 1_000;
/// A sound or a film whose length is not known.
const MINUTE: u64 = 60_000;

/// What a piece of data is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
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
    /// Pages of documents.
    pub pages: u64,
    /// Vectors in the place of tokens.
    pub vectors: u64,
    /// Bytes of what is taken for text by its length: documents of text, and what is in fields that nothing is known of.
    pub text_bytes: u64,
}

/// Reads one piece of data after the other. Of each only the beginning is kept.
#[derive(Default)]
pub struct MediaReader {
    pub all: Media,
    head: Head,
    bytes: u64,
}

impl MediaReader {
    /// What comes of a string that is data of this kind, a URL or an id.
    pub fn read(&mut self, kind: Kind, event: &Event<'_>) {
        match event {
            Event::Text(part) => {
                self.head.keep(event);
                self.bytes = self.bytes.saturating_add(part.len() as u64);
            }
            Event::TextEnd => {
                let (head, bytes) = (core::mem::take(&mut self.head), core::mem::take(&mut self.bytes));
                self.add(kind, head.as_str(), bytes);
            }
            _ => {}
        }
    }

    /// A document in so much base64.
    pub fn document(&mut self, base64: u64) {
        self.all.pages = self.all.pages.saturating_add(decoded(base64).div_ceil(PAGE).max(1));
    }

    /// So many bytes of text.
    pub fn text(&mut self, bytes: u64) {
        self.all.text_bytes = self.all.text_bytes.saturating_add(bytes);
    }

    fn add(&mut self, kind: Kind, head: &str, bytes: u64) {
        // A data URL, or data as it is; ids are short.
        let (media, data) = head.strip_prefix("data:").and_then(|url| url.split_once(',')).unwrap_or(("", head));
        // Base64 has no colon, and every URL has one.
        let least = if data.contains(':') || bytes < 64 { MINUTE } else { SECOND };
        let all = &mut self.all;
        match kind {
            Kind::Audio => all.audio_ms = all.audio_ms.saturating_add(millis(bytes, byte_rate(data)).max(least)),
            Kind::Video => all.video_ms = all.video_ms.saturating_add(millis(bytes, FILM).max(least)),
            Kind::File if media.starts_with("text/") || media.starts_with("application/json") => {
                self.text(decoded(bytes));
            }
            Kind::File => self.document(bytes),
            Kind::Vectors => all.vectors = all.vectors.saturating_add(decoded(bytes).div_ceil(VECTOR).max(1)),
        }
    }
}

/// The bytes that so much base64 stands for.
fn decoded(base64: u64) -> u64 {
    base64.saturating_mul(3) / 4
}

/// How long so much base64 lasts.
fn millis(base64: u64, bytes_per_second: u64) -> u64 {
    let millis = decoded(base64).saturating_mul(1000).checked_div(bytes_per_second);
    millis.unwrap_or(u64::MAX)
}

/// How many bytes of a sound are a second. A WAV says it: channels at byte 22, samples a second at byte 24, bits at byte 34 (RFC 2361 and
/// Microsoft, "Multimedia Programming Interface and Data Specifications 1.0").
fn byte_rate(data: &str) -> u64 {
    let bytes = base64(data);
    let number = |at: usize, length: usize| {
        let bytes = bytes.get(at..at.checked_add(length)?)?;
        Some(bytes.iter().rev().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte)))
    };
    let wav = || {
        let bits = number(22, 2)?.checked_mul(number(24, 4)?)?.checked_mul(number(34, 2)?)?;
        (bytes.starts_with(b"RIFF") && bits >= 8).then_some((bits / 8).min(WAV_MAX))
    };
    wav().unwrap_or(SOUND)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: Kind, data: &str) -> Media {
        let mut reader = MediaReader::default();
        let (head, tail) = data.split_at(data.len() / 2);
        for event in [Event::Text(head), Event::Text(tail), Event::TextEnd] {
            reader.read(kind, &event);
        }
        reader.all
    }

    /// The header of a WAV: mono, 16 kHz, 16 bits, as base64, and silence behind it.
    fn wav(seconds: usize) -> String {
        let header = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAgD4AAAB9AAACABAAZGF0YQAAAAAA";
        format!("{header}{}", "A".repeat(seconds * 32_000 * 4 / 3))
    }

    #[test]
    fn a_sound_is_as_long_as_its_bytes_say() {
        assert!((10_000..10_010).contains(&read(Kind::Audio, &wav(10)).audio_ms));
        assert!((10_000..10_010).contains(&read(Kind::Audio, &format!("data:audio/wav;base64,{}", wav(10))).audio_ms));
        // 8,000 bytes of MP3 are a second.
        assert_eq!(read(Kind::Audio, &"A".repeat(32_000)).audio_ms, 3_000);
        assert_eq!(read(Kind::Audio, &"A".repeat(100)).audio_ms, 1_000);
        assert_eq!(read(Kind::Audio, "https://example.com/a.mp3").audio_ms, 60_000);
        assert_eq!(read(Kind::Audio, "").audio_ms, 60_000);
    }

    #[test]
    fn a_header_that_lies_makes_nothing_free() {
        // So many samples a second as four bytes hold.
        let lie = wav(30).replacen("gD4AAA", "/////w", 1);
        assert!(read(Kind::Audio, &lie).audio_ms >= 2_500);
        let none = wav(30).replacen("gD4AAA", "AAAAAA", 1);
        assert!(read(Kind::Audio, &none).audio_ms >= 30_000);
    }

    #[test]
    fn data_that_looks_like_a_name_is_as_long_as_it_is() {
        let data = "A".repeat(4 << 20);
        let (sound, film) = (read(Kind::Audio, &data).audio_ms, read(Kind::Video, &data).video_ms);
        assert!(sound > 60_000);
        for name in ["http:", "https://x/", "file:///x", "data:,http:", "data:audio/mp3;base64,https:"] {
            assert!(read(Kind::Audio, &format!("{name}{data}")).audio_ms >= sound, "{name}");
            assert!(read(Kind::Video, &format!("{name}{data}{data}{data}")).video_ms >= 3 * film, "{name}");
        }
        for url in ["HTTPS://example.com", "file:///media", "s3://bucket"] {
            let url = format!("{url}/{}", "a".repeat(100));
            assert_eq!((read(Kind::Audio, &url).audio_ms, read(Kind::Video, &url).video_ms), (60_000, 60_000), "{url}");
        }
    }

    #[test]
    fn films_documents_and_vectors_count_by_their_length() {
        assert_eq!(read(Kind::Video, &"A".repeat(4_000_000)).video_ms, 24_000);
        assert_eq!(read(Kind::Video, "https://example.com/a.mp4").video_ms, 60_000);
        assert_eq!(read(Kind::File, &"A".repeat(4 * 51_200)).pages, 3);
        assert_eq!(read(Kind::File, "file-123").pages, 1);
        assert_eq!(read(Kind::File, &format!("data:text/plain;base64,{}", "A".repeat(377))).text_bytes, 300);
        assert_eq!(read(Kind::Vectors, &"A".repeat(40_960)).vectors, 15);
        assert_eq!(read(Kind::Vectors, "AAAA").vectors, 1);
    }
}
