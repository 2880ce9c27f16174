//! For which host a request is, on a gateway that others share.
//!
//! Which virtual host serves it the proxy has chosen by then, and no other `Host` header can make it another. So its name decides, and where
//! that name leaves open whether the virtual host also serves what `hosts` names, it is taken for ours: who names hosts means all ways to
//! them. What a client calls the host never makes a request somebody else's, unless the proxy does not say what it chose.

use super::head::Head;
use crate::port::{Effect, Level};
use crate::world::World;

/// Under which the proxy names the virtual host.
const VIRTUAL_HOST: [&str; 2] = ["xds", "virtual_host_name"];

/// Whose a request is.
#[derive(Debug, PartialEq, Eq)]
enum Whose {
    /// Ours.
    Ours,
    /// Ours, as a virtual host that is not named here serves a host that is.
    Leads,
    /// Taken for ours, as the virtual host's name does not say that it serves none of ours.
    Unclear,
    /// Somebody else's.
    Others,
}

/// Whether the request is for a host that Penstock is for.
pub fn is_ours(head: &Head<'_>, world: &mut World<'_>) -> bool {
    let config = world.worker.config.clone();
    if config.hosts.is_empty() {
        return true;
    }
    let chosen = world.properties.get(&VIRTUAL_HOST).filter(|name| !name.is_empty());
    let chosen = chosen.map(|name| String::from_utf8_lossy(&name).to_ascii_lowercase());
    let whose = whose(&config.hosts, chosen.as_deref(), &String::from_utf8_lossy(head.authority));
    let what = match whose {
        Whose::Ours => return true,
        Whose::Others => return false,
        Whose::Leads => "serves a host that hosts[] names",
        Whose::Unclear => "may serve a host that hosts[] names, as far as its name says, and is taken for Penstock's",
    };
    if !core::mem::replace(&mut world.worker.told_of_host, true) {
        let name = chosen.unwrap_or_default();
        let text = format!(
            "the virtual host {name:?} {what}; let hosts[] name virtual hosts instead of domains, or call each virtual host by its domain"
        );
        world.out.push(Effect::Log(Level::Warn, text));
    }
    true
}

/// Whose a request is, by what is named, by the virtual host that was chosen and by what the client asks for.
fn whose(hosts: &[String], chosen: Option<&str>, asked: &str) -> Whose {
    let is_named = |name: &str| hosts.iter().any(|host| host == name || host == without_port(name));
    let asked = asked.to_ascii_lowercase();
    let host = without_port(&asked).trim_end_matches('.');
    let asks_for_ours = is_named(&asked) || is_named(host);
    match chosen {
        Some(name) if is_named(name) => Whose::Ours,
        Some(_) if asks_for_ours => Whose::Leads,
        Some(name) if hosts.iter().any(|host| may_serve(name, host)) => Whose::Unclear,
        Some(_) => Whose::Others,
        // What is no host at all is not taken for another one, where nobody says which it is.
        None if asks_for_ours || !host.bytes().all(is_of_host) => Whose::Ours,
        None => Whose::Others,
    }
}

/// Whether a virtual host of another name may serve this host of ours, as far as its name says. Istio calls virtual hosts by the domain that
/// they serve and its port; a wildcard among these serves what it matches. Elsewhere names are free and say nothing. Where what we name is no
/// domain, it is a virtual host's name, and no other one has it.
fn may_serve(virtual_host: &str, ours: &str) -> bool {
    let name = without_port(virtual_host);
    if !is_domain(ours) {
        return false;
    }
    match name.split_once('*') {
        Some((before, behind)) => {
            let ours = without_port(ours);
            ours.starts_with(before) && ours.ends_with(behind)
        }
        None => !is_domain(virtual_host),
    }
}

/// Whether a name is that of a host and not of anything else: one with a dot or a port, or that a machine has for itself.
fn is_domain(name: &str) -> bool {
    name.bytes().all(is_of_host) && (name.contains(['.', ':']) || name == "localhost")
}

fn is_of_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte)
}

/// A name without the port that may stand behind it.
fn without_port(name: &str) -> &str {
    let port = |port: &str| port.bytes().all(|digit| digit.is_ascii_digit());
    name.rsplit_once(':').filter(|(_, behind)| port(behind)).map_or(name, |(host, _)| host)
}

#[cfg(test)]
mod tests {
    use super::Whose::{Leads, Others, Ours, Unclear};
    use super::*;

    #[test]
    fn the_virtual_host_decides_and_what_it_leaves_open_is_ours() {
        let domain = &["llm.example.com"][..];
        for (hosts, chosen, asked, expected) in [
            // A virtual host that is named, by its domain as on Istio or by a name of its own.
            (domain, Some("llm.example.com:80"), "llm.example.com", Ours),
            (domain, Some("llm.example.com"), "evil", Ours),
            (&["models"], Some("models"), "evil", Ours),
            // One that has a domain of its own in its name.
            (domain, Some("shop.example.com:80"), "shop.example.com", Others),
            (domain, Some("shop.example.com"), "evil", Others),
            (domain, Some("shop:80"), "evil", Others),
            (domain, Some("shop.example.com:80"), "llm.example.com:80", Leads),
            // A free name says nothing of the domains behind it.
            (domain, Some("models"), "llm.example.com", Leads),
            (domain, Some("models"), "LLM.example.com.:8080", Leads),
            (domain, Some("models"), "evil", Unclear),
            (domain, Some("inbound|http|80"), "evil", Unclear),
            (domain, Some("models"), "", Unclear),
            (&["localhost"], Some("models"), "evil", Unclear),
            (&["llm.example.com:80"], Some("models"), "evil", Unclear),
            (&["[::1]"], Some("models"), "evil", Unclear),
            (&["models", "llm.example.com"], Some("shop"), "shop", Unclear),
            // A wildcard serves what it matches.
            (domain, Some("*:80"), "evil", Unclear),
            (domain, Some("*.example.com:80"), "evil.example.com", Unclear),
            (&["llm.example.com:80"], Some("*.example.com:80"), "evil.example.com", Unclear),
            (domain, Some("llm.*"), "llm.evil", Unclear),
            (domain, Some("*.shop.com:80"), "a.shop.com", Others),
            // Where virtual hosts are named, no other one is ours.
            (&["models"], Some("shop"), "evil", Others),
            (&["models"], Some("*"), "evil", Others),
            (&["models"], Some("shop"), "models", Leads),
            (&["eg/models/http/llm_example_com"], Some("eg/models/http/shop"), "evil", Others),
            // The client's word counts only where there is no other.
            (domain, None, "llm.example.com", Ours),
            (domain, None, "shop.example.com", Others),
            (domain, None, "a@llm.example.com", Ours),
        ] {
            let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
            assert_eq!(whose(&hosts, chosen, asked), expected, "{hosts:?} {chosen:?} {asked}");
        }
    }
}
