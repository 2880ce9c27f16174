//! A place of its own for servers that listen on all addresses and on fixed ports: nobody else can reach them, and all of them end with it.

use std::path::Path;

use crate::run::{Run, program};

/// Nothing but a loopback interface, and an empty /var/lib, where Istio's agent keeps modules and the cluster keeps its files.
const PRELUDE: &str =
    "ip link set lo up && mount -t tmpfs tmpfs /var/lib && mkdir -p /var/lib/istio/data && exec \"$@\"";

/// What has to be installed, with the packages of Debian.
const NEEDS: [(&str, &str); 4] =
    [("setpriv", "util-linux"), ("unshare", "util-linux"), ("nsenter", "util-linux"), ("ip", "iproute2")];

/// Runs what is given as arguments in namespaces of its own. When this process ends, however it does, `unshare` is killed by the kernel; with it
/// goes the first process of the PID namespace, and with that all that ever started there.
pub fn inside(root: &Path) -> Run {
    let leash = ["--pdeathsig", "KILL", "unshare", "--net", "--mount", "--pid", "--fork", "--kill-child"];
    let mapped = (!is_root(root)).then_some("--map-root-user");
    program(root, "setpriv").args(leash).args(mapped).args(["sh", "-c", PRELUDE, "namespace"])
}

/// Runs what is given as arguments in the namespaces of a process.
pub fn beside(root: &Path, pid: u32) -> Run {
    let user = if is_root(root) { Vec::new() } else { vec!["--user", "--preserve-credentials"] };
    let pid = pid.to_string();
    program(root, "nsenter").args(["--target", &pid, "--net", "--mount", "--pid"]).args(user)
}

/// Whether this machine can.
///
/// # Errors
/// What is missing.
pub fn possible(root: &Path) -> Result<(), String> {
    for (name, package) in NEEDS {
        if !program(root, "sh").args(["-c", &format!("command -v {name}")]).works() {
            return Err(format!("`{name}` is not installed; on Debian: apt-get install {package}"));
        }
    }
    if inside(root).args(["true"]).works() {
        return Ok(());
    }
    Err("this user may not make namespaces (`unshare --net --mount --pid`): be root, or allow user namespaces"
        .to_owned())
}

fn is_root(root: &Path) -> bool {
    program(root, "id").args(["-u"]).output().is_ok_and(|id| id.trim() == "0")
}
