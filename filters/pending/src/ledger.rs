//! One worker's requests in flight, what has been admitted, and what they teach.

use core::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashMap, HashTable};
use penstock_units::{Nanos, Tokens};

use crate::{CacheRatio, Lesson, Series, Sum};

/// How many places are looked at before they are searched by hash.
const NEAR: u32 = 4;
/// What an answer is told to bring before anything is known of it, at most. A client may ask for any length; a longer one is told when it is
/// over.
const ANSWER_MAX: Tokens = Tokens(1 << 16);

/// One worker's requests in flight, by the id that the worker gives them.
#[derive(Default)]
pub struct Ledger {
    flights: HashMap<u32, Flight>,
    places: Vec<Place>,
    /// The places by their names. There are as many as models have versions, and they stay.
    index: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

struct Flight {
    /// What serves it.
    place: u32,
    /// What was told to serve it when it was admitted.
    told: u32,
    tenant: String,
    /// Since when it waits for its first token.
    since: Option<Nanos>,
    prefill: Tokens,
    cached: Tokens,
    decode: Tokens,
    /// What its answer is told to bring.
    expected: Tokens,
    /// Which of the servers answers, once that is known.
    host: Option<u64>,
    /// Tokens that came since the last tick.
    fresh: Tokens,
}

/// What is known of one series.
struct Place {
    series: Series,
    ratio: CacheRatio,
    untold: Untold,
    lesson: Lesson,
}

/// Tokens of requests that were admitted: what they bring, which is set right by what they came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Admitted {
    /// Of prompts.
    pub prompt: Tokens,
    /// Those of them that are expected to be cached.
    pub cached: Tokens,
    /// Of answers, as they are expected.
    pub expected: Tokens,
}

/// A request that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Landed {
    place: u32,
    told: u32,
    /// What of its prompt nobody answered.
    prefill: Tokens,
    cached: Tokens,
    /// What its answer was told to bring.
    expected: Tokens,
}

/// What is to be told with the next tick. Less than nothing where requests came to less than was told of them: what comes next is told once it
/// is more. Where a tick sets nothing right, a part of that is let go: else the first who come after a quiet time would not be seen.
#[derive(Default)]
struct Untold {
    prompt: i64,
    cached: i64,
    expected: i64,
    is_set_right: bool,
}

/// A sixteenth is let go with each quiet tick: of half a second, nine tenths within twenty.
const LET_GO: u32 = 4;

/// Tokens of one request, of which no worker has seen so many that their sum would wrap: eight million times 2^40.
fn signed(Tokens(tokens): Tokens) -> i64 {
    tokens.min(1 << 40).cast_signed()
}

impl Untold {
    /// What there is to tell, which is told with it.
    fn tell(&mut self) -> Admitted {
        let is_quiet = !core::mem::take(&mut self.is_set_right);
        let [prompt, cached, expected] = [&mut self.prompt, &mut self.cached, &mut self.expected].map(|sum| {
            let told = u64::try_from(*sum).unwrap_or(0);
            let debt = (*sum).min(0);
            *sum = if is_quiet { debt.wrapping_sub(debt >> LET_GO) } else { debt };
            Tokens(told)
        });
        Admitted { prompt, cached, expected }
    }
}

impl Ledger {
    /// A request to this version of this model was forwarded: `prompt` tokens are to be read, `output` tokens are expected.
    pub fn admit(
        &mut self,
        id: u32,
        [model, version]: [&str; 2],
        tenant: &str,
        prompt: Tokens,
        output: Tokens,
        now: Nanos,
    ) {
        let at = self.place(model, version);
        let Some(place) = self.places.get_mut(at as usize) else { return };
        let cached = place.ratio.of(prompt);
        let (expected, untold) = (output.min(ANSWER_MAX), &mut place.untold);
        untold.prompt = untold.prompt.wrapping_add(signed(prompt));
        untold.cached = untold.cached.wrapping_add(signed(cached));
        untold.expected = untold.expected.wrapping_add(signed(expected));
        let flight = Flight {
            place: at,
            told: at,
            tenant: tenant.to_owned(),
            since: Some(now),
            prefill: prompt.saturating_sub(cached),
            cached,
            decode: output,
            expected,
            host: None,
            fresh: Tokens::ZERO,
        };
        self.flights.insert(id, flight);
    }

    /// It is known by now which version serves the request: what is pending of it is pending there, and what it teaches is of that one. What was
    /// told of it when it was admitted stays where it was told.
    pub fn serves(&mut self, id: u32, [model, version]: [&str; 2]) {
        if self.flights.contains_key(&id) {
            let at = self.place(model, version);
            self.flights.entry(id).and_modify(|flight| flight.place = at);
        }
    }

    /// The first token of the answer is here: the prompt has been read. `host`: by which server, where the answer is a stream.
    pub fn first_token(&mut self, id: u32, host: Option<u64>) {
        let Some(flight) = self.flights.get_mut(&id) else { return };
        let read = core::mem::take(&mut flight.prefill);
        (flight.cached, flight.since, flight.host) = (Tokens::ZERO, None, host);
        if let (Some(host), Some(place)) = (host, self.places.get_mut(flight.place as usize)) {
            place.lesson.worked(host, read, Tokens::ZERO);
        }
    }

    /// So many more tokens of the answer are here.
    pub fn decoded(&mut self, id: u32, tokens: Tokens) {
        if let Some(flight) = self.flights.get_mut(&id) {
            flight.decode = flight.decode.saturating_sub(tokens);
            flight.fresh = flight.fresh.saturating_add(tokens);
        }
    }

    /// The request is over, however it ended. Harmless for one that is not in flight.
    pub fn done(&mut self, id: u32) -> Option<Landed> {
        let flight = self.flights.remove(&id)?;
        if let (Some(host), Some(place)) = (flight.host, self.places.get_mut(flight.place as usize)) {
            place.lesson.worked(host, Tokens::ZERO, flight.fresh);
        }
        let Flight { place, told, prefill, cached, expected, .. } = flight;
        Some(Landed { place, told, prefill, cached, expected })
    }

    /// The answer of a request that is over was so long, which counts in place of what it was told to bring: so that over time the sums are
    /// what servers have done, and who asks for much and takes nothing moves them for a moment only.
    pub fn generated(&mut self, Landed { told, expected, .. }: Landed, tokens: Tokens) {
        if let Some(Place { untold, .. }) = self.places.get_mut(told as usize) {
            untold.expected = untold.expected.wrapping_add(signed(tokens).wrapping_sub(signed(expected)));
            untold.is_set_right = true;
        }
    }

    /// The server would not have a request that is over: nothing of it counts.
    pub fn refused(&mut self, Landed { told, prefill, cached, expected, .. }: Landed) {
        if let Some(Place { untold, .. }) = self.places.get_mut(told as usize) {
            untold.prompt = untold.prompt.wrapping_sub(signed(prefill.saturating_add(cached)));
            untold.cached = untold.cached.wrapping_sub(signed(cached));
            untold.expected = untold.expected.wrapping_sub(signed(expected));
            untold.is_set_right = true;
        }
    }

    /// What requests of this series have taught since the last tick.
    pub fn lesson(&mut self, Landed { place, .. }: Landed) -> Option<&mut Lesson> {
        self.places.get_mut(place as usize).map(|place| &mut place.lesson)
    }

    /// What was admitted and what was taught since this was last asked, by series. To be asked with every tick.
    pub fn news(&mut self) -> impl Iterator<Item = (&Series, Admitted, Lesson)> {
        for flight in self.flights.values_mut() {
            if let (Some(host), Some(place)) = (flight.host, self.places.get_mut(flight.place as usize)) {
                place.lesson.worked(host, Tokens::ZERO, core::mem::take(&mut flight.fresh));
            }
        }
        let news = |place: &mut Place| (place.untold.tell(), core::mem::take(&mut place.lesson));
        self.places.iter_mut().map(move |place| {
            let (admitted, lesson) = news(place);
            (&place.series, admitted, lesson)
        })
    }

    /// From now on this much of the series' prompts is expected to be cached.
    pub fn expect_cached(&mut self, [model, version]: [&str; 2], ratio: CacheRatio) {
        let at = self.place(model, version);
        if let Some(place) = self.places.get_mut(at as usize) {
            place.ratio = ratio;
        }
    }

    /// The sums over all flights, sorted by series.
    pub fn sums(&self) -> Vec<(Series, Sum)> {
        let mut sums: Vec<Sum> = vec![Sum::default(); self.places.len()];
        for flight in self.flights.values() {
            if let Some(sum) = sums.get_mut(flight.place as usize) {
                sum.add(flight.sum());
            }
        }
        let named = self.places.iter().map(|place| place.series.clone()).zip(sums);
        let mut sums: Vec<(Series, Sum)> = named.filter(|(_, sum)| sum.requests > 0).collect();
        sums.sort_by(|a, b| a.0.cmp(&b.0));
        sums
    }

    /// What tenants hold of the models that `is_asked` names: series whose version is the tenant. Those that hold most come first.
    pub fn holdings(&self, is_asked: impl Fn(&str) -> bool) -> Vec<(Series, Sum)> {
        let mut held: HashMap<(&str, &str), Sum> = HashMap::new();
        for flight in self.flights.values() {
            let Some(place) = self.places.get(flight.place as usize) else { continue };
            let model = place.series.model.as_str();
            if is_asked(model) {
                held.entry((model, &flight.tenant)).or_default().add(flight.sum());
            }
        }
        let named = held
            .into_iter()
            .map(|((model, tenant), sum)| (Series { model: model.to_owned(), version: tenant.to_owned() }, sum));
        let mut sums: Vec<(Series, Sum)> = named.collect();
        sums.sort_by(|a, b| b.1.tokens().cmp(&a.1.tokens()).then_with(|| a.0.cmp(&b.0)));
        sums
    }

    /// Where the series stands; the next place where it is new.
    fn place(&mut self, model: &str, version: &str) -> u32 {
        let Self { places, index, hasher, .. } = self;
        let is_it = |at: &u32| {
            let known = places.get(*at as usize).map(|place| &place.series);
            known.is_some_and(|known| known.model == model && known.version == version)
        };
        // Most have few series, and comparing costs less than hashing.
        if let Some(near) = (0..NEAR).find(is_it) {
            return near;
        }
        let hash = hasher.hash_one((model, version));
        if let Some(at) = index.find(hash, is_it) {
            return *at;
        }
        let at = u32::try_from(places.len()).unwrap_or(u32::MAX);
        let series = Series { model: model.to_owned(), version: version.to_owned() };
        places.push(Place {
            series,
            ratio: CacheRatio::default(),
            untold: Untold::default(),
            lesson: Lesson::default(),
        });
        let rehash = |at: &u32| {
            let known =
                places.get(*at as usize).map(|place| (place.series.model.as_str(), place.series.version.as_str()));
            known.map_or(0, |known| hasher.hash_one(known))
        };
        index.insert_unique(hash, at, rehash);
        at
    }
}

impl Flight {
    fn sum(&self) -> Sum {
        let Self { prefill, cached, decode, since, .. } = *self;
        Sum { prefill, cached, decode, requests: 1, since }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn admit(ledger: &mut Ledger, id: u32, version: &str, prompt: u64, output: u64) {
        ledger.admit(id, ["chat", version], "t", Tokens(prompt), Tokens(output), Nanos(u64::from(id)));
    }

    #[test]
    fn what_is_pending_goes_to_the_version_that_turns_out_to_serve_it() {
        let mut ledger = Ledger::default();
        admit(&mut ledger, 1, "default", 100, 50);
        ledger.serves(1, ["chat", "a"]);
        ledger.serves(2, ["chat", "a"]);
        let sums = ledger.sums();
        assert_eq!((sums.len(), sums[0].0.version.as_str(), sums[0].1.prefill), (1, "a", Tokens(100)));
        // What was told of it is set right where it was told.
        let landed = ledger.done(1).unwrap();
        ledger.refused(landed);
        let told: Vec<_> = ledger.news().map(|(series, told, _)| (series.version.clone(), told.prompt)).collect();
        assert_eq!(told, [("default".to_owned(), Tokens::ZERO), ("a".to_owned(), Tokens::ZERO)]);
    }

    #[test]
    fn a_request_passes_its_phases() {
        let mut ledger = Ledger::default();
        admit(&mut ledger, 1, "a", 100, 50);
        admit(&mut ledger, 2, "b", 7, 8);
        let of = |ledger: &Ledger, version: &str| {
            ledger.sums().into_iter().find(|(series, _)| series.version == version).map(|(_, sum)| sum)
        };
        let a = |ledger: &Ledger| of(ledger, "a");
        let sum = Sum { prefill: Tokens(100), decode: Tokens(50), requests: 1, ..Sum::default() };
        assert_eq!(a(&ledger), Some(Sum { since: Some(Nanos(1)), ..sum }));
        let holdings = ledger.holdings(|model| model == "chat");
        assert_eq!((holdings.len(), holdings[0].0.version.as_str(), holdings[0].1.tokens()), (1, "t", Tokens(165)));
        assert!(ledger.holdings(|_| false).is_empty());
        ledger.first_token(1, None);
        ledger.decoded(1, Tokens(20));
        let sum = Sum { prefill: Tokens(0), decode: Tokens(30), ..sum };
        assert_eq!(a(&ledger), Some(sum));
        ledger.decoded(1, Tokens(1000));
        assert_eq!(a(&ledger), Some(Sum { decode: Tokens(0), ..sum }));
        let landed = ledger.done(1);
        assert!(landed.is_some() && ledger.lesson(landed.unwrap()).is_some());
        assert_eq!((ledger.done(1), a(&ledger)), (None, None));
        assert_eq!(of(&ledger, "b").and_then(|sum| sum.since), Some(Nanos(2)));
        admit(&mut ledger, 3, "b", 1, 1);
        ledger.done(2);
        assert_eq!(of(&ledger, "b").and_then(|sum| sum.since), Some(Nanos(3)), "the oldest that still waits");
    }

    #[test]
    fn what_is_expected_to_be_cached_stands_apart() {
        let mut ledger = Ledger::default();
        let mut lesson = Lesson::default();
        (0..10_000).for_each(|_| lesson.reported(Tokens(1000), Tokens(1000), Tokens(800)));
        ledger.expect_cached(["chat", "a"], crate::Learnt::default().heard(lesson, Nanos(1), Nanos(1)).ratio());
        admit(&mut ledger, 1, "a", 1000, 50);
        admit(&mut ledger, 2, "b", 1000, 50);
        let sums = ledger.sums();
        let (a, b) = (sums[0].1, sums[1].1);
        assert!((780..=800).contains(&a.cached.0), "{a:?}");
        assert_eq!((a.prefill.0 + a.cached.0, a.tokens(), b.prefill), (1000, Tokens(1050), Tokens(1000)));
        let holding = ledger.holdings(|_| true)[0].1;
        assert_eq!(holding.tokens(), Tokens(2100), "a guess makes nobody's share larger");
        let admitted: Vec<Admitted> = ledger.news().map(|(_, admitted, _)| admitted).collect();
        assert_eq!(admitted[0], Admitted { prompt: Tokens(1000), cached: a.cached, expected: Tokens(50) });
        assert_eq!(admitted[1].cached, Tokens(0));
        assert!(ledger.news().all(|(_, admitted, lesson)| admitted == Admitted::default() && lesson.is_empty()));
    }

    #[test]
    fn what_was_told_is_set_right_by_what_came() {
        let mut ledger = Ledger::default();
        let told = |ledger: &mut Ledger| ledger.news().next().map(|(_, news, _)| (news.prompt.0, news.expected.0));
        // Over before it was told.
        admit(&mut ledger, 1, "a", 100, 256);
        let landed = ledger.done(1).unwrap();
        ledger.generated(landed, Tokens(30));
        assert_eq!(told(&mut ledger), Some((100, 30)));
        // Told, and then it came to less: what comes next is told once it is more.
        admit(&mut ledger, 2, "a", 100, 256);
        assert_eq!(told(&mut ledger), Some((100, 256)));
        let landed = ledger.done(2).unwrap();
        ledger.refused(landed);
        assert_eq!(told(&mut ledger), Some((0, 0)));
        admit(&mut ledger, 3, "a", 30, 200);
        assert_eq!(told(&mut ledger), Some((0, 0)));
        // A sixteenth of what is left was let go: 5 of 70, and 4 of 56.
        admit(&mut ledger, 4, "a", 100, 100);
        assert_eq!(told(&mut ledger), Some((35, 48)));
        // Nobody brings more than an answer may be, before it is one.
        admit(&mut ledger, 5, "a", 0, u64::MAX);
        assert_eq!(told(&mut ledger), Some((0, ANSWER_MAX.0)));
        let landed = ledger.done(5).unwrap();
        ledger.generated(landed, Tokens(100_000));
        assert_eq!(told(&mut ledger), Some((0, 100_000 - ANSWER_MAX.0)));
    }

    #[test]
    fn who_comes_after_a_quiet_time_is_seen() {
        let mut ledger = Ledger::default();
        let told = |ledger: &mut Ledger| ledger.news().next().map_or(0, |(_, news, _)| news.expected.0);
        // Three hundred streams that ask for much, and end early.
        (0..300).for_each(|id| admit(&mut ledger, id, "a", 0, 4096));
        assert_eq!(told(&mut ledger), 300 * 4096);
        for id in 0..300 {
            let landed = ledger.done(id).unwrap();
            ledger.generated(landed, Tokens(300));
        }
        assert_eq!(told(&mut ledger), 0);
        let most = 300 * (4096 - 300);
        assert_eq!(ledger.places[0].untold.expected, -most);
        // Twenty seconds later less than a tenth of that stands against what comes, and in the end nothing.
        (0..40).for_each(|_| assert_eq!(told(&mut ledger), 0));
        assert!((-most / 10..0).contains(&ledger.places[0].untold.expected), "{}", ledger.places[0].untold.expected);
        (0..400).for_each(|_| assert_eq!(told(&mut ledger), 0));
        admit(&mut ledger, 300, "a", 0, 100);
        assert_eq!(told(&mut ledger), 100);
    }

    proptest! {
        /// However requests end, and whenever that is told: at the end the sums are what they came to, and never less than that before.
        #[test]
        fn over_time_the_sums_are_what_came(requests in prop::collection::vec((0u64..1 << 40, 0u64..1 << 40, 0u8..4), 0..60)) {
            let mut ledger = Ledger::default();
            let (mut came, mut told) = (0, 0);
            // What is let go in quiet ticks is told although nothing came.
            let mut let_go = 0;
            let mut tell = |ledger: &mut Ledger| {
                let debt = |ledger: &Ledger| ledger.places.first().map_or(0, |place| place.untold.expected.min(0));
                let before = debt(ledger);
                let told = ledger.news().map(|(_, news, _)| news.expected.0).sum::<u64>();
                let_go += debt(ledger).abs_diff(before);
                told
            };
            for (id, (expected, was, ticks)) in (0..).zip(requests) {
                admit(&mut ledger, id, "a", 0, expected);
                if ticks & 1 == 1 {
                    told += tell(&mut ledger);
                }
                if let Some(landed) = ledger.done(id) {
                    ledger.generated(landed, Tokens(was));
                    came += was;
                }
                if ticks & 2 == 2 {
                    told += tell(&mut ledger);
                }
            }
            told += tell(&mut ledger);
            prop_assert!(told >= came);
            // What was told too much is taken off what comes.
            let more = (told - came).div_ceil(ANSWER_MAX.0);
            for id in 0..more {
                admit(&mut ledger, u32::try_from(id).unwrap(), "a", 0, ANSWER_MAX.0);
            }
            let all = told + tell(&mut ledger);
            prop_assert_eq!(all, came + let_go + more * ANSWER_MAX.0);
        }

        /// Whatever happens in whatever order, when all are done nothing is pending, and everything that was admitted has been told.
        #[test]
        fn everything_returns_to_zero(events in prop::collection::vec((0u32..8, 0u8..5, 0u64..1 << 40), 0..200)) {
            let mut ledger = Ledger::default();
            let (mut admitted, mut told) = (0, 0);
            let mut tell = |ledger: &mut Ledger| told += ledger.news().map(|(_, news, _)| news.prompt.0).sum::<u64>();
            for (id, kind, n) in events {
                match kind {
                    0 => {
                        admitted += n;
                        admit(&mut ledger, id, "a", n, n);
                    }
                    1 => ledger.first_token(id, n.checked_sub(1)),
                    2 => ledger.decoded(id, Tokens(n)),
                    3 => tell(&mut ledger),
                    _ => {
                        ledger.done(id);
                    }
                }
            }
            for id in 0..8 {
                ledger.done(id);
            }
            tell(&mut ledger);
            prop_assert_eq!(ledger.sums(), vec![]);
            prop_assert_eq!(admitted, told);
        }
    }
}
