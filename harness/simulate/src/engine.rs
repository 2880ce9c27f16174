//! One replica's engine, step by step: continuous batching with chunked prefill, as vLLM's scheduler does it.
//!
//! Every step decodes one token for each sequence whose prompt is done, and spends the rest of its tokens on prompts, first come first
//! served. A prompt comes in when the KV cache has room for it; when decoding runs out of room, the youngest sequence goes back to the head
//! of the queue, and its prompt and what it generated are computed anew.

use std::collections::{BTreeMap, VecDeque};

use crate::replica::Figures;
use crate::trace::{Micros, SECOND};

/// Which request: its place in the trace.
pub type Id = u32;

/// What a step did to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Its first token came.
    First(Id),
    /// It has all its tokens.
    Done(Id),
}

#[derive(Clone, Debug)]
struct Sequence {
    id: Id,
    prompt: u32,
    output: u32,
    /// Tokens that came before it was put back; 0 while its prompt is computed for the first time.
    generated: u32,
    /// Of its context, what is computed.
    computed: u32,
    /// When its first token came, or the last one before it was put back.
    last: Micros,
}

impl Sequence {
    fn context(&self) -> u32 {
        self.prompt + self.generated
    }
}

/// A sequence that decodes: it is done at this step.
type Due = (u64, Id);

/// The engine of one replica.
#[derive(Debug)]
pub struct Engine {
    figures: Figures,
    waiting: VecDeque<Sequence>,
    prefilling: VecDeque<Sequence>,
    decoding: BTreeMap<Due, Sequence>,
    /// Steps that were begun.
    steps: u64,
    /// The KV cache in use, prompts that are being computed included.
    kv_used: u64,
    /// Of that, what decoding sequences attend to.
    context: u64,
    /// Prompt tokens that are not computed, waiting ones included.
    prefill_left: u64,
    /// The step that runs: since when, until when, and the prompt tokens of each sequence in it.
    step: Option<(Micros, Micros)>,
    /// All the time that steps took.
    busy: Micros,
    /// Tokens that it generated.
    generated: u64,
    /// How long steps took lately, in seconds.
    pace: f64,
}

impl Engine {
    /// An engine that has nothing to do.
    pub fn new(figures: Figures) -> Self {
        Self {
            figures,
            waiting: VecDeque::new(),
            prefilling: VecDeque::new(),
            decoding: BTreeMap::new(),
            steps: 0,
            kv_used: 0,
            context: 0,
            prefill_left: 0,
            step: None,
            busy: 0,
            generated: 0,
            pace: figures.step,
        }
    }

    /// Takes a request; a step has to be begun if none runs.
    pub fn push(&mut self, id: Id, prompt: u32, output: u32) {
        self.prefill_left += u64::from(prompt);
        self.waiting.push_back(Sequence { id, prompt, output, generated: 0, computed: 0, last: 0 });
    }

    /// Requests that it has.
    pub fn requests(&self) -> usize {
        self.waiting.len() + self.running()
    }

    /// Requests that wait for room.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Requests that are worked on.
    pub fn running(&self) -> usize {
        self.prefilling.len() + self.decoding.len()
    }

    /// Share of the KV cache in use.
    pub fn kv_use(&self) -> f64 {
        self.kv_used as f64 / self.figures.kv_tokens as f64
    }

    /// Prompt tokens that are not computed.
    pub fn prefill_left(&self) -> u64 {
        self.prefill_left
    }

    /// Tokens that it ever generated.
    pub fn generated(&self) -> u64 {
        self.generated
    }

    /// Time that it was busy, up to now.
    pub fn busy(&self, now: Micros) -> Micros {
        self.busy + self.step.map_or(0, |(since, until)| now.min(until) - since)
    }

    /// When the step that runs is over.
    pub fn until(&self) -> Option<Micros> {
        self.step.map(|(_, until)| until)
    }

    /// What its requests are still expected to generate, if all of them were expected to generate as much.
    pub fn still_expected(&self, expected: f64) -> f64 {
        let left = |generated: f64| (expected - generated).max(0.0);
        let decoding = self
            .decoding
            .iter()
            .map(|((due, _), sequence)| left(f64::from(sequence.output) - due.saturating_sub(self.steps) as f64));
        let rest = self.waiting.iter().chain(&self.prefilling).map(|sequence| left(f64::from(sequence.generated)));
        decoding.sum::<f64>() + rest.sum::<f64>()
    }

    /// TTFT and time per output token that a request with this prompt would have, judged by what is known when it comes.
    pub fn forecast(&self, now: Micros, prompt: u32) -> (f64, f64) {
        let tokens = self.prefill_left + u64::from(prompt);
        let room = u64::from(self.figures.batch_tokens).saturating_sub(self.decoding.len() as u64).max(1);
        let steps = tokens.div_ceil(room) as f64;
        let rest = self.step.map_or(0, |(_, until)| until.saturating_sub(now)) as f64 / SECOND as f64;
        let overhead = self.figures.seconds(self.decoding.len(), self.context, 0);
        let compute = tokens as f64 / self.figures.prefill + steps * overhead;
        (self.figures.around + rest + compute + self.until_room(prompt), self.pace)
    }

    /// Seconds until the KV cache has room for one more prompt, if those that decode go as they came.
    fn until_room(&self, prompt: u32) -> f64 {
        let waiting: u64 = self.waiting.iter().map(|sequence| u64::from(sequence.context())).sum();
        let missing = (self.kv_used + waiting + u64::from(prompt)).saturating_sub(self.figures.kv_tokens);
        if missing == 0 || self.decoding.is_empty() {
            return 0.0;
        }
        let steps: u64 = self.decoding.keys().map(|(due, _)| due.saturating_sub(self.steps)).sum();
        let life = (steps as f64 / self.decoding.len() as f64 * self.pace).max(self.pace);
        missing as f64 / (self.context.max(1) as f64 / life)
    }

    /// Begins a step and says when it is over; `None` if there is nothing to do.
    pub fn begin(&mut self, now: Micros) -> Option<Micros> {
        debug_assert!(self.step.is_none());
        self.make_room(now);
        let decoding = self.decoding.len();
        let mut room = self.figures.batch_tokens.saturating_sub(u32::try_from(decoding).unwrap_or(u32::MAX));
        let budget = room;
        for sequence in &mut self.prefilling {
            let chunk = (sequence.context() - sequence.computed).min(room);
            sequence.computed += chunk;
            room -= chunk;
        }
        while room > 0
            && let Some(next) = self.waiting.front()
            && self.prefilling.len() + decoding < self.figures.sequences_max
            && self.kv_used + u64::from(next.context()) + decoding as u64 <= self.figures.kv_tokens
        {
            let Some(mut next) = self.waiting.pop_front() else { break };
            self.kv_used += u64::from(next.context());
            let chunk = next.context().min(room);
            next.computed = chunk;
            room -= chunk;
            self.prefilling.push_back(next);
        }
        let prompt_tokens = budget - room;
        if decoding == 0 && prompt_tokens == 0 {
            return None;
        }
        self.prefill_left -= u64::from(prompt_tokens);
        let seconds = self.figures.seconds(decoding, self.context, prompt_tokens);
        self.pace += (seconds - self.pace) * 0.1;
        let until = now + ((seconds * SECOND as f64) as Micros).max(1);
        self.steps += 1;
        self.step = Some((now, until));
        Some(until)
    }

    /// Ends the step that runs. `gap` hears how long which number of tokens took since the one before.
    pub fn end(&mut self, events: &mut Vec<Event>, gap: &mut dyn FnMut(Micros, u64)) {
        let Some((since, now)) = self.step.take() else { return };
        self.busy += now - since;
        let decoding = self.decoding.len() as u64;
        self.kv_used += decoding;
        self.context += decoding;
        self.generated += decoding;
        if decoding > 0 {
            gap(now - since, decoding);
        }
        while let Some(entry) = self.decoding.first_entry()
            && entry.key().0 <= self.steps
        {
            let sequence = entry.remove();
            let context = u64::from(sequence.prompt) + u64::from(sequence.output);
            self.kv_used -= context;
            self.context -= context;
            events.push(Event::Done(sequence.id));
        }
        self.end_prefills(now, events, gap);
    }

    /// Prompts that are done give their first token, or the next one where they were computed anew.
    fn end_prefills(&mut self, now: Micros, events: &mut Vec<Event>, gap: &mut dyn FnMut(Micros, u64)) {
        while self.prefilling.front().is_some_and(|sequence| sequence.computed == sequence.context()) {
            let Some(mut sequence) = self.prefilling.pop_front() else { break };
            if sequence.generated == 0 {
                events.push(Event::First(sequence.id));
            } else {
                gap(now - sequence.last, 1);
            }
            sequence.generated += 1;
            sequence.last = now;
            self.generated += 1;
            self.kv_used += 1;
            if sequence.generated == sequence.output {
                self.kv_used -= u64::from(sequence.context());
                events.push(Event::Done(sequence.id));
            } else {
                self.context += u64::from(sequence.context());
                let due = self.steps + u64::from(sequence.output - sequence.generated);
                self.decoding.insert((due, sequence.id), sequence);
            }
        }
    }

    /// Sends the youngest back until there is room for a token of each.
    fn make_room(&mut self, now: Micros) {
        while self.kv_used + self.decoding.len() as u64 > self.figures.kv_tokens && self.decoding.len() > 1 {
            let youngest = self.decoding.iter().max_by_key(|(_, sequence)| (sequence.last, sequence.id));
            let Some(due) = youngest.map(|(due, _)| *due) else { return };
            let Some(mut sequence) = self.decoding.remove(&due) else { return };
            let left = u32::try_from(due.0.saturating_sub(self.steps)).unwrap_or(u32::MAX);
            sequence.generated = sequence.output - left;
            sequence.computed = 0;
            sequence.last = now;
            self.kv_used -= u64::from(sequence.context());
            self.context -= u64::from(sequence.context());
            self.prefill_left += u64::from(sequence.context());
            self.waiting.push_front(sequence);
        }
    }
}
