//! What a chat costs beyond its texts.
//!
//! Sources: openai-cookbook, `examples/How_to_count_tokens_with_tiktoken.ipynb`, section 6 ("Counting tokens for chat
//! completions API calls") for messages and section 7 ("Counting tokens for chat completions with tool calls") for tools:
//! every message is framed by 3 tokens, a name costs 1 more, and every reply is primed with 3 tokens; role, content and
//! name are counted as texts besides. OpenAI, "Images and vision", section "Calculating costs", for images: 85 tokens, and
//! in high detail 170 more for each tile of 512 by 512 pixels.
//!
//! Anthropic, "Vision", section "Evaluate image size", for images there: width times height over 750, after larger ones have been scaled
//! down to about 1,600 tokens. How responses and Anthropic's messages are framed is not documented; they are taken to be framed as a
//! chat is.
//!
//! Google, Gemini API, "Understand and count tokens", for sound and film: 32 and 263 tokens for a second; OpenAI's models take 10 for a second
//! of sound, and servers that sample a few images of a film take less. Anthropic, "PDF support", and OpenAI, "File inputs", for documents:
//! both the text of each page and a picture of it, by Anthropic 1,500 to 3,000 tokens for a page.
//!
//! The rule for tools is reverse-engineered, as the cookbook says, and the size of an image is not always known; counts
//! with either are estimates.

use crate::Encoding;

/// Tokens around each message.
pub const MESSAGE: u64 = 3;
/// Tokens for the presence of a name.
pub const NAME: u64 = 1;
/// Tokens that prime the reply.
pub const REPLY: u64 = 3;

/// The overhead of a chat with so many messages, so many of which carry a name.
pub fn chat(messages: u64, names: u64) -> u64 {
    messages.saturating_mul(MESSAGE).saturating_add(names.saturating_mul(NAME)).saturating_add(REPLY)
}

/// The cost of tool definitions, gathered one by one.
pub struct Tools {
    encoding: Encoding,
    tokens: u64,
}

impl Tools {
    /// No tools yet; they cost nothing.
    pub fn new(encoding: Encoding) -> Self {
        Self { encoding, tokens: 0 }
    }

    /// A function with its description.
    pub fn function(&mut self, name: &str, description: &str) {
        let init = if Encoding::named("cl100k_base") == Some(self.encoding) { 10 } else { 7 };
        let text = self.encoding.count(&format!("{name}:{}", sentence(description)));
        self.tokens = self.tokens.saturating_add(init).saturating_add(text);
    }

    /// An object with properties begins: a function's parameters, or a property that is itself an object.
    pub fn properties(&mut self) {
        self.tokens = self.tokens.saturating_add(3);
    }

    /// A property.
    pub fn property(&mut self, name: &str, kind: &str, description: &str) {
        let text = self.encoding.count(&format!("{name}:{kind}:{}", sentence(description)));
        self.tokens = self.tokens.saturating_add(3).saturating_add(text);
    }

    /// The values of the last property, where they are enumerated.
    pub fn values<'a>(&mut self, values: impl Iterator<Item = &'a str>) {
        let items: u64 = values.map(|value| self.encoding.count(value).saturating_add(3)).sum();
        self.tokens = self.tokens.saturating_add(items).saturating_sub(3);
    }

    /// What they all cost.
    pub fn tokens(&self) -> u64 {
        if self.tokens == 0 { 0 } else { self.tokens.saturating_add(12) }
    }
}

/// A description without its final full stop, which costs nothing.
fn sentence(description: &str) -> &str {
    description.strip_suffix('.').unwrap_or(description)
}

/// The cost of an image. One of unknown size counts as a square of 1024 pixels, and where so many bytes of it are there, as one of as many
/// pixels as these hold, up to the most that an image costs.
pub fn image(low_detail: bool, size: Option<(u32, u32)>, bytes: Option<u64>) -> u64 {
    const BASE: u64 = 85;
    const TILE: u64 = 170;
    // A square of 1024 has 4 tiles; the most that fits has sides of 2048 and 768.
    const TILES: (u64, u64) = (4, 8);
    if low_detail {
        return BASE;
    }
    let Some((width, height)) = size.map(|(width, height)| (u64::from(width.max(1)), u64::from(height.max(1)))) else {
        let tiles = pixels(bytes).div_ceil(512 * 512).clamp(TILES.0, TILES.1);
        return tiles.saturating_mul(TILE).saturating_add(BASE);
    };
    let (long, short) = (width.max(height), width.min(height));
    // First it is fitted into a square of 2048, then its shorter side into 768.
    let (long, short) = if long > 2048 { (2048, scale(short, 2048, long)) } else { (long, short) };
    let (long, short) = if short > 768 { (scale(long, 768, short), 768) } else { (long, short) };
    let tiles = long.div_ceil(512).saturating_mul(short.div_ceil(512));
    tiles.saturating_mul(TILE).saturating_add(BASE)
}

/// The cost of an image by its area, as Anthropic has it. One that is not there counts as the largest; one of unknown size as a square of 1024
/// pixels, or as many as its bytes hold. None is free.
pub fn image_by_area(size: Option<(u32, u32)>, bytes: Option<u64>) -> u64 {
    const MOST: u64 = 1600;
    let area = match (size, bytes) {
        (Some((width, height)), _) => u64::from(width).saturating_mul(u64::from(height)),
        (None, Some(_)) => pixels(bytes).max(1024 * 1024),
        (None, None) => return MOST,
    };
    area.div_ceil(750).clamp(1, MOST)
}

/// How many pixels so many bytes of a picture may hold: half a bit each, where it is compressed hard.
fn pixels(bytes: Option<u64>) -> u64 {
    bytes.unwrap_or_default().saturating_mul(16)
}

/// The cost of a sound that lasts so many milliseconds.
pub fn sound(millis: u64) -> u64 {
    millis.saturating_mul(32).div_ceil(1000)
}

/// The cost of a film that lasts so many milliseconds.
pub fn film(millis: u64) -> u64 {
    millis.saturating_mul(263).div_ceil(1000)
}

/// The cost of so many bytes of documents: 3,000 tokens for 24,000 bytes, which is a page of text and pictures. Pages that are scanned have
/// more bytes.
pub fn document(bytes: u64) -> u64 {
    bytes.div_ceil(8)
}

/// The cost of so many bytes of text that is not looked at: English has about four bytes in a token.
pub fn bytes(bytes: u64) -> u64 {
    bytes.div_ceil(4)
}

fn scale(side: u64, to: u64, from: u64) -> u64 {
    side.saturating_mul(to).checked_div(from).unwrap_or(side).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_the_cookbook_says() {
        assert_eq!(chat(1, 0), 6);
        assert_eq!(chat(6, 4), 25);
        // The example of the documentation: 1024 x 1024 in high detail are 4 tiles, 2048 x 4096 are 6, low detail is 85.
        let of = |low, size| image(low, size, Some(9));
        assert_eq!(of(false, Some((1024, 1024))), 765);
        assert_eq!(of(false, Some((2048, 4096))), 1105);
        assert_eq!(of(true, Some((4096, 8192))), 85);
        assert_eq!(of(false, Some((u32::MAX, 1))), 85 + 4 * 170);
        // Of unknown size: what is not there, and what is.
        let unknown = |bytes| image(false, None, bytes);
        assert_eq!(
            [None, Some(0), Some(65_536), Some(65_537), Some(u64::MAX)].map(unknown),
            [765, 765, 765, 935, 1445]
        );
        // The table of the documentation: 200 x 200 are about 54 tokens, 1000 x 1000 about 1,334.
        let by_area = |size| image_by_area(size, None);
        assert_eq!([Some((200, 200)), Some((1000, 1000)), None].map(by_area), [54, 1334, 1600]);
        assert_eq!([Some((0, 9)), Some((1, 1))].map(by_area), [1, 1]);
        assert_eq!([0, 70_000, u64::MAX].map(|bytes| image_by_area(None, Some(bytes))), [1399, 1494, 1600]);
    }

    #[test]
    fn what_is_not_decoded_costs_something() {
        assert_eq!([sound(1000), sound(1), film(60_000), document(24_001), bytes(401)], [32, 1, 15_780, 3001, 101]);
        assert_eq!([sound(0), film(0), document(0), bytes(0)], [0; 4]);
        assert!([sound, film, document, bytes].iter().all(|cost| cost(u64::MAX) > 1 << 50));
    }

    #[test]
    fn tools_cost_nothing_where_there_are_none() {
        assert_eq!(Tools::new(Encoding::O200kBase).tokens(), 0);
    }
}
