//! Limits that all proxies share: leases of tokens from a rate limit service.
//!
//! The protocol is `envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit`: one descriptor with the entries `limit` (its name) and `key`
//! (whom it counts), and how many hits are asked for. Of the answer the code is read and, where the service says so, what is left and when
//! its window ends; without the latter a lease is spent for as long as the limit's period.

use core::hash::Hasher;

use penstock_bucket::pool::{self, Pool, Taken};
use penstock_bucket::{MILLI, Nanos, Rate, Refusal};
use siphasher::sip::SipHasher13;

use crate::config::{Config, Limit, Mesh};
use crate::facts::Facts;
use crate::identity::Caller;
use crate::limits::{Refused, Standing, Till};
use crate::port::{Contended, Store};

/// The service, as gRPC names it.
pub const SERVICE: &str = "envoy.service.ratelimit.v3.RateLimitService";
/// Its method.
pub const METHOD: &str = "ShouldRateLimit";
/// A lease is at most this part of a budget.
const LEASES: u64 = 16;
/// How long the service is left alone after it did not answer.
const DOWN: Nanos = 1_000_000_000;
/// Until when that is.
const DOWN_KEY: &str = "penstock/mesh-down";
/// The protocol counts hits in 32 bits.
const HITS_MAX: u64 = u32::MAX as u64;
const PAGES: u64 = 4096;

/// A question to the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The limit's name.
    pub limit: String,
    fingerprint: u64,
    key: String,
    hits: u64,
    need: u64,
    short: u64,
    /// The limit's period.
    every: Nanos,
}

/// What the service said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Answer {
    granted: bool,
    left: Option<u64>,
    reset: Option<Nanos>,
}

/// What follows from an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Try to admit again.
    Retry,
    /// Ask again, for less.
    Ask(Question),
}

/// Spends from the lease of this limit, or says what to ask. Returns how the caller stands, the window that was spent from, and how many
/// updates others won.
///
/// # Errors
/// [`Refused`], or [`Refused::Asks`].
#[expect(clippy::too_many_arguments, reason = "what a charge needs, and what a question is made of")]
pub fn take(
    limit: &Limit,
    rate: Rate,
    fingerprint: u64,
    reserved: u64,
    config: &Config,
    caller: &Caller,
    facts: &Facts,
    till: &mut Till<'_>,
) -> Result<(Standing, Nanos, u32), Refused> {
    let Some(mesh) = &config.mesh else { return Err(Refused::Contended) };
    let now = till.holder.now;
    if reserved > rate.burst().saturating_mul(MILLI) {
        let refusal = Refusal::Never { burst: rate.burst() };
        let standing = standing(limit, rate, Pool::default(), now);
        return Err(Refused::Limit { standing, cost: reserved.div_ceil(MILLI), refusal });
    }
    let patience = u64::from(mesh.timeout_ms).saturating_mul(1_000_000);
    let largest = rate.burst().div_ceil(LEASES).min(HITS_MAX);
    let mut taken = None;
    let changed = till.store.update(&pool_key(fingerprint), &mut |old| {
        let old = old.unwrap_or_default();
        let outcome = pool::get(old, fingerprint).take(now, reserved, largest, patience);
        taken = Some(outcome);
        match outcome {
            Taken::Spent(pool) | Taken::Ask { pool, .. } => Some(pool::set(old, fingerprint, pool, now)),
            Taken::Refused { .. } => None,
        }
    });
    let retries = changed.map_err(|Contended| Refused::Contended)?;
    match taken {
        None => Err(Refused::Contended),
        Some(Taken::Spent(pool)) => Ok((standing(limit, rate, pool, now), pool.window(), retries)),
        Some(Taken::Ask { hits, need, short, .. }) => Err(Refused::Asks(Question {
            limit: limit.name.clone(),
            fingerprint,
            key: key(limit, mesh, caller, facts),
            hits: hits.min(HITS_MAX),
            need: need.min(HITS_MAX),
            short: short.min(HITS_MAX),
            every: rate.every(),
        })),
        Some(Taken::Refused { wait, pool }) => {
            let standing = Standing { reset: wait, ..standing(limit, rate, pool, now) };
            Err(Refused::Limit { standing, cost: reserved.div_ceil(MILLI), refusal: Refusal::NotYet { wait } })
        }
    }
}

fn standing(limit: &Limit, rate: Rate, pool: Pool, now: Nanos) -> Standing {
    Standing {
        limit: limit.name.clone(),
        burst: rate.burst(),
        remaining: pool.remaining().min(rate.burst()),
        reset: pool.window().saturating_sub(now),
    }
}

/// Corrects what was spent from a lease. `false` where that is contended.
pub fn settle(fingerprint: u64, window: Nanos, reserved: u64, used: u64, till: &mut Till<'_>) -> bool {
    let now = till.holder.now;
    let settled = till.store.update(&pool_key(fingerprint), &mut |old| {
        let old = old.unwrap_or_default();
        let pool = pool::get(old, fingerprint).settle(now, window, reserved, used);
        Some(pool::set(old, fingerprint, pool, now))
    });
    settled.is_ok()
}

/// Whether the service did not answer a moment ago.
pub fn is_down(now: Nanos, store: &mut dyn Store) -> bool {
    let until = store.get(DOWN_KEY).and_then(|bytes| bytes.as_slice().try_into().ok()).map_or(0, u64::from_le_bytes);
    now < until && until.abs_diff(now) <= DOWN
}

/// Takes an answer to the books; `None` is that there was none. Without a value nothing can be asked for a while.
pub fn answered(question: Question, message: Option<&[u8]>, now: Nanos, store: &mut dyn Store) -> Option<Next> {
    let Some(answer) = message.and_then(parse) else {
        let _ = store.update(DOWN_KEY, &mut |_| Some(now.saturating_add(DOWN).to_le_bytes().to_vec()));
        return None;
    };
    let Question { fingerprint, hits, need, short, every, .. } = question;
    if !answer.granted && hits > short {
        let hits = if hits > need { need } else { short };
        return Some(Next::Ask(Question { hits, ..question }));
    }
    // An answer that cannot be noted is a lease that is lost; the next attempt asks again.
    let _ = store.update(&pool_key(fingerprint), &mut |old| {
        let old = old.unwrap_or_default();
        let pool = pool::get(old, fingerprint);
        let pool = if answer.granted {
            pool.granted(now, hits, answer.reset, every, answer.left.unwrap_or(0))
        } else {
            pool.refused(now, short, answer.reset.unwrap_or(0), answer.left.unwrap_or(0))
        };
        Some(pool::set(old, fingerprint, pool, now))
    });
    Some(Next::Retry)
}

/// Whom a limit counts, as all proxies name it: by a hash that is not keyed by this process.
pub fn key(limit: &Limit, mesh: &Mesh, caller: &Caller, facts: &Facts) -> String {
    let mut hasher = SipHasher13::new_with_key(&mesh.salt);
    for source in &limit.per {
        let value = caller.raw(source, &facts.model).unwrap_or_default();
        hasher.write(&(value.len() as u64).to_le_bytes());
        hasher.write(value);
    }
    format!("{:016x}", hasher.finish())
}

/// The request as protobuf.
pub fn encode(question: &Question, config: &Config) -> Vec<u8> {
    let domain = config.mesh.as_ref().map_or("", |mesh| mesh.domain.as_str());
    let entry = |key: &str, value: &str| field(1, &[field(1, key.as_bytes()), field(2, value.as_bytes())].concat());
    let descriptor = [entry("limit", &question.limit), entry("key", &question.key)].concat();
    let mut out = [field(1, domain.as_bytes()), field(2, &descriptor)].concat();
    // Field 3, a varint.
    out.push(3 << 3);
    varint(&mut out, question.hits.min(HITS_MAX));
    out
}

fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    varint(&mut out, bytes.len() as u64);
    out.extend_from_slice(bytes);
    out
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// `RateLimitResponse`: the overall code is field 1; the first status, field 2, has what is left (3) and until when (4).
fn parse(message: &[u8]) -> Option<Answer> {
    let mut answer = Answer { granted: false, left: None, reset: None };
    let mut code = 0;
    fields(message, |number, value| match (number, value) {
        (1, Value::Number(number)) => code = number,
        (2, Value::Bytes(status)) if answer.left.is_none() => {
            answer.left = Some(0);
            let _ = fields(status, |number, value| match (number, value) {
                (3, Value::Number(left)) => answer.left = Some(left),
                (4, Value::Bytes(duration)) => {
                    let (mut seconds, mut nanos) = (0, 0);
                    let _ = fields(duration, |number, value| match (number, value) {
                        (1, Value::Number(number)) => seconds = number,
                        (2, Value::Number(number)) => nanos = number,
                        _ => {}
                    });
                    answer.reset = Some(seconds.saturating_mul(1_000_000_000).saturating_add(nanos));
                }
                _ => {}
            });
        }
        _ => {}
    })?;
    answer.granted = code == 1;
    // An answer that says neither yes nor no is none.
    (1..=2).contains(&code).then_some(answer)
}

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// Every field of a message; `None` where it is not protobuf.
fn fields<'a>(mut message: &'a [u8], mut each: impl FnMut(u64, Value<'a>)) -> Option<()> {
    while !message.is_empty() {
        let tag = read(&mut message)?;
        match tag & 7 {
            0 => each(tag >> 3, Value::Number(read(&mut message)?)),
            2 => {
                let len = usize::try_from(read(&mut message)?).ok()?;
                let (bytes, rest) = message.split_at_checked(len)?;
                message = rest;
                each(tag >> 3, Value::Bytes(bytes));
            }
            1 => message = message.get(8..)?,
            5 => message = message.get(4..)?,
            _ => return None,
        }
    }
    Some(())
}

fn read(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = message.split_first()?;
        *message = rest;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn pool_key(fingerprint: u64) -> String {
    format!("penstock/pool/{}", fingerprint % PAGES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_protocol_is_read_and_written() {
        let config = br#"{"mesh":{"service":"rls","domain":"penstock"}}"#;
        let config = Config::parse(config).unwrap();
        let question =
            Question { limit: "tpm".into(), fingerprint: 1, key: "ab".into(), hits: 300, need: 5, short: 5, every: 9 };
        let expected =
            b"\x0a\x08penstock\x12\x19\x0a\x0c\x0a\x05limit\x12\x03tpm\x0a\x09\x0a\x03key\x12\x02ab\x18\xac\x02";
        assert_eq!(encode(&question, &config), expected);
        let yes = Answer { granted: true, left: None, reset: None };
        assert_eq!(parse(b"\x08\x01"), Some(yes));
        assert_eq!(parse(b"\x08\x02"), Some(Answer { granted: false, ..yes }));
        let told = Answer { left: Some(300), reset: Some(7_000_000_005), ..yes };
        assert_eq!(parse(b"\x08\x01\x12\x0b\x08\x01\x18\xac\x02\x22\x04\x08\x07\x10\x05"), Some(told));
        for none in [b"".as_slice(), b"\x08\x00", b"\x08", b"\x12\x7f", b"\xff\xff\xff", b"not protobuf"] {
            assert_eq!(parse(none), None, "{none:?}");
        }
    }

    proptest! {
        #[test]
        fn any_answer_is_read_or_not(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }
    }
}
