//! A WebAssembly module with nothing but the counter, to measure what counting costs in a sandbox.
//!
//! The host writes a text to [`room`] and calls [`count`] or [`count_in_pieces`].

use std::cell::RefCell;

thread_local! {
    static TEXT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Makes room for a text of so many bytes and says where.
#[unsafe(no_mangle)]
pub extern "C" fn room(bytes: usize) -> *mut u8 {
    TEXT.with_borrow_mut(|text| {
        text.resize(bytes, 0);
        text.as_mut_ptr()
    })
}

/// The tokens of the text, as a whole.
#[unsafe(no_mangle)]
pub extern "C" fn count() -> u64 {
    TEXT.with_borrow(|text| counter::whole(str::from_utf8(text).unwrap_or_default()))
}

/// The tokens of the text, pushed in pieces of so many bytes.
#[unsafe(no_mangle)]
pub extern "C" fn count_in_pieces(bytes: usize) -> u64 {
    TEXT.with_borrow(|text| counter::pieces(str::from_utf8(text).unwrap_or_default(), bytes))
}

/// What the two above cost without counting: seeing that the text is UTF-8.
#[unsafe(no_mangle)]
pub extern "C" fn nothing() -> u64 {
    TEXT.with_borrow(|text| str::from_utf8(text).unwrap_or_default().len() as u64)
}

#[cfg(any(feature = "o200k", feature = "cl100k"))]
mod counter {
    use penstock_tokens::{Counter, Encoding};

    const ENCODING: Encoding = Encoding::ALL[0].1;

    pub fn whole(text: &str) -> u64 {
        ENCODING.count(text)
    }

    pub fn pieces(mut text: &str, bytes: usize) -> u64 {
        let mut counter = Counter::new(ENCODING);
        while !text.is_empty() {
            let (piece, rest) = text.split_at(text.ceil_char_boundary(bytes.clamp(1, text.len())));
            counter.push(piece);
            text = rest;
        }
        counter.finish()
    }
}

#[cfg(not(any(feature = "o200k", feature = "cl100k")))]
mod counter {
    pub fn whole(_: &str) -> u64 {
        0
    }

    pub fn pieces(_: &str, _: usize) -> u64 {
        0
    }
}
