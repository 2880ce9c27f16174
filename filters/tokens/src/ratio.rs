//! What another tokenizer makes of a prompt, learnt from what its model server reports.
//!
//! A prompt is described by a few [`Features`]: its tokens in a built-in encoding, its bytes, and what tells scripts apart,
//! because that is where vocabularies differ. The other tokenizer's count is taken to be a linear function of them, fitted by
//! recursive least squares (Haykin, *Adaptive Filter Theory*, ch. 10) on relative errors, so that short prompts count as
//! much as long ones. It starts at "as many as here" and forgets slowly, to follow a changed chat template. A report that
//! is far off moves the fit by no more than [`OUTLIER`] (Huber's bound), so a server that reports nonsense once does
//! little harm.
//!
//! What this module does not do: share or store the fit (it is [`RATIO_BYTES`] bytes, see [`Ratio::encode`]).

/// How many coefficients there are.
const N: usize = 14;
/// The length of an encoded [`Ratio`], in bytes.
pub const RATIO_BYTES: usize = 8 * (1 + N + N * (N + 1) / 2);
/// Weight of the past against each new observation.
const MEMORY: f64 = 0.998;
/// A relative error beyond this counts as this much.
const OUTLIER: f64 = 0.5;
/// No estimate is more than this many times the built-in count, or less than that part of it.
const BOUND: f64 = 5.0;

/// What the fit knows of a prompt.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Features {
    /// Tokens of all texts in the built-in encoding, framing excluded.
    pub tokens: u64,
    /// Messages.
    pub messages: u64,
    /// Bytes.
    pub bytes: u64,
    /// Decimal digits.
    pub digits: u64,
    /// Characters of two bytes by their scripts: Latin with accents; Greek and Cyrillic; Hebrew, Arabic and their neighbours.
    pub two: [u64; 3],
    /// Characters of three bytes: the scripts of South Asia, and Thai; Vietnamese, punctuation and symbols; kana; Han; Hangul.
    pub three: [u64; 5],
    /// Characters of four bytes: emoji.
    pub four: u64,
}

impl Features {
    /// Notes a piece of text; tokens and messages are the caller's to set.
    pub fn text(&mut self, text: &str) {
        self.bytes = self.bytes.saturating_add(text.len() as u64);
        let [latin, cyrillic, semitic] = &mut self.two;
        let [indic, symbols, kana, han, hangul] = &mut self.three;
        let mut digits = 0_u64;
        for byte in text.bytes() {
            // Most of what there is: ASCII, and what is not the first byte of a character.
            if byte < 0xC2 {
                digits = digits.saturating_add(u64::from(byte.is_ascii_digit()));
                continue;
            }
            // The first byte of a character tells its block of Unicode, as near as that matters.
            let slot = match byte {
                0xC2..=0xCB => &mut *latin,
                0xCC..=0xD4 => &mut *cyrillic,
                0xD5..=0xDF => &mut *semitic,
                0xE0 => &mut *indic,
                0xE3 => &mut *kana,
                0xE4..=0xE9 => &mut *han,
                0xEA..=0xED => &mut *hangul,
                0xE1 | 0xE2 | 0xEE | 0xEF => &mut *symbols,
                _ => &mut self.four,
            };
            *slot = slot.saturating_add(1);
        }
        self.digits = self.digits.saturating_add(digits);
    }

    fn vector(&self) -> [f64; N] {
        let Self { tokens, messages, bytes, digits, two: [a, b, c], three: [d, e, f, g, h], four } = *self;
        [tokens, messages, bytes, digits, a, b, c, d, e, f, g, h, four, 1].map(|n| n as f64)
    }
}

/// The fit for one model.
#[derive(Clone, Debug, PartialEq)]
pub struct Ratio {
    seen: f64,
    weights: [f64; N],
    /// Inverse correlation, symmetric.
    inverse: [[f64; N]; N],
}

impl Default for Ratio {
    fn default() -> Self {
        // The token count is trusted from the start; the rest is open, each on the scale on which it can matter.
        const PRIOR: [f64; N] = [0.05, 4.0, 0.05, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 1.0, 16.0];
        let mut inverse = [[0.0; N]; N];
        for (i, (row, prior)) in inverse.iter_mut().zip(PRIOR).enumerate() {
            if let Some(cell) = row.get_mut(i) {
                *cell = prior;
            }
        }
        let mut weights = [0.0; N];
        let [token, message, .., once] = &mut weights;
        (*token, *message, *once) = (1.0, 3.0, 3.0);
        Self { seen: 0.0, weights, inverse }
    }
}

impl Ratio {
    /// The other tokenizer's count, as far as is known.
    pub fn estimate(&self, features: &Features) -> u64 {
        let base = features.tokens.max(1) as f64;
        let framing = features.messages.saturating_mul(8).saturating_add(8) as f64;
        let value = dot(&self.weights, &features.vector());
        value.clamp(base / BOUND, base * BOUND + framing).round() as u64
    }

    /// The server reported `tokens` for a prompt with these features.
    pub fn learn(&mut self, features: &Features, tokens: u64) {
        let scale = tokens as f64;
        if tokens == 0 || tokens > 1 << 32 {
            return;
        }
        let x = features.vector().map(|value| value / scale);
        let error = (1.0 - dot(&self.weights, &x)).clamp(-OUTLIER, OUTLIER);
        let along = self.inverse.map(|row| dot(&row, &x));
        // Noise of a few per cent that no coefficient explains keeps the gain of a single report small.
        const NOISE: f64 = 0.003;
        let total = MEMORY * NOISE + dot(&along, &x);
        let gain = along.map(|value| value / total);
        let mut next = self.clone();
        for (weight, gain) in next.weights.iter_mut().zip(gain) {
            *weight += gain * error;
        }
        for (row, gain) in next.inverse.iter_mut().zip(gain) {
            for (cell, along) in row.iter_mut().zip(along) {
                *cell = (*cell - gain * along) / MEMORY;
            }
        }
        // Directions that nobody excites would grow without bound as the past is forgotten.
        let sane = |value: &f64| value.is_finite() && value.abs() < 1e3;
        next.seen = (self.seen + 1.0).min(1e9);
        if next.weights.iter().all(sane) && next.inverse.iter().flatten().all(sane) {
            *self = next;
        } else {
            *self = Self { weights: self.weights, seen: self.seen, ..Self::default() };
        }
    }

    /// How many reports it has learnt from.
    pub fn seen(&self) -> u64 {
        self.seen as u64
    }

    /// As [`RATIO_BYTES`] bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(RATIO_BYTES);
        let mut put = |values: &[f64]| values.iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
        put(&[self.seen]);
        put(&self.weights);
        self.inverse.iter().enumerate().for_each(|(i, row)| put(row.get(i..).unwrap_or_default()));
        bytes
    }

    /// The inverse of [`Ratio::encode`]; a fresh fit for anything else.
    pub fn decode(bytes: &[u8]) -> Self {
        let mut out = Self::default();
        let values = bytes.chunks_exact(8).filter_map(|chunk| Some(f64::from_le_bytes(chunk.try_into().ok()?)));
        let mut values = values.filter(|value| value.is_finite());
        let mut read = || values.next();
        let mut fill = || -> Option<()> {
            out.seen = read()?;
            for weight in &mut out.weights {
                *weight = read()?;
            }
            for i in 0..N {
                for j in i..N {
                    let value = read()?;
                    *out.inverse.get_mut(i)?.get_mut(j)? = value;
                    *out.inverse.get_mut(j)?.get_mut(i)? = value;
                }
            }
            Some(())
        };
        let whole = bytes.len() == RATIO_BYTES && fill().is_some();
        if whole { out } else { Self::default() }
    }
}

fn dot(a: &[f64; N], b: &[f64; N]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Encoding;

    /// Deterministic numbers (SplitMix64).
    struct Numbers(u64);

    impl Numbers {
        fn below(&mut self, n: usize) -> usize {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ (z >> 31)) % n as u64) as usize
        }
    }

    const TEXTS: &[&str] = &[
        "The quick brown fox jumps over the lazy dog. Please summarise the following report in three sentences, and keep the tone friendly but precise. ",
        "What is the capital of Australia, and why was it chosen over Sydney and Melbourne? Explain it to a ten-year-old. ",
        "Our quarterly revenue grew by twelve percent while operating costs stayed flat; discuss the implications for hiring. ",
        "fn main() {\n    let mut total = 0u64;\n    for item in items.iter().filter(|i| i.is_active()) {\n        total += item.price * item.count;\n    }\n    println!(\"{total}\");\n}\n",
        "def handler(event, context):\n    body = json.loads(event[\"body\"])\n    return {\"statusCode\": 200, \"body\": json.dumps({\"ok\": True})}\n\n",
        "{\"user\": {\"id\": 48151, \"roles\": [\"admin\", \"editor\"], \"last_login\": \"2026-03-14T09:26:53Z\"}, \"quota\": 1000000}",
        "2026-05-01T12:00:03.123Z INFO [worker-3] request id=7f3a9c status=200 bytes=51234 took=18ms\n",
        "请用三句话总结下面的报告，并保持语气友好而准确。我们需要在下周一之前完成这项工作。",
        "次の報告書を三つの文で要約してください。丁寧で正確な口調を保ってください。よろしくお願いします。",
        "Пожалуйста, кратко изложите следующий отчёт в трёх предложениях и сохраните дружелюбный тон. ",
        "يرجى تلخيص التقرير التالي في ثلاث جمل مع الحفاظ على نبرة ودية ودقيقة. ",
        "Résumez le rapport suivant en trois phrases, s'il vous plaît, en gardant un ton amical et précis. ",
        "Great job team! 🎉🚀 Let's ship it today 😄👍🏽 and celebrate tomorrow 🥳 ",
        "| name | qty | price |\n|------|-----|-------|\n| bolt | 120 | 0.35 |\n| nut  | 480 | 0.12 |\n",
    ];

    /// Prompts as they come: one to four messages, each of a few pieces of one or two kinds.
    fn prompt(numbers: &mut Numbers) -> Vec<String> {
        let kinds = [numbers.below(TEXTS.len()), numbers.below(TEXTS.len())];
        (0..1 + numbers.below(4))
            .map(|_| (0..1 + numbers.below(12)).map(|_| TEXTS[kinds[numbers.below(2)]]).collect())
            .collect()
    }

    fn features(messages: &[String]) -> Features {
        let mut features = Features { messages: messages.len() as u64, ..Features::default() };
        for text in messages {
            features.tokens += Encoding::O200kBase.count(text);
            features.text(text);
        }
        features
    }

    fn errors(model: &str, template: u64) -> (f64, f64) {
        let truth = tiktoken::get_encoding(model).unwrap();
        let count = |messages: &[String]| {
            messages.iter().map(|text| truth.encode(text).len() as u64 + template).sum::<u64>() + 2
        };
        let mut numbers = Numbers(7);
        let mut ratio = Ratio::default();
        for _ in 0..50 {
            let messages = prompt(&mut numbers);
            ratio.learn(&features(&messages), count(&messages));
        }
        let mut errors: Vec<f64> = (0..400)
            .map(|_| {
                let messages = prompt(&mut numbers);
                let real = count(&messages) as f64;
                (ratio.estimate(&features(&messages)) as f64 - real).abs() / real
            })
            .collect();
        errors.sort_by(f64::total_cmp);
        (errors.iter().sum::<f64>() / errors.len() as f64, errors[errors.len() * 95 / 100])
    }

    /// Within 50 reports a mean error under 2 % and a 95th percentile under 5 %. Of other texts: `tests/tests/held_out.rs`.
    #[test]
    fn converges_to_foreign_tokenizers() {
        for (model, template) in [("llama3", 5), ("qwen2", 5), ("deepseek_v3", 2)] {
            let (mean, p95) = errors(model, template);
            println!("{model}: mean {:.1} %, p95 {:.1} %", mean * 100.0, p95 * 100.0);
            assert!(mean < 0.02 && p95 < 0.05, "{model}: mean {mean}, p95 {p95}");
        }
    }

    #[test]
    fn nonsense_does_little_harm() {
        let mut numbers = Numbers(3);
        let mut ratio = Ratio::default();
        for i in 0..200u64 {
            let features = features(&prompt(&mut numbers));
            let real = features.tokens + 3 * features.messages + 3;
            ratio.learn(&features, if i % 20 == 19 { real * 100 } else { real });
        }
        for _ in 0..50 {
            let features = features(&prompt(&mut numbers));
            let real = (features.tokens + 3 * features.messages + 3) as f64;
            let error = (ratio.estimate(&features) as f64 - real).abs() / real;
            assert!(error < 0.2, "{error}");
        }
        for tokens in [0, 1, u64::MAX] {
            for features in [Features::default(), Features { tokens: u64::MAX, ..Features::default() }] {
                ratio.learn(&features, tokens);
                ratio.estimate(&features);
            }
        }
    }

    #[test]
    fn round_trip() {
        let mut ratio = Ratio::default();
        let mut features = Features { tokens: 100, messages: 2, ..Features::default() };
        features.text("1234567 слов 和");
        ratio.learn(&features, 130);
        let bytes = ratio.encode();
        assert_eq!(bytes.len(), RATIO_BYTES);
        assert_eq!(Ratio::decode(&bytes), ratio);
        assert_eq!(Ratio::decode(&bytes[1..]), Ratio::default());
        assert_eq!(Ratio::decode(&[0xff; RATIO_BYTES]), Ratio::default());
    }
}
