//! Requests as fast as they are answered, by wrk. What it asks is written in Lua.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use penstock_harness::envoy::Envoy;
use serde_json::Value;

use super::client::{body, text};
use super::plan::{Answer, Row};
use super::upstream::find as find_program;

/// Bytes of text that prompts are cut out of.
const TEXT: usize = 1_000_000;

/// wrk, and a directory for what it reads.
pub struct Wrk {
    program: PathBuf,
    folder: PathBuf,
}

/// What came of a run.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// Answers of 200.
    pub requests: f64,
    /// How long it took.
    pub seconds: f64,
    /// Of the latencies.
    pub p50_ms: f64,
    /// Of the latencies.
    pub p99_ms: f64,
}

/// Looks for it.
pub fn find() -> Result<Wrk, String> {
    let program = find_program("wrk").ok_or("wrk is not installed; on Debian: apt-get install wrk")?;
    let folder = env::temp_dir().join(format!("penstock-wrk-{}", std::process::id()));
    let io = |error: std::io::Error| format!("{}: {error}", folder.display());
    fs::create_dir_all(&folder).map_err(io)?;
    fs::write(folder.join("text"), text(TEXT)).map_err(io)?;
    Ok(Wrk { program, folder })
}

impl Wrk {
    /// Asks for so many seconds. Runs of the same seed ask the same.
    pub fn run(&self, envoy: &Envoy, row: &Row, seconds: u32, seed: u32) -> Result<Run, String> {
        let script = self.folder.join("script.lua");
        fs::write(&script, lua(row, seed, &self.folder)).map_err(|error| format!("{}: {error}", script.display()))?;
        let (connections, time) = (format!("-c{}", row.connections), format!("-d{seconds}s"));
        let output = Command::new(&self.program)
            .args(["-t1", &connections, &time, "-s"])
            .arg(&script)
            .arg(format!("{}/v1/chat/completions", envoy.url()))
            .output()
            .map_err(|error| format!("{}: {error}", self.program.display()))?;
        let said = String::from_utf8_lossy(&output.stdout);
        let last = said.lines().last().and_then(|line| serde_json::from_str::<Value>(line).ok());
        let failed = || format!("wrk, {row:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
        let last = last.ok_or_else(failed)?;
        let number = |name: &str| last[name].as_f64().unwrap_or_default();
        if number("requests") == 0.0 || number("errors") > 0.0 {
            return Err(failed());
        }
        Ok(Run {
            requests: number("requests"),
            seconds: number("micros") / 1e6,
            p50_ms: number("p50") / 1e3,
            p99_ms: number("p99") / 1e3,
        })
    }
}

impl Drop for Wrk {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Each prompt begins elsewhere in the text.
fn lua(row: &Row, seed: u32, folder: &Path) -> String {
    let body = body("\0", row.answer == Answer::Events);
    let (head, tail) = body.split_once("\\u0000").unwrap_or((&body, ""));
    let answer = if row.answer == Answer::Events { "events" } else { "json" };
    let Row { prompt, is_same, .. } = row;
    format!(
        r#"
local file = io.open("{}/text"); local text = file:read("*a"); file:close()
local head, tail, size = [[{head}]], [[{tail}]], {prompt}
wrk.method = "POST"
wrk.headers["content-type"] = "application/json"
wrk.headers["x-api-key"] = "key-1"
wrk.headers["x-answer"] = "{answer}"
math.randomseed({seed})
local function make()
  local from = math.random(#text - size)
  return wrk.format(nil, nil, nil, head .. text:sub(from, from + size - 1) .. tail)
end
local same
request = function()
  if not {is_same} then return make() end
  same = same or make()
  return same
end
done = function(summary, latency)
  local errors = summary.errors
  io.write(string.format('{{"requests":%d,"micros":%d,"p50":%d,"p99":%d,"errors":%d}}\n', summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99), errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"#,
        folder.display()
    )
}
