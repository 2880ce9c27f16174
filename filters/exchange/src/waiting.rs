//! Whether a request's headers may wait for its body: configured, or found out.
//!
//! A proxy that lets them wait calls back with the body while the headers are held; one such callback is a proof. A proxy
//! that does not keeps the body to itself until the headers are let go, and then hands it over at once and in one piece.
//! A slow upload looks like that only by chance, so it takes [`EVIDENCE`] such observations to conclude that headers
//! cannot wait. The verdict is shared by the workers.

use penstock_units::{Millis, Nanos};

use crate::config::WaitForBody;
use crate::keys;
use crate::port::{Effect, Level, Store};

/// How many times the body must have come right after the headers were let go.
const EVIDENCE: u8 = 3;
/// What "right after" means.
const AT_ONCE: Nanos = Nanos(50_000_000);
/// How long headers are held without a body where that was found to help.
const PATIENCE: Millis = Millis(10_000);

/// What is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Headers may wait.
    Yes,
    /// They may not.
    No,
    /// To be tried: hold the headers, and let them go after a tick without a body.
    Unknown,
}

/// One worker's knowledge.
#[derive(Debug)]
pub struct Waiting {
    verdict: Verdict,
    /// It is to be found out, and may change.
    auto: bool,
}

impl Waiting {
    /// From the configuration, or from what other workers saw.
    pub fn new(configured: WaitForBody, store: &mut dyn Store) -> Self {
        let verdict = match configured {
            WaitForBody::Yes => Verdict::Yes,
            WaitForBody::No => Verdict::No,
            WaitForBody::Auto => Verdict::Unknown,
        };
        // What was found out before may have been about another listener's settings.
        if configured == WaitForBody::Auto {
            let _ = store.update(keys::WAIT, &mut |_| Some(vec![0, 0]));
        }
        Self { verdict, auto: configured == WaitForBody::Auto }
    }

    /// What is known.
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// For how many ticks headers are held without a body before they are let go: briefly as long as it is not known whether that
    /// helps, and for as long as a client may take to begin its body where it does. `None`: for as long as it takes.
    pub fn patience(&self, tick: Millis) -> Option<u64> {
        match self.verdict {
            // Some may still be held when it turns out that they may not wait.
            Verdict::Unknown | Verdict::No => Some(1),
            Verdict::Yes if self.auto => Some(PATIENCE.0.div_ceil(tick.0.max(1))),
            Verdict::Yes => None,
        }
    }

    /// Asks what other workers saw. Cheap once there is a verdict.
    pub fn refresh(&mut self, store: &mut dyn Store) {
        if self.auto && self.verdict != Verdict::No {
            self.verdict = match store.get(keys::WAIT).as_deref() {
                Some([1, _]) => Verdict::Yes,
                Some([_, against]) if *against >= EVIDENCE => Verdict::No,
                _ => self.verdict,
            };
        }
    }

    /// A body came while its headers were held.
    pub fn body_while_held(&mut self, store: &mut dyn Store) {
        if self.verdict == Verdict::Unknown {
            let _ = store.update(keys::WAIT, &mut |_| Some(vec![1, 0]));
            self.verdict = Verdict::Yes;
        }
    }

    /// A body began to come this long after its headers were let go; `whole`: in one piece.
    pub fn body_after_release(&mut self, after: Nanos, whole: bool, store: &mut dyn Store, out: &mut Vec<Effect>) {
        if !self.auto || self.verdict == Verdict::No || !whole || after > AT_ONCE {
            return;
        }
        let _ = store.update(keys::WAIT, &mut |old| match old {
            // Other streams' bodies come while their headers are held; so many that do not outweigh them.
            Some([may, against]) => {
                let against = against.saturating_add(1);
                Some(vec![u8::from(*may == 1 && against < EVIDENCE), against])
            }
            _ => Some(vec![0, 1]),
        });
        self.refresh(store);
        if self.verdict == Verdict::No {
            let text = "this proxy does not let headers wait for the body: the version is drawn without the body's \
                        model, x-penstock-model is not set, and refusals are sent after the headers went on. Set \
                        allow_on_headers_stop_iteration (Envoy 1.35 or later) to lift this, or waitForBody: false to \
                        confirm it";
            out.push(Effect::Log(Level::Warn, text.to_owned()));
        }
    }
}
