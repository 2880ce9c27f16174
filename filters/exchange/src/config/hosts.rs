//! Hosts: what Penstock is for, on a gateway that others share.

use super::problems::Problems;

/// `hosts`
pub fn hosts(problems: &mut Problems, raw: Vec<String>) -> Vec<String> {
    for (i, host) in raw.iter().enumerate() {
        if host.contains('*') {
            // What a wildcard serves is reached by any name that nothing else serves.
            let what =
                format!("{host:?} is a wildcard; give the route a domain of its own, or leave hosts out to mean all");
            problems.problem(format!("hosts[{i}]"), what);
        } else if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c.is_control()) || is_url(host) {
            problems.problem(format!("hosts[{i}]"), format!("{host:?} is not a host; write llm.example.com"));
        }
    }
    raw.into_iter().map(|host| host.trim_end_matches('.').to_ascii_lowercase()).collect()
}

/// Whether a path or a scheme stands beside the host. Slashes alone may be in a virtual host's name.
fn is_url(host: &str) -> bool {
    host.contains('/') && host.contains(['.', ':'])
}
