//! The commands of the guides. Each block of shell says behind `sh` what it needs:
//!
//! - `run`: nothing but this machine, so it is run here, page by page from top to bottom. `localhost:8080` and `localhost:9901` are an
//!   Envoy with `envoy/gateway.yaml` as it is shipped, and its admin interface.
//! - `serve`: it starts servers that stay. The tests start the same in their own way.
//! - `own`: files or figures of the reader's. Its syntax, its paths and the options of `penstock` are checked.
//! - `nodes`: a cluster with nodes. Here its syntax and its paths are checked, and `helm upgrade --install` is rendered.
//!
//! A block `yaml served` is a configuration of the filters: that of the page's Envoy, in place of the shipped one.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use penstock_exchange::Config;
use penstock_harness::envoy::Envoy;
use penstock_harness::model_server::ModelServer;
use penstock_tests::{PATIENCE, checkout, find_envoy, gateway, shipped_gateway, skipped};
use serde_json::Value;

const GUIDES: [&str; 15] = [
    "docs/autoscale.md",
    "docs/checks.md",
    "docs/plan.md",
    "docs/simulate.md",
    "docs/install-istio.md",
    "docs/install-envoy.md",
    "docs/install-envoy-gateway.md",
    "docs/publish.md",
    "docs/upgrade.md",
    "docs/turn-it-on.md",
    "docs/prove-it-is-in-the-chain.md",
    "docs/roll-out.md",
    "docs/troubleshoot.md",
    "istio/README.md",
    "envoy/README.md",
];
/// Charts of Istio's own repository, which look like paths.
const FOREIGN: [&str; 2] = ["istio/istiod", "istio/gateway"];

/// A block of a page: what stands behind the fence, the text, and the line of the fence.
struct Block {
    info: Vec<String>,
    text: String,
    line: usize,
}

impl Block {
    fn is(&self, language: &str, mark: &str) -> bool {
        self.info == [language, mark]
    }

    fn yaml(&self) -> Value {
        serde_yaml_ng::from_str(&self.text).expect("YAML")
    }
}

fn blocks(page: &str) -> Vec<Block> {
    let text = fs::read_to_string(checkout().join(page)).unwrap_or_else(|error| panic!("{page}: {error}"));
    let mut blocks: Vec<Block> = Vec::new();
    let mut is_inside = false;
    for (number, line) in text.lines().enumerate() {
        match (line.strip_prefix("```"), blocks.last_mut()) {
            (Some(_), _) if is_inside => is_inside = false,
            (Some(info), _) => {
                let info = info.split_whitespace().map(str::to_owned).collect();
                blocks.push(Block { info, text: String::new(), line: number + 1 });
                is_inside = true;
            }
            (None, Some(block)) if is_inside => block.text += &format!("{line}\n"),
            _ => {}
        }
    }
    assert!(!is_inside, "{page}: a block has no end");
    blocks
}

#[test]
fn every_command_says_what_it_needs() {
    for page in GUIDES {
        for block in blocks(page) {
            let is_shell = block.info.first().is_some_and(|language| ["sh", "bash", "console"].contains(&&**language));
            let is_marked = ["run", "serve", "own", "nodes"].iter().any(|mark| block.is("sh", mark));
            assert!(
                !is_shell || is_marked,
                "{page}:{}: mark the block as `sh run`, `sh serve`, `sh own` or `sh nodes`",
                block.line
            );
            assert!(!block.info.is_empty(), "{page}:{}: a block without a language", block.line);
        }
    }
}

#[test]
fn every_command_is_shell_and_names_files_that_exist() {
    for page in GUIDES {
        for block in blocks(page).iter().filter(|block| block.info.first().is_some_and(|info| info == "sh")) {
            let read = Command::new("bash").args(["-n", "-c", &block.text]).output().expect("bash");
            assert!(read.status.success(), "{page}:{}: {}", block.line, String::from_utf8_lossy(&read.stderr));
            for word in block.text.split_whitespace() {
                let is_path = ["istio/", "envoy/", "docs/"].iter().any(|folder| word.starts_with(folder));
                let is_there = || checkout().join(word).exists() || FOREIGN.contains(&word);
                assert!(!is_path || is_there(), "{page}:{}: there is no {word}", block.line);
            }
        }
    }
}

#[test]
fn options_of_the_command_are_known_to_it() {
    let Some(penstock) = penstock() else {
        // As below: not every way to run the tests builds it.
        writeln!(std::io::stderr(), "SKIPPED options of the command: cargo build -p penstock-cli")
            .expect("a standard error");
        return;
    };
    let mut tried = 0;
    for page in GUIDES {
        for block in blocks(page).iter().filter(|block| block.info.first().is_some_and(|info| info == "sh")) {
            for line in block.text.replace("\\\n", " ").lines() {
                let Some((_, command)) = line.split_once("penstock ").filter(|(before, _)| is_command(before)) else {
                    continue;
                };
                let mut words = command.split('#').next().unwrap_or_default().split_whitespace();
                let subcommand = words.next().unwrap_or_default();
                let help = Command::new(&penstock).args([subcommand, "--help"]).output().expect("it runs");
                assert!(help.status.success(), "{page}:{}: there is no `penstock {subcommand}`", block.line);
                let help = String::from_utf8_lossy(&help.stdout);
                let known: Vec<&str> = help.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').collect();
                for option in words.filter(|word| word.starts_with("--")) {
                    assert!(known.contains(&option), "{page}:{}: `penstock {subcommand}` has no {option}", block.line);
                    tried += 1;
                }
            }
        }
    }
    assert!(tried > 0, "no page has an option");
}

/// Whether what follows on a line is a command, and not an argument of another.
fn is_command(before: &str) -> bool {
    before.is_empty() || before.ends_with("| ")
}

#[test]
fn configurations_of_the_guides_are_accepted() {
    let examples = blocks("docs/turn-it-on.md");
    let examples: Vec<_> = examples.iter().filter(|block| block.info[0] == "yaml").collect();
    assert!(!examples.is_empty());
    for block in examples {
        let document = block.yaml();
        if let Err(errors) = Config::parse(document.to_string().as_bytes()) {
            panic!("docs/turn-it-on.md:{}: {errors}", block.line);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_run_here_runs() {
    if find("curl").is_none() {
        return skipped("curl is not on the PATH");
    }
    let helm = std::env::var_os("PENSTOCK_HELM").map(PathBuf::from).or_else(|| find("helm"));
    let mut missing = Vec::new();
    for page in GUIDES {
        let blocks = blocks(page);
        let asks_envoy = blocks.iter().any(|block| block.is("sh", "run") && block.text.contains("localhost:"));
        let config = blocks.iter().find(|block| block.is("yaml", "served")).map(Block::yaml);
        let served = if asks_envoy { serve(config.as_ref()).await } else { None };
        let directory = workplace(page, helm.as_deref());
        for block in blocks {
            let Some(mut script) = script(&block) else { continue };
            if script.contains("helm ") && helm.is_none() {
                missing.push(format!("{page}:{} needs Helm (PENSTOCK_HELM)", block.line));
                continue;
            }
            let asks_penstock =
                script.lines().any(|line| line.starts_with("penstock ")) || script.contains("penstock check");
            if asks_penstock && penstock().is_none() {
                missing.push(format!("{page}:{} needs the command (cargo build -p penstock-cli)", block.line));
                continue;
            }
            if let Some((envoy, _server)) = &served {
                let addresses = [("localhost:8080", envoy.url()), ("localhost:9901", envoy.admin_url())];
                for (written, real) in addresses {
                    script = script.replace(written, &real);
                }
            } else if script.contains("localhost:") || script.contains("envoy ") {
                // Without Envoy; `serve` has told.
                continue;
            }
            // Counters move when a stream is logged, which is after the client has its answer, and gauges with the next tick.
            let deadline = Instant::now() + PATIENCE;
            loop {
                let (script, place) = (script.clone(), directory.clone());
                let (is_well, said) =
                    tokio::task::spawn_blocking(move || run(&script, &place)).await.expect("no panic");
                assert!(is_well || Instant::now() < deadline, "{page}:{}:\n{said}", block.line);
                if is_well {
                    break;
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
    if !missing.is_empty() {
        // Past the capture of the test runner. Only said, also with REQUIRE_TOOLS: not every way to run the tests brings Helm.
        writeln!(std::io::stderr(), "SKIPPED commands of the guides: {missing:#?}").expect("a standard error");
    }
}

/// What is run of a block: all of it, or what can be rendered of it.
fn script(block: &Block) -> Option<String> {
    if block.is("sh", "run") {
        return Some(block.text.clone());
    }
    let install = "helm upgrade --install penstock istio/chart";
    let lines = block.text.lines().filter(|line| line.starts_with(install));
    let lines: Vec<_> = lines.map(|line| line.replace(install, "helm template penstock istio/chart")).collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

fn run(script: &str, directory: &Path) -> (bool, String) {
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("{}:{path}", directory.join("bin").display());
    let mut command = Command::new("bash");
    command.args(["-euo", "pipefail", "-c", script]).current_dir(directory).env("PATH", path);
    for folder in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
        command.env(folder, directory.join("helm"));
    }
    let output = command.output().expect("bash");
    let said = [script.as_bytes(), &output.stdout, &output.stderr].map(String::from_utf8_lossy).join("\n");
    (output.status.success(), said)
}

/// A directory that looks like a checkout, for the files that a page makes; tools are found in its `bin`.
fn workplace(page: &str, helm: Option<&Path>) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guides").join(page.replace('/', "-"));
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(directory.join("bin")).expect("a directory");
    for folder in ["istio", "envoy", "docs", "dist"] {
        symlink(checkout().join(folder), directory.join(folder)).expect("a link");
    }
    let envoy = find_envoy().ok();
    let penstock = penstock();
    for (name, tool) in [("helm", helm), ("envoy", envoy.as_deref()), ("penstock", penstock.as_deref())] {
        if let Some(tool) = tool {
            symlink(fs::canonicalize(tool).expect("a tool"), directory.join("bin").join(name)).expect("a link");
        }
    }
    directory
}

/// `envoy/gateway.yaml`, with this configuration of the filters if there is one, in front of a model server. `None` where there is no Envoy,
/// which is told.
async fn serve(config: Option<&Value>) -> Option<(Envoy, ModelServer)> {
    match config {
        Some(config) => gateway(config, |gateway| gateway).await,
        None => shipped_gateway(|gateway| gateway).await,
    }
}

/// The command, where it has been built beside this test.
fn penstock() -> Option<PathBuf> {
    let own = std::env::current_exe().ok()?;
    own.ancestors().nth(2).map(|folder| folder.join("penstock")).filter(|file| file.is_file())
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}
