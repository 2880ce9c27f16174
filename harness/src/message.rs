//! HTTP messages as filters and both ends see them: header maps with lower-case names in order of arrival and values that are bytes, and
//! what arrived of a message so far.

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
}

/// What came out at the far end of a direction: at the model server, or at the client.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The headers, once they arrived.
    pub headers: Option<Headers>,
    /// The body so far.
    pub body: Vec<u8>,
    /// The size of the body after each piece that arrived.
    pub pieces: Vec<usize>,
    /// The message is complete.
    pub end: bool,
    /// The message was broken off.
    pub reset: bool,
}

impl Seen {
    /// The response's status; 0 before there is one.
    pub fn status(&self) -> u16 {
        self.headers.as_ref().map_or(0, Headers::status)
    }

    /// A header's first value as text.
    pub fn header(&self, name: &str) -> Option<String> {
        self.headers.as_ref().and_then(|headers| headers.text(name))
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
}
