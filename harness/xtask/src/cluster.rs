//! `cargo xtask cluster`: the real control plane, without nodes.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use crate::go::{self, Files, Module, Program};
use crate::run::{Outcome, Run, cargo, cargo_long, cargo_path, program};
use crate::steps::{Steps, duration};
use crate::{build, namespace, tools};

const KUBERNETES: Module = Module {
    directory: "kubernetes",
    programs: &[
        Program { name: "etcd", package: "go.etcd.io/etcd/server/v3", what: "which stores objects", usual: "30 s" },
        Program {
            name: "kube-apiserver",
            package: "k8s.io/kubernetes/cmd/kube-apiserver",
            what: "which checks and serves them",
            usual: "3 min",
        },
        Program { name: "kubectl", package: "k8s.io/kubernetes/cmd/kubectl", what: "for people", usual: "1 min" },
    ],
    files: &[],
};

/// Of the same module, for who scales.
const CONTROLLERS: Module = Module {
    directory: "kubernetes",
    programs: &[Program {
        name: "kube-controller-manager",
        package: "k8s.io/kubernetes/cmd/kube-controller-manager",
        what: "which scales Deployments",
        usual: "1 min",
    }],
    files: &[],
};

/// What it is built of is, in part, what Kubernetes is built of, in the same versions: it is compiled once.
const KEDA: Module = Module {
    directory: "keda",
    programs: &[
        Program {
            name: "keda-operator",
            package: "github.com/kedacore/keda/v2/cmd/operator",
            what: "which asks Prometheus, and makes HorizontalPodAutoscalers",
            usual: "3 min",
        },
        Program {
            name: "keda-adapter",
            package: "github.com/kedacore/keda/v2/cmd/adapter",
            what: "which serves them what they ask for",
            usual: "30 s",
        },
    ],
    files: &[Files { module: "github.com/kedacore/keda/v2", from: "config/crd/bases", to: KEDA_CRDS }],
};

/// As KEDA, of the same versions as far as it can be.
const ROLLOUTS: Module = Module {
    directory: "rollouts",
    programs: &[Program {
        name: "argo-rollouts",
        package: "github.com/argoproj/argo-rollouts/cmd/rollouts-controller",
        what: "which tries canaries",
        usual: "1 min",
    }],
    files: &[Files { module: "github.com/argoproj/argo-rollouts", from: "manifests/crds", to: ROLLOUT_CRDS }],
};

/// Schemas that every cluster starts with, and those that a test asks for: starting takes longer with each.
const CRDS: &str = "crds";
const KEDA_CRDS: &str = "keda-crds";
const ROLLOUT_CRDS: &str = "rollout-crds";
const MORE_CRDS: &str = "more-crds";

const ISTIO_FILES: [Files; 4] = [
    Files { module: "istio.io/istio", from: "manifests/charts/base/files/crd-all.gen.yaml", to: CRDS },
    Files { module: "sigs.k8s.io/gateway-api", from: "config/crd/standard", to: CRDS },
    Files { module: "sigs.k8s.io/gateway-api-inference-extension", from: "config/crd/bases", to: MORE_CRDS },
    Files { module: "istio.io/istio", from: "tools/packaging/common/envoy_bootstrap.json", to: "." },
];

const PILOT: Program = Program {
    name: "pilot-discovery",
    package: "istio.io/istio/pilot/cmd/pilot-discovery",
    what: "which is istiod",
    usual: "3 min",
};
const AGENT: Program = Program {
    name: "pilot-agent",
    package: "istio.io/istio/pilot/cmd/pilot-agent",
    what: "which runs a gateway's Envoy and fetches its modules",
    usual: "25 s",
};
const ISTIOCTL: Program = Program {
    name: "istioctl",
    package: "istio.io/istio/istioctl/cmd/istioctl",
    what: "which validates and analyses",
    usual: "1 min",
};

const ISTIO: Module = Module { directory: "istio", programs: &[PILOT, AGENT, ISTIOCTL], files: &ISTIO_FILES };
const ISTIO_1_30: Module = Module { directory: "istio-1.30", programs: &[PILOT, AGENT], files: &ISTIO_FILES };

const REGISTRY: Module = Module {
    directory: "registry",
    programs: &[Program {
        name: "crane",
        package: "github.com/google/go-containerregistry/cmd/crane",
        what: "a registry for images, and its client",
        usual: "20 s",
    }],
    files: &[],
};

const RATE_LIMIT: Module = Module {
    directory: "ratelimit",
    programs: &[Program {
        name: "ratelimit",
        package: "github.com/envoyproxy/ratelimit/src/service_cmd",
        what: "which keeps limits that gateways share",
        usual: "30 s",
    }],
    files: &[],
};

const PICKER: Module = Module {
    directory: "picker",
    programs: &[Program {
        name: "epp",
        package: "sigs.k8s.io/gateway-api-inference-extension/cmd/epp",
        what: "which picks an endpoint of a pool",
        usual: "2 min",
    }],
    files: &[],
};

const SCHEMAS: Module = Module {
    directory: "schemas",
    programs: &[],
    files: &[
        Files {
            module: "github.com/envoyproxy/gateway",
            from: "charts/gateway-helm/charts/crds/crds/generated",
            to: MORE_CRDS,
        },
        Files {
            module: "github.com/prometheus-operator/prometheus-operator",
            from: "example/prometheus-operator-crd",
            to: MORE_CRDS,
        },
        Files { module: "github.com/fluxcd/flagger", from: "artifacts/flagger/crd.yaml", to: ROLLOUT_CRDS },
    ],
};

/// Renders `istio/chart`; built of what its go.mod names as a tool.
const HELM: Module = Module {
    directory: "helm",
    programs: &[Program {
        name: "helm",
        package: "helm.sh/helm/v4/cmd/helm",
        what: "which renders the chart",
        usual: "1 min",
    }],
    files: &[],
};

const HELP: &str = "\
Starts etcd, kube-apiserver, istiod, a registry with the built module, model servers and a gateway: the real ones, built from pinned Go
modules (harness/cluster/*/go.mod), without nodes and without containers, in a network of its own. Applies a set of istio/mesh.

Usage: cargo xtask cluster [--istio 1.30] [--set DIRECTORY]
       cargo xtask cluster build
       cargo xtask cluster exec -- COMMAND…

  --istio 1.30      the line before (default: 1.31)
  --set DIRECTORY   a directory with a kustomization.yaml (default: istio/mesh/trafficextension), or `none`
  build             builds what is missing of it and of what its tests and its demo need, and starts nothing
  exec              runs kubectl, istioctl, curl or anything else in the cluster's network, while it runs in another terminal

Needs Go 1.26.7, and a user who may make namespaces. Ctrl-C ends everything.
";

pub fn command(root: &Path, arguments: &[String], help: bool) -> Outcome {
    if arguments.first().is_some_and(|argument| argument == "exec") {
        let command: Vec<&String> = arguments.iter().skip(1).skip_while(|argument| *argument == "--").collect();
        return if command.is_empty() {
            Err("`exec` takes a command; see --help".to_owned())
        } else {
            exec(root, &command)
        };
    }
    if help {
        print!("{HELP}");
        return Ok(());
    }
    if let [only] = arguments
        && only == "build"
    {
        let mut steps = Steps::new(1);
        steps.step("the programs of the cluster", "17 min the first time", || from_go(root, "1.31", true))?;
        return Ok(());
    }
    let (mut istio, mut set) = ("1.31", "istio/mesh/trafficextension");
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let value = rest.next().ok_or_else(|| format!("`{argument}` takes a value; see --help"))?;
        match argument.as_str() {
            "--istio" => istio = value,
            "--set" => set = value,
            other => return Err(format!("`cluster` does not know `{other}`; see --help")),
        }
    }
    let mut steps = Steps::new(4);
    let programs =
        steps.step("the programs of the cluster", "10 min the first time", || programs(root, istio, false))?;
    steps.step("compiling the filter", "25 s", || build::build_all_in_one(root))?;
    steps.step("compiling the cluster", "2 min", || cargo_long(root, "build").args(COMMAND).go())?;
    steps.step("the cluster, until Ctrl-C", "up in 15 s", || {
        let run = namespace::inside(root)
            .args([command_path(root)])
            .args(["--set", set, "--pid-file"])
            .args([pid_file(root)]);
        on(run, &programs)?.go()
    })?;
    steps.end();
    Ok(())
}

const DEMO_HELP: &str = "\
The closed loop on the real control plane: clients, a gateway with the filter, Prometheus, KEDA, the HPA, and model servers that are started
and stopped as the Deployment's replicas change. Shows a line every other second, and at the end a JSON object and a picture.

Usage: cargo xtask demo --cluster [--json] [--plot FILE]

  --json        nothing but the JSON object
  --plot FILE   where the picture goes (default: target/closed-loop.svg)

Needs Go 1.26.7, Prometheus, and a user who may make namespaces.
";

/// `cargo xtask demo --cluster`: what follows are the options of `penstock-cluster demo`.
pub fn demo(root: &Path, arguments: &[String], help: bool) -> Outcome {
    if help {
        print!("{DEMO_HELP}");
        return Ok(());
    }
    // Said before a quarter of an hour of building, and not after it.
    tools::installed(root, "prometheus", "prometheus")?;
    let mut steps = Steps::new(4);
    let programs =
        steps.step("the programs of the cluster", "17 min the first time", || programs(root, "1.31", true))?;
    steps.step("compiling the filter", "25 s", || build::build_all_in_one(root))?;
    steps.step("compiling the cluster", "2 min", || cargo_long(root, "build").args(COMMAND).go())?;
    steps.step("the demo", "4 min", || {
        let run = namespace::inside(root).args([command_path(root)]).args(["demo"]).args(arguments);
        on(run, &programs)?.go()
    })?;
    steps.end();
    Ok(())
}

/// The package of the cluster's command.
const COMMAND: [&str; 4] = ["--package", "penstock-cluster", "--bin", "penstock-cluster"];

fn command_path(root: &Path) -> PathBuf {
    build::target_directory(root).join("debug/penstock-cluster")
}

/// What is tested on a cluster, each on one of its own: its servers listen on the same ports, and end with its namespace. Most of the time each
/// of them waits, for what takes a second here and a second there, so they run at the same time.
const SUITES: [&str; 3] = ["mesh", "scaling", "closed_loop"];

/// Runs the tests on the cluster, and without a filter those of the manifests; all of them whether or not one fails. They are compiled.
pub fn test(root: &Path, istio: &str, filter: &[&str], programs: &[PathBuf]) -> Outcome {
    let joined = join(programs)?;
    let suite = |name: &str| {
        let run = namespace::inside(root).args([&cargo_path()]).args(["test", "--package", "penstock-cluster"]);
        let run = run.args(["--test", name, "--", "--test-threads=1"]).args(filter);
        run.env("PENSTOCK_CLUSTER_PROGRAMS", &joined).env("PENSTOCK_CLUSTER_ISTIO", istio)
    };
    let mut suites: Vec<_> = SUITES.map(|name| (name, suite(name))).into_iter().collect();
    if filter.is_empty() {
        suites.push(("manifests", manifests(root, programs)?));
    }
    let units = cargo(root).args(["test", "--package", "penstock-cluster", "--lib", "--bins", "--"]).args(filter).go();
    let suites = thread::scope(|scope| {
        let running: Vec<_> = suites.into_iter().map(|(name, run)| scope.spawn(move || timed(name, run))).collect();
        let ends = running.into_iter().map(|one| one.join());
        ends.map(|end| end.unwrap_or_else(|_| Err("a suite was lost sight of".to_owned()))).collect::<Vec<_>>()
    });
    let failed: Vec<String> = [units].into_iter().chain(suites).filter_map(Result::err).collect();
    if failed.is_empty() { Ok(()) } else { Err(failed.join("; ")) }
}

fn timed(name: &str, run: Run) -> Outcome {
    let began = Instant::now();
    let done = run.go_as(name);
    eprintln!("xtask: {name} took {}", duration(began.elapsed().as_secs()));
    done
}

/// The tests of the manifests, of the guides and of plans, with what they skip where it is not installed: Helm, istioctl, kubectl and the schemas.
/// They compute, while the others wait for a second to pass: those go first.
fn manifests(root: &Path, programs: &[PathBuf]) -> Result<Run, String> {
    let mut run = program(root, "nice").args(["-n", "19"]).args([&cargo_path()]).args(MANIFESTS);
    for (name, variable) in
        [("helm", "PENSTOCK_HELM"), ("istioctl", "PENSTOCK_ISTIOCTL"), ("kubectl", "PENSTOCK_KUBECTL")]
    {
        // The line before has no istioctl.
        if let Some(path) = programs.iter().map(|directory| directory.join(name)).find(|path| path.is_file()) {
            run = run.env(variable, path);
        }
    }
    let schemas = programs
        .iter()
        .flat_map(|directory| [CRDS, KEDA_CRDS, ROLLOUT_CRDS, MORE_CRDS].map(|name| directory.join(name)));
    let schemas: Vec<PathBuf> = schemas.filter(|path| path.is_dir()).collect();
    Ok(run.env("PENSTOCK_CRDS", join(&schemas)?))
}

/// Without `--package`: with other packages, features of dependencies change, and all of them are compiled anew.
const MANIFESTS: [&str; 7] = ["test", "--test", "manifests", "--test", "guides", "--test", "plan"];

/// Compiles the same.
pub fn compile_manifests(root: &Path) -> Outcome {
    cargo_long(root, MANIFESTS[0]).args(&MANIFESTS[1..]).args(["--no-run"]).go()
}

/// Compiles the tests on the cluster.
pub fn compile_tests(root: &Path) -> Outcome {
    cargo_long(root, "test").args(["--package", "penstock-cluster", "--no-run"]).go()
}

/// Sees to it that all programs are there, those that scale and that pick endpoints only for tests; the directories that have them.
///
/// # Errors
/// When there is no Go, no Envoy, or no way to have namespaces; and when something does not compile.
pub fn programs(root: &Path, istio: &str, for_tests: bool) -> Result<Vec<PathBuf>, String> {
    namespace::possible(root)?;
    tools::envoy(root)?;
    from_go(root, istio, for_tests)
}

/// Builds those that are built from Go. Another process may do the same.
fn from_go(root: &Path, istio: &str, for_tests: bool) -> Result<Vec<PathBuf>, String> {
    let istio = match istio {
        "1.31" => &ISTIO,
        "1.30" => &ISTIO_1_30,
        other => return Err(format!("--istio {other}: there is 1.31 and 1.30")),
    };
    let mut modules = vec![&REGISTRY, &HELM, &RATE_LIMIT, &KUBERNETES, &SCHEMAS, istio];
    // After Kubernetes, with which they share what they are built of.
    modules.extend(if for_tests { [&CONTROLLERS, &KEDA, &ROLLOUTS, &PICKER].as_slice() } else { &[] });
    go::build(root, &modules)
}

fn exec(root: &Path, command: &[&String]) -> Outcome {
    let path = pid_file(root);
    let noted = fs::read_to_string(&path).unwrap_or_default();
    let mut noted = noted.lines();
    let pid = noted.next().and_then(|pid| pid.parse().ok()).filter(|pid| is_cluster(*pid));
    let pid = pid.ok_or("no cluster is running; `cargo xtask cluster` in another terminal starts it")?;
    let programs: Vec<PathBuf> = noted.map(PathBuf::from).collect();
    let mut search = programs;
    search.extend(env::var_os("PATH").iter().flat_map(env::split_paths));
    let run = namespace::beside(root, pid).env("KUBECONFIG", "/var/lib/penstock/kubeconfig");
    run.env("PATH", join(&search)?).args(command).go()
}

/// Whether a process with this number is the cluster, and not one that got the number later.
fn is_cluster(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "penstock-cluste")
}

fn pid_file(root: &Path) -> PathBuf {
    root.join("target/tools/cluster.pid")
}

/// Says where the programs are.
fn on(run: Run, programs: &[PathBuf]) -> Result<Run, String> {
    Ok(run.env("PENSTOCK_CLUSTER_PROGRAMS", join(programs)?))
}

fn join(paths: &[PathBuf]) -> Result<OsString, String> {
    env::join_paths(paths).map_err(|error| format!("{paths:?}: {error}"))
}
