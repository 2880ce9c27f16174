//! Reading vocabularies: `.tiktoken` files and byte-level-BPE `tokenizer.json` files.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::layout::{Pattern, TOKEN_BYTES_MAX, TOKEN_MASK};

/// A vocabulary, ready to be made into a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vocabulary {
    /// The tokens in merge order: the earlier of two possible merges happens first.
    pub tokens: Vec<Vec<u8>>,
    /// How texts are cut before merging.
    pub pattern: Pattern,
    /// Whether a piece that is a token is that token even if merging would not produce it, as `tiktoken` has it.
    pub whole_pieces: bool,
}

impl Vocabulary {
    /// Reads a file of either kind; `pattern` is for `.tiktoken` files, which do not say how texts are cut.
    ///
    /// # Errors
    /// A sentence that names the line or the field, and what was expected there.
    pub fn read(bytes: &[u8], pattern: Pattern) -> Result<Self, String> {
        match bytes.iter().find(|byte| !byte.is_ascii_whitespace()) {
            None => Err("the file is empty".to_owned()),
            Some(b'{') => Self::from_tokenizer_json(bytes),
            // A SentencePiece model is a protocol buffer whose first field is a piece.
            Some(0x0a | 0x00..=0x08 | 0x0e..=0x1f) => Err(SENTENCEPIECE.to_owned()),
            Some(_) if bytes.first() == Some(&0x0a) => Err(SENTENCEPIECE.to_owned()),
            Some(_) => Self::from_tiktoken(bytes, pattern),
        }
    }

    /// Reads a `.tiktoken` file: a token in base64 and its rank on each line.
    ///
    /// # Errors
    /// As [`Vocabulary::read`].
    pub fn from_tiktoken(bytes: &[u8], pattern: Pattern) -> Result<Self, String> {
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let line = bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
            format!("line {line}: not UTF-8; a .tiktoken file has a token in base64 and its rank on each line")
        })?;
        let mut ranked: Vec<(u32, Vec<u8>)> = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() {
                continue;
            }
            let entry =
                line.split_once(' ').and_then(|(token, rank)| Some((STANDARD.decode(token).ok()?, rank.parse().ok()?)));
            let (token, rank) = entry.ok_or_else(|| {
                let shown: String = line.chars().take(40).collect();
                format!("line {}: {shown:?} is not a token in base64, a space and a rank", number + 1)
            })?;
            ranked.push((rank, token));
        }
        ranked.sort();
        if let Some(pair) = ranked.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(format!("rank {} is given to two tokens", pair[0].0));
        }
        Self { tokens: ranked.into_iter().map(|(_, token)| token).collect(), pattern, whole_pieces: true }.checked()
    }

    /// Reads a `tokenizer.json` (Hugging Face `tokenizers`) with a byte-level BPE model.
    ///
    /// # Errors
    /// As [`Vocabulary::read`]; other kinds of model are refused with the reason.
    pub fn from_tokenizer_json(bytes: &[u8]) -> Result<Self, String> {
        // Other kinds of model have other fields, so the kind is looked at before they are.
        let said = |error| format!("tokenizer.json: {error}");
        match serde_json::from_slice::<Outline>(bytes).map_err(said)?.model.kind.as_deref() {
            None | Some("BPE") => {}
            Some("Unigram") => return Err(SENTENCEPIECE.to_owned()),
            Some(kind) => return Err(format!("model.type: {kind:?} is not supported; byte-level BPE is")),
        }
        let file: TokenizerJson = serde_json::from_slice(bytes).map_err(said)?;
        if file.model.byte_fallback || file.model.vocab.contains_key("<0x0A>") {
            return Err(SENTENCEPIECE.to_owned());
        }
        if let Some(normalizer) = &file.normalizer
            && normalizer["type"] != "NFC"
        {
            return Err(format!("normalizer: {} is not supported; none and NFC are", normalizer["type"]));
        }
        let pattern = pattern_of(&file.pre_tokenizer)?;
        let letters = byte_letters();
        let token = |text: &str| -> Result<Vec<u8>, String> {
            let bytes: Option<Vec<u8>> = text.chars().map(|c| letters.get(&c).copied()).collect();
            bytes.ok_or_else(|| format!("model.vocab: {text:?} is not written in the byte-level alphabet"))
        };
        // Single bytes come first; then each merge in order brings the token that it makes.
        let mut tokens: Vec<Vec<u8>> = (0..=u8::MAX).map(|byte| vec![byte]).collect();
        let mut known: HashMap<Vec<u8>, ()> = tokens.iter().map(|token| (token.clone(), ())).collect();
        for (index, merge) in file.model.merges.iter().enumerate() {
            let (left, right) = match merge {
                Merge::Pair(left, right) => (left.as_str(), right.as_str()),
                Merge::Text(text) => text.split_once(' ').ok_or_else(|| {
                    format!("model.merges[{index}]: {text:?} is not two tokens with a space between them")
                })?,
            };
            let merged = [token(left)?, token(right)?].concat();
            if known.insert(merged.clone(), ()).is_none() {
                tokens.push(merged);
            }
        }
        if file.model.ignore_merges {
            // What no merge makes can still be a whole piece; it goes last, where no merge prefers it.
            let added: Vec<&str> = file.added_tokens.iter().map(|token| token.content.as_str()).collect();
            for text in file.model.vocab.keys().filter(|text| !added.contains(&text.as_str())) {
                let bytes = token(text)?;
                if known.insert(bytes.clone(), ()).is_none() {
                    tokens.push(bytes);
                }
            }
        }
        Self { tokens, pattern, whole_pieces: file.model.ignore_merges }.checked()
    }

    fn checked(self) -> Result<Self, String> {
        if self.tokens.len() > TOKEN_MASK as usize {
            return Err(format!("{} tokens are more than the {TOKEN_MASK} a table can hold", self.tokens.len()));
        }
        if let Some(token) = self.tokens.iter().find(|token| token.is_empty() || token.len() > TOKEN_BYTES_MAX) {
            return Err(format!("a token of {} bytes; 1 to {TOKEN_BYTES_MAX} are possible", token.len()));
        }
        Ok(self)
    }
}

const SENTENCEPIECE: &str = "this is a SentencePiece vocabulary (Llama 2, Gemma, older Mistral): it merges characters by score with \
    its own treatment of spaces, not bytes by rank, so its counts would be wrong; use `like: <encoding>` for such a model, which \
    learns the ratio";

#[derive(Deserialize)]
struct Outline {
    model: Kind,
}

#[derive(Deserialize)]
struct Kind {
    #[serde(rename = "type")]
    kind: Option<String>,
}

#[derive(Deserialize)]
struct TokenizerJson {
    model: Model,
    #[serde(default)]
    normalizer: Option<serde_json::Value>,
    #[serde(default)]
    pre_tokenizer: serde_json::Value,
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
}

#[derive(Deserialize)]
struct Model {
    vocab: std::collections::BTreeMap<String, u32>,
    #[serde(default)]
    merges: Vec<Merge>,
    #[serde(default)]
    ignore_merges: bool,
    #[serde(default)]
    byte_fallback: bool,
}

#[derive(Deserialize)]
struct AddedToken {
    content: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Text(String),
    Pair(String, String),
}

/// The regular expressions of `Split` pre-tokenizers whose meaning is known exactly.
const PATTERNS: [(&str, Pattern); 3] = [
    (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        Pattern::LLAMA3,
    ),
    (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        Pattern::QWEN2,
    ),
    (
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        Pattern::O200K,
    ),
];

/// The pattern of a pre-tokenizer: one `Split` with a known regular expression, and the byte-level alphabet.
fn pattern_of(pre_tokenizer: &serde_json::Value) -> Result<Pattern, String> {
    if pre_tokenizer["type"] == "Metaspace" {
        return Err(SENTENCEPIECE.to_owned());
    }
    let parts = pre_tokenizer["pretokenizers"].as_array().map(Vec::as_slice).unwrap_or_default();
    let splits: Vec<&serde_json::Value> = parts.iter().filter(|part| part["type"] == "Split").collect();
    let known = match splits.as_slice() {
        [split] => split["pattern"]["Regex"].as_str(),
        _ => None,
    };
    known.and_then(|regex| PATTERNS.iter().find(|(text, _)| *text == regex)).map(|(_, pattern)| *pattern).ok_or_else(|| {
        "pre_tokenizer: only a Sequence of one Split, with the regular expression of Llama 3, Qwen 2 or o200k, and ByteLevel is \
         supported"
            .to_owned()
    })
}

/// GPT-2's alphabet: printable characters stand for themselves, the other bytes for characters from U+0100.
fn byte_letters() -> HashMap<char, u8> {
    let mut next = 0x100u32;
    (0..=u8::MAX)
        .filter_map(|byte| {
            let printable = matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
            let letter = if printable {
                char::from(byte)
            } else {
                next += 1;
                char::from_u32(next - 1)?
            };
            Some((letter, byte))
        })
        .collect()
}
