//! What counting costs.
use penstock_benches::{corpus, sandbox::Sandbox};
fn main() -> Result<(), String> {
    for encoding in ["o200k", "cl100k"] {
        let empty = Sandbox::new(None)?.memory_bytes();
        let mut sandbox = Sandbox::new(Some(encoding))?;
        println!("{encoding} memory beyond empty {} ", sandbox.memory_bytes() - empty);
        println!("first count {}", sandbox.count("a", None)?.fuel);
        for sample in corpus::samples() {
            let mut sandbox = Sandbox::new(Some(encoding))?;
            let cost = sandbox.count(&sample.held_out, None)?;
            let pieces = sandbox.count(&sample.held_out, Some(1000))?;
            let bytes = sample.held_out.len();
            println!(
                "{:12} {:6} bytes {:6} tokens {:7.1} fuel/byte {:7.1} in pieces",
                sample.name,
                bytes,
                cost.tokens,
                cost.fuel as f64 / bytes as f64,
                pieces.fuel as f64 / bytes as f64
            );
        }
        if std::env::args().nth(1).is_some() {
            for (name, text) in corpus::hard_megabytes() {
                let mut sandbox = Sandbox::new(Some(encoding))?;
                let whole = sandbox.count(&text, None)?;
                let mut sandbox = Sandbox::new(Some(encoding))?;
                let pieces = sandbox.count(&text, Some(16384))?;
                println!(
                    "{:32} {:8} tokens  {:7.1} {:7.1} fuel/byte, growth {:8} {:8}",
                    name,
                    whole.tokens,
                    whole.fuel as f64 / text.len() as f64,
                    pieces.fuel as f64 / text.len() as f64,
                    whole.growth,
                    pieces.growth
                );
                assert_eq!(whole.tokens, pieces.tokens);
            }
        }
    }
    Ok(())
}
