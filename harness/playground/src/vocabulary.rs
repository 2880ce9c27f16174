//! A vocabulary as the page carries it: the bits of its pattern, then each token's length in a byte and its bytes, in the order of the ranks.

use penstock_token_tables::Vocabulary;
use penstock_token_tables::layout::Pattern;

/// For [`unpacked`].
///
/// # Errors
/// When a token is longer than a table takes.
pub fn packed(vocabulary: &Vocabulary) -> Result<Vec<u8>, String> {
    let mut packed = vocabulary.pattern.0.to_le_bytes().to_vec();
    for token in &vocabulary.tokens {
        packed.push(u8::try_from(token.len()).map_err(|_| format!("a token of {} bytes", token.len()))?);
        packed.extend(token);
    }
    Ok(packed)
}

/// What [`packed`] made, of an encoding whose pieces are tokens where there is one.
///
/// # Errors
/// When it is cut short.
pub fn unpacked(packed: &[u8]) -> Result<Vocabulary, String> {
    let cut = || "a vocabulary that is cut short".to_owned();
    let (pattern, mut rest) = packed.split_first_chunk::<4>().ok_or_else(cut)?;
    let mut tokens = Vec::new();
    while let Some((length, after)) = rest.split_first() {
        let (token, after) = after.split_at_checked(usize::from(*length)).ok_or_else(cut)?;
        tokens.push(token.to_vec());
        rest = after;
    }
    Ok(Vocabulary { tokens, pattern: Pattern(u32::from_le_bytes(*pattern)), whole_pieces: true })
}
