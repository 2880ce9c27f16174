//! The ABI's form of a header map: a count, the lengths of all names and values, then the bytes, each closed by a zero.

use crate::message::Headers;

/// Writes the form.
pub(super) fn serialize(headers: &Headers) -> Vec<u8> {
    let mut out = (headers.len() as u32).to_le_bytes().to_vec();
    for (name, value) in headers.iter() {
        out.extend((name.len() as u32).to_le_bytes());
        out.extend((value.len() as u32).to_le_bytes());
    }
    for (name, value) in headers.iter() {
        out.extend(name.as_bytes());
        out.push(0);
        out.extend(value);
        out.push(0);
    }
    out
}

/// Reads the form; `None` when lengths and bytes disagree or a name is not UTF-8.
pub(super) fn deserialize(bytes: &[u8]) -> Option<Headers> {
    if bytes.is_empty() {
        return Some(Headers::default());
    }
    let number = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?) as usize);
    let count = number(0)?;
    let mut at = count.checked_mul(8)?.checked_add(4)?;
    let mut headers = Headers::default();
    for index in 0..count {
        let (name, value) = (number(4 + index * 8)?, number(8 + index * 8)?);
        let name_bytes = bytes.get(at..at + name)?;
        at += name + 1;
        headers.add(std::str::from_utf8(name_bytes).ok()?, bytes.get(at..at + value)?);
        at += value + 1;
    }
    Some(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_abi_form_round_trips_and_refuses_short_input() {
        let headers = Headers::new(
            [(&b"x"[..], &b"\xff\x00"[..]), (b"yy", b"")].map(|(n, v)| (std::str::from_utf8(n).unwrap(), v)),
        );
        let bytes = serialize(&headers);
        assert_eq!(deserialize(&bytes), Some(headers));
        assert_eq!(deserialize(&bytes[..bytes.len() - 2]), None);
        assert_eq!(deserialize(&[255, 255, 255, 255]), None);
    }
}
