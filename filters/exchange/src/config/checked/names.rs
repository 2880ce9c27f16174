//! What clients may call the models: resolved once, when the configuration is checked, so that a request costs one search.

/// The names under which models are asked for.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// Names, exact aliases, and the names that only servers use; sorted.
    pub(in crate::config) exact: Vec<(String, Door)>,
    /// Prefixes, the longest first.
    pub(in crate::config) prefixes: Vec<(String, usize)>,
    /// The model that takes every other name.
    pub(in crate::config) rest: Option<usize>,
}

/// Where a name leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// To the model at this place of the list.
    To(usize),
    /// Nowhere: a server calls a version so. Who asks for it would choose the version, and pass by what is configured for the model.
    Closed,
}

impl Names {
    /// Where a name leads: to its model, by an exact alias, by the longest prefix, or to the model that takes the rest.
    pub fn find(&self, name: &str) -> Option<usize> {
        if let Ok(at) = self.place(name) {
            return self.exact.get(at)?.1.leads_to();
        }
        let prefix = self.prefixes.iter().find(|(prefix, _)| name.starts_with(prefix.as_str()));
        prefix.map(|(_, at)| *at).or(self.rest)
    }

    /// The names that clients may be told of, each with its model: no prefixes, and nothing that only servers know.
    pub fn listed(&self) -> impl Iterator<Item = (&str, usize)> {
        self.exact.iter().filter_map(|(name, door)| Some((name.as_str(), door.leads_to()?)))
    }

    /// Where a name is, or would be.
    pub(in crate::config) fn place(&self, name: &str) -> Result<usize, usize> {
        self.exact.binary_search_by(|(known, _)| known.as_str().cmp(name))
    }
}

impl Door {
    /// The place of the model, where it leads to one.
    pub(in crate::config) fn leads_to(self) -> Option<usize> {
        match self {
            Self::To(at) => Some(at),
            Self::Closed => None,
        }
    }
}
