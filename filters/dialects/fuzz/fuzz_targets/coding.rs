//! Compressed bodies, by any bytes: decoding answers, and nothing becomes longer than allowed: `cargo +nightly fuzz run coding` in
//! `filters/dialects`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use penstock_dialects::Coding;

fuzz_target!(|input: (u16, &[u8])| {
    let (most, bytes) = (usize::from(input.0), input.1);
    for (coding, head) in [(Coding::Gzip, &b"\x1f\x8b\x08\0\0\0\0\0\0\0"[..]), (Coding::Zstd, b"\x28\xb5\x2f\xfd")] {
        for body in [bytes.to_vec(), [head, bytes].concat()] {
            if let Ok(text) = coding.decode(&body, most) {
                assert!(text.len() <= most);
            }
        }
    }
});
