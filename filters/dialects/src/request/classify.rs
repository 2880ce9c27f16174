//! What data is. Servers go by the key that it stands under, by its media type, or look into it; so nothing becomes cheaper for being called
//! something else: it is the dearest of what these three say.

use crate::request::image::is_image;
use crate::request::media::Kind;

/// Up to how many bytes an image costs more than a film, which then costs the 1,600 tokens that an image costs at most.
const FILM_IS_DEARER: u64 = 304_000;
/// Up to how many bytes it costs more than a sound.
const SOUND_IS_DEARER: u64 = 400_000;

/// Of how many bytes one at most may be in no text: where data begins with its header, and where it is all alike.
const ODD_AT_FIRST: usize = 12;
const ODD_WITHIN: usize = 4;

/// What a media type says of data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Claim {
    /// There is none.
    #[default]
    None,
    /// It is bytes of any kind.
    Any,
    Text,
    A(Kind),
}

impl Claim {
    /// What this media type says (RFC 2045, section 5.1: neither capital letters nor what stands behind it make a difference).
    pub fn of(media: &str) -> Self {
        let name = media.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match name.split('/').next().unwrap_or_default().trim() {
            "" => Self::None,
            "text" => Self::Text,
            "image" => Self::A(Kind::Image),
            "audio" => Self::A(Kind::Audio),
            "video" => Self::A(Kind::Video),
            _ if matches!(name.as_str(), "application/octet-stream" | "application/ogg" | "application/mp4") => {
                Self::Any
            }
            _ => Self::A(Kind::File),
        }
    }
}

/// Whether data that begins like this is a text, or may be taken for one.
pub fn is_text(claim: Claim, head: &[u8]) -> bool {
    claim == Claim::Text || is_plain(head, ODD_AT_FIRST)
}

/// Whether a stretch of data that is in no known format is a text: in what is compressed or numbers, half of all bytes are in no text.
pub fn is_stretch_of_text(stretch: &[u8]) -> bool {
    is_plain(stretch, ODD_WITHIN)
}

/// Whether data that is no text, stands under a key of this kind and begins like this is a document in a format that is not known.
pub fn is_strange(key: Kind, claim: Claim, head: &[u8]) -> bool {
    sniff(head).is_none() && kind(key, claim, head, u64::MAX) == Kind::File
}

/// What so many bytes of data are that are no text, stand under a key of this kind and begin like this.
pub fn kind(key: Kind, claim: Claim, head: &[u8], bytes: u64) -> Kind {
    let seen = sniff(head);
    let called = match claim {
        Claim::None => None,
        Claim::Any => seen.is_none().then_some(Kind::File),
        Claim::Text => Some(Kind::File),
        Claim::A(kind) => Some(kind),
    };
    match (key, called, seen) {
        (Kind::Vectors, ..) => key,
        // An image that is sent as a file is one to every server.
        (Kind::File, None | Some(Kind::Image), Some(Kind::Image)) if is_image(head) => Kind::Image,
        _ => called.into_iter().chain(seen).fold(key, |one, other| dearer(one, other, bytes)),
    }
}

/// The one of two that costs more where there are so many bytes of it.
fn dearer(one: Kind, other: Kind, bytes: u64) -> Kind {
    let rank = |kind: Kind| match kind {
        Kind::Vectors => 0,
        Kind::Audio => 1,
        Kind::Image if bytes >= SOUND_IS_DEARER => 0,
        Kind::Video => 3,
        Kind::Image if bytes >= FILM_IS_DEARER => 2,
        Kind::Image => 4,
        Kind::File => 5,
    };
    if rank(other) > rank(one) { other } else { one }
}

/// What the first bytes of data show, where they are those of something known.
fn sniff(head: &[u8]) -> Option<Kind> {
    const HEADS: &[(&[u8], Kind)] = &[
        // ZIP, which Office's documents are as well; Office's older ones; gzip.
        (b"PK\x03\x04", Kind::File),
        (b"PK\x05\x06", Kind::File),
        (b"\xd0\xcf\x11\xe0", Kind::File),
        (b"\x1f\x8b", Kind::File),
        // Matroska and WebM, MPEG, Flash.
        (b"\x1a\x45\xdf\xa3", Kind::Video),
        (b"\x00\x00\x01\xba", Kind::Video),
        (b"\x00\x00\x01\xb3", Kind::Video),
        (b"FLV\x01", Kind::Video),
        (b"ID3", Kind::Audio),
        (b"OggS", Kind::Audio),
        (b"fLaC", Kind::Audio),
        (b"\xff\xfb", Kind::Audio),
        (b"\xff\xf3", Kind::Audio),
        (b"\xff\xf1", Kind::Audio),
    ];
    if is_image(head) {
        return Some(Kind::Image);
    }
    if head.windows(5).any(|word| word == b"%PDF-") {
        return Some(Kind::File);
    }
    match (head.get(..4), head.get(4..8), head.get(8..12)) {
        // ISO base media, which a few images and sounds are as well.
        (_, Some(b"ftyp"), Some(b"avif" | b"avis" | b"heic" | b"heix" | b"mif1" | b"msf1")) => Some(Kind::Image),
        (_, Some(b"ftyp"), Some(b"M4A " | b"M4B ")) => Some(Kind::Audio),
        (_, Some(b"ftyp"), _) => Some(Kind::Video),
        (Some(b"RIFF"), _, Some(b"AVI ")) => Some(Kind::Video),
        (Some(b"RIFF"), _, Some(b"WAVE")) => Some(Kind::Audio),
        _ => HEADS.iter().find(|(start, _)| head.starts_with(start)).map(|(_, kind)| *kind),
    }
}

/// Whether these bytes begin a text: UTF-8 with few control characters, and no PDF. What is in no text is rarely less than a third of
/// a binary header, so that a byte or two at its beginning make no text anything else.
fn is_plain(head: &[u8], one_of: usize) -> bool {
    let begun = head.len().saturating_sub(3);
    let is_odd = |c: char| c == '\u{fffd}' || c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\u{c}');
    let mut odd = 0usize;
    let mut at = 0usize;
    for chunk in head.utf8_chunks() {
        odd = odd.saturating_add(chunk.valid().chars().filter(|c| is_odd(*c)).count());
        at = at.saturating_add(chunk.valid().len()).saturating_add(chunk.invalid().len());
        // The last character may not be whole.
        let is_cut = at == head.len() && at.saturating_sub(chunk.invalid().len()) >= begun;
        odd = odd.saturating_add(usize::from(!chunk.invalid().is_empty() && !is_cut));
    }
    let is_pdf = |version: &u8| version.is_ascii_digit();
    let is_pdf = head.trim_ascii_start().strip_prefix(b"%PDF-").is_some_and(|rest| rest.first().is_some_and(is_pdf));
    !head.is_empty() && odd.saturating_mul(one_of) <= head.len() && !is_pdf
}

#[cfg(test)]
mod tests {
    use super::*;
    use Kind::{Audio, File, Image, Video};

    #[test]
    fn a_media_type_is_what_it_is_in_any_spelling() {
        for (media, claim) in [
            ("", Claim::None),
            (";charset=utf-8", Claim::None),
            (" Text/Plain ; charset=x", Claim::Text),
            ("IMAGE/png", Claim::A(Image)),
            ("Video/mp4", Claim::A(Video)),
            ("\taudio/wav", Claim::A(Audio)),
            ("application/JSON", Claim::A(File)),
            ("application/octet-stream", Claim::Any),
            ("png", Claim::A(File)),
        ] {
            assert_eq!(Claim::of(media), claim, "{media}");
        }
    }

    #[test]
    fn data_is_the_dearest_of_what_is_said_of_it() {
        const LARGE: u64 = 1_500_000;
        let mp4 = b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00".as_slice();
        let (png, pdf) = (b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR".as_slice(), b"%PDF-1.4\n\xff\xff".as_slice());
        let zip = b"PK\x03\x04\x14\x00\x06\x00".as_slice();
        let wav = b"RIFF\x24\x00\x00\x00WAVEfmt ".as_slice();
        for (key, claim, head, bytes, expected) in [
            (Image, Claim::None, mp4, LARGE, Video),
            (Image, Claim::A(Image), mp4, LARGE, Video),
            (Image, Claim::None, b"\x00\x00\x00\x20ftypavif".as_slice(), LARGE, Image),
            (Image, Claim::None, mp4, 1_000, Image),
            (Video, Claim::A(Image), &[0; 9], LARGE, Video),
            (Video, Claim::A(Image), &[0; 9], 1_000, Image),
            (Image, Claim::A(Image), zip, LARGE, File),
            (Image, Claim::A(Image), pdf, LARGE, File),
            (Audio, Claim::A(File), wav, LARGE, File),
            (Audio, Claim::Any, wav, LARGE, Audio),
            (Audio, Claim::Any, &[0; 9], LARGE, File),
            (Image, Claim::Text, &[0; 9], LARGE, File),
            // An image in the place of a document is one unless it is said to be something else.
            (File, Claim::None, png, LARGE, Image),
            (File, Claim::A(Image), png, LARGE, Image),
            (File, Claim::A(File), png, LARGE, File),
            (File, Claim::A(Image), &[0; 9], LARGE, File),
            (Kind::Vectors, Claim::None, pdf, LARGE, Kind::Vectors),
        ] {
            assert_eq!(kind(key, claim, head, bytes), expected, "{key:?} {claim:?} {head:?} {bytes}");
        }
        for head in [mp4, png, pdf, zip, wav, b""] {
            assert!(!is_text(Claim::None, head), "{head:?}");
        }
    }

    #[test]
    fn a_byte_makes_no_text_anything_else() {
        for head in [
            b"plain, \xc3\xa4 and long enou\xc3".as_slice(),
            b"\x01 begins a text that is long enough for it",
            b"\xff\xd8\xff begins a text that is long enough for it",
            b"GIF89a begins a text that is long enough for it",
            b"It says %PDF-1.7 early",
            b"%PDF is a format",
        ] {
            assert!(is_text(Claim::None, head), "{head:?}");
        }
    }
}
