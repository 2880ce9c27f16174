//! A server of the cluster: started with its output in a file, killed with all its children when it is dropped, its log shown only when
//! something failed.

use std::fs::{self, File};
use std::future::Future;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::place::DIRECTORY;

/// A running server.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    /// How much an earlier one of this name has left there.
    before: usize,
}

impl Process {
    /// Starts a command; what it prints goes to `NAME.log` in the cluster's directory, after what an earlier one of this name left there.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(name: &str, command: &mut Command) -> Result<Self, String> {
        let log = PathBuf::from(DIRECTORY).join(format!("{name}.log"));
        let said = |error: std::io::Error| format!("{name}: {error}");
        let file = File::options().create(true).append(true).open(&log).map_err(said)?;
        let before = usize::try_from(file.metadata().map_err(said)?.len()).unwrap_or_default();
        // A group of its own: what it starts (the agent its Envoy) is killed with it.
        if command.get_current_dir().is_none() {
            command.current_dir(DIRECTORY);
        }
        let command = command.stdin(Stdio::null()).process_group(0);
        let command = command.stdout(file.try_clone().map_err(said)?).stderr(file);
        let child = command.spawn().map_err(|error| format!("cannot start {name}: {error}"))?;
        Ok(Self { name: name.to_owned(), child, log, before })
    }

    /// Waits until an attempt succeeds.
    ///
    /// # Errors
    /// When the process ends or the time is over; with the last attempt's error and the end of the log.
    pub async fn until<T, F>(&mut self, what: &str, seconds: u64, mut attempt: impl FnMut() -> F) -> Result<T, String>
    where
        F: Future<Output = Result<T, String>>,
    {
        let deadline = Instant::now() + Duration::from_secs(seconds);
        loop {
            let error = match attempt().await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let ended = self.child.try_wait().ok().flatten();
            if ended.is_some() || Instant::now() > deadline {
                let why =
                    ended.map_or_else(|| format!("not within {seconds} s"), |status| format!("it ended with {status}"));
                return Err(format!("{}: {what}: {why}: {error}\n{}", self.name, self.tail()));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// What it printed so far.
    pub fn log(&self) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(bytes.get(self.before..).unwrap_or_default()).into_owned()
    }

    /// Asks it to end, as Kubernetes does, and waits until it has.
    ///
    /// # Errors
    /// When it is still there after so many seconds.
    pub async fn terminate(&mut self, seconds: u64) -> Result<(), String> {
        self.ask_to_end();
        self.ended(seconds).await
    }

    /// Asks it to end. What it started is not asked: that is its own affair.
    pub fn ask_to_end(&self) {
        let _ = self.pid().map(|pid| kill_process(pid, Signal::TERM));
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// When it is still there after so many seconds.
    pub async fn ended(&mut self, seconds: u64) -> Result<(), String> {
        let deadline = Instant::now() + Duration::from_secs(seconds);
        while self.child.try_wait().map_err(|error| format!("{}: {error}", self.name))?.is_none() {
            if Instant::now() > deadline {
                return Err(format!("{} has not ended after {seconds} s", self.name));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Ends it at once, as when a node fails.
    pub fn kill(&mut self) {
        // Nothing can be done about a process that is already gone.
        let _ = self.pid().map(|pid| kill_process_group(pid, Signal::KILL));
        let _ = self.child.wait();
    }

    fn tail(&self) -> String {
        const LINES: usize = 40;
        let log = self.log();
        // An access log's lines are objects, and so many that there would be nothing else.
        let lines: Vec<&str> = log.lines().filter(|line| !line.starts_with('{')).collect();
        let end = lines[lines.len().saturating_sub(LINES)..].join("\n");
        format!("The end of the log of {}:\n{end}", self.name)
    }

    fn pid(&self) -> Option<Pid> {
        i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("{}", self.tail());
        }
    }
}

/// Waits until an attempt succeeds.
///
/// # Errors
/// The last attempt's, when the time is over.
pub async fn eventually<T, F>(what: &str, seconds: u64, mut attempt: impl FnMut() -> F) -> Result<T, String>
where
    F: Future<Output = Result<T, String>>,
{
    let deadline = Instant::now() + Duration::from_secs(seconds);
    loop {
        match attempt().await {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() > deadline => return Err(format!("{what}: not within {seconds} s: {error}")),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// The body of a page that has to answer with 200.
///
/// # Errors
/// When it does not.
pub async fn page(url: &str) -> Result<String, String> {
    let answer = reqwest::get(url).await.and_then(reqwest::Response::error_for_status);
    answer.map_err(|error| error.to_string())?.text().await.map_err(|error| format!("{url}: {error}"))
}

/// Connects to a port of this machine.
///
/// # Errors
/// When nobody listens.
pub async fn listens(port: u16) -> Result<(), String> {
    tokio::net::TcpStream::connect(("127.0.0.1", port)).await.map(drop).map_err(|error| error.to_string())
}

/// Whether this machine has a program.
///
/// # Errors
/// Which package of Debian's has it.
pub fn installed(program: &str, package: &str) -> Result<(), String> {
    let found = Command::new(program).arg("--version").output();
    found.map(drop).map_err(|error| format!("there is no {program} ({error}); on Debian: apt-get install {package}"))
}
