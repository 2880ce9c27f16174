//! Tenants: who has a name.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use penstock_pending::fair::Priority;

use super::checked::{Model, Origin, TENANTS_MAX, Tenant};
use super::problems::Problems;
use super::raw;

/// The class of whoever is not under `tenants`.
const UNNAMED: &str = "unnamed";

/// How many keys a tenant may have.
const KEYS_MAX: usize = 16;

/// The hashes of the tenants' keys, sorted, and the places of the tenants in the order of their names.
pub fn api_keys(problems: &mut Problems, raw: &BTreeMap<String, raw::Tenant>) -> Vec<([u8; 32], usize)> {
    let mut keys: Vec<([u8; 32], usize)> = Vec::new();
    for (at, (name, tenant)) in raw.iter().enumerate() {
        let texts = tenant.api_keys.as_deref().map_or(&[][..], Vec::as_slice);
        problems.count(&format!("tenants.{name}.apiKeys"), texts.len(), KEYS_MAX);
        for (i, text) in texts.iter().enumerate() {
            match text.strip_prefix("sha256:").and_then(hash) {
                Some(hash) => keys.push((hash, at)),
                None => {
                    // It may be the key itself, which is nothing for a log.
                    let what =
                        "not a hash; write sha256: and 64 lower-case hexadecimal digits, as sha256sum prints them";
                    problems.problem(format!("tenants.{name}.apiKeys[{i}]"), what);
                }
            }
        }
    }
    keys.sort_unstable();
    for pair in keys.windows(2) {
        if let [(a, one), (b, other)] = pair
            && a == b
        {
            let name = |at: &usize| raw.keys().nth(*at).map(String::as_str).unwrap_or_default();
            let what = format!("a key is also one of {:?}; give each tenant its own", name(one));
            problems.problem(format!("tenants.{}.apiKeys", name(other)), what);
        }
    }
    keys
}

fn hash(text: &str) -> Option<[u8; 32]> {
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b.wrapping_sub(b'0')),
        b'a'..=b'f' => Some(b.wrapping_sub(b'a').wrapping_add(10)),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let bytes = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?));
    bytes.collect::<Option<Vec<u8>>>()?.try_into().ok().filter(|_| rest.is_empty())
}

/// Whether every name can be somebody's: only verified sources lead to names, as anybody can write down another one's.
pub fn reachable(problems: &mut Problems, tenants: &[Tenant], from: &[Origin], keys: &[([u8; 32], usize)]) {
    let reads_keys = from.iter().any(|origin| matches!(origin, Origin::Key(_)));
    if !keys.is_empty() && !reads_keys {
        let what = "no source of tenant.from reads keys; add {apiKey: {header: authorization}}";
        return problems.problem("tenants.*.apiKeys", what);
    }
    if keys.is_empty() && reads_keys {
        return problems.problem("tenant.from", "no tenant has a key; write apiKeys under tenants");
    }
    if from.iter().any(|origin| matches!(origin, Origin::Value { is_verified: true, .. })) {
        return;
    }
    let owners: BTreeSet<usize> = keys.iter().map(|(_, of)| *of).collect();
    for (_, tenant) in tenants.iter().enumerate().filter(|(at, _)| !owners.contains(at)) {
        let what = "no source of tenant.from can tell who this is for certain; give the tenant apiKeys and read them with \
                    {apiKey: {header: authorization}}, or use jwt or a certificate's field, or write trusted: true beside a header \
                    that a filter in front sets and takes away from clients";
        problems.problem(format!("tenants.{}", tenant.name), what);
    }
}

/// What the models of a class are: `None` is every one.
type Classes = BTreeMap<String, Option<Rc<[String]>>>;

/// `tenants` and `classes`: the tenants, sorted by name, as the document's map is.
pub fn tenants(
    problems: &mut Problems,
    raw: BTreeMap<String, raw::Tenant>,
    classes: BTreeMap<String, raw::Class>,
    models: &[Model],
) -> (Vec<Tenant>, Option<Rc<[String]>>) {
    problems.count("tenants", raw.len(), TENANTS_MAX);
    problems.count("classes", classes.len(), TENANTS_MAX);
    let classes: Classes = classes
        .into_iter()
        .map(|(name, class)| {
            let list = usable(problems, &format!("classes.{name}.models"), class.models, models);
            (name, list.flatten())
        })
        .collect();
    // Many tenants have few classes.
    let mut named: BTreeSet<Rc<str>> = BTreeSet::new();
    let mut shared = |class: String| {
        let known = named.get(class.as_str()).cloned();
        known.unwrap_or_else(|| {
            let class: Rc<str> = class.into();
            named.insert(class.clone());
            class
        })
    };
    let mut read = |(name, mut raw): (String, raw::Tenant)| {
        let class = raw.class.take().map(&mut shared);
        tenant(problems, name, class, raw, &classes, models)
    };
    let tenants: Vec<Tenant> = raw.into_iter().map(&mut read).collect();
    let has_lists = tenants.iter().any(|tenant| tenant.models.is_some());
    if has_lists && !classes.contains_key(UNNAMED) {
        let text = "some tenants may use some models only, and whoever is not under tenants may use every one, with whatever limits match: \
                    {tenant: unnamed} gives; write classes: {unnamed: {models: [...]}}";
        problems.notices.push(text.to_owned());
    }
    (tenants, classes.get(UNNAMED).cloned().flatten())
}

/// A list of models that may be used. The outer `None`: there is no list.
fn usable(
    problems: &mut Problems,
    path: &str,
    raw: Option<Vec<String>>,
    models: &[Model],
) -> Option<Option<Rc<[String]>>> {
    let mut names = raw?;
    for (i, name) in names.iter().enumerate() {
        if name != "*" && models.iter().all(|model| model.name != *name) {
            let what = format!("{name:?} is not a configured model; use one of models[].name, or \"*\" for every one");
            problems.problem(format!("{path}[{i}]"), what);
        }
    }
    names.sort();
    Some((!names.iter().any(|name| name == "*")).then(|| names.into()))
}

fn tenant(
    problems: &mut Problems,
    name: String,
    class: Option<Rc<str>>,
    raw: raw::Tenant,
    classes: &Classes,
    models: &[Model],
) -> Tenant {
    problems.name(format!("tenants.{name:?}"), &name);
    if matches!(name.as_str(), "other" | "anonymous" | "unnamed") || crate::identity::is_hash(&name) {
        problems.problem(format!("tenants.{name}"), "the name is reserved for callers without one; use another");
    }
    let weight = raw.weight.unwrap_or(1);
    if weight == 0 {
        problems.problem(format!("tenants.{name}.weight"), "0 is not a weight; write 1 or more");
    }
    let priority = match raw.priority {
        Some(raw::Priority::Low) => Priority::Low,
        Some(raw::Priority::High) => Priority::High,
        Some(raw::Priority::Normal) | None => Priority::Normal,
    };
    if class.as_deref() == Some(UNNAMED) {
        problems.problem(format!("tenants.{name}.class"), "the class is that of callers without a name; use another");
    }
    let own = usable(problems, &format!("tenants.{name}.models"), raw.models.map(|models| *models), models);
    let of_class = || class.as_deref().and_then(|class| classes.get(class)).cloned().flatten();
    let models = own.unwrap_or_else(of_class);
    Tenant { name, class, weight, priority, suspended: raw.suspended, probe: raw.probe, models }
}
