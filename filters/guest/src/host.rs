//! The ports of `exchange` on a real host.

use core::cell::RefCell;

use penstock_exchange::{Change, Contended, Properties, Store};
use proxy_wasm::types::BufferType;

use crate::abi::{self, Status};

/// How often an update is tried before it is called contended.
const ATTEMPTS_MAX: u32 = 128;
/// A number that the host never issues; with it, setting a missing key is create-if-absent.
const ABSENT: u32 = 0xffff_fff0;

/// Shared data as the [`Store`].
pub struct Shared;

impl Store for Shared {
    fn get(&mut self, key: &str) -> Option<Vec<u8>> {
        abi::shared_data(key).ok().map(|(value, _)| value)
    }

    fn update(&mut self, key: &str, change: Change<'_>) -> Result<u32, Contended> {
        for attempt in 0..ATTEMPTS_MAX {
            let (old, cas) = match abi::shared_data(key) {
                Ok((value, cas)) => (Some(value), if cas == 0 { ABSENT } else { cas }),
                Err(Status::NOT_FOUND) => (None, ABSENT),
                Err(_) => return Err(Contended),
            };
            let Some(new) = change(old.as_deref()) else {
                return Ok(attempt);
            };
            match abi::set_shared_data(key, &new, cas) {
                Ok(()) => return Ok(attempt),
                Err(Status::CAS_MISMATCH) => {}
                Err(_) => return Err(Contended),
            }
        }
        Err(Contended)
    }
}

/// The properties of the current stream.
pub struct Current;

impl Properties for Current {
    fn get(&self, path: &[&str]) -> Option<Vec<u8>> {
        abi::property(path)
    }

    fn body(&self, part: core::ops::Range<usize>) -> Option<Vec<u8>> {
        let size = part.end.saturating_sub(part.start);
        abi::buffer(BufferType::HttpRequestBody, part.start, size).ok()
    }
}

thread_local! {
    /// Random numbers that nobody has had yet.
    static UNUSED: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

/// How many random numbers the host is asked for at once.
const NUMBERS: usize = 32;

/// A fresh random number.
pub fn entropy() -> u64 {
    UNUSED.with_borrow_mut(|unused| {
        if unused.is_empty() {
            let mut bytes = [0; NUMBERS * 8];
            if getrandom::fill(&mut bytes).is_ok() {
                unused.extend(bytes.as_chunks().0.iter().map(|number| u64::from_le_bytes(*number)));
            }
        }
        // Where the host has no randomness the clock is what is left; it spreads requests well enough.
        unused.pop().unwrap_or_else(|| abi::now().0.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    })
}
