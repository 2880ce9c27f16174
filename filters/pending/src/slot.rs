//! A worker's sums under a heartbeat, as bytes.
//!
//! Layout, little-endian: owner (8), beat in nanoseconds (8), number of rows (2), then for each row the two names
//! (length in 1 byte, then the bytes) and prefill, cached, decode, requests, since (8 each; all ones where nothing waits).

use std::borrow::Cow;

use penstock_units::{Nanos, Tokens};

use crate::{Series, Sum};

/// How many slots there are: more than any Envoy has workers, with room for those that died a moment ago.
pub const SLOTS: u32 = 512;
/// How many rows are written: as many as there may be versions of models.
pub const ROWS_MAX: usize = 1024;
/// Where there are more, these come first and are written as they are; the others are added up for each of so many models, and for the rest.
const KEPT: usize = ROWS_MAX - MODELS_MAX - 1;
const MODELS_MAX: usize = 128;
/// The name of what is added up.
pub const OTHER: &str = "other";
/// Bytes of a name beyond this are not written.
const NAME_MAX: usize = 255;
/// Written where nothing waits.
const NEVER: Nanos = Nanos::MAX;

/// One worker's slot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slot {
    /// Who writes it: a number drawn when the worker's VM started. 0 is nobody.
    pub owner: u64,
    /// When it was written.
    pub beat: Nanos,
    /// The sums.
    pub rows: Vec<(Series, Sum)>,
}

impl Slot {
    /// Whether its owner still lives at `now`, having been silent for less than `silence_max`. A beat from the future
    /// counts as alive only as far ahead as it may lie behind.
    pub fn lives(&self, now: Nanos, silence_max: Nanos) -> bool {
        self.owner != 0 && now.abs_diff(self.beat) < silence_max
    }

    /// Adds series of which nothing is pending, where they are not there.
    pub fn add(&mut self, series: &[Series]) {
        for series in series {
            if !self.rows.iter().any(|(known, _)| known == series) {
                self.rows.push((series.clone(), Sum::default()));
            }
        }
    }

    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        out.extend_from_slice(&self.owner.to_le_bytes());
        out.extend_from_slice(&self.beat.0.to_le_bytes());
        let rows = bounded(&self.rows);
        out.extend_from_slice(&u16::try_from(rows.len()).unwrap_or(u16::MAX).to_le_bytes());
        for (series, sum) in rows.iter() {
            for name in [&series.model, &series.version] {
                // Half a character would make the whole slot unreadable.
                let name = name.get(..name.floor_char_boundary(NAME_MAX)).unwrap_or_default();
                out.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
                out.extend_from_slice(name.as_bytes());
            }
            let since = sum.since.unwrap_or(NEVER).0;
            for value in [sum.prefill.0, sum.cached.0, sum.decode.0, sum.requests, since] {
                out.extend_from_slice(&value.to_le_bytes());
            }
        }
        out
    }

    /// The inverse of [`Slot::encode`]; `None` for bytes that are not a slot.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut input = Input(bytes);
        let (owner, beat) = (input.u64()?, Nanos(input.u64()?));
        let rows = u16::from_le_bytes(*input.take::<2>()?);
        let rows = (0..rows).map(|_| {
            let series = Series { model: input.name()?, version: input.name()? };
            let (prefill, cached, decode) = (Tokens(input.u64()?), Tokens(input.u64()?), Tokens(input.u64()?));
            let (requests, since) = (input.u64()?, Some(Nanos(input.u64()?)).filter(|since| *since != NEVER));
            Some((series, Sum { prefill, cached, decode, requests, since }))
        });
        let rows = rows.collect::<Option<Vec<_>>>()?;
        Some(Self { owner, beat, rows })
    }
}

/// The rows, so many of them added up that there are no more than [`ROWS_MAX`].
fn bounded(rows: &[(Series, Sum)]) -> Cow<'_, [(Series, Sum)]> {
    let (kept, rest) = match rows.split_at_checked(KEPT) {
        Some(parts) if rows.len() > ROWS_MAX => parts,
        _ => return Cow::Borrowed(rows),
    };
    let mut others: Vec<(Series, Sum)> = Vec::new();
    for (series, sum) in rest {
        let is_known =
            |model: &str, others: &[(Series, Sum)]| others.iter().position(|(known, _)| known.model == model);
        let place = is_known(&series.model, &others).or_else(|| {
            let model = if others.len() < MODELS_MAX { series.model.as_str() } else { OTHER };
            is_known(model, &others).or_else(|| {
                others.push((Series { model: model.to_owned(), version: OTHER.to_owned() }, Sum::default()));
                others.len().checked_sub(1)
            })
        });
        if let Some((_, other)) = place.and_then(|at| others.get_mut(at)) {
            other.add(*sum);
        }
    }
    Cow::Owned([kept, &others].concat())
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        let (head, tail) = self.0.split_first_chunk()?;
        self.0 = tail;
        Some(head)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(|bytes| u64::from_le_bytes(*bytes))
    }

    fn name(&mut self) -> Option<String> {
        let [len] = *self.take::<1>()?;
        let (name, tail) = self.0.split_at_checked(usize::from(len))?;
        self.0 = tail;
        core::str::from_utf8(name).ok().map(str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip(owner: u64, beat: u64, rows in prop::collection::vec(("[a-z.]{0,40}", "[a-z]{0,9}", any::<u64>()), 0..9)) {
            let rows = rows.into_iter().map(|(model, version, n)| {
                let since = (n % 2 == 0).then_some(Nanos(n / 5));
                let sum = Sum { prefill: Tokens(n), cached: Tokens(n / 4), decode: Tokens(n / 2), requests: n / 3, since };
                (Series { model, version }, sum)
            });
            let slot = Slot { owner, beat: Nanos(beat), rows: rows.collect() };
            prop_assert_eq!(Slot::decode(&slot.encode()), Some(slot));
        }

        #[test]
        fn any_bytes_decode_or_not(bytes: Vec<u8>) {
            let _ = Slot::decode(&bytes);
        }
    }

    #[test]
    fn a_long_name_is_cut_between_characters() {
        // The last character begins at byte 254 and ends at byte 256.
        let series = Series { model: format!("{}é", "m".repeat(254)), version: "v".into() };
        let slot = Slot { owner: 1, beat: Nanos(1), rows: vec![(series, Sum::default())] };
        let rows = Slot::decode(&slot.encode()).map(|slot| slot.rows);
        assert_eq!(rows.map(|rows| rows[0].0.model.clone()), Some("m".repeat(254)));
    }

    /// Nothing that is pending is lost, however many series there are.
    #[test]
    fn what_has_no_row_of_its_own_is_added_up() {
        for (models, versions) in [(1, 1024), (1, 3000), (300, 10), (2000, 1), (1024, 1)] {
            let since = Some(Nanos(7));
            let one = Sum { prefill: Tokens(1), cached: Tokens(3), decode: Tokens(2), requests: 1, since };
            let names = (0..models).flat_map(|model| (0..versions).map(move |version| (model, version)));
            let series =
                names.map(|(model, version)| Series { model: format!("m{model}"), version: format!("v{version}") });
            let rows: Vec<_> = series.map(|series| (series, one)).collect();
            let slot = Slot { owner: 1, beat: Nanos(1), rows };
            let written = Slot::decode(&slot.encode()).unwrap().rows;
            let (count, total) = (slot.rows.len() as u64, |rows: &[(Series, Sum)]| {
                rows.iter().fold(Sum::default(), |mut total, (_, sum)| {
                    total.add(*sum);
                    total
                })
            });
            let [prefill, cached, decode] = [1, 3, 2].map(|n| Tokens(n * count));
            assert_eq!(total(&written), Sum { prefill, cached, decode, requests: count, since });
            assert!(written.len() <= ROWS_MAX, "{} rows of {models} models", written.len());
            let is_whole = slot.rows.len() <= ROWS_MAX;
            assert_eq!(written == slot.rows, is_whole, "{models} models");
            assert_eq!(written.iter().any(|(series, _)| series.version == OTHER), !is_whole);
        }
    }

    #[test]
    fn a_slot_lives_as_long_as_it_beats() {
        let lives = |slot: &Slot, now| slot.lives(Nanos(now), Nanos(500));
        let slot = Slot { owner: 1, beat: Nanos(1000), rows: vec![] };
        assert!(lives(&slot, 1000) && lives(&slot, 1499) && lives(&slot, 800));
        assert!(!lives(&slot, 1500) && !lives(&slot, 400));
        assert!(!lives(&Slot::default(), 0));
    }
}
