//! `penstock run` where the sandbox is not built in: says so, and how to get it.

/// Whatever was given.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  penstock run tests/scenarios/limits.yaml")]
pub struct Arguments {
    /// Needs the sandbox, which is not built in.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    _arguments: Vec<String>,
}

/// Says why it cannot.
///
/// # Errors
/// Always.
pub fn run(_: &Arguments) -> Result<(), String> {
    Err("this `penstock` has no sandbox built in; `cargo run -p penstock-cli -- run …` builds one that has".to_owned())
}
