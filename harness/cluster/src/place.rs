//! Where the cluster runs and what it runs: the namespaces around this process, and the programs that were built for it.

use std::fs;
use std::path::{Path, PathBuf};

/// Where the files of the cluster are: in memory, and gone with the namespace.
pub const DIRECTORY: &str = "/var/lib/penstock";

/// The programs, and the way to them.
#[derive(Clone, Debug)]
pub struct Place {
    directories: Vec<PathBuf>,
    /// The stock Envoy that gateways are.
    pub envoy: PathBuf,
    /// The root of the checkout.
    pub checkout: PathBuf,
}

impl Place {
    /// Finds what `cargo xtask` has prepared: `PENSTOCK_CLUSTER_PROGRAMS`, directories as in `PATH`, and namespaces of its own.
    ///
    /// # Errors
    /// When this process was not started by `cargo xtask cluster` or `cargo xtask test --cluster`.
    pub fn find() -> Result<Self, String> {
        let start = "start it by `cargo xtask cluster`, or the tests by `cargo xtask test --cluster`";
        let programs = std::env::var_os("PENSTOCK_CLUSTER_PROGRAMS");
        let programs = programs.ok_or_else(|| format!("PENSTOCK_CLUSTER_PROGRAMS is not set: {start}"))?;
        let others = interfaces()?.into_iter().filter(|name| name != "lo").collect::<Vec<_>>();
        if !others.is_empty() {
            return Err(format!("what is started here could be reached over {}: {start}", others.join(", ")));
        }
        if !Path::new("/var/lib/istio/data").is_dir() {
            return Err(format!("/var/lib/istio/data is missing: {start}"));
        }
        fs::create_dir_all(DIRECTORY).map_err(|error| format!("{DIRECTORY}: {error}"))?;
        let checkout = penstock_harness::envoy::checkout()?;
        let envoy =
            penstock_harness::envoy::find(&checkout).ok_or("there is no Envoy; `cargo xtask tools` installs it")?;
        Ok(Self { directories: std::env::split_paths(&programs).collect(), envoy, checkout })
    }

    /// A file that comes with the programs.
    ///
    /// # Errors
    /// When it was not built.
    pub fn file(&self, name: &str) -> Result<PathBuf, String> {
        let found = self.directories.iter().map(|directory| directory.join(name)).find(|path| path.is_file());
        found.ok_or_else(|| format!("{name} is in none of {:?}", self.directories))
    }

    /// The CustomResourceDefinitions that come with the programs: `crds`, which every cluster has, `keda-crds`, `rollout-crds` or `more-crds`.
    ///
    /// # Errors
    /// When a directory cannot be read.
    pub fn crds(&self, name: &str) -> Result<Vec<PathBuf>, String> {
        let mut files = Vec::new();
        for directory in self.directories.iter().map(|directory| directory.join(name)).filter(|path| path.is_dir()) {
            let entries = fs::read_dir(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
            files.extend(entries.flatten().map(|entry| entry.path()));
        }
        files.sort();
        Ok(files)
    }

    /// The directories of programs, for a `PATH`.
    pub fn directories(&self) -> &[PathBuf] {
        &self.directories
    }
}

fn interfaces() -> Result<Vec<String>, String> {
    let text = fs::read_to_string("/proc/self/net/dev").map_err(|error| format!("/proc/self/net/dev: {error}"))?;
    Ok(text.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim().to_owned()).collect())
}
