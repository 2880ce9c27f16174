//! What was measured, and what of it can be planned with.

/// What an operator gives, as it was written: anything that `f64` can be.
#[derive(Clone, Debug, clap::Args)]
pub struct Measured {
    /// Prompt tokens that one replica reads in a second, of those that it has not cached.
    #[arg(long, value_name = "TOKENS/S")]
    pub prefill_tokens_per_second: f64,
    /// Tokens that one replica generates in a second with its batch full, all streams together.
    #[arg(long, value_name = "TOKENS/S")]
    pub decode_tokens_per_second: f64,
    /// The most streams that a replica serves at once: vLLM's --max-num-seqs, or what fits into its KV cache where that is less.
    #[arg(long, value_name = "STREAMS")]
    pub batch: f64,
    /// Prompt tokens that a replica reads between two tokens of its streams: vLLM's --max-num-batched-tokens.
    #[arg(long, value_name = "TOKENS", default_value_t = 2048.0)]
    pub prefill_chunk: f64,
    /// Seconds from asking for a replica until it serves.
    #[arg(long, value_name = "SECONDS")]
    pub cold_start_seconds: f64,
    /// Seconds within which 95 of 100 requests are to have their first token.
    #[arg(long, value_name = "SECONDS")]
    pub ttft_seconds: f64,
    /// The longest that a stream may wait from one token to the next, with the batch full.
    #[arg(long, value_name = "SECONDS")]
    pub inter_token_seconds: Option<f64>,
    /// Requests a second at the peak.
    #[arg(long, value_name = "REQUESTS/S")]
    pub requests_per_second: f64,
    /// Requests a second when it is quiet.
    #[arg(long, value_name = "REQUESTS/S", default_value_t = 0.0)]
    pub quiet_requests_per_second: f64,
    /// Seconds in which traffic may grow from quiet to the peak.
    #[arg(long, value_name = "SECONDS")]
    pub ramp_seconds: Option<f64>,
    /// Tokens of a prompt, on average, cached ones too.
    #[arg(long, value_name = "TOKENS")]
    pub prompt_tokens: f64,
    /// What 95 of 100 prompts are shorter than. Three times the average, if not given.
    #[arg(long, value_name = "TOKENS")]
    pub prompt_tokens_p95: Option<f64>,
    /// The share of prompt tokens that replicas have cached, from 0 to less than 1.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    pub cached: f64,
    /// Tokens of an answer, on average.
    #[arg(long, value_name = "TOKENS")]
    pub output_tokens: f64,
    /// Replicas that stay, however quiet it is. The more, the higher they may be used, as they stand in for one another.
    #[arg(long, value_name = "REPLICAS", default_value_t = 1.0)]
    pub min: f64,
    /// What may come beyond the peak, as a share of it.
    #[arg(long, value_name = "SHARE", default_value_t = 0.2)]
    pub headroom: f64,
    /// Proxies that share the traffic: each has a ceiling of its own.
    #[arg(long, value_name = "PROXIES", default_value_t = 1.0)]
    pub gateways: f64,
}

/// Figures that are numbers of their kind.
#[derive(Clone, Debug)]
pub struct Figures {
    /// Uncached prompt tokens that a replica reads in a second.
    pub prefill: f64,
    /// Tokens that a replica generates in a second.
    pub decode: f64,
    /// Streams that a replica serves at once.
    pub batch: f64,
    /// Prompt tokens between two tokens of the streams.
    pub chunk: f64,
    /// Until a replica serves, in seconds.
    pub cold_start: f64,
    /// The objective of the time to the first token, in seconds.
    pub ttft: f64,
    /// That of the time between tokens, in seconds.
    pub inter_token: Option<f64>,
    /// Requests a second at the peak.
    pub peak: f64,
    /// Requests a second when it is quiet.
    pub quiet: f64,
    /// From quiet to the peak, in seconds.
    pub ramp: Option<f64>,
    /// Tokens of a prompt that are not cached.
    pub prompt: f64,
    /// What 95 of 100 prompts have less than, of tokens that are not cached.
    pub long_prompt: f64,
    /// The squared coefficient of variation of prompts' lengths: 0 where all are alike.
    pub spread: f64,
    /// The share of prompts that is cached.
    pub cached: f64,
    /// Tokens of an answer.
    pub output: f64,
    /// Replicas that stay.
    pub min: u32,
    /// What may come beyond the peak, as a share of it.
    pub headroom: f64,
    /// Proxies that share the traffic.
    pub gateways: f64,
}

/// A figure that is none.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// The option.
    pub option: &'static str,
    /// What is wrong with it.
    pub what: String,
}

/// More than any replica does, or any traffic has; less than what arithmetic would lose.
const MOST: f64 = 1e9;
/// More replicas, or proxies, than anybody has.
pub const REPLICAS_MAX: u32 = 10_000;

impl Measured {
    /// Checks them.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn check(&self) -> Result<Figures, Vec<Problem>> {
        let mut check = Check(Vec::new());
        let long = self.prompt_tokens_p95.unwrap_or(3.0 * self.prompt_tokens);
        check.rate("prefill-tokens-per-second", self.prefill_tokens_per_second, 1.0);
        check.rate("decode-tokens-per-second", self.decode_tokens_per_second, 1.0);
        check.count("batch", self.batch, 1.0, MOST);
        check.count("prefill-chunk", self.prefill_chunk, 1.0, MOST);
        check.positive("cold-start-seconds", self.cold_start_seconds, 86_400.0);
        check.positive("ttft-seconds", self.ttft_seconds, 86_400.0);
        check.positive("requests-per-second", self.requests_per_second, MOST);
        check.within("quiet-requests-per-second", self.quiet_requests_per_second, 0.0, MOST);
        check.rate("prompt-tokens", self.prompt_tokens, 1.0);
        check.rate("output-tokens", self.output_tokens, 1.0);
        check.within("headroom", self.headroom, 0.0, 10.0);
        check.count("min", self.min, 1.0, f64::from(REPLICAS_MAX));
        check.count("gateways", self.gateways, 1.0, f64::from(REPLICAS_MAX));
        if let Some(seconds) = self.inter_token_seconds {
            check.positive("inter-token-seconds", seconds, 86_400.0);
        }
        if let Some(seconds) = self.ramp_seconds {
            check.positive("ramp-seconds", seconds, MOST);
        }
        if let Some(tokens) = self.prompt_tokens_p95 {
            check.rate("prompt-tokens-p95", tokens, 1.0);
        }
        if !(0.0..1.0).contains(&self.cached) {
            check.say("cached", format!("{} is no share from 0 to less than 1; write 0.4 for 40 %", self.cached));
        }
        // What these compare has to be numbers first.
        if check.0.is_empty() {
            if self.quiet_requests_per_second > self.requests_per_second {
                let what =
                    format!("{} is more than the peak, {}", self.quiet_requests_per_second, self.requests_per_second);
                check.say("quiet-requests-per-second", what);
            }
            if long < self.prompt_tokens {
                let what = format!("{long} is less than the average prompt, {}", self.prompt_tokens);
                check.say("prompt-tokens-p95", what);
            }
            if self.prefill_chunk <= self.batch {
                let what =
                    format!("{} leaves no room for prompts beside a batch of {}", self.prefill_chunk, self.batch);
                check.say("prefill-chunk", what);
            }
        }
        let Check(problems) = check;
        if !problems.is_empty() {
            return Err(problems);
        }
        let uncached = 1.0 - self.cached;
        Ok(Figures {
            prefill: self.prefill_tokens_per_second,
            decode: self.decode_tokens_per_second,
            batch: self.batch,
            chunk: self.prefill_chunk,
            cold_start: self.cold_start_seconds,
            ttft: self.ttft_seconds,
            inter_token: self.inter_token_seconds,
            peak: self.requests_per_second,
            quiet: self.quiet_requests_per_second,
            ramp: self.ramp_seconds,
            prompt: self.prompt_tokens * uncached,
            long_prompt: long * uncached,
            // Without a word on it lengths are spread exponentially.
            spread: self.prompt_tokens_p95.map_or(1.0, |p95| spread(p95 / self.prompt_tokens)),
            cached: self.cached,
            output: self.output_tokens,
            min: self.min as u32,
            headroom: self.headroom,
            gateways: self.gateways,
        })
    }
}

/// How much lengths differ of which 95 of 100 are below so many times the average, where their logarithms are spread normally, as those of
/// prompts nearly are: then it is e^(1.645 s - s^2/2), which no s makes more than 3.87, and the square of the coefficient e^(s^2) - 1.
fn spread(p95: f64) -> f64 {
    const Z95: f64 = 1.644_853_626_951_472;
    let deviation = Z95 - (Z95 * Z95 - 2.0 * p95.ln()).max(0.0).sqrt();
    (deviation * deviation).exp_m1()
}

/// Gathers what is wrong.
struct Check(Vec<Problem>);

impl Check {
    fn say(&mut self, option: &'static str, what: String) {
        self.0.push(Problem { option, what });
    }

    /// NaN is within nothing.
    fn within(&mut self, option: &'static str, value: f64, least: f64, most: f64) {
        if !(least..=most).contains(&value) {
            self.say(option, format!("{value} is not a number from {least} to {most}"));
        }
    }

    fn positive(&mut self, option: &'static str, value: f64, most: f64) {
        if !(value > 0.0 && value <= most) {
            self.say(option, format!("{value} is not a number above 0, and up to {most}"));
        }
    }

    fn rate(&mut self, option: &'static str, value: f64, least: f64) {
        self.within(option, value, least, MOST);
    }

    fn count(&mut self, option: &'static str, value: f64, least: f64, most: f64) {
        if !((least..=most).contains(&value) && value.fract() == 0.0) {
            self.say(option, format!("{value} is not a whole number from {least} to {most}"));
        }
    }
}
