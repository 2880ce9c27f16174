//! Where a module's memory comes from: small blocks from lists of those that are free, one list for each size, and large ones from the
//! system's allocator, which takes several times as much for each.
//!
//! A request allocates a few hundred times and gives everything back, so that the next one finds the same blocks. What was once a block of a
//! size stays one: of each size there are as many as were ever in use at the same time, and memory that one kind of request took is no other
//! kind's. WebAssembly gives no memory back in any case.
//!
//! What this crate does not do: threads, of which a module has one.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ptr;
use std::alloc::System;

/// Sizes are multiples of this, to which all blocks are aligned.
const STEP: usize = 16;
/// How many sizes there are; the largest is 1 KB.
const SIZES: usize = 64;
/// How much is taken from the system at once, to make blocks of: a page of wasm. Less would be put where a body of a request was, and the next one of
/// that size would find no room there.
const CHUNK: usize = 64 << 10;

/// The allocator.
#[derive(Default)]
pub struct Blocks(UnsafeCell<State>);

struct State {
    /// The first free block of each size; in it stands where the next one is.
    free: [*mut u8; SIZES],
    /// What no block has been made of yet, and how much that is.
    rest: *mut u8,
    rest_size: usize,
}

impl Default for State {
    fn default() -> Self {
        Self::EMPTY
    }
}

// SAFETY: a module has one thread. Elsewhere it is no static.
#[cfg(target_family = "wasm")]
unsafe impl Sync for Blocks {}

impl Blocks {
    /// One that has nothing yet.
    pub const fn new() -> Self {
        Self(UnsafeCell::new(State::EMPTY))
    }
}

/// The list of the blocks for this; `None` for what is the system's. Nobody allocates nothing.
#[inline(always)]
const fn list(layout: Layout) -> Option<usize> {
    let list = layout.size().wrapping_sub(1) / STEP;
    if list < SIZES && layout.align() <= STEP { Some(list) } else { None }
}

impl State {
    const EMPTY: Self = Self { free: [ptr::null_mut(); SIZES], rest: ptr::null_mut(), rest_size: 0 };

    /// A block that there has not been before.
    #[cold]
    #[inline(never)]
    fn fresh(&mut self, list: usize) -> *mut u8 {
        let size = list.saturating_add(1).saturating_mul(STEP);
        if self.rest_size < size {
            let Ok(layout) = Layout::from_size_align(CHUNK, STEP) else { return ptr::null_mut() };
            // SAFETY: the layout is not empty.
            let chunk = unsafe { System.alloc(layout) };
            if chunk.is_null() {
                return chunk;
            }
            if let Some(last) = (self.rest_size / STEP).checked_sub(1) {
                // SAFETY: what is left is smaller than the largest block, all of it is a block of this size, and it is nobody's.
                unsafe { self.give(last, self.rest) };
            }
            (self.rest, self.rest_size) = (chunk, CHUNK);
        }
        let block = self.rest;
        // SAFETY: so many bytes at least are left.
        self.rest = unsafe { block.add(size) };
        self.rest_size = self.rest_size.saturating_sub(size);
        block
    }

    /// Puts a block into its list.
    ///
    /// # Safety
    /// There is such a list, the block is one of its size, and nobody uses it.
    #[inline(always)]
    unsafe fn give(&mut self, list: usize, block: *mut u8) {
        // SAFETY: the caller's promise; every block has room for a pointer, and is aligned for one.
        unsafe {
            let first = self.free.get_unchecked_mut(list);
            block.cast::<*mut u8>().write(*first);
            *first = block;
        }
    }
}

// SAFETY: what is given out is a block of its list's size, which is at least what was asked for, aligned to `STEP`, and in no list until it comes
// back; or it is the system's. Which of the two it is depends on the layout alone, which is the same when it comes back.
unsafe impl GlobalAlloc for Blocks {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(list) = list(layout) else {
            // SAFETY: the caller's promise.
            return unsafe { System.alloc(layout) };
        };
        // SAFETY: there is one thread, and nothing that allocates here is called meanwhile; so this is the only reference. There is such a list.
        let (state, first) = unsafe { (&mut *self.0.get(), (*self.0.get()).free.get_unchecked_mut(list)) };
        let block = *first;
        if block.is_null() {
            return state.fresh(list);
        }
        // SAFETY: in a free block stands where the next one is.
        *first = unsafe { block.cast::<*mut u8>().read() };
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match list(layout) {
            // SAFETY: as in `alloc`, which gave this block for this layout.
            Some(list) => unsafe { (*self.0.get()).give(list, block) },
            // SAFETY: the caller's promise.
            None => unsafe { System.dealloc(block, layout) },
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if list(layout).is_none() {
            // SAFETY: the caller's promise.
            return unsafe { System.alloc_zeroed(layout) };
        }
        // SAFETY: the caller's promise.
        let block = unsafe { self.alloc(layout) };
        if !block.is_null() {
            // SAFETY: it is that large.
            unsafe { block.write_bytes(0, layout.size()) };
        }
        block
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller promises that the size makes a layout.
        let new = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        match (list(layout), list(new)) {
            // SAFETY: the caller's promise.
            (None, None) => unsafe { System.realloc(block, layout, size) },
            (old, new) if old == new => block,
            // SAFETY: both are that large, and they are two.
            _ => unsafe {
                let to = self.alloc(new);
                if !to.is_null() {
                    ptr::copy_nonoverlapping(block, to, layout.size().min(size));
                    self.dealloc(block, layout);
                }
                to
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Memory that is in use, and what was written into all of it.
    struct Held {
        at: *mut u8,
        layout: Layout,
        with: u8,
    }

    impl Held {
        fn check(&self) {
            // SAFETY: it is in use and that large.
            let bytes = unsafe { core::slice::from_raw_parts(self.at, self.layout.size()) };
            assert!(bytes.iter().all(|byte| *byte == self.with), "{:?} is somebody else's too", self.layout);
            assert_eq!(self.at as usize % self.layout.align(), 0);
        }
    }

    fn layout(size: usize, align: u32) -> Layout {
        Layout::from_size_align(size, 1 << align).unwrap()
    }

    proptest! {
        /// Whatever is allocated, resized and given back in whatever order: what is in use is nobody else's, and keeps what is in it.
        #[test]
        fn what_is_in_use_is_one_owners(steps in prop::collection::vec((0u8..5, 1usize..1400, 0u32..7, any::<usize>()), 1..400)) {
            let blocks = Blocks::new();
            let mut held: Vec<Held> = Vec::new();
            for (number, (kind, size, align, which)) in steps.into_iter().enumerate() {
                let with = number as u8;
                let which = which % held.len().max(1);
                // SAFETY: layouts are not empty; what is given back or resized is in use, and was given for that layout.
                unsafe {
                    match kind {
                        0 | 1 => {
                            let layout = layout(size, align);
                            let at = if kind == 0 { blocks.alloc(layout) } else { blocks.alloc_zeroed(layout) };
                            let one = Held { at, layout, with: 0 };
                            if kind == 1 {
                                one.check();
                            }
                            at.write_bytes(with, size);
                            held.push(Held { with, ..one });
                        }
                        2 | 3 if which < held.len() => {
                            let one = held.swap_remove(which);
                            one.check();
                            blocks.dealloc(one.at, one.layout);
                        }
                        4 if which < held.len() => {
                            let one = &mut held[which];
                            one.check();
                            let at = blocks.realloc(one.at, one.layout, size);
                            let kept = one.layout.size().min(size);
                            assert!(core::slice::from_raw_parts(at, kept).iter().all(|byte| *byte == one.with));
                            let layout = Layout::from_size_align(size, one.layout.align()).unwrap();
                            at.write_bytes(with, size);
                            *one = Held { at, layout, with };
                        }
                        _ => {}
                    }
                }
            }
            for one in held {
                one.check();
                // SAFETY: as above.
                unsafe { blocks.dealloc(one.at, one.layout) };
            }
        }
    }

    #[test]
    fn what_comes_back_is_given_out_again() {
        let blocks = Blocks::new();
        // SAFETY: layouts are not empty, and what is given back is in use.
        unsafe {
            let first = blocks.alloc(layout(100, 3));
            let second = blocks.alloc(layout(100, 3));
            assert_eq!(second as usize - first as usize, 112);
            blocks.dealloc(first, layout(100, 3));
            // Of the same size, if not of the same length; of another size it is none.
            assert_ne!(blocks.alloc(layout(96, 3)), first);
            assert_eq!(blocks.alloc(layout(112, 4)), first);
            // It has grown where it is.
            assert_eq!(blocks.realloc(second, layout(100, 3), 109), second);
        }
    }

    /// However the last of a chunk is left, it is used.
    #[test]
    fn nothing_of_a_chunk_is_lost() {
        let blocks = Blocks::new();
        let all = CHUNK / 1024 * 1024 / 1008;
        // SAFETY: the layouts are not empty.
        unsafe {
            let first = blocks.alloc(layout(1008, 0));
            for _ in 1..all {
                blocks.alloc(layout(1008, 0));
            }
            let left = CHUNK - all * 1008;
            blocks.alloc(layout(1008, 0));
            assert_eq!(blocks.alloc(layout(left, 0)) as usize, first as usize + all * 1008);
        }
    }
}
