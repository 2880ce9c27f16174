//! Whether a version's servers are to be left alone for a while, because they fail.
//!
//! What workers see of a version is told as [`Told`]; the [`Breaker`] is what all of them have heard. It opens where in the last seconds
//! there were several failures, and more callers whose requests failed than callers who were answered: then requests are drawn for other
//! versions (see [`Split::draw_avoiding`](crate::Split::draw_avoiding)). It stays open for as long as the servers asked for, or for a second,
//! and for twice as long each time that it opens again, within bounds. Then one request a second tries it, until one of them ends well or
//! badly. What nobody tries for a minute is forgotten.
//!
//! Each caller counts once, however many requests it sends: a failure costs nothing, so whoever can bring failures about could else close a
//! version for everybody. A server that asks to be left alone is believed only together with others that fail.
//!
//! What this crate does not do: send a request again, or refuse one. Where all versions are to be avoided, none is.

use penstock_units::Nanos;

/// So many failures at least.
const FAILURES_MIN: u32 = 5;
/// What is counted together: this window, and the one before.
const WINDOW: Nanos = Nanos(5 * Nanos::SECOND.0);
/// For how long it is open the first time, and at most; the most also of what a server may ask for.
const OPEN_MIN: Nanos = Nanos::SECOND;
const OPEN_MAX: Nanos = Nanos(60 * Nanos::SECOND.0);
/// How far apart requests are that try whether it works again.
const TRY_EVERY: Nanos = Nanos::SECOND;
/// For how long it waits for one that does.
const FORGET: Nanos = Nanos(60 * Nanos::SECOND.0);
const VERSION: u8 = 2;

/// What a worker saw of a version's requests that ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// How many callers got answers, mostly.
    pub answered: u32,
    /// How many callers did not.
    pub failed: u32,
    /// How many requests failed: an error of the server's, a refusal for want of room, or nothing in time.
    pub failures: u32,
    /// The longest that a server asked to wait.
    pub retry_after: Nanos,
}

impl Told {
    fn add(&mut self, other: Self) {
        self.answered = self.answered.saturating_add(other.answered);
        self.failed = self.failed.saturating_add(other.failed);
        self.failures = self.failures.saturating_add(other.failures);
        self.retry_after = self.retry_after.max(other.retry_after);
    }
}

/// Whether requests may be drawn for a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// They may.
    Closed,
    /// They may not, for so long.
    Open {
        /// How long from now.
        wait: Nanos,
    },
    /// One may, to try: who sends it says so by [`Breaker::tried`].
    Try,
}

/// What all workers have heard of a version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Breaker {
    /// When the window began, what was told in it, and what in the one before.
    began: Nanos,
    now: Told,
    before: Told,
    /// How many times in a row it opened; 0 where it is closed.
    trips: u32,
    /// Until when it is open. From then on, when it may be tried next.
    until: Nanos,
    /// A request has gone out to try since it opened.
    is_tried: bool,
}

impl Breaker {
    /// Whether requests may be drawn at `now`. An instant that is further away than it can be set is of another clock, and past.
    pub fn state(&self, now: Nanos) -> State {
        let wait = self.until.saturating_sub(now);
        match (self.trips, wait) {
            (0, _) => State::Closed,
            (_, wait) if wait > Nanos::ZERO && wait <= OPEN_MAX => State::Open { wait },
            _ if now.saturating_sub(self.until) > FORGET => State::Closed,
            _ => State::Try,
        }
    }

    /// A request goes out to try. The next may after a while, if nothing was heard of this one by then.
    pub fn tried(&mut self, now: Nanos) {
        if self.state(now) == State::Try {
            self.is_tried = true;
            self.until = now.saturating_add(TRY_EVERY);
        }
    }

    /// Hears what a worker saw, about `now`.
    pub fn heard(&mut self, told: Told, now: Nanos) {
        if self.trips > 0 && self.state(now) == State::Closed {
            *self = Self { began: now, ..Self::default() };
        }
        if self.trips > 0 {
            match self.state(now) {
                // Requests that were under way when it opened end while it is open, and say nothing new.
                State::Open { .. } if !self.is_tried => {}
                _ if told.failed > 0 && told.failed >= told.answered => self.open(told.retry_after, now),
                _ if told.answered > 0 => *self = Self { began: now, ..Self::default() },
                _ => {}
            }
            return;
        }
        let age = now.abs_diff(self.began);
        if age >= WINDOW {
            self.before = if age < WINDOW.saturating_mul(2) { self.now } else { Told::default() };
            (self.began, self.now) = (now, Told::default());
        }
        self.now.add(told);
        let mut recent = self.now;
        recent.add(self.before);
        if recent.failures >= FAILURES_MIN && recent.failed > recent.answered {
            self.open(recent.retry_after, now);
        }
    }

    fn open(&mut self, asked: Nanos, now: Nanos) {
        let doubled = OPEN_MIN.saturating_mul(1u64.checked_shl(self.trips).unwrap_or(u64::MAX));
        let open = doubled.max(asked).min(OPEN_MAX);
        *self = Self { trips: self.trips.saturating_add(1), until: now.saturating_add(open), ..Self::default() };
    }

    /// Its bytes: version and whether it is tried (1 each), trips (4), until and began (8 each), then answered, failed, failures (4 each) and the
    /// wait asked for (8) of this window and the one before.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        out.extend_from_slice(&[VERSION, u8::from(self.is_tried)]);
        out.extend_from_slice(&self.trips.to_le_bytes());
        out.extend_from_slice(&self.until.0.to_le_bytes());
        out.extend_from_slice(&self.began.0.to_le_bytes());
        for Told { answered, failed, failures, retry_after } in [self.now, self.before] {
            out.extend_from_slice(&answered.to_le_bytes());
            out.extend_from_slice(&failed.to_le_bytes());
            out.extend_from_slice(&failures.to_le_bytes());
            out.extend_from_slice(&retry_after.0.to_le_bytes());
        }
        out
    }

    /// The inverse of [`Breaker::encode`]; `None` for other bytes.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let ([version, tried], rest) = bytes.split_first_chunk()?;
        let (trips, rest) = rest.split_first_chunk()?;
        let (until, rest) = rest.split_first_chunk()?;
        let (began, rest) = rest.split_first_chunk()?;
        let (now, rest) = told(rest)?;
        let (before, rest) = told(rest)?;
        let [trips, until, began] =
            [u64::from(u32::from_le_bytes(*trips)), u64::from_le_bytes(*until), u64::from_le_bytes(*began)];
        let (trips, until, began) = (u32::try_from(trips).ok()?, Nanos(until), Nanos(began));
        let breaker = Self { began, now, before, trips, until, is_tried: *tried == 1 };
        (*version == VERSION && *tried <= 1 && rest.is_empty()).then_some(breaker)
    }
}

fn told(bytes: &[u8]) -> Option<(Told, &[u8])> {
    let (answered, rest) = bytes.split_first_chunk()?;
    let (failed, rest) = rest.split_first_chunk()?;
    let (failures, rest) = rest.split_first_chunk()?;
    let (retry_after, rest) = rest.split_first_chunk()?;
    let told = Told {
        answered: u32::from_le_bytes(*answered),
        failed: u32::from_le_bytes(*failed),
        failures: u32::from_le_bytes(*failures),
        retry_after: Nanos(u64::from_le_bytes(*retry_after)),
    };
    Some((told, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Nanos = Nanos(1_700_000_000 * Nanos::SECOND.0);

    fn at(millis: u64) -> Nanos {
        NOW.saturating_add(Nanos(millis * 1_000_000))
    }

    /// So many requests of one caller.
    fn failed(failures: u32) -> Told {
        Told { failed: 1, failures, ..Told::default() }
    }

    fn answered(answered: u32) -> Told {
        Told { answered, ..Told::default() }
    }

    fn tripped() -> Breaker {
        let mut breaker = Breaker::default();
        breaker.heard(failed(5), NOW);
        breaker
    }

    #[test]
    fn some_failures_among_many_answers_do_not_open_it() {
        let mut breaker = Breaker::default();
        for tick in 0..100 {
            breaker.heard(Told { answered: 10, failed: 9, failures: 900, retry_after: OPEN_MAX }, at(tick * 500));
            assert_eq!(breaker.state(at(tick * 500)), State::Closed);
        }
        // Nor few, however long ago they were.
        let mut breaker = Breaker::default();
        for hour in 0..100 {
            breaker.heard(failed(4), at(hour * 3_600_000));
            assert_eq!(breaker.state(at(hour * 3_600_000)), State::Closed);
        }
    }

    #[test]
    fn it_opens_tries_and_closes() {
        let mut breaker = Breaker::default();
        breaker.heard(failed(3), NOW);
        breaker.heard(failed(2), at(6_000));
        assert_eq!(breaker.state(at(6_000)), State::Open { wait: OPEN_MIN });
        assert_eq!(breaker.state(at(7_000)), State::Try);
        breaker.tried(at(7_000));
        assert!(matches!(breaker.state(at(7_001)), State::Open { .. }), "one at a time");
        breaker.heard(answered(1), at(7_500));
        assert_eq!(breaker.state(at(7_500)), State::Closed);
    }

    #[test]
    fn each_time_it_is_open_for_longer_up_to_a_bound() {
        let mut breaker = tripped();
        let (mut now, mut waits) = (NOW, Vec::new());
        for _ in 0..70 {
            let State::Open { wait } = breaker.state(now) else { panic!("{breaker:?}") };
            waits.push(wait.0 / Nanos::SECOND.0);
            now = now.saturating_add(wait);
            breaker.tried(now);
            breaker.heard(failed(1), now);
        }
        assert_eq!(waits[..8], [1, 2, 4, 8, 16, 32, 60, 60]);
        assert!(waits[8..].iter().all(|wait| *wait == 60));
    }

    /// What all versions of a model fail at is asked for nevertheless, without being tried by anybody.
    #[test]
    fn what_is_heard_when_it_may_be_tried_counts() {
        let mut breaker = tripped();
        breaker.heard(Told { answered: 9, ..failed(1) }, at(1_100));
        assert_eq!(breaker.state(at(1_100)), State::Closed);
        let mut breaker = tripped();
        breaker.heard(failed(1), at(1_100));
        assert_eq!(breaker.state(at(1_100)), State::Open { wait: OPEN_MIN.saturating_mul(2) });
    }

    #[test]
    fn one_caller_s_failures_close_it_for_nobody_else() {
        let mut breaker = Breaker::default();
        for tick in 0..100 {
            breaker.heard(Told { answered: 1, ..failed(1_000) }, at(tick * 500));
            assert_eq!(breaker.state(at(tick * 500)), State::Closed);
        }
    }

    #[test]
    fn what_nobody_tries_is_forgotten() {
        let mut breaker = tripped();
        assert_eq!(breaker.state(at(61_000)), State::Try);
        assert_eq!(breaker.state(at(61_001)), State::Closed);
        breaker.heard(failed(4), at(62_000));
        assert_eq!(breaker.state(at(62_000)), State::Closed);
        breaker.heard(failed(1), at(62_000));
        assert_eq!(breaker.state(at(62_000)), State::Open { wait: OPEN_MIN });
    }

    #[test]
    fn a_try_that_is_never_heard_of_is_followed_by_another() {
        let mut breaker = tripped();
        breaker.tried(at(1_000));
        assert_eq!(breaker.state(at(2_000)), State::Try);
    }

    #[test]
    fn what_the_server_asks_for_holds_within_bounds() {
        for (asked, wait) in
            [(Nanos(7 * Nanos::SECOND.0), Nanos(7 * Nanos::SECOND.0)), (Nanos::MAX, OPEN_MAX), (Nanos(1), OPEN_MIN)]
        {
            let mut breaker = Breaker::default();
            breaker.heard(Told { retry_after: asked, ..failed(5) }, NOW);
            assert_eq!(breaker.state(NOW), State::Open { wait });
        }
    }

    #[test]
    fn what_was_under_way_when_it_opened_changes_nothing() {
        let mut breaker = Breaker::default();
        breaker.heard(Told { retry_after: OPEN_MAX, ..failed(5) }, NOW);
        let before = breaker;
        breaker.heard(Told { answered: 50, failed: 50, failures: 50, retry_after: Nanos::MAX }, at(10));
        assert_eq!(breaker, before);
        // Nor where it is open for a moment alone, as workers tell one after another.
        for late in [answered(1), failed(1)] {
            let mut breaker = tripped();
            let before = breaker;
            breaker.heard(late, at(10));
            assert_eq!(breaker, before);
        }
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_keep_it_open() {
        let breaker = tripped();
        assert_eq!(breaker.state(Nanos::SECOND), State::Try);
    }

    proptest! {
        #[test]
        fn bytes_round_trip(trips: u32, until: u64, began: u64, a: [u32; 4], b: [u64; 2], is_tried: bool) {
            let told = |answered, failed, wait| Told { answered, failed, failures: failed, retry_after: Nanos(wait) };
            let (now, before) = (told(a[0], a[1], b[0]), told(a[2], a[3], b[1]));
            let mut breaker = Breaker { began: Nanos(began), now, before, trips, until: Nanos(until), is_tried };
            prop_assert_eq!(Breaker::decode(&breaker.encode()), Some(breaker));
            breaker.heard(told(u32::MAX, u32::MAX, u64::MAX), Nanos(began));
            breaker.tried(Nanos(until));
            let _ = breaker.state(Nanos(began));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = Breaker::decode(&bytes);
        }

        /// Whatever is heard, it is open for no longer than its bound.
        #[test]
        fn never_open_for_longer_than_a_minute(told in prop::collection::vec((0u64..100_000, 0u32..9, 0u32..9, any::<u64>()), 0..50)) {
            let mut breaker = Breaker::default();
            let mut now = NOW;
            for (pause, answered, failed, asked) in told {
                now = now.saturating_add(Nanos(pause * 1_000_000));
                breaker.heard(Told { answered, failed, failures: failed, retry_after: Nanos(asked) }, now);
                prop_assert_eq!(matches!(breaker.state(now.saturating_add(OPEN_MAX)), State::Open { .. }), false);
            }
        }
    }
}
