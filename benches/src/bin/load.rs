//! What a real Envoy gets through under load: `cargo xtask bench load [--quick] [--json] [--plot FILE]`.

use penstock_benches::load::{Plan, measure};

fn main() -> Result<(), String> {
    let (mut plan, mut as_json, mut plot) = (Plan::full(), false, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--quick" => plan = Plan::quick(),
            "--json" => as_json = true,
            "--plot" => plot = Some(arguments.next().ok_or("--plot takes a file")?),
            other => return Err(format!("`load` does not know `{other}`; it takes --quick, --json and --plot FILE")),
        }
    }
    let report = measure(&plan, |what| eprintln!("load: {what}"))?;
    if let Some(file) = plot {
        std::fs::write(&file, report.svg()).map_err(|error| format!("{file}: {error}"))?;
    }
    if as_json {
        println!("{:#}", report.json());
    } else {
        print!("{}", report.text());
    }
    Ok(())
}
