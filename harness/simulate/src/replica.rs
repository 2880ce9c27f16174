//! What one replica does: the figures of a model server, with their sources.

use serde::Serialize;

use crate::outcome::Objectives;
use crate::trace::{Request, SECOND, Trace};

/// A model server with continuous batching and chunked prefill, by what one step of its engine costs:
/// `step + sequence × decoding + context × tokens that they attend to + prompt tokens ÷ prefill`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Figures {
    /// What it is called on the command line.
    pub name: &'static str,
    /// Prompt tokens a second, beyond a step's other costs.
    pub prefill: f64,
    /// Seconds of a step that does next to nothing: the weights are read once.
    pub step: f64,
    /// Seconds more for each sequence that decodes.
    pub sequence: f64,
    /// Seconds more for each token of the KV cache that is read.
    pub context: f64,
    /// Seconds around the engine that keep no GPU busy: tokenizer, HTTP, the first byte's way back.
    pub around: f64,
    /// Tokens that the KV cache holds.
    pub kv_tokens: u64,
    /// Sequences that run at the same time (`--max-num-seqs`).
    pub sequences_max: usize,
    /// Tokens of one step (`--max-num-batched-tokens`).
    pub batch_tokens: u32,
}

impl Figures {
    /// Qwen3-32B on two H100 by vLLM, after what llm-d publishes of it: 15,375 to 15,928 prompt tokens a second as 8,192 ÷ TTFT on an idle
    /// server, TTFTs of 0.09, 0.20 and 0.53 s for prompts of 256, 2,048 and 8,192 tokens, 88 GB of KV cache for about 350,000 tokens.
    /// Steps: 64 GB of weights and 262 KB a token of KV cache, at two thirds of 6.7 TB/s.
    /// (llm-d, `guides/workload-autoscaling/keda-epp-token-aware` and `guides/recipes/router/calibration`.)
    pub const QWEN3_32B: Self = Self {
        name: "qwen3-32b-2xh100",
        prefill: 18_500.0,
        step: 0.0145,
        sequence: 0.000_03,
        context: 0.000_000_055,
        around: 0.06,
        kv_tokens: 350_000,
        sequences_max: 256,
        batch_tokens: 8_192,
    };

    /// Llama 3.3 70B in FP8 on two H100, after NVIDIA's tables for NIM 1.8 (5,000 in and 500 out: TTFT 407 ms and 18.6 ms a token alone,
    /// 38.8 ms with 25 at a time, 59.7 with 50; 917 tokens a second with 100 and more, which wait for the KV cache).
    /// (`docs.nvidia.com/nim/benchmarking/llm/1.0.0/performance`.)
    pub const LLAMA_70B: Self = Self {
        name: "llama-3.3-70b-2xh100",
        prefill: 14_500.0,
        step: 0.0185,
        sequence: 0.000_05,
        context: 0.000_000_045,
        around: 0.04,
        kv_tokens: 450_000,
        sequences_max: 256,
        batch_tokens: 8_192,
    };

    /// All that have a name.
    pub const ALL: [Self; 2] = [Self::QWEN3_32B, Self::LLAMA_70B];

    /// Seconds of one step.
    #[must_use]
    pub fn seconds(&self, decoding: usize, context: u64, prompt_tokens: u32) -> f64 {
        self.step
            + self.sequence * decoding as f64
            + self.context * context as f64
            + f64::from(prompt_tokens) / self.prefill
    }

    /// The least TTFT of a prompt, in seconds.
    #[must_use]
    pub fn idle_ttft(&self, prompt: u32) -> f64 {
        let steps = prompt.div_ceil(self.batch_tokens).max(1);
        self.around + f64::from(steps) * self.step + f64::from(prompt) / self.prefill
    }

    /// Prompt tokens a second as one measures them: the size of a step ÷ the TTFT of such a prompt on an idle replica.
    #[must_use]
    pub fn prefill_rate(&self) -> f64 {
        f64::from(self.batch_tokens) / self.idle_ttft(self.batch_tokens)
    }

    /// Prompt tokens a second as `penstock plan` wants them measured: prompts alone that keep every step full. More than
    /// [`Figures::prefill_rate`], in which the first byte's way back is counted as prefill.
    #[must_use]
    pub fn prompts_rate(&self) -> f64 {
        f64::from(self.batch_tokens) / self.seconds(0, 0, self.batch_tokens)
    }

    /// Output tokens a second as one measures them with requests of this size and no prefill: a full batch.
    #[must_use]
    pub fn decode_rate(&self, prompt: f64, output: f64) -> f64 {
        let each = prompt + output / 2.0;
        let decoding = (self.kv_tokens as f64 / each.max(1.0)).min(self.sequences_max as f64).max(1.0);
        decoding / (self.step + decoding * (self.sequence + self.context * each))
    }

    /// Replicas that the first two minutes of a trace need, at three quarters of what they can do.
    #[must_use]
    pub fn initial(&self, trace: &Trace) -> u32 {
        const BEGINNING: u64 = 120 * SECOND;
        let until = BEGINNING.min(trace.span);
        let (prompt, output) = trace.means();
        let (prefill, decode) = (self.prefill_rate(), self.decode_rate(prompt, output));
        let first = trace.requests.iter().take_while(|request| request.at < until);
        let work = first.map(|request| f64::from(request.prompt) / prefill + f64::from(request.output) / decode);
        let replicas = work.sum::<f64>() / (until as f64 / SECOND as f64) / 0.75;
        (replicas.ceil() as u32).max(1)
    }

    /// # Errors
    /// Which figure is none.
    pub fn check(&self) -> Result<(), String> {
        let positive = |name: &str, value: f64| match value.is_finite() && value > 0.0 {
            true => Ok(()),
            false => Err(format!("{name} is {value}; it has to be more than 0")),
        };
        let not_negative = |name: &str, value: f64| match value.is_finite() && value >= 0.0 {
            true => Ok(()),
            false => Err(format!("{name} is {value}; it cannot be less than 0")),
        };
        positive("prefill tokens a second", self.prefill)?;
        positive("seconds of a step", self.step)?;
        not_negative("seconds of a sequence", self.sequence)?;
        not_negative("seconds of a token of context", self.context)?;
        not_negative("seconds around the engine", self.around)?;
        positive("tokens of the KV cache", self.kv_tokens as f64)?;
        positive("sequences at a time", self.sequences_max as f64)?;
        positive("tokens of a batch", f64::from(self.batch_tokens))
    }
}

/// Why no number of these replicas serves the trace within its objectives, however they are scaled; empty if one may.
#[must_use]
pub fn never_meets(figures: &Figures, trace: &Trace, objectives: &Objectives, replicas_max: u32) -> Vec<String> {
    let mut reasons = Vec::new();
    let share = |of: &dyn Fn(u32, u32) -> bool| {
        let count = trace.requests.iter().filter(|request| of(request.prompt, request.output)).count();
        count as f64 / trace.requests.len().max(1) as f64
    };
    let slow = share(&|prompt, _| figures.idle_ttft(prompt) > objectives.ttft);
    if slow > 1.0 - objectives.attainment {
        let allowed = (objectives.ttft - figures.around - figures.step).max(0.0) * figures.prefill;
        reasons.push(format!(
            "{:.1} % of the prompts take more than {} s on a replica that has nothing else to do: {:.0} prompt tokens a second are {allowed:.0} \
             tokens within it. More replicas shorten the queue, not the prefill: faster ones, shorter prompts or another objective are needed",
            slow * 100.0,
            objectives.ttft,
            figures.prefill,
        ));
    }
    if figures.step > objectives.tpot {
        reasons.push(format!(
            "a step takes {:.1} ms on a replica that has nothing else to do, and an output token may take {:.1} ms",
            figures.step * 1000.0,
            objectives.tpot * 1000.0,
        ));
    }
    let large = share(&|prompt, output| u64::from(prompt) + u64::from(output) > figures.kv_tokens);
    if large > 1.0 - objectives.attainment {
        let kv = figures.kv_tokens;
        reasons.push(format!("{:.1} % of the requests do not fit into the {kv} tokens of a KV cache", large * 100.0));
    }
    let work = busiest(figures, trace);
    if work > f64::from(replicas_max) {
        reasons.push(format!(
            "its busiest five minutes are the work of {work:.1} replicas, and at most {replicas_max} are allowed"
        ));
    }
    reasons
}

/// The most work of five minutes, in replicas that do nothing but that.
fn busiest(figures: &Figures, trace: &Trace) -> f64 {
    const WINDOW: u64 = 300 * SECOND;
    let (prompt, output) = trace.means();
    let decode = figures.decode_rate(prompt, output);
    let work = |request: &Request| f64::from(request.prompt) / figures.prefill + f64::from(request.output) / decode;
    let window = WINDOW.min(trace.span);
    let (mut first, mut sum, mut most) = (0, 0.0, 0.0_f64);
    for request in &trace.requests {
        sum += work(request);
        while trace.requests[first].at + window < request.at {
            sum -= work(&trace.requests[first]);
            first += 1;
        }
        most = most.max(sum);
    }
    most / (window as f64 / SECOND as f64)
}
