//! Places of this machine, which must not be in what is published: they would make its digest that of this machine alone, and say whose
//! machine it was.

use std::env;
use std::path::{Path, PathBuf};

/// The folders that a compiler may have met: the checkout, its build directory, cargo's home and the user's.
pub fn known(checkout: &Path) -> Vec<PathBuf> {
    let set = ["CARGO_TARGET_DIR", "CARGO_HOME", "RUSTUP_HOME"].into_iter().filter_map(env::var_os).map(PathBuf::from);
    // Nobody's home is the root folder, which is the beginning of every path.
    let all = [checkout.to_owned()].into_iter().chain(set).chain(env::home_dir());
    all.filter(|place| place.is_absolute() && place.parent().is_some()).collect()
}

/// The first of these folders that is named in the bytes, with what follows.
pub fn named(bytes: &[u8], places: &[PathBuf]) -> Option<String> {
    places.iter().find_map(|place| {
        let text = format!("{}/", place.display());
        let at = bytes.windows(text.len()).position(|window| window == text.as_bytes())?;
        let rest = bytes[at..].iter().take(200).take_while(|byte| byte.is_ascii_graphic());
        Some(rest.map(|byte| char::from(*byte)).collect())
    })
}
