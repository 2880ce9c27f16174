//! Texts that are likely to tell two counters apart, from a seed.

/// A generator of random numbers (SplitMix64, Steele, Lea and Flood 2014): a failure can be repeated from its seed.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub fn of<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }
}

/// Pieces that rules are about: contractions in every case and with the long s, line ends, slashes, spaces of all kinds, marks,
/// digits of several scripts, titlecase and modifier letters, scripts without case, emoji with joiners.
const FRAGMENTS: &[&str] = &[
    "'s",
    "'S",
    "'ſ",
    "ſ",
    "'t",
    "'T",
    "'re",
    "'RE",
    "'Re",
    "'ve",
    "'vE",
    "'m",
    "'ll",
    "'lL",
    "'d",
    "'",
    "''",
    "’s",
    "'x",
    "'r",
    "'l",
    "\n",
    "\r",
    "\r\n",
    "\n\n",
    "\n\r",
    " ",
    "  ",
    "   ",
    "\t",
    "\t\t",
    "\u{a0}",
    "\u{2003}",
    "\u{3000}",
    "\u{85}",
    "\u{2028}",
    "\u{b}",
    "\u{c}",
    "/",
    "//",
    "/\n",
    "!\n/",
    "!",
    "!!",
    "?!",
    ".",
    ",",
    "-",
    "--",
    "_",
    "(",
    ")",
    "{",
    "}",
    "\"",
    "=>",
    "::",
    "0",
    "7",
    "42",
    "123",
    "1234",
    "٣",
    "४५",
    "²",
    "Ⅷ",
    "½",
    "a",
    "A",
    "b",
    "Z",
    "the",
    "The",
    "THE",
    "camelCase",
    "HTTPServer",
    "aB",
    "Ab",
    "ABc",
    "é",
    "É",
    "e\u{301}",
    "\u{301}",
    "\u{300}\u{301}",
    "\u{20dd}",
    "ǅ",
    "ʰ",
    "ª",
    "ß",
    "ﬁ",
    "İ",
    "ı",
    "K",
    "Å",
    "ά",
    "Ж",
    "ж",
    "привет",
    "Привет",
    "שלום",
    "مرحبا",
    "नमस्ते",
    "ไทย",
    "中",
    "文",
    "中文",
    "你好世界",
    "日本語",
    "カタカナ",
    "ひらがな",
    "한국어",
    "ー",
    "々",
    "👍",
    "👩‍👩‍👧",
    "🇩🇪",
    "❤️",
    "\u{200d}",
    "\u{fe0f}",
    "\u{200b}",
    "\u{0}",
    "\u{7f}",
    "\u{ad}",
    "\u{feff}",
    "\u{fffd}",
    "\u{e000}",
    "\u{10ffff}",
    "�",
    "€",
    "÷",
    "×",
    "a1",
    "x86_64",
    "http://",
    "https://",
    "www",
    ".com",
    "def ",
    "return",
    "    ",
    "        ",
    "\t\t\t",
    "<|endoftext|>",
    "<|im_start|>",
    "lorem",
    "ipsum",
    "xqzv",
    "aaaaaaa",
    "----------",
    "==========",
];

/// A text of fragments and random characters.
pub fn mixture(random: &mut Random, fragments_max: usize) -> String {
    let mut text = String::new();
    // Some texts keep to few fragments, so that they repeat and collide.
    let few: Vec<&str> = (0..1 + random.below(6)).map(|_| random.of(FRAGMENTS)).collect();
    let narrow = random.below(3) == 0;
    let sort = random.below(8);
    for _ in 0..1 + random.below(fragments_max) {
        match random.below(10) {
            0 if sort > 1 => text.push(any_char(random)),
            1 if sort > 3 => text.push(char::from(random.below(128) as u8)),
            2 if sort == 2 => (0..random.below(12)).for_each(|_| text.push(char::from(b'a' + random.below(26) as u8))),
            3 if sort == 4 => (0..random.below(30)).for_each(|_| text.push(any_char(random))),
            4 if sort == 5 => {
                (0..random.below(20)).for_each(|_| text.push(random.of(&['A', 'b', '中', '\u{301}', 'ʰ', 'ǅ'])))
            }
            5 if sort == 6 => {
                (0..random.below(20)).for_each(|_| text.push(random.of(&[' ', '\n', '\r', '\t', '\u{3000}', '\u{a0}'])))
            }
            6 if sort == 7 => text.push_str(&random.of(FRAGMENTS).repeat(random.below(40))),
            _ => text.push_str(if narrow { random.of(&few) } else { random.of(FRAGMENTS) }),
        }
    }
    text
}

/// Any character, with the lower planes as likely as the rest together.
pub fn any_char(random: &mut Random) -> char {
    let bound = random.of(&[0x80, 0x250, 0x800, 0x3000, 0x1_0000, 0x2_0000, 0x11_0000]);
    char::from_u32(random.below(bound) as u32).unwrap_or('\u{fffd}')
}

/// `text` in pieces of random sizes.
pub fn cut<'a>(random: &mut Random, text: &'a str, most: usize) -> Vec<&'a str> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let mut at = (1 + random.below(most)).min(rest.len());
        while !rest.is_char_boundary(at) {
            at += 1;
        }
        let (piece, after) = rest.split_at(at);
        pieces.push(piece);
        rest = after;
    }
    pieces
}
