//! For which host a request is, on a gateway that others share.
//!
//! Which virtual host serves it the proxy has chosen by then, and no other `Host` header can make it another. Where that cannot be read, the
//! host counts that the client names.

use super::head::Head;
use crate::port::{Effect, Level};
use crate::world::World;

/// Under which the proxy names the virtual host.
const VIRTUAL_HOST: [&str; 2] = ["xds", "virtual_host_name"];

/// Whether the request is for a host that Penstock is for.
pub fn is_ours(head: &Head<'_>, world: &mut World<'_>) -> bool {
    let config = world.worker.config.clone();
    if config.hosts.is_empty() {
        return true;
    }
    let is_named = |name: &str| config.hosts.iter().any(|host| host == name || host == without_port(name));
    let chosen = world.properties.get(&VIRTUAL_HOST).filter(|name| !name.is_empty());
    let chosen = chosen.map(|name| String::from_utf8_lossy(&name).to_ascii_lowercase());
    if chosen.as_deref().is_some_and(is_named) {
        return true;
    }
    let asked = String::from_utf8_lossy(head.authority).to_ascii_lowercase();
    let host = without_port(&asked).trim_end_matches('.');
    if !is_named(&asked) && !is_named(host) {
        // What is no host at all is not taken for another one, where nobody says which it is.
        return chosen.is_none() && !host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte));
    }
    if let (Some(name), false) = (chosen, core::mem::replace(&mut world.worker.told_of_host, true)) {
        let text = format!(
            "hosts[] names {host:?}, which the virtual host {name:?} serves; name that, as other hosts may lead to it"
        );
        world.out.push(Effect::Log(Level::Warn, text));
    }
    true
}

/// A name without the port that may stand behind it.
fn without_port(name: &str) -> &str {
    let port = |port: &str| port.bytes().all(|digit| digit.is_ascii_digit());
    name.rsplit_once(':').filter(|(_, behind)| port(behind)).map_or(name, |(host, _)| host)
}
