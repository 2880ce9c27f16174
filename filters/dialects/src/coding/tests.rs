use miniz_oxide::deflate::compress_to_vec;
use proptest::prelude::*;
use ruzstd::encoding::{CompressionLevel, compress_to_vec as zstd_of};

use super::undecodable::BLOCKS_MAX;
use super::*;

const MOST: usize = 1 << 20;
/// What `gzip` and `zstd` themselves make of a request: from a pipe, and of a file, which tells its size.
const TEXT: &str = r#"{"model":"chat","messages":[{"role":"user","content":"Hello, world"}]}"#;
const TOOLS: [(Coding, &str); 3] = [
    (
        Coding::Gzip,
        "1f8b0800000000000003ab56cacd4f49cd51b2524ace482c51d251ca4d2d2e4e4c4f2d56b28aae562acacf49054a9516a71601a592f3f34a52f34a80021ea93939f93a0ae5f94539294ab5b1b500e22ef7a246000000",
    ),
    (
        Coding::Zstd,
        "28b52ffd0458fd010062c40e15b03763dcdcb61f217db5907d5a0139b822290c38016d689f547a00443331f85e0957523359e11adf98aa66c2bd48945d44935729cc77e251340b00ef63da27",
    ),
    (
        Coding::Zstd,
        "28b52ffd2446fd010062c40e15b03763dcdcb61f217db5907d5a0139b822290c38016d689f547a00443331f85e0957523359e11adf98aa66c2bd48945d44935729cc77e251340b00ef63da27",
    ),
];

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.chars().map(|c| c.to_digit(16).unwrap() as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// A member: the flags and what follows the fixed header, a deflate stream, and the end for this text.
fn member(flags: u8, fields: &[u8], deflated: &[u8], text: &[u8]) -> Vec<u8> {
    let end = [crc32fast::hash(text).to_le_bytes(), (text.len() as u32).to_le_bytes()].concat();
    [&[0x1f, 0x8b, 8, flags, 0, 0, 0, 0, 0, 255], fields, deflated, &end].concat()
}

fn gzip(text: &[u8]) -> Vec<u8> {
    member(0, &[], &compress_to_vec(text, 6), text)
}

/// A frame with this descriptor, header and blocks.
fn frame(descriptor: u8, header: &[u8], blocks: &[&[u8]]) -> Vec<u8> {
    [&[0x28, 0xb5, 0x2f, 0xfd, descriptor], header, &blocks.concat()].concat()
}

/// The head of a block: 0 is raw, 1 repeats a byte.
fn block(last: bool, kind: u32, size: u32) -> [u8; 3] {
    let [low, middle, high, _] = (u32::from(last) | kind << 1 | size << 3).to_le_bytes();
    [low, middle, high]
}

/// Both codings of a text.
fn coded(text: &[u8]) -> [(Coding, Vec<u8>); 2] {
    [(Coding::Gzip, gzip(text)), (Coding::Zstd, zstd_of(text, CompressionLevel::Fastest))]
}

/// About so many bytes that are neither all the same nor all different.
fn prose(bytes: usize) -> Vec<u8> {
    let words = (0u64..).map(|n| format!("{} ", n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 50));
    words.flat_map(String::into_bytes).take(bytes).collect()
}

#[test]
fn names_are_read_in_any_case() {
    for (name, coding) in
        [("gzip", Coding::Gzip), ("x-gzip", Coding::Gzip), ("X-GZip", Coding::Gzip), ("ZSTD", Coding::Zstd)]
    {
        assert_eq!(Coding::named(name.as_bytes()), Some(coding));
    }
    for name in
        ["", "br", "deflate", "compress", "identity", "gzip, zstd", "gzip,gzip", "gzip;q=1", "zstd ", "aws-chunked"]
    {
        assert_eq!(Coding::named(name.as_bytes()), None, "{name}");
    }
}

#[test]
fn what_the_tools_make_is_decoded() {
    for (coding, bytes) in TOOLS {
        assert_eq!(coding.decode(&unhex(bytes), TEXT.len()), Ok(TEXT.into()));
        assert_eq!(coding.decode(&unhex(bytes), TEXT.len() - 1), Err(Undecodable::TooLong), "{coding:?}");
    }
}

#[test]
fn every_length_comes_back() {
    for length in [0, 1, 2, 100, 4095, 4096, 4097, 65_535, 131_072, 131_073, 1_000_000, MOST] {
        for (coding, bytes) in coded(&prose(length)) {
            assert!(coding.decode(&bytes, MOST) == Ok(prose(length)), "{coding:?} {length}");
            if length > 0 {
                assert_eq!(coding.decode(&bytes, length - 1), Err(Undecodable::TooLong), "{coding:?} {length}");
            }
        }
    }
}

#[test]
fn what_is_cut_short_anywhere_is_refused() {
    for (coding, bytes) in coded(&prose(3000)).into_iter().chain(TOOLS.map(|(coding, bytes)| (coding, unhex(bytes)))) {
        for end in 0..bytes.len() {
            assert_eq!(coding.decode(&bytes[..end], MOST), Err(Undecodable::Truncated), "{coding:?} {end}");
        }
    }
}

#[test]
fn what_follows_the_end_is_refused() {
    for (coding, bytes) in coded(TEXT.as_bytes()) {
        for more in [&b"\0"[..], b"}", &bytes] {
            let got = coding.decode(&[&bytes, more].concat(), MOST);
            assert_eq!(got, Err(Undecodable::Trailing), "{coding:?} {}", more.len());
        }
        // A frame that is to be skipped, in front and behind.
        let skipped = [0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, b'x'];
        assert!(coding.decode(&[&skipped, &bytes[..]].concat(), MOST).is_err());
        assert_eq!(coding.decode(&[&bytes[..], &skipped].concat(), MOST), Err(Undecodable::Trailing));
    }
}

#[test]
fn a_sum_or_a_length_that_does_not_fit_is_refused() {
    let bytes = gzip(TEXT.as_bytes());
    for at in bytes.len() - 8..bytes.len() {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1;
        assert_eq!(Coding::Gzip.decode(&bytes, MOST), Err(Undecodable::Corrupt), "{at}");
    }
    let mut bytes = unhex(TOOLS[1].1);
    *bytes.last_mut().unwrap() ^= 1;
    assert_eq!(Coding::Zstd.decode(&bytes, MOST), Err(Undecodable::Corrupt));
    // One segment of 4 bytes, and 3 in it.
    let short = frame(0x20, &[4], &[&block(true, 0, 3), b"abc"]);
    assert_eq!(Coding::Zstd.decode(&short, MOST), Err(Undecodable::Corrupt));
}

#[test]
fn a_header_of_gzip_is_read_with_all_its_fields() {
    let (text, deflated) = (TEXT.as_bytes(), compress_to_vec(TEXT.as_bytes(), 9));
    let decode = |flags, fields: &[u8]| Coding::Gzip.decode(&member(flags, fields, &deflated, text), MOST);
    let sum = |flags, fields: &[u8]| {
        let head = [&[0x1f, 0x8b, 8, flags, 0, 0, 0, 0, 0, 255], fields].concat();
        [fields, &crc32fast::hash(&head).to_le_bytes()[..2]].concat()
    };
    for (flags, fields) in [
        (1, vec![]),
        (4, vec![3, 0, 1, 2, 3]),
        (4, vec![0, 0]),
        (8, b"body.json\0".to_vec()),
        (16, b"\0".to_vec()),
        (2, sum(2, &[])),
        (31, sum(31, b"\x02\0xxname\0comment\0")),
    ] {
        assert_eq!(decode(flags, &fields), Ok(text.to_vec()), "{flags} {fields:?}");
    }
    assert_eq!(decode(2, b"\0\0"), Err(Undecodable::Corrupt));
    assert_eq!(decode(4, &[255, 255]), Err(Undecodable::Truncated));
    for reserved in [32, 64, 128] {
        assert_eq!(decode(reserved, &[]), Err(Undecodable::Malformed));
    }
    for wrong in [&b"{\"model\":\"chat\"}"[..], b"\x1f\x8b\x07\0\0\0\0\0\0\0\0", b"\x78\x9c\x03\0\0\0\0\x01\0\0\0\0"] {
        assert_eq!(Coding::Gzip.decode(wrong, MOST), Err(Undecodable::Malformed));
        assert_eq!(Coding::Zstd.decode(wrong, MOST), Err(Undecodable::Malformed));
    }
}

#[test]
fn frames_that_want_too_much_are_refused() {
    // Two exponents of the window: 2^(10 + 13) and one step more.
    let raw = [&block(true, 0, 3)[..], b"abc"].concat();
    assert_eq!(Coding::Zstd.decode(&frame(0, &[13 << 3], &[&raw]), MOST), Ok(b"abc".into()));
    assert_eq!(Coding::Zstd.decode(&frame(0, &[13 << 3 | 1], &[&raw]), MOST), Err(Undecodable::Window));
    assert_eq!(Coding::Zstd.decode(&frame(0, &[255], &[&raw]), MOST), Err(Undecodable::Window));
    // One segment of 2^62 bytes, and of one more than is allowed.
    let large = (1u64 << 62).to_le_bytes();
    assert_eq!(Coding::Zstd.decode(&frame(0xe0, &large, &[&raw]), MOST), Err(Undecodable::TooLong));
    let large = (MOST as u32 + 1).to_le_bytes();
    assert_eq!(Coding::Zstd.decode(&frame(0xa0, &large, &[&raw]), MOST), Err(Undecodable::TooLong));
    assert_eq!(Coding::Zstd.decode(&frame(1, &[0, 7], &[&raw]), MOST), Err(Undecodable::Dictionary));
    assert_eq!(Coding::Zstd.decode(&frame(8, &[0], &[&raw]), MOST), Err(Undecodable::Malformed));
    // The kind of block that is not defined.
    assert_eq!(Coding::Zstd.decode(&frame(0, &[0], &[&block(true, 3, 0)]), MOST), Err(Undecodable::Malformed));
}

/// What becomes a thousand or a million times as long stops where it is too long, by whichever way it was made.
#[test]
fn bombs_are_too_long() {
    let zeros = gzip(&vec![0; 64 << 20]);
    assert!(zeros.len() < 70_000);
    assert_eq!(Coding::Gzip.decode(&zeros, MOST), Err(Undecodable::TooLong));
    // One whose end says that it is short.
    let mut lies = zeros;
    let end = lies.len() - 4;
    lies[end..].copy_from_slice(&[9, 0, 0, 0]);
    assert_eq!(Coding::Gzip.decode(&lies, MOST), Err(Undecodable::TooLong));
    let repeat = [&block(false, 1, 128 << 10)[..], b" "].concat();
    let blocks: Vec<&[u8]> = std::iter::repeat_n(&repeat[..], 8192).collect();
    let bomb = frame(0, &[10 << 3], &[&blocks.concat(), &block(true, 0, 0)]);
    assert_eq!(Coding::Zstd.decode(&bomb, MOST), Err(Undecodable::TooLong));
}

/// Blocks that become nothing cost as much as blocks that become something.
#[test]
fn blocks_are_bounded() {
    let stored = |blocks: usize| [[0, 0, 0, 255, 255].repeat(blocks - 1), vec![1, 0, 0, 255, 255]].concat();
    assert_eq!(Coding::Gzip.decode(&member(0, &[], &stored(BLOCKS_MAX), b""), MOST), Ok(Vec::new()));
    assert_eq!(Coding::Gzip.decode(&member(0, &[], &stored(BLOCKS_MAX + 1), b""), MOST), Err(Undecodable::Blocks));
    let raw = |blocks: usize| frame(0, &[0], &[&block(false, 0, 0).repeat(blocks - 1), &block(true, 0, 0)]);
    assert_eq!(Coding::Zstd.decode(&raw(BLOCKS_MAX), MOST), Ok(Vec::new()));
    assert_eq!(Coding::Zstd.decode(&raw(BLOCKS_MAX + 1), MOST), Err(Undecodable::Blocks));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn anything_comes_back(text in prop::collection::vec(any::<u8>(), 0..5000), times in 1usize..20) {
        let text = text.repeat(times);
        for (coding, bytes) in coded(&text) {
            prop_assert!(coding.decode(&bytes, MOST).as_ref() == Ok(&text));
        }
    }

    /// Nothing panics, and nothing becomes longer than allowed.
    #[test]
    fn damage_is_an_answer(length in 0usize..3000, most in 0usize..4000, hits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        for (coding, mut bytes) in coded(&prose(length)) {
            for (at, byte) in &hits {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            if let Ok(out) = coding.decode(&bytes, most) {
                prop_assert!(out.len() <= most);
            }
        }
    }

    #[test]
    fn noise_is_an_answer(noise in prop::collection::vec(any::<u8>(), 0..300)) {
        let heads = [(Coding::Gzip, &b"\x1f\x8b\x08\0\0\0\0\0\0\0"[..]), (Coding::Zstd, b"\x28\xb5\x2f\xfd\0\x50")];
        for (coding, head) in heads {
            let _ = coding.decode(&noise, MOST);
            let _ = coding.decode(&[head, &noise].concat(), MOST);
        }
    }
}
