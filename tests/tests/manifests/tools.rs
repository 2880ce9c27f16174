//! Programs and data that not every machine has: without them a test skips loudly, and with `REQUIRE_TOOLS=1` it fails.

use std::env;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;

/// The program that an environment variable names, or else the first one of that name on the `PATH`.
pub fn program(name: &str, variable: &str) -> Option<PathBuf> {
    if let Some(path) = env::var_os(variable) {
        return Some(PathBuf::from(path));
    }
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// Says that a test has not tested anything; past the capture of the test runner, so that it is seen.
pub fn skip(test: &str, why: &str) {
    writeln!(std::io::stderr(), "SKIPPED {test}: {why}").expect("a standard error");
}

/// As [`skip`], or a failure where `REQUIRE_TOOLS=1` says that the tools are expected.
pub fn skip_or_fail(test: &str, why: &str) {
    assert!(env::var("REQUIRE_TOOLS").as_deref() != Ok("1"), "{test}: {why}");
    skip(test, why);
}

/// Runs a command to its end. Panics with everything it printed if it fails.
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{command:?} failed:\n{out}{err}");
    out
}
