//! What a number means: nanoseconds, milliseconds, tokens, thousandths of a token, and fingerprints are types, so that no two of them can
//! be swapped.
//!
//! This is the vocabulary that the leaves and `exchange` share, and no concept of its own: no rule stands here, and nothing fails. All
//! arithmetic saturates, because the numbers come from the wire.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

/// The product, or as much as there is room for. WebAssembly has no multiplication that tells whether its result fits: that is a call of a
/// function, which most products do not need.
pub const fn product(a: u64, b: u64) -> u64 {
    if a.leading_zeros().wrapping_add(b.leading_zeros()) >= u64::BITS { a.wrapping_mul(b) } else { a.saturating_mul(b) }
}

macro_rules! quantity {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(transparent))]
        pub struct $name(pub u64);

        impl $name {
            /// None.
            pub const ZERO: Self = Self(0);
            /// As many as there can be.
            pub const MAX: Self = Self(u64::MAX);

            /// The sum.
            #[must_use]
            pub const fn saturating_add(self, other: Self) -> Self {
                Self(self.0.saturating_add(other.0))
            }

            /// The difference, at least zero.
            #[must_use]
            pub const fn saturating_sub(self, other: Self) -> Self {
                Self(self.0.saturating_sub(other.0))
            }

            /// So many times as much.
            #[must_use]
            pub const fn saturating_mul(self, times: u64) -> Self {
                Self(product(self.0, times))
            }
        }

        impl core::iter::Sum for $name {
            fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
                all.fold(Self::ZERO, Self::saturating_add)
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

quantity! {
    /// Nanoseconds: a duration, or an instant as the time since an epoch that all who compare such instants share.
    Nanos
}

quantity! {
    /// Milliseconds, as configurations, headers and metrics have them.
    Millis
}

quantity! {
    /// Tokens, of a prompt or of an answer.
    Tokens
}

quantity! {
    /// Thousandths of a token: what limits charge, so that weights like 0.1 stay integers.
    MilliTokens
}

impl Nanos {
    /// A second.
    pub const SECOND: Self = Self(1_000_000_000);

    /// Whole milliseconds of it.
    pub const fn to_millis(self) -> Millis {
        Millis(self.0 / 1_000_000)
    }

    /// Milliseconds, rounded up.
    pub const fn to_millis_ceil(self) -> Millis {
        Millis(self.0.div_ceil(1_000_000))
    }

    /// How far apart two instants are.
    pub const fn abs_diff(self, other: Self) -> Self {
        Self(self.0.abs_diff(other.0))
    }
}

impl Millis {
    /// The same in nanoseconds.
    pub const fn to_nanos(self) -> Nanos {
        Nanos(product(self.0, 1_000_000))
    }

    /// Seconds, rounded up.
    pub const fn to_seconds_ceil(self) -> u64 {
        self.0.div_ceil(1000)
    }
}

impl Tokens {
    /// The same in thousandths.
    pub const fn to_milli(self) -> MilliTokens {
        MilliTokens(product(self.0, 1000))
    }
}

impl MilliTokens {
    /// Whole tokens, rounded up.
    pub const fn to_tokens_ceil(self) -> Tokens {
        Tokens(self.0.div_ceil(1000))
    }
}

/// What tells keys apart without saying what they are: a hash of a limit's name and of whom it counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub u64);

impl Fingerprint {
    /// Which of so many pages it belongs to; the first where there is none.
    pub const fn page(self, pages: u64) -> u64 {
        match self.0.checked_rem(pages) {
            Some(page) => page,
            None => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_saturate_and_no_sooner() {
        let interesting = [
            0,
            1,
            2,
            3,
            1000,
            u64::from(u32::MAX),
            1 << 32,
            (1 << 32) + 1,
            1 << 63,
            u64::MAX / 3,
            u64::MAX - 1,
            u64::MAX,
        ];
        for a in interesting {
            for b in interesting {
                assert_eq!(product(a, b), a.saturating_mul(b), "{a} * {b}");
            }
        }
    }

    #[test]
    fn conversions_round_as_they_say_and_saturate() {
        assert_eq!((Nanos(1_999_999).to_millis(), Nanos(1_000_001).to_millis_ceil()), (Millis(1), Millis(2)));
        assert_eq!((Millis(1001).to_seconds_ceil(), Millis(2).to_nanos()), (2, Nanos(2_000_000)));
        assert_eq!((Tokens(3).to_milli(), MilliTokens(3001).to_tokens_ceil()), (MilliTokens(3000), Tokens(4)));
        assert_eq!((Tokens::MAX.to_milli(), Millis::MAX.to_nanos()), (MilliTokens::MAX, Nanos::MAX));
        assert_eq!([Tokens(1), Tokens::MAX].into_iter().sum::<Tokens>(), Tokens::MAX);
        assert_eq!(Nanos(3).abs_diff(Nanos(5)), Nanos(2));
        assert_eq!((Fingerprint(10).page(4), Fingerprint(10).page(0)), (2, 0));
    }
}
