//! What arrives, and when: a recorded trace, a ramp, and what is made of them.

use std::fmt::Write as _;

use crate::random::Random;

/// Microseconds since the beginning of a trace.
pub type Micros = u64;

/// A second.
pub const SECOND: Micros = 1_000_000;

/// More rows than any public trace of one service has in a day.
const ROWS_MAX: usize = 5_000_000;
/// More tokens than any model takes.
const TOKENS_MAX: u32 = 10_000_000;
/// Silence that is worth a word: after it, every signal begins anew.
const GAP: Micros = 600 * SECOND;
/// A copy of a request comes up to this much later than the request: users are alike, and not the same.
const SPREAD: Micros = 10 * SECOND;

/// One request, as far as a model server cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// When it reaches the gateway.
    pub at: Micros,
    /// Tokens of the prompt.
    pub prompt: u32,
    /// Tokens of the answer, at least 1.
    pub output: u32,
}

/// Requests in the order in which they arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The requests.
    pub requests: Vec<Request>,
    /// How long the trace is; no request arrives later.
    pub span: Micros,
    /// What is odd about it and not wrong.
    pub notes: Vec<String>,
}

/// Stages of a constant rate, one after the other.
#[derive(Clone, Debug, PartialEq)]
pub struct Ramp {
    /// Requests a second and how long, in seconds.
    pub stages: Vec<(f64, f64)>,
    /// Tokens of a prompt: mean and standard deviation.
    pub prompt: (f64, f64),
    /// Tokens of an answer: mean and standard deviation.
    pub output: (f64, f64),
    /// Whether requests come as they like, at that rate on average (Poisson), or evenly.
    pub poisson: bool,
}

impl Trace {
    /// Reads `TIMESTAMP,ContextTokens,GeneratedTokens`, as Azure publishes its traces.
    ///
    /// # Errors
    /// Which line is wrong and what stands there.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let (_, header) = lines.next().ok_or("the file is empty")?;
        let columns = Columns::of(header)?;
        let mut requests: Vec<Request> = Vec::new();
        let mut notes = Vec::new();
        let (mut first, mut silent) = (0, 0_usize);
        for (number, line) in lines {
            let number = number + 1;
            if requests.len() == ROWS_MAX {
                return Err(format!("line {number}: more than {ROWS_MAX} requests; cut the trace into pieces"));
            }
            let (at, prompt, output) = columns.read(line).map_err(|what| format!("line {number}: {what}"))?;
            if requests.is_empty() {
                first = at;
            }
            let before = requests.last().map_or(0, |request| request.at);
            let at = u64::try_from(at - first).ok().filter(|at| *at >= before);
            let at = at.ok_or_else(|| format!("line {number}: time goes back; sort the trace by TIMESTAMP"))?;
            if at - before > GAP {
                notes.push(format!(
                    "line {number}: nothing arrived for {} minutes before it",
                    (at - before) / 60 / SECOND
                ));
            }
            silent += usize::from(output == 0);
            requests.push(Request { at, prompt: prompt.max(1), output: output.max(1) });
        }
        let span = requests.last().ok_or("the trace has a header and no request")?.at + 1;
        if silent > 0 {
            notes.push(format!("{silent} requests generated no token; they are taken as if they had generated one"));
        }
        Ok(Self { requests, span, notes })
    }

    /// The same with `times` as many requests: each comes again, up to ten seconds later and with the sizes of another one from about then.
    #[must_use]
    pub fn scaled(&self, times: u32) -> Self {
        let mut random = Random(0x5EED);
        let mut requests = Vec::with_capacity(self.requests.len() * times as usize);
        for (index, request) in self.requests.iter().enumerate() {
            requests.push(*request);
            for copy in 1..times as usize {
                let like = &self.requests[(index + 17 * copy) % self.requests.len()];
                let at = (request.at + random.below(SPREAD)).min(self.span - 1);
                requests.push(Request { at, ..*like });
            }
        }
        requests.sort_by_key(|request| request.at);
        Self { requests, span: self.span, notes: self.notes.clone() }
    }

    /// The same with other users from the middle on: prompts two and a half times as long, and every fifth request does not come.
    #[must_use]
    pub fn shifted(&self) -> Self {
        let mut later = 0_u32;
        let requests = self.requests.iter().filter_map(|request| {
            if request.at < self.span / 2 {
                return Some(*request);
            }
            later += 1;
            let prompt = u32::try_from(u64::from(request.prompt) * 5 / 2).unwrap_or(u32::MAX);
            (!later.is_multiple_of(5)).then_some(Request { prompt, ..*request })
        });
        Self { requests: requests.collect(), span: self.span, notes: self.notes.clone() }
    }

    /// Means of prompt and answer, in tokens.
    #[must_use]
    pub fn means(&self) -> (f64, f64) {
        let mean = |of: fn(&Request) -> u32| {
            let sum: f64 = self.requests.iter().map(|request| f64::from(of(request))).sum();
            sum / self.requests.len().max(1) as f64
        };
        (mean(|request| request.prompt), mean(|request| request.output))
    }

    /// How it looks, in a line.
    #[must_use]
    pub fn describe(&self) -> String {
        let (prompt, output) = self.means();
        let seconds = self.span as f64 / SECOND as f64;
        let count = self.requests.len();
        let mut said = String::new();
        let _ = write!(said, "{count} requests in {seconds:.0} s ({:.1}/s)", count as f64 / seconds);
        let _ = write!(said, ", {prompt:.0} prompt and {output:.0} output tokens each");
        said
    }
}

impl Ramp {
    /// Reads `2-4-6`: requests a second, one stage after the other.
    ///
    /// # Errors
    /// Which of them is no rate.
    pub fn parse(rates: &str, stage_seconds: f64, prompt: f64, output: f64) -> Result<Self, String> {
        let rate = |text: &str| {
            let rate = text.parse::<f64>().ok().filter(|rate| rate.is_finite() && *rate >= 0.0 && *rate <= 10_000.0);
            rate.map(|rate| (rate, stage_seconds))
                .ok_or_else(|| format!("{text:?} is not a rate; write requests a second, such as 2-4-6.5-1"))
        };
        let stages = rates.split('-').map(rate).collect::<Result<Vec<_>, _>>()?;
        let requests: f64 = stages.iter().map(|(rate, seconds)| rate * seconds).sum();
        if requests.is_nan() || requests > ROWS_MAX as f64 {
            return Err(format!("a ramp of {requests} requests; at most {ROWS_MAX}"));
        }
        // The deviations are those of llm-d's profile: 300 of 4,000, 80 of 1,000.
        Ok(Self { stages, prompt: (prompt, prompt * 0.075), output: (output, output * 0.08), poisson: false })
    }

    /// Its requests.
    #[must_use]
    pub fn trace(&self) -> Trace {
        let mut random = Random(0xA11CE);
        let (mut requests, mut begin) = (Vec::new(), 0.0);
        for (rate, seconds) in &self.stages {
            let mut after = 0.0;
            while *rate > 0.0 && after < *seconds {
                let at = ((begin + after) * SECOND as f64) as Micros;
                let (prompt, output) = (around(&mut random, self.prompt), around(&mut random, self.output));
                requests.push(Request { at, prompt, output });
                after += if self.poisson { random.exponential() } else { 1.0 } / rate;
            }
            begin += seconds;
        }
        Trace { requests, span: ((begin * SECOND as f64) as Micros).max(1), notes: Vec::new() }
    }
}

/// Where the columns stand.
struct Columns {
    at: usize,
    prompt: usize,
    output: usize,
}

impl Columns {
    fn of(header: &str) -> Result<Self, String> {
        let names: Vec<&str> = header.trim_start_matches('\u{feff}').split(',').map(str::trim).collect();
        let find = |name: &str| {
            names.iter().position(|column| column.eq_ignore_ascii_case(name)).ok_or_else(|| {
                format!("no column {name} in {header:?}; TIMESTAMP,ContextTokens,GeneratedTokens are needed")
            })
        };
        Ok(Self { at: find("TIMESTAMP")?, prompt: find("ContextTokens")?, output: find("GeneratedTokens")? })
    }

    fn read(&self, line: &str) -> Result<(i64, u32, u32), String> {
        let fields: Vec<&str> = line.split(',').map(str::trim).collect();
        let field = |index: usize| fields.get(index).copied().ok_or_else(|| format!("{} columns only", fields.len()));
        let tokens = |text: &str| {
            let tokens = text.parse::<u32>().ok().filter(|tokens| *tokens <= TOKENS_MAX);
            tokens.ok_or_else(|| format!("{text:?} is not a number of tokens (0 to {TOKENS_MAX})"))
        };
        let at = field(self.at)?;
        let at = moment(at).ok_or_else(|| format!("{at:?} is not a time such as 2023-11-16 18:15:46.68059"))?;
        Ok((at, tokens(field(self.prompt)?)?, tokens(field(self.output)?)?))
    }
}

/// Microseconds since 1970 of `2023-11-16 18:15:46.6805900`, with or without a zone; `None` for what is no such time.
pub fn moment(text: &str) -> Option<i64> {
    let (date, time) = text.split_once([' ', 'T'])?;
    let mut date = date.splitn(3, '-').map(str::parse::<i64>);
    let (year, month, day) = (date.next()?.ok()?, date.next()?.ok()?, date.next()?.ok()?);
    let zone = time.find(['Z', '+', '-']).unwrap_or(time.len());
    let (time, zone) = time.split_at(zone);
    let (whole, fraction) = time.split_once('.').unwrap_or((time, ""));
    let mut whole = whole.splitn(3, ':').map(str::parse::<i64>);
    let (hour, minute, second) = (whole.next()?.ok()?, whole.next()?.ok()?, whole.next()?.ok()?);
    let in_range = (1..=9999).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !in_range || !(0..24).contains(&hour) || !(0..60).contains(&minute) || !(0..=60).contains(&second) {
        return None;
    }
    let digits = fraction.bytes().all(|byte| byte.is_ascii_digit());
    let micros = format!("{fraction:0<6}").get(..6).filter(|_| digits)?.parse::<i64>().ok()?;
    let seconds = ((days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second - offset(zone)?;
    Some(seconds * 1_000_000 + micros)
}

/// Seconds that a zone is ahead.
fn offset(zone: &str) -> Option<i64> {
    if zone.is_empty() || zone == "Z" {
        return Some(0);
    }
    let (sign, rest) = zone.split_at(1);
    let (hours, minutes) = rest.split_once(':').or_else(|| rest.split_at_checked(2))?;
    let minutes = if minutes.is_empty() { 0 } else { minutes.parse::<i64>().ok()? };
    let seconds = hours.parse::<i64>().ok()? * 3600 + minutes * 60;
    Some(if sign == "-" { -seconds } else { seconds })
}

/// Days since 1970 (Howard Hinnant, `days_from_civil`).
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Nearly normal: the sum of twelve, cut off at twice the deviation or so.
fn around(random: &mut Random, (mean, deviation): (f64, f64)) -> u32 {
    let sum: f64 = (0..12).map(|_| random.below(1 << 20) as f64 / f64::from(1 << 20)).sum();
    (mean + deviation * (sum - 6.0)).round().clamp(1.0, f64::from(TOKENS_MAX)) as u32
}
