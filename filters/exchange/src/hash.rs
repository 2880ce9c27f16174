//! Hashes: under a key that never leaves this process, or such that all processes agree.

use core::hash::Hasher;

use penstock_units::Fingerprint;
use siphasher::sip::SipHasher13;

/// Bytes of values that are hashed together without more room being made for them.
const SHORT: usize = 192;

/// The key of all hashes that leave the proxy or become keys: drawn once, shared by the workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Secret(pub [u8; 16]);

impl Secret {
    /// A hasher under this key (SipHash-1-3).
    pub fn hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_key(&self.0)
    }

    /// The hash of a list of values; where one ends and the next begins matters.
    pub fn hash<'a>(&self, values: impl IntoIterator<Item = &'a [u8]>) -> u64 {
        // One long write costs a fraction of many short ones.
        let mut all = Vec::with_capacity(SHORT);
        for value in values {
            all.extend_from_slice(&(value.len() as u64).to_le_bytes());
            all.extend_from_slice(value);
        }
        let mut hasher = self.hasher();
        hasher.write(&all);
        hasher.finish()
    }

    /// The same, as what tells keys apart.
    pub fn fingerprint<'a>(&self, values: impl IntoIterator<Item = &'a [u8]>) -> Fingerprint {
        Fingerprint(self.hash(values))
    }
}

/// A hash that all processes agree on.
pub fn digest(value: &[u8]) -> [u8; 16] {
    let [low, high] = [1, 2].map(|seed| u128::from(Secret([seed; 16]).hash([value])));
    (low | high << 64).to_le_bytes()
}

/// The same of a text, as a number.
pub fn number(text: &str) -> u64 {
    digest(text.as_bytes()).first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}
