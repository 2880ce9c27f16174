//! An HTTP header map as filters see it: lower-case names in order of arrival, values that are bytes.

/// Header names and values in order. Names are kept in lower case, as Envoy keeps them; a name may occur more than once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, Vec<u8>)>);

impl Headers {
    /// Headers from pairs, in the order given.
    pub fn new<N: AsRef<str>, V: AsRef<[u8]>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let mut headers = Headers::default();
        for (name, value) in pairs {
            headers.add(name.as_ref(), value.as_ref());
        }
        headers
    }

    /// The first value under this name: what `proxy_get_header_map_value` answers.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.0.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_slice())
    }

    /// The first value under this name as text; bytes that are not UTF-8 are replaced.
    pub fn text(&self, name: &str) -> Option<String> {
        self.get(name).map(|value| String::from_utf8_lossy(value).into_owned())
    }

    /// The response's `:status`, 0 when there is none.
    pub fn status(&self) -> u16 {
        self.text(":status").and_then(|s| s.parse().ok()).unwrap_or(0)
    }

    /// Appends a value and keeps what is there.
    pub fn add(&mut self, name: &str, value: &[u8]) {
        self.0.push((name.to_ascii_lowercase(), value.to_vec()));
    }

    /// Replaces the values under this name by one.
    pub fn set(&mut self, name: &str, value: &[u8]) {
        match self.0.iter().position(|(n, _)| n.eq_ignore_ascii_case(name)) {
            None => self.add(name, value),
            Some(first) => {
                self.0[first].1 = value.to_vec();
                let mut index = 0;
                self.0.retain(|(n, _)| {
                    index += 1;
                    index - 1 <= first || !n.eq_ignore_ascii_case(name)
                });
            }
        }
    }

    /// Removes every value under this name.
    pub fn remove(&mut self, name: &str) {
        self.0.retain(|(n, _)| !n.eq_ignore_ascii_case(name));
    }

    /// All pairs in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_slice()))
    }

    /// How many pairs there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no pair at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The ABI's form: a count, the lengths of all names and values, then the bytes, each closed by a zero.
    pub(super) fn serialize(&self) -> Vec<u8> {
        let mut out = (self.0.len() as u32).to_le_bytes().to_vec();
        for (name, value) in &self.0 {
            out.extend((name.len() as u32).to_le_bytes());
            out.extend((value.len() as u32).to_le_bytes());
        }
        for (name, value) in &self.0 {
            out.extend(name.as_bytes());
            out.push(0);
            out.extend(value);
            out.push(0);
        }
        out
    }

    /// Reads the ABI's form; `None` when lengths and bytes disagree or a name is not UTF-8.
    pub(super) fn deserialize(bytes: &[u8]) -> Option<Self> {
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_keeps_the_place_and_drops_the_repeats() {
        let mut headers = Headers::new([("A", "1"), ("b", "2"), ("a", "3"), ("c", "4")]);
        headers.set("a", b"9");
        assert_eq!(headers, Headers::new([("a", "9"), ("b", "2"), ("c", "4")]));
    }

    #[test]
    fn the_abi_form_round_trips_and_refuses_short_input() {
        let headers = Headers::new(
            [(&b"x"[..], &b"\xff\x00"[..]), (b"yy", b"")].map(|(n, v)| (std::str::from_utf8(n).unwrap(), v)),
        );
        let bytes = headers.serialize();
        assert_eq!(Headers::deserialize(&bytes), Some(headers));
        assert_eq!(Headers::deserialize(&bytes[..bytes.len() - 2]), None);
        assert_eq!(Headers::deserialize(&[255, 255, 255, 255]), None);
    }
}
