//! Cold starts: how requests wait for a version that has no server.

use penstock_units::Nanos;

use super::checked::{ColdStart, Model};
use super::problems::Problems;
use super::raw;
use super::units::bytes;

/// The path that is asked for where nothing is said.
const PROBE: &str = "/health";
/// How long a request waits.
const HOLD: Nanos = Nanos(120_000_000_000);
const HOLD_MIN: Nanos = Nanos::SECOND;
const HOLD_MAX: Nanos = Nanos(3_600_000_000_000);
/// How many wait.
const HELD: u64 = 500;
const HELD_MAX: u64 = 10_000;
/// How many bytes of bodies wait.
const BYTES: u64 = 64 << 20;
const BYTES_MIN: u64 = 64 << 10;
const BYTES_MAX: u64 = 4 << 30;
/// How long the name of a cluster and a path may be.
const TEXT_MAX: usize = 256;

/// What one section says.
#[derive(Clone, Debug, Default)]
pub struct Said {
    cluster: Option<String>,
    probe: Option<String>,
    hold: Option<Nanos>,
    max_held: Option<u64>,
    max_held_bytes: Option<u64>,
}

/// A section, by itself.
pub fn said(problems: &mut Problems, path: &str, raw: raw::ColdStart) -> Said {
    let raw::ColdStart { cluster, probe, hold, max_held, max_held_bytes } = raw;
    if let Some(what) = cluster.as_deref().and_then(wrong_cluster) {
        problems.problem(format!("{path}.cluster"), what);
    }
    if let Some(probe) = probe.as_deref().filter(|probe| !is_path(probe)) {
        let what = format!("{probe:?} is not a path; write one that begins with a slash, as in {PROBE}");
        problems.problem(format!("{path}.probe"), what);
    }
    if let Some(held) = max_held.filter(|held| !(1..=HELD_MAX).contains(held)) {
        let what = format!("{held} is out of range; write 1 to {HELD_MAX}, or leave coldStart out");
        problems.problem(format!("{path}.maxHeld"), what);
    }
    Said {
        cluster,
        probe,
        hold: hold.and_then(|text| duration(problems, format!("{path}.hold"), &text)),
        max_held,
        max_held_bytes: max_held_bytes.and_then(|size| size_of(problems, format!("{path}.maxHeldBytes"), &size)),
    }
}

/// What holds for a version, or for a model without versions: its own section, and where that says nothing its model's.
pub fn of(problems: &mut Problems, path: &str, own: Option<Said>, model: Option<&Said>) -> Option<ColdStart> {
    if own.is_none() && model.is_none() {
        return None;
    }
    let (own, model) = (own.unwrap_or_default(), model.cloned().unwrap_or_default());
    let Some(cluster) = own.cluster.or(model.cluster) else {
        let what = "missing; write the name of the cluster that these requests go to, in Istio outbound|PORT||HOST";
        problems.problem(format!("{path}.cluster"), what);
        return None;
    };
    Some(ColdStart {
        gate: 0,
        cluster,
        probe: own.probe.or(model.probe).unwrap_or_else(|| PROBE.to_owned()),
        hold: own.hold.or(model.hold).unwrap_or(HOLD),
        max_held: own.max_held.or(model.max_held).unwrap_or(HELD),
        max_held_bytes: own.max_held_bytes.or(model.max_held_bytes).unwrap_or(BYTES),
    })
}

/// Tells where several versions are probed at the model's cluster.
pub fn shared(problems: &mut Problems, path: &str, model: Option<&Said>, inherits: usize) {
    if let Some(cluster) = model.and_then(|model| model.cluster.as_ref()).filter(|_| inherits > 1) {
        let text = format!(
            "{path}.cluster: {cluster:?} is probed for {inherits} versions; where they have servers of their own, write \
             versions[].coldStart.cluster"
        );
        problems.notices.push(text);
    }
}

/// Gives every gate its place; answers how many there are.
pub fn number(models: &mut [Model]) -> usize {
    let mut gates = 0usize;
    let all = models.iter_mut().flat_map(|model| {
        let versions = model.versions.iter_mut().map(|version| &mut version.cold_start);
        versions.chain([&mut model.cold_start])
    });
    for cold_start in all.flatten() {
        cold_start.gate = gates;
        gates = gates.saturating_add(1);
    }
    gates
}

/// What is wrong with the name of a cluster, as far as that can be seen from it.
fn wrong_cluster(name: &str) -> Option<String> {
    const ISTIO: &str = "write outbound|8000||chat.llm.svc.cluster.local, or outbound|8000|SUBSET|HOST for a subset";
    let is_text = (1..=TEXT_MAX).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_text || name.contains("://") {
        let what = "the name of a cluster of the proxy";
        return Some(format!(
            "{name:?} is not {what}; {ISTIO} in Istio, or the name that your Envoy configuration gives it"
        ));
    }
    let parts: Vec<&str> = name.split('|').collect();
    let is_istio = match parts.as_slice() {
        [_] => true,
        ["outbound", port, _, host] => port.parse::<u16>().is_ok() && !host.is_empty(),
        _ => false,
    };
    (!is_istio).then(|| format!("{name:?} is not how Istio calls a cluster; {ISTIO}"))
}

fn is_path(text: &str) -> bool {
    text.starts_with('/') && text.len() <= TEXT_MAX && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#')
}

fn duration(problems: &mut Problems, path: String, text: &str) -> Option<Nanos> {
    let hold = problems.duration(path.clone(), text)?;
    if !(HOLD_MIN..=HOLD_MAX).contains(&hold) {
        problems.problem(path, format!("{text:?} is out of range; write 1s to 1h"));
    }
    Some(hold)
}

fn size_of(problems: &mut Problems, path: String, raw::Size(text): &raw::Size) -> Option<u64> {
    let size = bytes(text).filter(|bytes| (BYTES_MIN..=BYTES_MAX).contains(bytes));
    if size.is_none() {
        problems.problem(path, format!("{text:?} is not a size from 64Ki to 4Gi; write a number of bytes, or 64Mi"));
    }
    size
}
