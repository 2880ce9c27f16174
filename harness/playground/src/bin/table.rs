//! Makes the table of an encoding in the page: its tokens on standard input, as `pack` writes them, and the table on standard output. The tokens
//! are a fifth of the table, packed.

use std::io::{self, Read, Write};

use penstock_playground::vocabulary;

fn main() -> io::Result<()> {
    let mut packed = Vec::new();
    io::stdin().lock().read_to_end(&mut packed)?;
    let table = vocabulary::unpacked(&packed).and_then(|it| penstock_token_tables::generate(&it));
    io::stdout().lock().write_all(&table.map_err(io::Error::other)?)
}
