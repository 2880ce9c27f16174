use super::*;
use proptest::prelude::*;

const NOW: Nanos = Nanos(1_700_000_000 * Nanos::SECOND.0);
/// When amounts are looked at.
const LATER: Nanos = Nanos(NOW.0 + SETTLED_AFTER.0);
const ERRORS: Signal = Signal::More(Outcome::Error);

fn rules(signals: &[Signal]) -> Rules {
    Rules::new(Allowance::at(0.99).unwrap(), signals).unwrap()
}

/// What is told of a request: that it was sent, and that it failed.
fn request(arm: Arm, failed: bool) -> impl Iterator<Item = Record> {
    let failed = failed.then(|| Record::of(arm, NOW).outcome(Outcome::Error, true));
    [Record::sent(arm, NOW)].into_iter().chain(failed)
}

fn arms(canary: usize, stable: usize) -> impl Iterator<Item = Arm> {
    [Arm::Canary].repeat(canary).into_iter().chain([Arm::Stable].repeat(stable)).cycle()
}

fn any_record() -> impl Strategy<Value = Record> {
    let amounts = prop::option::of(0u64..5000);
    (any::<bool>(), any::<bool>(), any::<u8>(), any::<u8>(), amounts.clone(), amounts, 0u64..20).prop_map(
        |(is_canary, is_sent, known, bad, cost, length, late)| {
            let arm = if is_canary { Arm::Canary } else { Arm::Stable };
            let sent = if late == 0 { Nanos::ZERO } else { NOW };
            let mut record = if is_sent { Record::sent(arm, sent) } else { Record::of(arm, sent) };
            for outcome in Outcome::ALL.into_iter().filter(|outcome| known & outcome.bit() != 0) {
                record = record.outcome(outcome, bad & outcome.bit() != 0);
            }
            let record = cost.map_or(record, |cost| record.amount(Amount::Cost, cost, 4000));
            length.map_or(record, |length| record.amount(Amount::Length, length, 4000))
        },
    )
}

#[test]
fn a_canary_that_fails_is_taken_back_and_stays_so() {
    let rules = rules(&[ERRORS, Signal::More(Outcome::Ttft)]);
    let mut guard = Guard::new(7, NOW);
    assert_eq!(guard.verdict(&rules, NOW), Verdict::None);
    let fails = arms(2, 30).take(32 * 20).flat_map(|arm| request(arm, arm == Arm::Canary));
    guard.record(&rules, fails, NOW);
    let verdict = guard.verdict(&rules, NOW);
    let Verdict::Breached(Breach { signal: ERRORS, against: Against::Stable, requests }) = verdict else {
        panic!("{verdict:?}");
    };
    assert!(requests <= 10, "{requests}");
    assert_eq!(verdict.state(), 2);
    let before = guard.clone();
    guard.record(&rules, arms(2, 30).take(32 * 1000).flat_map(|arm| request(arm, arm == Arm::Stable)), NOW);
    assert_eq!(guard, before);
    assert!(guard.evidence(&rules, ERRORS) >= 1.0 && guard.evidence(&rules, Signal::Costlier) == 0.0);
}

#[test]
fn a_canary_that_was_good_for_long_is_still_found() {
    let rules = rules(&[ERRORS]);
    let mut guard = Guard::new(7, NOW);
    // One of 32 fails, of either version alike.
    let good = (0..32 * 32 * 100u32)
        .flat_map(|i| request(if (i / 32) % 16 == i % 16 { Arm::Canary } else { Arm::Stable }, i % 32 == 0));
    guard.record(&rules, good, NOW);
    assert_eq!(guard.verdict(&rules, NOW), Verdict::PromoteReady);
    let before = guard.standing().canary;
    guard.record(&rules, arms(2, 30).take(32 * 20).flat_map(|arm| request(arm, arm == Arm::Canary)), NOW);
    let Verdict::Breached(breach) = guard.verdict(&rules, NOW) else { panic!("{guard:?}") };
    assert!(breach.requests - before <= 24, "{breach:?} of {before}");
}

#[test]
fn each_signal_is_found_by_its_name() {
    for signal in Signal::ALL {
        let rules = rules(&Signal::ALL);
        let mut guard = Guard::new(7, NOW);
        let records = arms(8, 24).take(32 * 200).flat_map(|arm| {
            let is_canary = arm == Arm::Canary;
            let of = Record::of(arm, NOW);
            let more = match signal {
                Signal::More(outcome) => of.outcome(outcome, is_canary),
                Signal::Costlier => of.amount(Amount::Cost, if is_canary { 200 } else { 100 }, 400),
                Signal::Longer => of.amount(Amount::Length, if is_canary { 200 } else { 100 }, 400),
                Signal::Shorter => of.amount(Amount::Length, if is_canary { 100 } else { 200 }, 400),
            };
            [Record::sent(arm, NOW), more]
        });
        guard.record(&rules, records, LATER);
        let Verdict::Breached(breach) = guard.verdict(&rules, NOW) else { panic!("{signal:?}: {guard:?}") };
        assert_eq!((breach.signal, breach.against), (signal, Against::Stable));
    }
}

#[test]
fn what_is_not_watched_decides_nothing() {
    let rules = rules(&[Signal::Costlier]);
    let mut guard = Guard::new(7, NOW);
    guard.record(&rules, arms(8, 24).take(3200).flat_map(|arm| request(arm, arm == Arm::Canary)), NOW);
    guard.record(&rules, arms(1, 0).take(3200).flat_map(|arm| request(arm, true)), NOW);
    assert_eq!(guard.verdict(&rules, NOW), Verdict::PromoteReady);
    assert_eq!(Rules::new(Allowance::at(0.99).unwrap(), &[]), None);
}

#[test]
fn a_canary_that_is_alone_is_held_against_its_ceiling_and_never_ready() {
    let alone = |rules: &Rules, failing: usize| {
        let mut guard = Guard::new(7, NOW);
        let records = arms(1, 0).take(32 * 50).enumerate().flat_map(|(i, arm)| request(arm, i * 37 % 100 < failing));
        guard.record(rules, records, NOW);
        guard
    };
    let rules = rules(&[ERRORS]);
    let good = alone(&rules, 30);
    assert_eq!(good.verdict(&rules, NOW), Verdict::Running);
    assert_eq!(good.standing(), Standing { canary: 1600, blind: 1600, ..Standing::default() });
    let Verdict::Breached(breach) = alone(&rules, 100).verdict(&rules, NOW) else { panic!("all of them fail") };
    assert_eq!((breach.signal, breach.against, breach.requests), (ERRORS, Against::Ceiling, 16));
    // Another ceiling, and none.
    let rules = rules.clone().ceiling(Outcome::Error, 100);
    assert!(matches!(alone(&rules, 30).verdict(&rules, NOW), Verdict::Breached(_)));
    let rules = rules.ceiling(Outcome::Error, 0);
    assert_eq!(alone(&rules, 100).verdict(&rules, NOW), Verdict::Running);
}

/// Both fail: that is no fault of the canary's, though it fails more often than its ceiling says.
#[test]
fn a_ceiling_holds_only_where_there_is_nothing_to_compare() {
    let rules = rules(&[ERRORS]);
    let mut guard = Guard::new(7, NOW);
    guard.record(&rules, arms(2, 30).take(3200).flat_map(|arm| request(arm, true)), NOW);
    assert_eq!(guard.verdict(&rules, NOW), Verdict::PromoteReady);
}

#[test]
fn ready_takes_requests_and_time_and_neither_holds_a_breach_up() {
    let mut rules = rules(&[ERRORS]);
    (rules.requests_min, rules.bake_for) = (64, Nanos::SECOND.saturating_mul(3600));
    let hour = NOW.saturating_add(rules.bake_for);
    let mut guard = Guard::new(7, NOW);
    guard.record(&rules, arms(16, 16).take(32 * 3).flat_map(|arm| request(arm, false)), NOW);
    assert_eq!(guard.verdict(&rules, hour), Verdict::Running);
    guard.record(&rules, arms(16, 16).take(32).flat_map(|arm| request(arm, false)), NOW);
    assert_eq!(guard.verdict(&rules, hour), Verdict::PromoteReady);
    assert_eq!(guard.verdict(&rules, hour.saturating_sub(Nanos(1))), Verdict::Running);
    assert_eq!(guard.verdict(&rules, Nanos::ZERO), Verdict::Running, "a clock that was set back");
    let mut failing = Guard::new(7, NOW);
    failing.record(&rules, arms(2, 30).take(32 * 8).flat_map(|arm| request(arm, arm == Arm::Canary)), NOW);
    assert!(matches!(failing.verdict(&rules, NOW), Verdict::Breached(Breach { requests: ..64, .. })));
}

#[test]
fn requests_from_before_the_draw_are_not_counted() {
    let rules = rules(&[ERRORS]);
    let mut guard = Guard::new(7, NOW);
    let later = NOW.saturating_add(Nanos::SECOND);
    guard.record(&rules, arms(1, 3).take(8).flat_map(|arm| request(arm, false)), NOW);
    guard.redrawn(later);
    guard.record(&rules, arms(2, 30).take(3200).flat_map(|arm| request(arm, arm == Arm::Canary)), later);
    assert_eq!(guard.verdict(&rules, later), Verdict::Running);
    assert_eq!(guard.standing(), Standing { canary: 2, stable: 6, early: 3400, ..Standing::default() });
}

/// Of a version that is slow, only the short answers are there at first.
#[test]
fn amounts_are_not_looked_at_before_the_long_answers_are_there() {
    let rules = rules(&[Signal::Shorter]);
    let shorter = |now| {
        let mut guard = Guard::new(7, NOW);
        let lengths = arms(8, 24)
            .take(3200)
            .map(|arm| Record::of(arm, NOW).amount(Amount::Length, if arm == Arm::Canary { 100 } else { 300 }, 400));
        guard.record(&rules, [Record::sent(Arm::Canary, NOW)].into_iter().chain(lengths), now);
        guard.verdict(&rules, now)
    };
    assert_eq!(shorter(LATER.saturating_sub(Nanos(1))), Verdict::Running);
    assert!(matches!(shorter(LATER), Verdict::Breached(_)));
}

#[test]
fn an_allowance_is_shared_and_never_exceeded() {
    let all = Allowance::at(0.99).unwrap();
    for categories in 0..50 {
        let (overall, each) = all.shared(categories);
        let sum = overall.0 + each.0 * f64::from(categories);
        assert!((sum - all.0).abs() < 1e-12, "{sum} for {categories}");
    }
    for confidence in [f64::NAN, 0.0, 0.49, 1.0, -1.0, f64::INFINITY] {
        assert_eq!(Allowance::at(confidence), None);
    }
}

proptest! {
    /// Workers read, add what they have, and write: however the records are batched, the bytes are the same.
    #[test]
    fn batches_do_not_matter(records in prop::collection::vec(any_record(), 0..300), cuts in prop::collection::vec(1usize..40, 1..40)) {
        let rules = rules(&Signal::ALL);
        let mut whole = Guard::new(7, NOW);
        whole.record(&rules, records.iter().copied(), LATER);
        let mut shared = Guard::new(7, NOW).encode();
        let (mut rest, mut cuts) = (&records[..], cuts.iter().cycle());
        while !rest.is_empty() {
            let (batch, after) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
            let mut guard = Guard::decode(&shared).unwrap();
            guard.record(&rules, batch.iter().copied(), LATER);
            shared = guard.encode();
            rest = after;
            prop_assert!(shared.len() <= BYTES_MAX);
        }
        prop_assert_eq!(&shared, &whole.encode());
        prop_assert_eq!(Guard::decode(&shared), Ok(whole));
    }

    /// Within a block, the order of outcomes does not matter.
    #[test]
    fn order_within_a_block_does_not_matter(mut records in prop::collection::vec(any_record(), 32..=32), turn in 0usize..32) {
        records.iter_mut().for_each(|record| record.sent = NOW);
        let rules = rules(&Outcome::ALL.map(Signal::More));
        let judged = |records: &[Record]| {
            let mut guard = Guard::new(7, NOW);
            guard.record(&rules, records.iter().copied(), NOW);
            guard
        };
        let before = judged(&records);
        records.rotate_left(turn);
        records.swap(0, turn);
        prop_assert_eq!(before, judged(&records));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>, records in prop::collection::vec(any_record(), 0..90), flip: prop::sample::Index, bit in 0u8..8) {
        let _ = Guard::decode(&bytes);
        let rules = rules(&Signal::ALL);
        let mut guard = Guard::new(7, NOW);
        guard.record(&rules, records.iter().copied(), LATER);
        let mut bytes = guard.encode();
        let at = flip.index(bytes.len());
        bytes[at] ^= 1 << bit;
        // What is read is a guard that could be, so that it goes on and is written as it was read.
        if let Ok(mut read) = Guard::decode(&bytes) {
            prop_assert_eq!(read.encode(), bytes);
            read.record(&rules, records, LATER);
            prop_assert!(Guard::decode(&read.encode()).is_ok());
            let _ = read.verdict(&rules, Nanos::MAX);
        }
        bytes = guard.encode();
        bytes.truncate(at);
        prop_assert_eq!(Guard::decode(&bytes), Err(Unreadable));
    }
}

#[test]
fn other_versions_of_the_bytes_are_refused() {
    let mut bytes = Guard::new(7, NOW).encode();
    assert_eq!(Guard::decode(&bytes).map(|guard| guard.plan()), Ok(7));
    bytes[0] = 2;
    assert_eq!(Guard::decode(&bytes), Err(Unreadable));
    assert_eq!(Guard::decode(&[]), Err(Unreadable));
}

#[test]
fn counts_saturate() {
    let rules = rules(&[ERRORS]);
    let mut guard = Guard::new(7, NOW);
    guard.standing =
        Standing { canary: u64::MAX, stable: u64::MAX, compared: u64::MAX, blind: u64::MAX, early: u64::MAX };
    guard.tests.iter_mut().for_each(|test| test.blocks = u64::MAX);
    guard.record(&rules, arms(2, 30).take(64).flat_map(|arm| request(arm, false)), NOW);
    guard.record(&rules, [Record::sent(Arm::Canary, Nanos::ZERO)], NOW);
    assert_eq!(guard.standing().canary, u64::MAX);
    assert_eq!(Guard::decode(&guard.encode()), Ok(guard));
}
