//! Whether a version has servers, as one worker knows it, and who waits until it has.
//!
//! Nobody tells a filter whether the proxy has a host for a request. So a gate is open for a moment after something was heard of the servers;
//! after that whoever comes waits for a probe, of which there is one at a time. Where it fails the gate is shut: requests wait on, in their
//! order, and are probed for again and again, until one probe succeeds or something is heard of the servers otherwise.
//!
//! What a gate does not do: send probes, or know for how long a request may wait.

use std::collections::VecDeque;

use penstock_units::{Millis, Nanos};

/// For how long what was heard of servers is believed.
const BELIEVED: Nanos = Nanos(5_000_000_000);
/// How long after a probe has failed the next one is sent, if somebody looks then.
const AGAIN: Nanos = Nanos(250_000_000);
/// For how long a probe is waited for.
pub const PROBE: Millis = Millis(2000);

/// The gate in front of a version's servers.
#[derive(Debug, Default)]
pub struct Gate {
    /// Until then whoever comes passes; never while somebody waits.
    open_until: Nanos,
    /// Something was heard of the servers while somebody waits.
    opens: bool,
    is_shut: bool,
    probe: Option<Probe>,
    /// Before that no probe is sent.
    probe_after: Nanos,
    waiting: VecDeque<(Ticket, u32)>,
    /// Who comes next has this ticket.
    next: Ticket,
    /// Those before this one were let go.
    gone: Ticket,
}

/// A place in the queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

/// A probe that is under way, by the instant at which it is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe(Nanos);

impl Gate {
    /// Whether whoever comes now passes.
    pub fn is_open(&self, now: Nanos) -> bool {
        now < self.open_until
    }

    /// Whether it is known that there are no servers.
    pub fn is_shut(&self) -> bool {
        self.is_shut
    }

    /// Joins the queue.
    pub fn enter(&mut self, who: u32) -> Ticket {
        let ticket = self.next;
        self.open_until = Nanos::ZERO;
        self.next = Ticket(ticket.0.saturating_add(1));
        self.waiting.push_back((ticket, who));
        ticket
    }

    /// Leaves the queue. Harmless for one that was let go.
    pub fn leave(&mut self, ticket: Ticket) {
        if let Ok(place) = self.waiting.binary_search_by_key(&ticket, |(known, _)| *known) {
            self.waiting.remove(place);
            // What was heard is nothing for whoever comes much later.
            self.opens &= !self.waiting.is_empty();
        }
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Whether this one was let go.
    pub fn has_gone(&self, ticket: Ticket) -> bool {
        ticket < self.gone
    }

    /// A probe, where one is to be sent now.
    pub fn probe(&mut self, now: Nanos) -> Option<Probe> {
        let is_under_way = self.probe.is_some_and(|Probe(until)| now < until);
        let is_due = !is_under_way && now >= self.probe_after;
        let probe = is_due.then(|| Probe(now.saturating_add(PROBE.to_nanos())))?;
        self.probe = Some(probe);
        Some(probe)
    }

    /// Something was heard of the servers.
    pub fn heard(&mut self, now: Nanos) {
        if self.waiting.is_empty() {
            (self.open_until, self.is_shut) = (now.saturating_add(BELIEVED), false);
        } else {
            self.opens = true;
        }
    }

    /// This probe has failed. One that was given up before says nothing. Whether that is news.
    pub fn failed(&mut self, probe: Probe, now: Nanos) -> bool {
        if self.probe != Some(probe) {
            return false;
        }
        (self.probe, self.probe_after) = (None, now.saturating_add(AGAIN));
        !core::mem::replace(&mut self.is_shut, true)
    }

    /// A request found no server: the next one is not to try it.
    pub fn shut(&mut self) {
        (self.open_until, self.opens, self.is_shut) = (Nanos::ZERO, false, true);
    }

    /// Those that may go now, in the order in which they came; nobody where nothing was heard of the servers.
    pub fn let_go(&mut self, now: Nanos) -> Vec<u32> {
        if !core::mem::take(&mut self.opens) {
            return Vec::new();
        }
        self.gone = self.next;
        (self.open_until, self.is_shut, self.probe) = (now.saturating_add(BELIEVED), false, None);
        self.waiting.drain(..).map(|(_, who)| who).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = Nanos::SECOND.0;

    #[test]
    fn what_was_heard_is_believed_for_a_while() {
        let mut gate = Gate::default();
        assert!(!gate.is_open(Nanos(SECOND)));
        gate.heard(Nanos(SECOND));
        assert!(gate.is_open(Nanos(6 * SECOND - 1)) && !gate.is_open(Nanos(6 * SECOND)));
        gate.shut();
        assert!(!gate.is_open(Nanos(SECOND)) && gate.is_shut());
    }

    #[test]
    fn those_that_wait_go_in_their_order_and_nobody_passes_them() {
        let mut gate = Gate::default();
        let tickets = [7, 3, 9].map(|who| gate.enter(who));
        gate.leave(tickets[1]);
        gate.leave(tickets[1]);
        assert_eq!(gate.let_go(Nanos(1)), []);
        gate.heard(Nanos(1));
        assert!(!gate.is_open(Nanos(1)), "somebody waits");
        let late = gate.enter(4);
        assert!(!gate.has_gone(tickets[0]));
        assert_eq!(gate.let_go(Nanos(2)), [7, 9, 4]);
        assert!(gate.has_gone(tickets[0]) && gate.has_gone(late) && gate.is_open(Nanos(2)));
        gate.leave(late);
        assert_eq!((gate.let_go(Nanos(3)), gate.waiting()), (vec![], 0));
    }

    #[test]
    fn there_is_one_probe_at_a_time_and_one_that_never_answers_is_given_up() {
        let mut gate = Gate::default();
        let first = gate.probe(Nanos(0)).unwrap();
        assert_eq!(gate.probe(Nanos(2 * SECOND - 1)), None);
        let second = gate.probe(Nanos(2 * SECOND)).unwrap();
        // The first is told to have failed when the second is under way.
        assert!(!gate.failed(first, Nanos(3 * SECOND)) && gate.probe(Nanos(3 * SECOND)).is_none());
        assert!(gate.failed(second, Nanos(3 * SECOND)) && gate.is_shut());
        assert_eq!(gate.probe(Nanos(3 * SECOND + AGAIN.0 - 1)), None);
        let third = gate.probe(Nanos(3 * SECOND + AGAIN.0)).unwrap();
        assert!(!gate.failed(third, Nanos(4 * SECOND)), "that is no news");
    }
}
