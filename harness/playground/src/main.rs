//! A question on standard input, its answer on standard output: the form in which the page runs it, as WebAssembly.

use std::io::{self, Read, Write};

fn main() -> io::Result<()> {
    let mut question = Vec::new();
    io::stdin().lock().read_to_end(&mut question)?;
    io::stdout().lock().write_all(&penstock_playground::answer(&question))
}
