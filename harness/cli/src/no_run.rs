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

/// What is said instead of what needs the sandbox.
pub const NO_SANDBOX: &str =
    "this `penstock` has no sandbox built in; `cargo install --path harness/cli` installs one that has";

/// Says why it cannot.
///
/// # Errors
/// Always.
pub fn run(_: &Arguments) -> Result<(), String> {
    Err(NO_SANDBOX.to_owned())
}
