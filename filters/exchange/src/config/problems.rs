//! What is wrong with a configuration, as it is found, and the checks that all sections share.

use core::fmt;

use penstock_units::Nanos;

use super::checked::Mode;
use super::raw;
use super::units::{duration, is_name};

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where, as in `limits[2].every`.
    pub path: String,
    /// What, with the value and the fix.
    pub what: String,
}

/// All that is wrong with a configuration; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<Problem>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, Problem { path, what }) in self.0.iter().enumerate() {
            write!(f, "{}{path}: {what}", if i == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// `mode`, wherever it stands.
pub fn mode(raw: Option<raw::Mode>) -> Mode {
    match raw {
        Some(raw::Mode::Observe) => Mode::Observe,
        Some(raw::Mode::Enforce) | None => Mode::Enforce,
    }
}

/// Gathers what is wrong, and what the operator is to be told besides.
#[derive(Default)]
pub struct Problems {
    /// What makes the configuration invalid.
    pub found: Vec<Problem>,
    /// What it is to be told at load.
    pub notices: Vec<String>,
}

impl Problems {
    /// Something is wrong.
    pub fn problem(&mut self, path: impl Into<String>, what: impl Into<String>) {
        self.found.push(Problem { path: path.into(), what: what.into() });
    }

    /// A list or map that is too long.
    pub fn count(&mut self, path: &str, n: usize, max: usize) {
        if n > max {
            self.problem(path, format!("{n} entries are more than the {max} that are allowed"));
        }
    }

    /// A name that becomes a label.
    pub fn name(&mut self, path: String, name: &str) {
        if !is_name(name) {
            let what = format!("{name:?} is not a name; write 1 to 64 of A-Z a-z 0-9 . _ - / : @");
            self.problem(path, what);
        }
    }

    /// A duration that is not zero.
    pub fn duration(&mut self, path: String, text: &str) -> Option<Nanos> {
        let nanos = duration(text).filter(|nanos| *nanos > Nanos::ZERO);
        if nanos.is_none() {
            self.problem(path, format!("{text:?} is not a duration; write 30s, 5m, 1h"));
        }
        nanos
    }
}
