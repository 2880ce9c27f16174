//! What is measured under load.

/// What is measured, and for how long.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How often each of the others has its turn.
    pub rounds: usize,
    /// What is asked as fast as it goes.
    pub rows: Vec<Row>,
    /// Seconds of a turn at one of the rows.
    pub seconds: u32,
    /// Requests per second that are asked at even distances.
    pub rates: Vec<u32>,
    /// Seconds of a turn at one of the rates.
    pub paced_seconds: u32,
    /// Workers of the Envoys whose memory is measured.
    pub workers: Vec<u32>,
    /// How long each of them may take until it has given back to the system what it has freed.
    pub settle_seconds: u64,
}

/// One kind of traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Bytes of a prompt.
    pub prompt: usize,
    /// Connections that each ask again when they have their answer.
    pub connections: u32,
    /// How it is answered.
    pub answer: Answer,
    /// Whether the same prompt comes again and again: who remembers texts is flattered by that.
    pub is_same: bool,
}

/// How a request is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// As a JSON object.
    Json,
    /// As a stream of fifty events, as fast as the server can send them.
    Events,
}

impl Plan {
    /// What is published: about eight minutes.
    pub fn full() -> Self {
        let usual = Row { prompt: 2_000, connections: 16, answer: Answer::Json, is_same: false };
        let rows = vec![
            Row { is_same: true, ..usual },
            usual,
            Row { answer: Answer::Events, ..usual },
            Row { prompt: 200, ..usual },
            Row { prompt: 20_000, ..usual },
            Row { prompt: 200_000, ..usual },
            Row { connections: 1, ..usual },
            Row { connections: 4, ..usual },
            Row { connections: 64, ..usual },
        ];
        Self {
            rounds: 5,
            rows,
            seconds: 1,
            rates: vec![1_000, 3_000],
            paced_seconds: 3,
            workers: vec![1, 2, 4],
            settle_seconds: 30,
        }
    }

    /// Whether it all works, in half a minute. The figures are worth nothing.
    pub fn quick() -> Self {
        let Self { rows, .. } = Self::full();
        let rows = rows.into_iter().skip(1).take(2).collect();
        Self { rounds: 1, rows, seconds: 1, rates: vec![500], paced_seconds: 1, workers: vec![1, 2], settle_seconds: 0 }
    }
}
