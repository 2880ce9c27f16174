//! A place of its own for servers that listen on all addresses and on fixed ports: nobody else can reach them, and all of them end with it.

use std::env;
use std::path::{Path, PathBuf};

use crate::run::{Run, program};

/// Nothing but a loopback interface, and in /var/lib an empty `istio`, where Istio's agent keeps modules, and an empty `penstock`, where the cluster
/// keeps its files. All else there is as it was, as a checkout or a home may be among it. Who may not make directories in /var/lib can have one
/// of their own in its place: it is put together where nothing is looked for meanwhile.
const PRELUDE: &str = "ip link set lo up && mount -t tmpfs tmpfs /mnt && mkdir -p /mnt/istio/data /mnt/penstock && \
    for each in /var/lib/*/; do own=/mnt/${each#/var/lib/}; \
    [ -e \"$own\" ] || { mkdir \"$own\" && mount --rbind \"$each\" \"$own\" || rmdir \"$own\"; } 2>/dev/null; done; \
    mount -n --move /mnt /var/lib && cd \"$PWD\" && exec \"$@\"";

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
    if !inside(root).args(["true"]).works() {
        let advice = "be root, or allow user namespaces";
        return Err(format!("this user may not make namespaces (`unshare --net --mount --pid`): {advice}"));
    }
    let cargo = env::var_os("CARGO").map(PathBuf::from).filter(|path| path.is_absolute());
    for path in [Some(root.join("Cargo.toml")), cargo].into_iter().flatten() {
        if !inside(root).args(["test", "-e"]).args([&path]).works() {
            let where_not = "in /var/lib/istio, /var/lib/penstock or a directory of /var/lib that cannot be mounted";
            return Err(format!("{} is {where_not}: have the checkout and cargo elsewhere", path.display()));
        }
    }
    Ok(())
}

fn is_root(root: &Path) -> bool {
    program(root, "id").args(["-u"]).output().is_ok_and(|id| id.trim() == "0")
}
