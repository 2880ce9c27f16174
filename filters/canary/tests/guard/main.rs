//! The guard on streams whose rates are known: how often it is wrong, how soon it is right, and what other tests say of the same streams.

mod rivals;
mod streams;

use std::collections::VecDeque;
use std::fmt::Write;
use std::{env, fs};

use penstock_canary::guard::{Allowance, Amount, Arm, Guard, Outcome, Record, Rules, Signal, Verdict};
use penstock_units::Nanos;

use rivals::{Bands, Multinomial, Tally, fixed_horizon};
use streams::{Draw, Rare, median};

/// When all requests are sent, and when they are judged: late enough for amounts.
const SENT: Nanos = Nanos::SECOND;
const NOW: Nanos = Nanos(1000 * Nanos::SECOND.0);
const ERRORS: Signal = Signal::More(Outcome::Error);
const TTFT: Signal = Signal::More(Outcome::Ttft);
/// How long a canary is watched.
const REQUESTS: u64 = 10_000;

fn rules(signals: &[Signal]) -> Rules {
    Rules::new(Allowance::at(0.99).expect("a confidence"), signals).expect("signals")
}

/// What is told of a request.
fn request(arm: Arm, outcome: Outcome, is_bad: bool) -> impl Iterator<Item = Record> {
    let more = Record::of(arm, SENT).outcome(outcome, is_bad);
    [Record::sent(arm, SENT), more].into_iter()
}

fn breach(guard: &Guard, rules: &Rules) -> Option<u64> {
    match guard.verdict(rules, NOW) {
        Verdict::Breached(breach) => Some(breach.requests),
        _ => None,
    }
}

/// How many of 10,000 canaries are taken back that are as the stable version is, in all signals.
fn taken_back_falsely(rate: f64, weight: f64) -> usize {
    let rules = rules(&Signal::ALL).margin(0);
    let mut draw = Draw(rate.to_bits() ^ weight.to_bits());
    // What requests that ended well cost, and how long their answers are: anything up to a cap, and some beyond.
    let amounts = [(); 256].map(|()| (draw.bits() & 0xff, draw.bits() & 0xff));
    let well = [Arm::Stable, Arm::Canary].map(|arm| {
        let all =
            Outcome::ALL.into_iter().fold(Record::sent(arm, SENT), |record, outcome| record.outcome(outcome, false));
        amounts.map(|(cost, length)| all.amount(Amount::Cost, cost, 200).amount(Amount::Length, length, 200))
    });
    let mut is_taken_back = || {
        let mut rare = Rare::<{ Outcome::ALL.len() }>::new(rate, &mut draw);
        let mut guard = Guard::new(0, SENT);
        for _ in 0..REQUESTS {
            let arm = draw.arm(weight);
            let mut sent = well[arm as usize][(draw.bits() & 0xff) as usize];
            let mut ended = None;
            rare.happen(&mut draw, |which| {
                let outcome = Outcome::ALL[which];
                match outcome {
                    Outcome::Ttft | Outcome::InterToken | Outcome::Feedback => sent = sent.outcome(outcome, true),
                    _ => ended = Some(ended.unwrap_or(Record::of(arm, SENT)).outcome(outcome, true)),
                }
            });
            guard.record(&rules, [sent].into_iter().chain(ended), NOW);
            if breach(&guard, &rules).is_some() {
                return true;
            }
        }
        false
    };
    (0..10_000).filter(|_| is_taken_back()).count()
}

macro_rules! equal_versions {
    ($($name:ident: $rate:literal $weight:literal)*) => {$(
        #[test]
        fn $name() {
            let wrong = taken_back_falsely($rate, $weight);
            println!("{} at {} and {}: {wrong} of 10000", stringify!($name), $rate, $weight);
            assert!(wrong <= 100, "{wrong} of 10000 taken back");
        }
    )*};
}

equal_versions! {
    equal_versions_that_rarely_fail: 0.001 0.05
    equal_versions_that_rarely_fail_half_and_half: 0.001 0.5
    equal_versions: 0.02 0.05
    equal_versions_half_and_half: 0.02 0.5
    equal_versions_that_often_fail: 0.1 0.05
    equal_versions_that_often_fail_half_and_half: 0.1 0.5
}

/// Both versions fail for a while, and meanwhile the canary is given half of the requests: over all, it has failed far more often.
#[test]
fn an_outage_of_both_is_no_fault_of_the_canary() {
    const RUNS: u64 = 2000;
    let rules = rules(&[ERRORS]);
    let mut failed = [Tally::default(); 2];
    let mut is_taken_back = |seed: u64| {
        let mut draw = Draw(seed);
        let mut guard = Guard::new(0, SENT);
        for at in 0..REQUESTS {
            let is_outage = (4000..9000).contains(&at);
            if at == 4500 {
                guard.redrawn(SENT);
            }
            let arm = draw.arm(if at < 4500 { 0.05 } else { 0.5 });
            let is_bad = draw.happens(if is_outage { 0.6 } else { 0.01 });
            let tally = &mut failed[arm as usize];
            *tally = Tally { requests: tally.requests + 1.0, bad: tally.bad + f64::from(u8::from(is_bad)) };
            guard.record(&rules, request(arm, Outcome::Error, is_bad), NOW);
        }
        breach(&guard, &rules).is_some()
    };
    let wrong = (0..RUNS).filter(|run| is_taken_back(run << 20)).count() as u64;
    let [stable, canary] = failed.map(|tally| tally.bad / tally.requests);
    println!("outage: {wrong} of {RUNS}, {stable:.3} and {canary:.3} failed");
    assert!(canary > 1.5 * stable, "{canary} and {stable}: that would prove nothing");
    assert!(wrong <= RUNS / 100, "{wrong} of {RUNS} taken back");
}

/// Rates of the stable version and of the canary, by what is drawn.
#[derive(Clone, Copy)]
enum Stream {
    Errors {
        stable: f64,
        canary: f64,
        /// So many requests later it is told.
        later: usize,
    },
    /// So many callers with as many requests each, who stick to their version. Of one in twenty a fifth of the requests fail, wherever they
    /// go, and of the others one in a hundred.
    Callers(usize),
    /// Lognormal times to the first token, with this deviation of their logarithms; the canary's are so many times as long. The bound lies so
    /// many deviations beyond the stable version's median.
    Ttft { sigma: f64, times: f64, bound: f64 },
}

/// After how many of the canary's requests each test says that it is worse.
#[derive(Default)]
struct Found {
    /// The guard with the signal alone and no ceiling, so that it has the whole allowance; with errors and TTFT; with all signals.
    guard: [Option<u64>; 3],
    lindon: Option<u64>,
    peeked: Option<u64>,
}

impl Found {
    fn by_the_guard(&self) -> bool {
        self.guard.iter().all(Option::is_some)
    }

    fn by_all(&self) -> bool {
        self.by_the_guard() && self.lindon.is_some() && self.peeked.is_some()
    }
}

fn watch(stream: Stream, weight: f64, seed: u64, until: fn(&Found) -> bool) -> Found {
    let outcome = match stream {
        Stream::Errors { .. } | Stream::Callers(_) => Outcome::Error,
        Stream::Ttft { .. } => Outcome::Ttft,
    };
    let all_rules = [
        rules(&[Signal::More(outcome)]).ceiling(Outcome::Error, 0),
        rules(&[Signal::More(Outcome::Error), Signal::More(Outcome::Ttft)]),
        rules(&Signal::ALL),
    ];
    let mut guards = [(); 3].map(|()| Guard::new(0, SENT));
    let mut multinomial = Multinomial::new(weight);
    let mut bands = Bands::new();
    let (mut stable, mut canary) = (Tally::default(), Tally::default());
    let mut found = Found::default();
    let mut draw = Draw(seed);
    // Failures that are not told yet.
    let mut late = VecDeque::from(vec![None; if let Stream::Errors { later, .. } = stream { later } else { 0 }]);
    let callers = if let Stream::Callers(callers) = stream { callers } else { 0 };
    let callers: Vec<(Arm, f64)> =
        (0..callers).map(|_| (draw.arm(weight), if draw.happens(0.05) { 0.2 } else { 0.01 })).collect();
    for _ in 0..REQUESTS {
        let caller = (draw.unit() * callers.len() as f64).ceil() as usize;
        let (arm, fails) = callers.get(caller.wrapping_sub(1)).copied().unwrap_or_else(|| (draw.arm(weight), 0.0));
        let is_canary = arm == Arm::Canary;
        let (is_bad, lindon) = match stream {
            Stream::Errors { stable, canary, .. } => {
                let is_bad = draw.happens(if is_canary { canary } else { stable });
                (is_bad, is_bad && multinomial.bad(arm))
            }
            Stream::Callers(_) => {
                let is_bad = draw.happens(fails);
                (is_bad, is_bad && multinomial.bad(arm))
            }
            Stream::Ttft { sigma, times, bound } => {
                // In deviations from the stable version's median.
                let time = draw.normal() + if is_canary { times.ln() / sigma } else { 0.0 };
                (time > bound, found.lindon.is_none() && bands.saw(arm, time))
            }
        };
        let tally = if is_canary { &mut canary } else { &mut stable };
        tally.requests += 1.0;
        tally.bad += f64::from(u8::from(is_bad));
        let now = canary.requests as u64;
        found.lindon = found.lindon.or(lindon.then_some(now));
        found.peeked = found.peeked.or_else(|| fixed_horizon(stable, canary).then_some(now));
        late.push_back(Some(Record::of(arm, SENT).outcome(outcome, is_bad)));
        let told = late.pop_front().flatten();
        for ((guard, rules), found) in guards.iter_mut().zip(&all_rules).zip(&mut found.guard) {
            guard.record(rules, [Record::sent(arm, SENT)].into_iter().chain(told), NOW);
            *found = found.or_else(|| breach(guard, rules));
        }
        if until(&found) {
            break;
        }
    }
    found
}

const RUNS: u64 = 500;

fn watch_many(stream: Stream, weight: f64, until: fn(&Found) -> bool) -> Vec<Found> {
    (0..RUNS).map(|run| watch(stream, weight, run << 20, until)).collect()
}

fn column(all: &[Found], test: impl Fn(&Found) -> Option<u64>) -> Vec<Option<u64>> {
    all.iter().map(test).collect()
}

#[test]
fn failures_and_slowness_are_found_soon() {
    let at = |stream| {
        let found = watch_many(stream, 0.05, Found::by_the_guard);
        [1, 2].map(|rules| median(&column(&found, |found| found.guard[rules])).expect("found"))
    };
    let [both, all] = at(Stream::Errors { stable: 0.02, canary: 0.1, later: 0 });
    println!("2 % to 10 % fail: {both}, with all signals {all}");
    assert!(both <= 150 && all <= 150, "{both}, and {all} with all signals");
    for sigma in [0.5, 1.0] {
        // The stable version's quantiles: of how many requests the first token comes later than the bound.
        for (late, bound) in [(0.5, 0.0), (0.1, 1.2816), (0.05, 1.6449), (0.01, 2.3263)] {
            let [both, all] = at(Stream::Ttft { sigma, times: 2.0, bound });
            println!("TTFT doubled, deviation {sigma}, {late} beyond the bound: {both}, with all signals {all}");
            let all_max = if late == 0.01 { 250 } else { 200 };
            assert!(both <= 200 && all <= all_max, "{sigma}, {late}: {both}, and {all} with all signals");
        }
    }
}

/// Eight workers tell what ended once in a tick, which is 64 requests long: as soon as one that tells each at once, but for the tick.
#[test]
fn workers_that_tell_in_batches_find_it_as_soon() {
    const TICK: usize = 64;
    let rules = rules(&[ERRORS, TTFT]);
    let found = |seed: u64, workers: u64| {
        let mut draw = Draw(seed);
        let mut shared = Guard::new(0, SENT).encode();
        for _ in 0..REQUESTS / TICK as u64 {
            let mut ended: Vec<(u64, Arm, bool)> = (0..TICK)
                .map(|_| {
                    let (worker, arm) = (draw.bits() % workers, draw.arm(0.05));
                    (worker, arm, draw.happens(if arm == Arm::Canary { 0.1 } else { 0.02 }))
                })
                .collect();
            ended.sort_by_key(|(worker, ..)| *worker);
            for batch in ended.chunk_by(|(one, ..), (other, ..)| one == other) {
                let mut guard = Guard::decode(&shared).expect("it was written so");
                let records = batch.iter().flat_map(|(_, arm, is_bad)| request(*arm, Outcome::Error, *is_bad));
                guard.record(&rules, records, NOW);
                shared = guard.encode();
            }
        }
        breach(&Guard::decode(&shared).expect("it was written so"), &rules)
    };
    let [one, eight] = [1, 8].map(|workers| median(&(0..500).map(|run| found(run << 20, workers)).collect::<Vec<_>>()));
    let (one, eight) = (one.expect("found"), eight.expect("found"));
    println!("workers: {one} {eight}");
    // The canary has three requests in a tick.
    assert!(one.abs_diff(eight) <= 6, "{one} with one worker, {eight} with eight");
}

/// The table in the documentation is what comes out here: `UPDATE_SIMULATION=1` writes it.
#[test]
fn the_table_is_what_is_simulated() {
    let text = table();
    print!("{text}");
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/src/guard/simulation.md");
    if env::var_os("UPDATE_SIMULATION").is_some() {
        fs::write(file, &text).expect("written");
    }
    assert!(
        fs::read_to_string(file).expect("there") == text,
        "{file} is not what is simulated; UPDATE_SIMULATION=1 writes it"
    );
}

fn table() -> String {
    let errors = |stable, canary| Stream::Errors { stable, canary, later: 0 };
    let ttft = |times, bound| Stream::Ttft { sigma: 0.7, times, bound };
    let rows = [
        ("equal: 2 % fail", errors(0.02, 0.02), 0.05),
        ("equal: 2 % fail", errors(0.02, 0.02), 0.5),
        ("equal: 10 % fail", errors(0.1, 0.1), 0.05),
        ("equal TTFT, bound at the 90th percentile", ttft(1.0, 1.2816), 0.05),
        ("equal: 2000 callers stick, a few fail more", Stream::Callers(2000), 0.05),
        ("equal: 200 callers stick, a few fail more", Stream::Callers(200), 0.05),
        ("2 % to 10 % fail", errors(0.02, 0.1), 0.05),
        ("2 % to 10 % fail, seen 200 requests later", Stream::Errors { stable: 0.02, canary: 0.1, later: 200 }, 0.05),
        ("2 % to 10 % fail", errors(0.02, 0.1), 0.5),
        ("2 % to 10 % fail", errors(0.02, 0.1), 0.95),
        ("2 % to 5 % fail", errors(0.02, 0.05), 0.05),
        ("0.1 % to 5 % fail", errors(0.001, 0.05), 0.05),
        ("1 % to 50 % fail", errors(0.01, 0.5), 0.05),
        ("TTFT doubled, bound at the 50th percentile", ttft(2.0, 0.0), 0.05),
        ("TTFT doubled, bound at the 90th percentile", ttft(2.0, 1.2816), 0.05),
        ("TTFT doubled, bound at the 99th percentile", ttft(2.0, 2.3263), 0.05),
        ("TTFT doubled, bound at the 90th percentile", ttft(2.0, 1.2816), 0.5),
    ];
    let mut text = include_str!("table.md").to_owned();
    for (name, stream, weight) in rows {
        let found = watch_many(stream, weight, Found::by_all);
        let is_equal = name.starts_with("equal");
        let cell = |test: fn(&Found) -> Option<u64>| {
            let column = column(&found, test);
            let share = column.iter().flatten().count() as f64 / RUNS as f64 * 100.0;
            match median(&column) {
                Some(median) if !is_equal => median.to_string(),
                _ => format!("{share:.1} %"),
            }
        };
        let cells = [
            cell(|found| found.guard[0]),
            cell(|found| found.guard[1]),
            cell(|found| found.guard[2]),
            cell(|found| found.lindon),
            cell(|found| found.peeked),
        ]
        .join(" | ");
        writeln!(text, "| {name} | {:.0} % | {cells} |", weight * 100.0).expect("written");
    }
    text
}
