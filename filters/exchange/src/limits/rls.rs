//! The rate limit service's protocol, as far as it is used.
//!
//! `envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit`: one descriptor with the entries `limit` (its name) and `key` (whom it
//! counts), and how many hits are asked for. Of the answer the code is read and, where the service says so, what is left and when its window
//! ends.

use std::rc::Rc;

use penstock_units::{Fingerprint, Nanos, Tokens};

use crate::config::RateLimitService;

/// The service, as gRPC names it.
pub const SERVICE: &str = "envoy.service.ratelimit.v3.RateLimitService";
/// Its method.
pub const METHOD: &str = "ShouldRateLimit";
/// The protocol counts hits in 32 bits.
pub const HITS_MAX: Tokens = Tokens(u32::MAX as u64);

/// A lease that the service is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseRequest {
    /// Who is asked.
    pub service: Rc<RateLimitService>,
    /// The limit's name.
    pub limit: Rc<str>,
    /// Whom it counts, for this proxy.
    pub fingerprint: Fingerprint,
    /// Whom it counts, for all proxies.
    pub key: String,
    /// How much is asked for.
    pub hits: Tokens,
    /// What is enough, if others spend what is leased meanwhile.
    pub need: Tokens,
    /// What is enough, if they do not.
    pub short: Tokens,
    /// The limit's period: for so long a lease is spent where the service does not say when its window ends.
    pub period: Nanos,
}

/// What the service said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response {
    /// Whether the hits are granted.
    pub granted: bool,
    /// What is left of the budget.
    pub left: Option<Tokens>,
    /// When its window ends, from now.
    pub reset: Option<Nanos>,
}

impl LeaseRequest {
    /// As `RateLimitRequest`.
    pub fn encode(&self) -> Vec<u8> {
        let entry = |key: &str, value: &str| field(1, &[field(1, key.as_bytes()), field(2, value.as_bytes())].concat());
        let descriptor = [entry("limit", &self.limit), entry("key", &self.key)].concat();
        let mut out = [field(1, self.service.domain.as_bytes()), field(2, &descriptor)].concat();
        // Field 3, a varint.
        out.push(3 << 3);
        varint(&mut out, self.hits.min(HITS_MAX).0);
        out
    }
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

impl Response {
    /// From `RateLimitResponse`: the overall code is field 1; the first status, field 2, has what is left (3) and until when (4). `None`
    /// where it says neither yes nor no.
    pub fn decode(message: &[u8]) -> Option<Self> {
        let (mut code, mut first) = (0, None);
        fields(message, |number, value| match (number, value) {
            (1, Value::Number(number)) => code = number,
            (2, Value::Bytes(bytes)) if first.is_none() => first = Some(status(bytes)),
            _ => {}
        })?;
        let (left, reset) = first.map_or((None, None), |(left, reset)| (Some(left), reset));
        (1..=2).contains(&code).then_some(Self { granted: code == 1, left, reset })
    }
}

/// What a status says is left, and until when.
fn status(message: &[u8]) -> (Tokens, Option<Nanos>) {
    let (mut left, mut reset) = (Tokens::ZERO, None);
    let _ = fields(message, |number, value| match (number, value) {
        (3, Value::Number(number)) => left = Tokens(number),
        (4, Value::Bytes(bytes)) => reset = Some(duration(bytes)),
        _ => {}
    });
    (left, reset)
}

/// `google.protobuf.Duration`
fn duration(message: &[u8]) -> Nanos {
    let (mut seconds, mut nanos) = (0, 0);
    let _ = fields(message, |number, value| match (number, value) {
        (1, Value::Number(number)) => seconds = number,
        (2, Value::Number(number)) => nanos = number,
        _ => {}
    });
    Nanos::SECOND.saturating_mul(seconds).saturating_add(Nanos(nanos))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::OnError;
    use penstock_units::Millis;
    use proptest::prelude::*;

    #[test]
    fn the_protocol_is_read_and_written() {
        let service = RateLimitService {
            cluster: "rls".into(),
            domain: "penstock".into(),
            timeout: Millis(100),
            on_error: OnError::Local,
            salt: [0; 16],
        };
        let request = LeaseRequest {
            service: Rc::new(service),
            limit: "tpm".into(),
            fingerprint: Fingerprint(1),
            key: "ab".into(),
            hits: Tokens(300),
            need: Tokens(5),
            short: Tokens(5),
            period: Nanos(9),
        };
        let expected =
            b"\x0a\x08penstock\x12\x19\x0a\x0c\x0a\x05limit\x12\x03tpm\x0a\x09\x0a\x03key\x12\x02ab\x18\xac\x02";
        assert_eq!(request.encode(), expected);
        let yes = Response { granted: true, left: None, reset: None };
        assert_eq!(Response::decode(b"\x08\x01"), Some(yes));
        assert_eq!(Response::decode(b"\x08\x02"), Some(Response { granted: false, ..yes }));
        let told = Response { left: Some(Tokens(300)), reset: Some(Nanos(7_000_000_005)), ..yes };
        assert_eq!(Response::decode(b"\x08\x01\x12\x0b\x08\x01\x18\xac\x02\x22\x04\x08\x07\x10\x05"), Some(told));
        for none in [b"".as_slice(), b"\x08\x00", b"\x08", b"\x12\x7f", b"\xff\xff\xff", b"not protobuf"] {
            assert_eq!(Response::decode(none), None, "{none:?}");
        }
    }

    proptest! {
        #[test]
        fn any_answer_is_read_or_not(bytes: Vec<u8>) {
            let _ = Response::decode(&bytes);
        }
    }
}
