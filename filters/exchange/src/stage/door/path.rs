//! By which path a request comes, and what that means for it. What is neither an API's own path nor opened by name stays closed.

use penstock_dialects::{Dialect, Target};

use super::head::Head;
use crate::config::{Config, Policy};

/// What becomes of a request by its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// It is read, counted and limited.
    Api(Dialect),
    /// It passes unread, for whoever may ask at all.
    Open,
    /// It passes unread, for anybody.
    Public,
    /// It is refused. Where that is only observed, a path that reads like an API's own is taken for that, as most servers do.
    Closed(Option<Dialect>),
}

/// The way of a request with this head.
pub fn way(config: &Config, head: &Head<'_>) -> Way {
    let target = Target::of(head.method, head.path, &config.path_prefixes);
    if let (Target::Api(dialect), false) = (&target, head.is_upgrade) {
        return Way::Api(*dialect);
    }
    let paths = &config.paths;
    let (is_public, passes, like) = match &target {
        Target::Other(form) => {
            let is_public = paths.public.iter().any(|open| open.has(head.path, form));
            let is_allowed = || paths.allow.iter().any(|open| open.has(head.path, form));
            (is_public, paths.other == Policy::Pass || is_allowed(), None)
        }
        // What is open below a path does not open an API's own path to anything that is not counted.
        Target::Api(dialect) | Target::Like(dialect) => {
            let like = (head.method == b"POST" && !head.is_upgrade).then_some(*dialect);
            (false, paths.allow.iter().any(|open| open.is(head.path)), like)
        }
        Target::Unreadable => (false, false, None),
    };
    match like {
        _ if head.is_preflight() => Way::Public,
        _ if (passes || head.is_safe()) && is_public => Way::Public,
        _ if passes || head.is_safe() => Way::Open,
        // Nothing is closed where nothing is configured.
        Some(dialect) if !paths.is_configured => Way::Api(dialect),
        None if !paths.is_configured => Way::Open,
        _ => Way::Closed(like),
    }
}
