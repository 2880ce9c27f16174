//! Runs other programs: says what it runs, and turns a failure into a sentence.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, IsTerminal, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

/// Nothing, or what went wrong.
pub type Outcome = Result<(), String>;

/// A program about to run.
pub struct Run {
    command: Command,
    label: String,
}

/// `cargo`, in the root of the checkout.
pub fn cargo(root: &Path) -> Run {
    program(root, cargo_path())
}

/// The `cargo` that runs this.
pub fn cargo_path() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// `cargo` for work of minutes: it shows on a terminal what it compiles, and a log is spared the list.
pub fn cargo_long(root: &Path, command: &str) -> Run {
    let quiet = (!std::io::stderr().is_terminal()).then_some("--quiet");
    cargo(root).args([command]).args(quiet)
}

/// Any other program, in the root of the checkout.
pub fn program(root: &Path, name: impl AsRef<OsStr>) -> Run {
    let mut command = Command::new(&name);
    command.current_dir(root);
    let label = Path::new(&name).file_name().unwrap_or_default().to_string_lossy().into_owned();
    Run { command, label }
}

impl Run {
    /// Adds arguments.
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        for argument in arguments {
            self.label.push(' ');
            self.label.push_str(&argument.as_ref().to_string_lossy());
            self.command.arg(argument);
        }
        self
    }

    /// Adds an environment variable.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Adds arguments that nobody wants to read.
    pub fn args_unsaid(mut self, arguments: impl IntoIterator<Item = String>) -> Self {
        self.command.args(arguments);
        self
    }

    /// Takes an environment variable away.
    pub fn without_env(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    /// Runs it to the end, with its output on ours.
    pub fn go(mut self) -> Outcome {
        eprintln!("+ {}", self.label);
        match self.command.status() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("`{}` failed: {status}", self.label)),
            Err(error) => Err(format!("`{}` cannot be run: {error}", self.label)),
        }
    }

    /// Runs it to the end beside others: each line of its output on ours, behind a name.
    pub fn go_as(mut self, name: &str) -> Outcome {
        eprintln!("{name:<12}| + {}", self.label);
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().map_err(|error| format!("`{}` cannot be run: {error}", self.label))?;
        let (out, err) = (child.stdout.take(), child.stderr.take());
        thread::scope(|scope| {
            scope.spawn(|| lines(out, |line| println!("{name:<12}| {line}")));
            scope.spawn(|| lines(err, |line| eprintln!("{name:<12}| {line}")));
        });
        match child.wait() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("`{}` failed: {status}", self.label)),
            Err(error) => Err(format!("`{}` was lost sight of: {error}", self.label)),
        }
    }

    /// Runs it to the end; what it printed.
    pub fn output(mut self) -> Result<String, String> {
        let output = self.command.output().map_err(|error| format!("`{}` cannot be run: {error}", self.label))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(format!("`{}` failed: {}: {}", self.label, output.status, said.trim()));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Whether it runs and succeeds; its output is dropped.
    pub fn works(mut self) -> bool {
        self.command.output().is_ok_and(|output| output.status.success())
    }
}

/// Calls back with each line, to the end.
fn lines(from: Option<impl Read>, mut say: impl FnMut(&str)) {
    let Some(from) = from else { return };
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    while from.read_until(b'\n', &mut line).is_ok_and(|bytes| bytes > 0) {
        say(String::from_utf8_lossy(&line).trim_end());
        line.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_one_by_one_the_last_one_too() {
        let mut seen = Vec::new();
        lines(Some(b"one\r\ntwo \xff\n\nlast".as_slice()), |line| seen.push(line.to_owned()));
        assert_eq!(seen, ["one", "two \u{fffd}", "", "last"]);
    }
}
