//! Which paths are open.

use penstock_dialects::normal;

use super::policy::{Mode, Policy};

/// Which requests pass besides those to the APIs of models.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// What passes by every method.
    pub allow: Vec<PathPattern>,
    /// What passes without an identity.
    pub public: Vec<PathPattern>,
    /// What happens to the rest.
    pub other: Policy,
    /// Whether that is done.
    pub mode: Mode,
    /// Whether anything is closed: not where nothing is said of paths, and no model is configured.
    pub is_configured: bool,
}

/// A path that is opened by name, or all below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPattern {
    /// As it is written, without the star.
    written: String,
    /// The same in lower case.
    form: String,
    /// All below it.
    is_below: bool,
}

impl PathPattern {
    /// `None` for what is no path in its normal form.
    pub(in crate::config) fn new(text: &str) -> Option<Self> {
        let is_below = text.ends_with("/*");
        let written = if is_below { text.strip_suffix('*')? } else { text };
        let form = written.to_ascii_lowercase();
        let base = if is_below && form != "/" { form.strip_suffix('/')? } else { &form };
        let is_plain = normal(written.as_bytes())? == base;
        (is_plain && !written.contains('*')).then(|| Self { written: written.to_owned(), form, is_below })
    }

    /// Whether a path is meant: as it is written, and in its normal form, so that all servers find it here.
    pub fn has(&self, path: &[u8], form: &str) -> bool {
        if self.is_below {
            path.starts_with(self.written.as_bytes()) && form.starts_with(&self.form)
        } else {
            self.is(path)
        }
    }

    /// Whether it is this very path.
    pub fn is(&self, path: &[u8]) -> bool {
        !self.is_below && path.strip_prefix(self.written.as_bytes()).is_some_and(|rest| matches!(rest, [] | [b'?', ..]))
    }
}
