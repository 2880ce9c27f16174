//! The encodings that are built in.

use crate::core::with_core;
use crate::vocabulary::Vocabulary;

/// The encodings that are built in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// GPT-4o, GPT-4.1, o1, o3, GPT-5.
    #[cfg(feature = "o200k")]
    O200kBase,
    /// gpt-oss. Ordinary text is encoded as in [`Encoding::O200kBase`]; the two differ in special tokens only.
    #[cfg(feature = "o200k")]
    O200kHarmony,
    /// GPT-4, GPT-3.5, text-embedding-3.
    #[cfg(feature = "cl100k")]
    Cl100kBase,
    /// The one that was built in by `PENSTOCK_VOCAB`.
    #[cfg(penstock_vocab)]
    Custom,
}

const COUNT: usize =
    cfg!(feature = "o200k") as usize * 2 + cfg!(feature = "cl100k") as usize + cfg!(penstock_vocab) as usize;

impl Encoding {
    /// All of them, with their names.
    pub const ALL: [(&'static str, Self); COUNT] = [
        #[cfg(feature = "o200k")]
        ("o200k_base", Self::O200kBase),
        #[cfg(feature = "o200k")]
        ("o200k_harmony", Self::O200kHarmony),
        #[cfg(feature = "cl100k")]
        ("cl100k_base", Self::Cl100kBase),
        #[cfg(penstock_vocab)]
        ("custom", Self::Custom),
    ];

    /// The encoding called `name`.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, encoding)| *encoding)
    }

    /// The number of tokens in `text`.
    pub fn count(self, text: &str) -> u64 {
        with_core(self.vocabulary(), |core| core.count(text.as_bytes(), true, u64::MAX)).0
    }

    /// The number of tokens in `text` if that is at most `most`; otherwise `None`, as soon as it is seen.
    pub fn count_up_to(self, text: &str, most: u64) -> Option<u64> {
        let (tokens, _) = with_core(self.vocabulary(), |core| core.count(text.as_bytes(), true, most));
        (tokens <= most).then_some(tokens)
    }

    /// The vocabulary behind it.
    pub fn vocabulary(self) -> &'static Vocabulary {
        match self {
            #[cfg(feature = "o200k")]
            Self::O200kBase | Self::O200kHarmony => &O200K,
            #[cfg(feature = "cl100k")]
            Self::Cl100kBase => &CL100K,
            #[cfg(penstock_vocab)]
            Self::Custom => &CUSTOM,
        }
    }
}

#[cfg(feature = "o200k")]
static O200K: Vocabulary = built_in(include_bytes!(concat!(env!("OUT_DIR"), "/o200k.bin")));
#[cfg(feature = "cl100k")]
static CL100K: Vocabulary = built_in(include_bytes!(concat!(env!("OUT_DIR"), "/cl100k.bin")));

#[cfg(penstock_vocab)]
static CUSTOM: Vocabulary = built_in(include_bytes!(concat!(env!("OUT_DIR"), "/custom.bin")));

/// Evaluated by the compiler, so that nothing is left to do, or to fail, at run time.
const fn built_in(table: &'static [u8]) -> Vocabulary {
    match Vocabulary::from_bytes(table) {
        Ok(vocabulary) => vocabulary,
        #[expect(clippy::panic, reason = "in a constant, so a failure of the build")]
        Err(_) => panic!("a malformed table: the build script's, or the file that PENSTOCK_VOCAB names"),
    }
}
