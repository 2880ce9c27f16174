//! The name of a request that its caller may say something of afterwards: a ticket, which carries what has to be known then, so that nothing
//! is remembered. It is signed, so that nobody makes one up; for whom it is and from when it is are in it, so that nobody else uses it,
//! and not for ever.
//!
//! Each is used once: [`spend`] remembers those that were, in pages that are bounded. A page that is full forgets the oldest, and from then
//! on accepts none that is as old. So whoever fills a page makes tickets of it expire sooner, and none is used twice; pages are best told
//! apart by tenant.
//!
//! What this crate does not do: sign (that is a function it is given).

use penstock_units::{Fingerprint, Nanos};

/// What a signature has.
pub const SIGNATURE: usize = 16;
const PAYLOAD: usize = 1 + 8 + 8 + 8 + 4;
const VERSION: u8 = 1;
/// How many tickets a page remembers.
pub const USED_MAX: usize = 256;
/// How many characters a ticket has: two for each byte.
pub const TICKET_CHARS: usize = (PAYLOAD + SIGNATURE) * 2;

/// A signature of some bytes, under a key that only proxies know.
pub type Signature = [u8; SIGNATURE];

/// What is known of a request by its ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Which request, among those of its time.
    pub request: u64,
    /// Which model and version served it.
    pub series: Fingerprint,
    /// Who sent it.
    pub tenant: Fingerprint,
    /// When, in seconds.
    pub seconds: u32,
}

/// Why a ticket is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It is none, or nobody's here.
    Unknown,
    /// It is somebody else's.
    Foreign,
    /// It is older than is accepted.
    Expired,
    /// It was used before.
    Used,
}

impl Ticket {
    /// As text: hexadecimal digits.
    pub fn encode(&self, sign: impl FnOnce(&[u8]) -> Signature) -> String {
        let mut bytes = Vec::with_capacity(PAYLOAD.saturating_add(SIGNATURE));
        bytes.push(VERSION);
        for number in [self.request, self.series.0, self.tenant.0] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&self.seconds.to_le_bytes());
        let signature = sign(&bytes);
        bytes.extend_from_slice(&signature);
        let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        digits.filter_map(|digit| char::from_digit(u32::from(digit), 16)).collect()
    }

    /// The ticket of this text, if `tenant` may use it at `now`, and it is no older than `age_max`.
    ///
    /// # Errors
    /// [`Refused`]. What is signed by nobody is unknown, whatever else it is.
    pub fn accept(
        text: &str,
        tenant: Fingerprint,
        now: Nanos,
        age_max: Nanos,
        sign: impl FnOnce(&[u8]) -> Signature,
    ) -> Result<Self, Refused> {
        let ticket = Self::decode(text, sign).ok_or(Refused::Unknown)?;
        if ticket.tenant != tenant {
            return Err(Refused::Foreign);
        }
        // One from the future is accepted as far ahead as from behind: clocks differ.
        let sent = Nanos::SECOND.saturating_mul(u64::from(ticket.seconds));
        if now.abs_diff(sent) > age_max { Err(Refused::Expired) } else { Ok(ticket) }
    }

    fn decode(text: &str, sign: impl FnOnce(&[u8]) -> Signature) -> Option<Self> {
        if text.len() != TICKET_CHARS {
            return None;
        }
        let (pairs, _) = text.as_bytes().as_chunks::<2>();
        // There is one spelling, so that a ticket that was used cannot be spelt anew.
        let digit = |character: u8| char::from(character).to_digit(16).filter(|_| !character.is_ascii_uppercase());
        let bytes = pairs.iter().map(|[high, low]| u8::try_from(digit(*high)? << 4 | digit(*low)?).ok());
        let bytes = bytes.collect::<Option<Vec<u8>>>()?;
        let (payload, signature) = bytes.split_last_chunk::<SIGNATURE>()?;
        // All bytes are compared, wherever they differ, so that time says nothing.
        let differs = sign(payload).iter().zip(signature).fold(0, |differs, (a, b)| differs | (a ^ b));
        let (version, rest) = payload.split_first()?;
        let (numbers, seconds) = rest.as_chunks::<8>();
        let mut numbers = numbers.iter().map(|number| u64::from_le_bytes(*number));
        let ticket = Self {
            request: numbers.next()?,
            series: Fingerprint(numbers.next()?),
            tenant: Fingerprint(numbers.next()?),
            seconds: u32::from_le_bytes(seconds.try_into().ok()?),
        };
        (differs == 0 && *version == VERSION).then_some(ticket)
    }
}

/// The page with this ticket among those that were used. A page is the second up to which none is accepted (4 bytes, little-endian), and of
/// each ticket its second (4) and its request (8); one that is empty begins so.
///
/// # Errors
/// [`Refused::Used`] and [`Refused::Expired`]; the page is then to be left as it was.
pub fn spend(page: &[u8], ticket: &Ticket) -> Result<Vec<u8>, Refused> {
    let (until, entries) = page.split_first_chunk::<4>().unwrap_or((&[0; 4], &[]));
    let until = u32::from_le_bytes(*until);
    let (entries, _) = entries.as_chunks::<ENTRY>();
    let own = entry(ticket);
    if entries.contains(&own) {
        return Err(Refused::Used);
    }
    if ticket.seconds <= until {
        return Err(Refused::Expired);
    }
    let mut all: Vec<[u8; ENTRY]> = entries.iter().copied().chain([own]).collect();
    let oldest = all.iter().map(second).min().filter(|_| all.len() > USED_MAX);
    if let Some(oldest) = oldest {
        all.retain(|entry| second(entry) > oldest);
    }
    let until = oldest.unwrap_or(until);
    Ok([until.to_le_bytes().as_slice(), all.as_flattened()].concat())
}

const ENTRY: usize = 4 + 8;

fn entry(ticket: &Ticket) -> [u8; ENTRY] {
    let mut entry = [0; ENTRY];
    let bytes = ticket.seconds.to_le_bytes().into_iter().chain(ticket.request.to_le_bytes());
    entry.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
    entry
}

fn second(entry: &[u8; ENTRY]) -> u32 {
    entry.first_chunk().map_or(0, |second| u32::from_le_bytes(*second))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use xxhash_rust::xxh64::xxh64;

    const DAY: Nanos = Nanos(86_400 * Nanos::SECOND.0);
    const NOW: Nanos = Nanos(1_700_000_000 * Nanos::SECOND.0);
    const ALICE: Fingerprint = Fingerprint(5);

    /// No signature at all, but it differs where bytes or keys do.
    fn sign(key: u64) -> impl Fn(&[u8]) -> Signature {
        move |bytes| (u128::from(xxh64(bytes, key)) << 64 | u128::from(xxh64(bytes, !key))).to_le_bytes()
    }

    fn ticket() -> Ticket {
        Ticket { request: u64::MAX, series: Fingerprint(77), tenant: ALICE, seconds: 1_700_000_000 }
    }

    #[test]
    fn a_ticket_says_who_served_the_request() {
        let text = ticket().encode(sign(1));
        assert_eq!(text.len(), TICKET_CHARS);
        assert_eq!(Ticket::accept(&text, ALICE, NOW, DAY, sign(1)), Ok(ticket()));
    }

    #[test]
    fn a_page_that_is_full_forgets_the_oldest_and_refuses_what_is_as_old() {
        let at = |seconds, request| Ticket { request, seconds, ..ticket() };
        let fill = |page, second: u32| {
            (0..128).fold(page, |page: Vec<u8>, request| spend(&page, &at(second, request)).unwrap())
        };
        let page = fill(fill(Vec::new(), 10), 11);
        assert_eq!(spend(&page, &at(10, 0)), Err(Refused::Used));
        let page = spend(&page, &at(12, 0)).unwrap();
        assert_eq!(
            (spend(&page, &at(10, 0)), spend(&page, &at(10, 999))),
            (Err(Refused::Expired), Err(Refused::Expired))
        );
        assert_eq!(spend(&page, &at(11, 0)), Err(Refused::Used));
        assert!(spend(&page, &at(11, 999)).is_ok());
    }

    #[test]
    fn nobody_else_uses_it_and_not_for_ever() {
        let text = ticket().encode(sign(1));
        let accept = |tenant, now| Ticket::accept(&text, tenant, now, DAY, sign(1));
        assert_eq!(accept(Fingerprint(6), NOW), Err(Refused::Foreign));
        assert_eq!(accept(ALICE, NOW.saturating_add(DAY)), Ok(ticket()));
        assert_eq!(accept(ALICE, NOW.saturating_add(DAY).saturating_add(Nanos(1))), Err(Refused::Expired));
        assert_eq!(accept(ALICE, Nanos::ZERO), Err(Refused::Expired));
        assert_eq!(Ticket::accept(&text, ALICE, NOW, DAY, sign(2)), Err(Refused::Unknown));
        let spelt = text.to_uppercase();
        assert!(spelt != text && Ticket::accept(&spelt, ALICE, NOW, DAY, sign(1)) == Err(Refused::Unknown));
    }

    proptest! {
        /// Whatever is asked, in whatever order: none is used twice, and a page is bounded.
        #[test]
        fn no_ticket_is_used_twice(asked in prop::collection::vec((1u32..9, 0u64..400), 0..3000)) {
            let mut page = Vec::new();
            let mut used = std::collections::BTreeSet::new();
            for (seconds, request) in asked {
                let ticket = Ticket { request, seconds, ..ticket() };
                match spend(&page, &ticket) {
                    Ok(next) => {
                        prop_assert!(used.insert((seconds, request)), "{ticket:?} twice");
                        page = next;
                        prop_assert!(page.len() <= 4 + USED_MAX * ENTRY);
                    }
                    Err(Refused::Used) => prop_assert!(used.contains(&(seconds, request))),
                    Err(refused) => prop_assert_eq!(refused, Refused::Expired),
                }
            }
        }

        #[test]
        fn any_page_is_one(page: Vec<u8>) {
            let _ = spend(&page, &ticket());
        }

        #[test]
        fn what_was_changed_is_unknown(at: prop::sample::Index, to in "[0-9a-f]") {
            let text = ticket().encode(sign(1));
            let at = at.index(text.len());
            let changed = [&text[..at], &to, &text[at + 1..]].concat();
            let expected = if changed == text { Ok(ticket()) } else { Err(Refused::Unknown) };
            prop_assert_eq!(Ticket::accept(&changed, ALICE, NOW, DAY, sign(1)), expected);
        }

        #[test]
        fn any_text_is_accepted_or_refused(text in "\\PC{0,99}|[0-9a-f]{90}") {
            prop_assert_eq!(Ticket::accept(&text, ALICE, NOW, DAY, sign(1)), Err(Refused::Unknown));
        }
    }
}
