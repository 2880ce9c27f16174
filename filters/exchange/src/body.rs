//! The request's body while it is held: how it is compressed, what is to be edited, and what became of the headers in front of it.
//!
//! What is compressed is held as it came, decoded when all of it is there, and goes on decoded: the servers behind do not decode, and edits
//! are made in the text. `content-encoding` is taken away when the headers go. Where they go before the body that is a promise, which every
//! way out keeps: the body goes on decoded, or the request is refused.

use penstock_dialects::{Coding, Splice};
use penstock_units::Nanos;

use crate::json::decimal;
use crate::port::{Effect, Headers, Properties};
use crate::refusal::Refusal;

/// How many times as long as it came a compressed body may become: work that is asked for with little is bounded by that.
const RATIO_MAX: usize = 100;
/// What it may become in any case, in bytes.
const DECODED_FREE: usize = 256 << 10;

/// What became of the request's headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// They wait for the body, and can be edited.
    Held {
        /// What they say its length is.
        length: Option<usize>,
    },
    /// They were never held, as this proxy does not let them wait.
    Passed,
    /// They were held until then, and no body came.
    Released(Nanos),
}

/// The body of one request.
#[derive(Debug)]
pub struct Body {
    /// What became of the headers.
    pub head: Head,
    /// Some of it has come.
    pub has_begun: bool,
    /// How many bytes of it are here.
    pub bytes: usize,
    /// How it came compressed.
    pub coding: Option<Coding>,
    /// What that was decoded to, until it is handed over to the proxy.
    pub decoded: Option<Vec<u8>>,
    /// It can no longer be edited.
    is_fixed: bool,
    /// Edits, collected over the stages.
    splices: Vec<Splice>,
}

impl Default for Body {
    fn default() -> Self {
        Self {
            head: Head::Held { length: None },
            has_begun: false,
            bytes: 0,
            coding: None,
            decoded: None,
            is_fixed: false,
            splices: Vec::new(),
        }
    }
}

impl Body {
    /// Whether the headers can still be edited.
    pub fn holds_headers(&self) -> bool {
        matches!(self.head, Head::Held { .. })
    }

    /// The headers go on without waiting for the body, which may be edited when its length can no longer be told.
    pub fn let_headers_go(&mut self, head: Head, out: &mut Vec<Effect>) {
        self.head = head;
        out.push(Effect::DropRequestHeader("content-length".to_owned()));
        if self.coding.is_some() {
            out.push(Effect::DropRequestHeader("content-encoding".to_owned()));
        }
    }

    /// Decodes it, now that all of it is there, into no more than `most` bytes.
    ///
    /// # Errors
    /// [`Refusal`] where that cannot be done.
    pub fn decode(&mut self, most: usize, properties: &dyn Properties) -> Result<(), Refusal> {
        let Some(coding) = self.coding else { return Ok(()) };
        if self.is_fixed {
            return Err(Refusal::late_trailers(coding));
        }
        let bytes = properties.body(0..usize::MAX >> 1).unwrap_or_default();
        let most = most.min(bytes.len().saturating_mul(RATIO_MAX).max(DECODED_FREE));
        let decoded = coding.decode(&bytes, most).map_err(|error| Refusal::undecodable(coding, error, most))?;
        self.bytes = decoded.len();
        self.decoded = Some(decoded);
        Ok(())
    }

    /// A part of it as a text, however it came.
    pub fn text(&self, part: core::ops::Range<usize>, properties: &dyn Properties) -> Option<Vec<u8>> {
        match &self.decoded {
            None => properties.body(part),
            Some(text) => {
                let end = part.end.min(text.len());
                text.get(part.start.min(end)..end).map(<[u8]>::to_vec)
            }
        }
    }

    /// Whether the server understands it though it was not understood here: not where the headers no longer say how it is compressed.
    pub fn can_pass(&self) -> bool {
        self.coding.is_none() || self.decoded.is_some() || self.holds_headers()
    }

    /// It ends with trailers. A proxy that did not let the headers wait hands these over while it is forwarding the body.
    pub fn ends_with_trailers(&mut self) {
        self.is_fixed = !self.holds_headers();
    }

    /// Whether edits reach the server.
    pub fn can_be_edited(&self) -> bool {
        !self.is_fixed
    }

    /// Adds edits. They have no effect where the body cannot be edited.
    pub fn edit(&mut self, splices: impl IntoIterator<Item = Splice>) {
        if self.can_be_edited() {
            self.splices.extend(splices);
        }
    }

    /// What was decoded takes the place of what came. The proxy keeps it from here on.
    pub fn hand_over(&mut self, out: &mut Vec<Effect>) {
        let Some(decoded) = self.decoded.take() else { return };
        if let Head::Held { length } = &mut self.head {
            out.push(Effect::DropRequestHeader("content-encoding".to_owned()));
            if let Some(length) = length {
                *length = decoded.len();
                out.push(Effect::RequestHeader("content-length", decimal(*length as u64).into_bytes()));
            }
        }
        out.push(Effect::RequestBody(decoded));
    }

    /// Carries the edits out, and says how long the body is now.
    pub fn forward(&mut self, out: &mut Vec<Effect>) {
        self.hand_over(out);
        let splices = core::mem::take(&mut self.splices);
        if splices.is_empty() {
            return;
        }
        if let Head::Held { length: Some(length) } = self.head {
            let length = splices.iter().fold(length, |length, splice| {
                length.saturating_add(splice.with.len()).saturating_sub(splice.at.len())
            });
            out.push(Effect::RequestHeader("content-length", decimal(length as u64).into_bytes()));
        }
        out.push(Effect::Splice(splices));
    }
}

/// What headers say of the body that follows them.
#[derive(Default)]
pub struct Announced {
    /// How it is compressed; `None` for not at all.
    pub coding: Option<Coding>,
    /// How long it is.
    pub length: Option<usize>,
    /// The client sends it when the server has said so.
    pub waits: bool,
}

/// Reads these headers, in one pass over them.
///
/// # Errors
/// [`Refusal`] for a coding that is not decoded here, and for several.
pub fn announced(headers: &Headers) -> Result<Announced, Refusal> {
    let (mut said, mut has_coding) = (Announced::default(), false);
    for (name, value) in headers {
        match name.as_str() {
            "content-length" if said.length.is_none() => {
                said.length = core::str::from_utf8(value).ok().and_then(|length| length.parse().ok());
            }
            "content-encoding" => {
                said.coding = Coding::named(value);
                let is_read = said.coding.is_some() || value.eq_ignore_ascii_case(b"identity");
                if core::mem::replace(&mut has_coding, true) || !is_read {
                    return Err(Refusal::unsupported_coding());
                }
            }
            "expect" => said.waits |= value.eq_ignore_ascii_case(b"100-continue"),
            _ => {}
        }
    }
    Ok(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edit() -> Splice {
        Splice { at: 3..5, with: b"four".to_vec() }
    }

    #[test]
    fn a_body_that_is_edited_says_its_new_length() {
        let mut out = Vec::new();
        let mut body = Body { head: Head::Held { length: Some(10) }, ..Body::default() };
        body.forward(&mut out);
        assert_eq!(out, []);
        body.edit([edit()]);
        body.forward(&mut out);
        assert_eq!(out, [Effect::RequestHeader("content-length", b"12".to_vec()), Effect::Splice(vec![edit()])]);
    }

    #[test]
    fn a_body_whose_headers_went_says_none_and_one_with_trailers_is_not_edited() {
        let mut out = Vec::new();
        let mut body = Body::default();
        body.let_headers_go(Head::Passed, &mut out);
        assert_eq!(out, [Effect::DropRequestHeader("content-length".to_owned())]);
        body.edit([edit()]);
        body.forward(&mut out);
        assert_eq!(out.split_off(1), [Effect::Splice(vec![edit()])]);
        body.ends_with_trailers();
        body.edit([edit()]);
        body.forward(&mut out);
        assert_eq!(out.len(), 1);
    }
}
