//! The request's body while it is held: what is to be edited, and what became of the headers in front of it.

use penstock_dialects::Splice;
use penstock_units::Nanos;

use crate::port::Effect;

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
    /// It can no longer be edited.
    is_fixed: bool,
    /// Edits, collected over the stages.
    splices: Vec<Splice>,
}

impl Default for Body {
    fn default() -> Self {
        Self { head: Head::Held { length: None }, has_begun: false, is_fixed: false, splices: Vec::new() }
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

    /// Carries the edits out, and says how long the body is now.
    pub fn forward(&mut self, out: &mut Vec<Effect>) {
        let splices = core::mem::take(&mut self.splices);
        if splices.is_empty() {
            return;
        }
        if let Head::Held { length: Some(length) } = self.head {
            let length = splices.iter().fold(length, |length, splice| {
                length.saturating_add(splice.with.len()).saturating_sub(splice.at.len())
            });
            out.push(Effect::RequestHeader("content-length", length.to_string().into_bytes()));
        }
        out.push(Effect::Splice(splices));
    }
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
