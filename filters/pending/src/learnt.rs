//! What requests teach of the servers of a series: how much of their prompts these have cached, and how much one of them does in a second.
//!
//! Each of the two figures of a replica is seen from below only, whatever is seen: a prompt that waits for others looks slow, and a server
//! that has little to do generates little. So of prompts by themselves a high quantile is taken; and of what each server did over some
//! seconds, of all its streams together, the most that it did more than once. The one finds the rate while there is little to do, and the
//! other while there is much. What is learnt of decoding is therefore a lower bound: it is right from when a server was busy once.
//!
//! What would make a server look faster than it is: cached prompts that are not reported as such; several servers behind one address; a
//! proxy that stood still, and then finds what came meanwhile. The last is why one window counts for nothing.

use penstock_units::{Millis, Nanos, Tokens};

use crate::histogram::{self, Histogram};

/// Prompts shorter than this say more of the way to the server than of its work.
const PROMPT_MIN: Tokens = Tokens(256);
/// From how many prompts on their rates are believed, and what share of them may be faster than what is believed, in tenths.
const PROMPTS_MIN: u32 = 20;
const FASTER: u32 = 1;
/// At how many of them they are halved.
const PROMPTS_MAX: u32 = 1024;
/// How many windows have to show a rate: fewer may be accidents.
const WINDOWS_MIN: u32 = 3;
/// How long a window is at least, and in ticks, as what is done is told with ticks.
const WINDOW: Nanos = Nanos(10 * Nanos::SECOND.0);
const WINDOW_TICKS: u64 = 20;
/// After how long the windows' counts are halved: what is not seen again on the next days is forgotten, and a quiet night forgets nothing.
const HALF_LIFE: Nanos = Nanos(6 * 3600 * Nanos::SECOND.0);
/// How many servers are told apart; what others do is not seen.
const HOSTS_MAX: usize = 64;
/// How many prompts one worker tells of in a tick.
const TOLD_MAX: usize = 256;

/// How much of what is cached one report may say, in tokens of a prompt as it was counted here: whatever a server says, one report moves
/// what is believed of a million tokens by no more than 3 %.
const REPORT_MAX: u64 = 1 << 15;
/// At how many tokens they are halved.
const REPORTS_MAX: u64 = 1 << 21;
/// So many tokens are taken to have been reported as not cached, before any were.
const PRIOR: u64 = 1 << 14;

/// How much of a prompt is cached: a share that is learnt, and 0 before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheRatio {
    prompt: u64,
    cached: u64,
}

impl CacheRatio {
    /// The tokens of a prompt that are expected to be cached: fewer than all.
    pub fn of(self, prompt: Tokens) -> Tokens {
        if self.cached == 0 {
            return Tokens::ZERO;
        }
        // Both sums are below 2^22, and 2^40 tokens are more than there are.
        let of = prompt.0.min(1 << 40).saturating_mul(self.cached);
        Tokens(of.checked_div(self.prompt.saturating_add(PRIOR)).unwrap_or(0))
    }

    fn add(&mut self, other: Self) {
        self.prompt = self.prompt.saturating_add(other.prompt);
        self.cached = self.cached.saturating_add(other.cached).min(self.prompt);
        while self.prompt > REPORTS_MAX {
            (self.prompt, self.cached) = (self.prompt / 2, self.cached / 2);
        }
    }
}

/// What one server has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Work {
    host: u64,
    prefill: u64,
    decode: u64,
}

/// What one worker has seen of a series since it last told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lesson {
    ratio: CacheRatio,
    prompts: Vec<u64>,
    work: Vec<Work>,
}

impl Lesson {
    /// Nothing was seen.
    pub fn is_empty(&self) -> bool {
        self.ratio.prompt == 0 && self.prompts.is_empty() && self.work.is_empty()
    }

    /// A server reported so many of a prompt's tokens as cached; here it was counted as `counted`.
    pub fn reported(&mut self, counted: Tokens, prompt: Tokens, cached: Tokens) {
        let weight = counted.0.min(REPORT_MAX);
        let cached = match cached.min(prompt) {
            Tokens::ZERO => 0,
            // A prompt of 2^48 tokens is a lie; the product of what is less with a weight fits.
            Tokens(cached) => {
                weight.saturating_mul(cached.min(1 << 48)).checked_div(prompt.0.min(1 << 48)).unwrap_or(0)
            }
        };
        self.ratio.add(CacheRatio { prompt: weight, cached });
    }

    /// The first token of a stream came so long after its request, of whose prompt so much was not cached.
    pub fn answered(&mut self, uncached: Tokens, after: Millis) {
        if uncached >= PROMPT_MIN && self.prompts.len() < TOLD_MAX {
            self.prompts.extend(rate(uncached.0, after.to_nanos()));
        }
    }

    /// A server read these tokens of a prompt, and generated those of an answer.
    pub fn worked(&mut self, host: u64, prefill: Tokens, decode: Tokens) {
        if prefill > Tokens::ZERO || decode > Tokens::ZERO {
            work(&mut self.work, Work { host, prefill: prefill.0, decode: decode.0 });
        }
    }
}

/// What all workers have learnt of a series.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Learnt {
    ratio: CacheRatio,
    prompts: Histogram,
    prefill: Histogram,
    decode: Histogram,
    /// When the windows' counts were halved.
    halved: Nanos,
    /// When the window began, and what was done in it.
    began: Nanos,
    work: Vec<Work>,
}

/// What a replica does, in tokens a second; `None` where that is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Of prompts, which are not cached.
    pub prefill: Option<u64>,
    /// Of answers, of all that it generates at a time.
    pub decode: Option<u64>,
}

impl Learnt {
    /// What is known after this lesson, which a worker has gathered over one `tick`.
    #[must_use]
    pub fn heard(mut self, lesson: Lesson, now: Nanos, tick: Nanos) -> Self {
        let Lesson { ratio, prompts, work: done } = lesson;
        self.ratio.add(ratio);
        for rate in prompts {
            if self.prompts.total() >= PROMPTS_MAX {
                self.prompts.halve();
            }
            self.prompts.add(rate);
        }
        let length = Nanos(tick.saturating_mul(WINDOW_TICKS).0.max(WINDOW.0));
        if now < self.began || now.saturating_sub(self.began) > length.saturating_mul(2) {
            // Nothing was done for a while, or the time is another.
            self.work.clear();
            self.began = now.saturating_sub(tick);
        }
        done.into_iter().for_each(|done| work(&mut self.work, done));
        let took = now.saturating_sub(self.began);
        if took >= length {
            self.forget(now);
            for Work { prefill, decode, .. } in self.work.drain(..) {
                rate(prefill, took).into_iter().for_each(|rate| self.prefill.add(rate));
                rate(decode, took).into_iter().for_each(|rate| self.decode.add(rate));
            }
            self.began = now;
        }
        self
    }

    /// How much of a prompt is cached.
    pub fn ratio(&self) -> CacheRatio {
        self.ratio
    }

    /// What a replica does.
    pub fn figures(&self) -> Figures {
        let prompts = self.prompts.total();
        let quick = (prompts >= PROMPTS_MIN).then(|| prompts.saturating_mul(FASTER) / 10);
        let alone = quick.and_then(|quick| self.prompts.reached_by(quick));
        let together = self.prefill.reached_by(WINDOWS_MIN);
        Figures { prefill: alone.max(together), decode: self.decode.reached_by(WINDOWS_MIN) }
    }

    fn forget(&mut self, now: Nanos) {
        if self.halved == Nanos::ZERO || now < self.halved {
            self.halved = now;
        }
        if now.saturating_sub(self.halved) >= HALF_LIFE {
            self.prefill.halve();
            self.decode.halve();
            self.halved = now;
        }
    }

    /// As bytes, little-endian: the two sums of the cache (8 each), when the counts were halved and when the window began (8 each), the
    /// three histograms, and for each server three numbers (8 each).
    pub fn encode(&self) -> Vec<u8> {
        const FIXED: usize = 32 + 3 * histogram::BYTES;
        let mut out = Vec::with_capacity(FIXED.saturating_add(self.work.len().saturating_mul(24)));
        for number in [self.ratio.prompt, self.ratio.cached, self.halved.0, self.began.0] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for histogram in [&self.prompts, &self.prefill, &self.decode] {
            histogram.encode(&mut out);
        }
        for number in self.work.iter().flat_map(|work| [work.host, work.prefill, work.decode]) {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out
    }

    /// The inverse of [`Learnt::encode`]; `None` for bytes that are nothing of the kind.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (numbers, rest) = bytes.split_first_chunk::<32>()?;
        let mut numbers = numbers.as_chunks().0.iter().map(|bytes| u64::from_le_bytes(*bytes));
        let mut number = || numbers.next().unwrap_or_default();
        let mut ratio = CacheRatio::default();
        ratio.add(CacheRatio { prompt: number(), cached: number() });
        let (halved, began) = (Nanos(number()), Nanos(number()));
        let (prompts, rest) = rest.split_first_chunk()?;
        let (prefill, rest) = rest.split_first_chunk()?;
        let (decode, rest) = rest.split_first_chunk()?;
        let [prompts, prefill, decode] = [prompts, prefill, decode].map(Histogram::decode);
        let numbers: Vec<u64> = rest.as_chunks().0.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect();
        let hosts = numbers.as_chunks::<3>().0.iter().take(HOSTS_MAX);
        let work = hosts.map(|[host, prefill, decode]| Work { host: *host, prefill: *prefill, decode: *decode });
        Some(Self { ratio, prompts, prefill, decode, halved, began, work: work.collect() })
    }
}

/// Tokens a second.
fn rate(tokens: u64, took: Nanos) -> Option<u64> {
    let rate = u128::from(tokens).saturating_mul(u128::from(Nanos::SECOND.0)).checked_div(u128::from(took.0))?;
    Some(u64::try_from(rate).unwrap_or(u64::MAX)).filter(|rate| *rate > 0)
}

fn work(all: &mut Vec<Work>, done: Work) {
    let has_room = all.len() < HOSTS_MAX;
    match all.iter_mut().find(|work| work.host == done.host) {
        Some(work) => {
            work.prefill = work.prefill.saturating_add(done.prefill);
            work.decode = work.decode.saturating_add(done.decode);
        }
        None if has_room => all.push(done),
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TICK: Nanos = Nanos(500_000_000);

    /// What is expected of a prompt of a million tokens.
    fn cached(learnt: &Learnt) -> u64 {
        learnt.ratio().of(Tokens(1_000_000)).0
    }

    fn told(learnt: Learnt, times: u64, tokens: [u64; 3]) -> Learnt {
        let [counted, prompt, cached] = tokens.map(Tokens);
        (0..times).fold(learnt, |learnt, _| {
            let mut lesson = Lesson::default();
            lesson.reported(counted, prompt, cached);
            learnt.heard(lesson, TICK, TICK)
        })
    }

    proptest! {
        /// What servers report is what is believed in the end, from whatever was believed before.
        #[test]
        fn the_cache_ratio_converges(before in 0u64..=1000, share in 0u64..=1000, length in 100u64..100_000) {
            let learnt = told(Learnt::default(), 2000, [2000, 1000, before]);
            let learnt = told(learnt, 20_000_000 / length.min(REPORT_MAX), [length, 1000, share]);
            prop_assert!(cached(&learnt).abs_diff(share * 1000) < 40_000, "{} of {share}", cached(&learnt));
        }

        /// One report moves it by 3 %, whatever it says, and it stays between none and all.
        #[test]
        fn one_lie_is_little(share in 0u64..=1000, counted: u64, prompt: u64, lie: u64) {
            for lie in [[counted, prompt, lie], [1 << 24, 1 << 24, 1 << 24], [1 << 24, 1 << 24, 0], [u64::MAX; 3]] {
                let learnt = told(Learnt::default(), 3000, [1000, 1000, share]);
                let before = cached(&learnt);
                let after = cached(&told(learnt, 1, lie));
                prop_assert!(before.abs_diff(after) <= 32_000, "{before} {after}");
                prop_assert!(after < 1_000_000);
            }
            let first = told(Learnt::default(), 1, [counted, prompt, lie]);
            prop_assert!(first.ratio().of(Tokens(prompt)).0 <= prompt);
        }

        #[test]
        fn any_bytes_decode_or_not(bytes in prop::collection::vec(any::<u8>(), 0..4000), tokens: u64, took: u64) {
            if let Some(learnt) = Learnt::decode(&bytes) {
                prop_assert!(learnt.ratio().of(Tokens(tokens)).0 <= tokens);
                let mut lesson = Lesson::default();
                lesson.reported(Tokens(tokens), Tokens(took), Tokens(tokens));
                lesson.answered(Tokens(tokens), Millis(took));
                lesson.worked(tokens, Tokens(took), Tokens(tokens));
                let learnt = learnt.heard(lesson, Nanos(took), TICK);
                prop_assert_eq!(Learnt::decode(&learnt.encode()).map(|learnt| learnt.encode()), Some(learnt.encode()));
            }
        }
    }

    #[test]
    fn nothing_learnt_is_nothing() {
        let learnt = Learnt::default();
        assert_eq!((learnt.ratio().of(Tokens(1 << 24)), learnt.figures()), (Tokens(0), Figures::default()));
        assert_eq!(Learnt::decode(&learnt.encode()), Some(learnt));
        assert_eq!(Learnt::decode(&[0; 31]), None);
    }

    #[test]
    fn short_prompts_and_few_say_nothing_and_some_that_are_far_off_little() {
        let hear = |learnt: Learnt, times: u32, tokens: u64, after: u64| {
            (0..times).fold(learnt, |learnt, _| {
                let mut lesson = Lesson::default();
                lesson.answered(Tokens(tokens), Millis(after));
                learnt.heard(lesson, TICK, TICK)
            })
        };
        let short = hear(Learnt::default(), 1000, 255, 1);
        assert_eq!(short.figures().prefill, None);
        let few = hear(short, 19, 2000, 200);
        assert_eq!(few.figures().prefill, None);
        let known = hear(few, 200, 2000, 200);
        let near = |learnt: &Learnt| learnt.figures().prefill.unwrap().abs_diff(10_000) < 500;
        assert!(near(&known), "{:?}", known.figures());
        let lies = hear(known.clone(), 20, 1 << 24, 1);
        assert!(near(&lies), "{:?}", lies.figures());
        let at_once = hear(known, 1000, 2000, 0);
        assert!(near(&at_once), "no time is no rate: {:?}", at_once.figures());
    }

    #[test]
    fn a_quiet_night_forgets_nothing_and_what_is_not_seen_again_is_forgotten() {
        let mut now = Nanos(1 << 60);
        let mut learnt = Learnt::default();
        let mut run = |learnt: &mut Learnt, hours: u64, each: u64| {
            for _ in 0..hours * 7200 {
                now = now.saturating_add(TICK);
                let mut lesson = Lesson::default();
                lesson.worked(1, Tokens(0), Tokens(each));
                *learnt = core::mem::take(learnt).heard(lesson, now, TICK);
            }
        };
        run(&mut learnt, 1, 1000);
        let near = |learnt: &Learnt, rate: u64| learnt.figures().decode.unwrap().abs_diff(rate) * 100 <= rate * 6;
        assert!(near(&learnt, 2000), "{:?}", learnt.figures());
        run(&mut learnt, 12, 20);
        assert!(near(&learnt, 2000), "{:?}", learnt.figures());
        run(&mut learnt, 48, 20);
        assert!(near(&learnt, 40), "{:?}", learnt.figures());
    }

    #[test]
    fn windows_and_servers_are_bounded() {
        let mut learnt = Learnt::default();
        for host in 0..10_000 {
            let mut lesson = Lesson::default();
            (0..1000).for_each(|_| lesson.answered(Tokens(1 << 20), Millis(1)));
            lesson.worked(host, Tokens(1), Tokens(1));
            learnt = learnt.heard(lesson, Nanos(1), TICK);
        }
        assert!(learnt.encode().len() <= 32 + 3 * histogram::BYTES + HOSTS_MAX * 24);
    }
}
