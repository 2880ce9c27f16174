//! A Prometheus of its own for a test.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::port::Port;

/// One that runs, and is ended when dropped. After a failed test, its log is shown.
#[derive(Debug)]
pub struct Prometheus {
    child: Child,
    port: Port,
    folder: PathBuf,
}

impl Prometheus {
    /// Starts this program with this configuration, in this folder, which is made anew and keeps what else is in it by name: rules.
    ///
    /// # Errors
    /// When the folder cannot be written, or the program does not start. What it says of its configuration is in its log.
    pub fn start(program: &Path, folder: &Path, config: &Value, files: &[(&str, &Value)]) -> io::Result<Self> {
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        fs::create_dir_all(folder)?;
        // JSON is YAML.
        for (name, content) in files.iter().chain(&[("prometheus.json", config)]) {
            fs::write(folder.join(name), content.to_string())?;
        }
        let port = Port::reserve()?;
        let log = fs::File::create(folder.join("log"))?;
        let mut command = Command::new(program);
        command.current_dir(folder).args(["--config.file=prometheus.json", "--storage.tsdb.path=data"]);
        command.arg(format!("--web.listen-address={}", port.address())).stdin(Stdio::null());
        let child = command.stdout(log.try_clone()?).stderr(log).spawn()?;
        Ok(Self { child, port, folder: folder.to_owned() })
    }

    /// Where it is asked.
    pub fn url(&self) -> String {
        format!("http://{}", self.port.address())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}", fs::read_to_string(self.folder.join("log")).unwrap_or_default());
        }
    }
}
