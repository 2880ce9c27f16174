//! Whether a request's headers may wait for its body: configured, or found out.
//!
//! A proxy that lets them wait calls back with the body while the headers are held; one such callback is a proof, and final. A proxy that
//! does not keeps the body to itself until the headers are let go, and then hands it over at once and in one piece. A slow upload looks like
//! that by chance, or because its client wants it to: so it takes such observations on [`EVIDENCE`] connections to conclude that headers
//! cannot wait, and after [`RETRY`] one more request is tried. The verdict is shared by the workers: a byte that is 1 where headers may wait,
//! and the connections that spoke against it, 8 bytes each.

use penstock_units::{Millis, Nanos};

use crate::config::WaitForBody;
use crate::keys;
use crate::port::{Effect, Level, Store};

/// On how many connections a body must have come right after the headers were let go.
const EVIDENCE: usize = 3;
/// What "right after" means.
const AT_ONCE: Nanos = Nanos(50_000_000);
/// How long headers are held without a body where that was found to help.
const PATIENCE: Millis = Millis(10_000);
/// When it is tried again whether headers may wait after all.
const RETRY: Nanos = Nanos(60_000_000_000);

/// What is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
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
    /// A request has shown that they do.
    is_shown: bool,
    /// It is to be found out.
    auto: bool,
    /// When it is to be tried again.
    retry: Nanos,
}

impl Waiting {
    /// From the configuration.
    pub fn new(configured: WaitForBody, store: &mut dyn Store) -> Self {
        let verdict = match configured {
            WaitForBody::Yes => Verdict::Yes,
            WaitForBody::No => Verdict::No,
            WaitForBody::Auto => Verdict::Unknown,
        };
        // What was found out before may have been about another listener's settings.
        if configured == WaitForBody::Auto {
            let _ = store.update(keys::WAIT, &mut |_| Some(vec![0]));
        }
        Self { verdict, is_shown: false, auto: configured == WaitForBody::Auto, retry: Nanos::ZERO }
    }

    /// Whether headers wait, as far as that is known.
    pub fn shown(&self) -> Option<bool> {
        match self.verdict {
            Verdict::No => Some(false),
            Verdict::Yes => (self.auto || self.is_shown).then_some(true),
            Verdict::Unknown => None,
        }
    }

    /// Whether a request's headers are to be held now.
    pub fn holds(&mut self, now: Nanos) -> bool {
        let is_trial = self.auto && self.verdict == Verdict::No && now >= self.retry;
        if is_trial {
            self.retry = now.saturating_add(RETRY);
        }
        is_trial || self.verdict != Verdict::No
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

    /// Asks what other workers saw.
    pub fn refresh(&mut self, now: Nanos, store: &mut dyn Store) {
        if !self.auto || self.verdict == Verdict::Yes {
            return;
        }
        let known = store.get(keys::WAIT).unwrap_or_default();
        if known.first() == Some(&1) {
            self.verdict = Verdict::Yes;
        } else if self.verdict == Verdict::Unknown && known.len() > EVIDENCE.saturating_mul(8) {
            self.verdict = Verdict::No;
            self.retry = now.saturating_add(RETRY);
        }
    }

    /// A body came while its headers were held.
    pub fn body_while_held(&mut self, store: &mut dyn Store) {
        self.is_shown = true;
        if self.auto && self.verdict != Verdict::Yes {
            let _ = store.update(keys::WAIT, &mut |_| Some(vec![1]));
            self.verdict = Verdict::Yes;
        }
    }

    /// A body began to come on this connection right after its headers were let go, or `after` that; `whole`: in one piece.
    pub fn body_after_release(
        &mut self,
        connection: u64,
        after: Nanos,
        whole: bool,
        now: Nanos,
        store: &mut dyn Store,
        out: &mut Vec<Effect>,
    ) {
        if !self.auto || self.verdict != Verdict::Unknown || !whole || after > AT_ONCE {
            return;
        }
        let connection = connection.to_le_bytes();
        let _ = store.update(keys::WAIT, &mut |old| {
            let old = old.unwrap_or(&[0]);
            let (may, against) = old.split_first()?;
            let is_new = *may == 0 && !against.chunks_exact(8).any(|known| known == connection);
            is_new.then(|| [old, connection.as_slice()].concat())
        });
        self.refresh(now, store);
        if self.verdict == Verdict::No {
            let text = "this proxy does not let headers wait for the body: the version is drawn without the body's \
                        model, x-penstock-model is not set, and refusals are sent after the headers went on. Set \
                        allow_on_headers_stop_iteration (Envoy 1.35 or later) to lift this, or waitForBody: false to \
                        confirm it";
            out.push(Effect::Log(Level::Warn, text.to_owned()));
        }
    }
}
