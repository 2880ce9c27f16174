//! Texts to count: some written for this purpose, some generated from a seed. Nothing is downloaded, and every run has the same texts.
//!
//! Each has two halves: measurements of speed warm up on the first and measure the second.

use std::fmt::Write as _;

/// A kind of text.
pub struct Sample {
    /// What it is.
    pub name: &'static str,
    /// The half to warm up with.
    pub warm: String,
    /// The half to measure.
    pub held_out: String,
}

/// Bytes of each half, at most.
const HALF: usize = 24_000;

/// All kinds, and last a mix of as many bytes from each.
pub fn samples() -> Vec<Sample> {
    let mut samples: Vec<Sample> = kinds().into_iter().map(|(name, text)| halved(name, &text)).collect();
    let share = samples.iter().map(|sample| sample.held_out.len()).min().unwrap_or_default();
    let mix = |half: fn(&Sample) -> &str| -> String {
        samples.iter().map(half).map(|text| &text[..text.floor_char_boundary(share)]).collect::<Vec<_>>().join("\n")
    };
    let (warm, held_out) = (mix(|sample| &sample.warm), mix(|sample| &sample.held_out));
    samples.push(Sample { name: "mixed", warm, held_out });
    samples
}

/// The held-out half of the sample called `name`.
pub fn held_out(name: &str) -> String {
    samples().into_iter().find(|sample| sample.name == name).map(|sample| sample.held_out).unwrap_or_default()
}

fn kinds() -> Vec<(&'static str, String)> {
    vec![
        ("English", include_str!("../corpus/english.txt").to_owned()),
        ("code", include_str!("../corpus/code.txt").to_owned()),
        ("JSON chat", json_chat()),
        ("Chinese", include_str!("../corpus/chinese.txt").to_owned()),
        ("Japanese", include_str!("../corpus/japanese.txt").to_owned()),
        ("Arabic", include_str!("../corpus/arabic.txt").to_owned()),
        ("Russian", include_str!("../corpus/russian.txt").to_owned()),
        ("emoji", include_str!("../corpus/emoji.txt").to_owned()),
        ("logs", logs()),
        ("whitespace", white_space()),
        ("base64", base64()),
    ]
}

fn halved(name: &'static str, text: &str) -> Sample {
    let (warm, held_out) = text.split_at(text.floor_char_boundary(text.len() / 2));
    let at_most = |text: &str| text[..text.floor_char_boundary(HALF)].to_owned();
    Sample { name, warm: at_most(warm), held_out: at_most(held_out) }
}

/// A chat request body whose messages quote the other samples.
fn json_chat() -> String {
    let quoted = [
        include_str!("../corpus/english.txt"),
        include_str!("../corpus/code.txt"),
        include_str!("../corpus/emoji.txt"),
    ];
    let mut random = Random(11);
    let mut messages = Vec::new();
    for turn in 0..24 {
        let text = quoted[turn % quoted.len()];
        let from = text.floor_char_boundary(random.below(text.len() - 500));
        let to = text.floor_char_boundary(from + 150 + random.below(300));
        let role = if turn % 2 == 0 { "user" } else { "assistant" };
        messages.push(serde_json::json!({"role": role, "content": &text[from..to]}));
    }
    let tool = serde_json::json!({"type": "function", "function": {"name": "get_weather", "parameters": {
        "type": "object", "properties": {"city": {"type": "string"}, "unit": {"type": "string", "enum": ["C", "F"]}}}}});
    serde_json::json!({"model": "gpt-4o", "messages": messages, "tools": [tool], "temperature": 0.7}).to_string()
}

fn logs() -> String {
    let mut random = Random(12);
    let mut text = String::new();
    for second in 0..80 {
        let (a, b, c) = (random.next(), random.next(), random.next());
        let level = ["INFO", "WARN", "ERROR", "DEBUG"][random.below(4)];
        let what =
            ["upstream connect timeout", "request completed", "cache miss", "retrying after backoff", "slow query"]
                [random.below(5)];
        let _ = writeln!(
            text,
            "2026-03-{:02}T{:02}:{:02}:{:02}.{:03}Z {level:5} [worker-{}] {}.{}.{}.{} \"POST /v1/chat/completions HTTP/1.1\" {} {}ms {what} \
             request_id={:08x}-{:04x}-{:04x} span={:016x}",
            second / 24 + 1,
            second % 24,
            a % 60,
            b % 60,
            c % 1000,
            a % 16,
            a >> 56,
            b >> 56,
            c >> 56,
            a >> 40 & 255,
            [200, 200, 200, 429, 500, 503][random.below(6)],
            b % 5000,
            a as u32,
            b as u16,
            c as u16,
            a ^ b,
        );
    }
    text
}

fn white_space() -> String {
    let mut random = Random(13);
    let mut text = String::new();
    for _ in 0..700 {
        match random.below(8) {
            0 => text.push('\n'),
            1 => text.push_str("\r\n"),
            2 => text.push_str(&"\t".repeat(1 + random.below(6))),
            3 => text.push_str("}\n"),
            4 => text.push_str("- x"),
            _ => text.push_str(&" ".repeat(1 + random.below(24))),
        }
    }
    text
}

fn base64() -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut random = Random(14);
    (0..8_000).map(|_| char::from(ALPHABET[random.below(64)])).collect()
}

/// Words that no other text has and that are no tokens: a counter that has counted them remembers nothing of what it counted before.
pub fn strange_words() -> String {
    let mut random = Random(16);
    let mut text = String::new();
    for _ in 0..12_000 {
        (0..5).for_each(|_| text.push(char::from(b"bcdfghjklmnpqrstvwxz"[random.below(20)])));
        text.push(' ');
    }
    text
}

/// Texts of a megabyte that cost more than ordinary ones, by name.
pub fn hard_megabytes() -> Vec<(&'static str, String)> {
    const SIZE: usize = 1_000_000;
    let mut random = Random(15);
    let mut from = |alphabet: &str| -> String {
        let letters: Vec<char> = alphabet.chars().collect();
        let mut text = String::with_capacity(SIZE);
        while text.len() < SIZE - 4 {
            text.push(letters[random.below(letters.len())]);
        }
        text
    };
    let repeated = |unit: &str| unit.repeat(SIZE / unit.len());
    vec![
        ("one letter", repeated("a")),
        ("one capital", repeated("A")),
        ("two letters", repeated("ab")),
        ("spaces", repeated(" ")),
        ("spaces and a word", repeated(" ") + "x"),
        ("line ends", repeated("\n")),
        ("spaces and line ends", from(" \n")),
        ("white space", from(" \t\r\n\u{a0}\u{3000}")),
        ("a line end, spaces, a line end", "\n".to_owned() + &repeated(" ") + "\n"),
        ("Han", repeated("中")),
        ("random Han", from(&('一'..='龥').collect::<String>())),
        ("Han and capitals", "中".to_owned() + &repeated("A")),
        ("lower case", from("abcdefghijklmnopqrstuvwxyz")),
        ("two random letters", from("ab")),
        ("capitals", from("ABCDEFGHIJKLMNOPQRSTUVWXYZ")),
        ("base64", from("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")),
        ("digits", from("0123456789")),
        ("punctuation", from("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")),
        ("dashes", repeated("-")),
        ("Cyrillic", from("абвгдежзийклмнопрстуфхцчшщъыьэюя")),
        ("Arabic", from("ابتثجحخدذرزسشصضطظعغفقكلمنهوي")),
        ("Thai", from(&('ก'..='ฮ').collect::<String>())),
        ("marks", from(&('\u{300}'..='\u{36f}').collect::<String>())),
        ("emoji", from(&('\u{1f300}'..='\u{1f64f}').collect::<String>())),
        (
            "any character",
            (0..SIZE / 4).map(|_| char::from_u32(random.below(0x11_0000) as u32).unwrap_or('x')).collect(),
        ),
    ]
}

/// A generator of random numbers (SplitMix64, Steele, Lea and Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}
