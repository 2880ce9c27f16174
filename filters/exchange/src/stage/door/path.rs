//! By which path a request comes, and what that means for it. What is neither an API's own path nor opened by name stays closed.

use penstock_dialects::{Dialect, Target, normal};

use super::head::Head;
use crate::config::{Config, Policy};

/// What becomes of a request by its path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// It is read, counted and limited.
    Api(Dialect),
    /// It is read and counted, and nothing else.
    Count(Dialect),
    /// It asks which models there are, or for the one of this name; and whether anybody may.
    Models(Option<String>, bool),
    /// It says something of an answer.
    Feedback,
    /// It passes unread, for whoever may ask at all.
    Open,
    /// It passes unread, for anybody.
    Public,
    /// It is refused. Where that is only observed, a path that reads like an API's own is taken for that, as most servers do.
    Closed(Option<Dialect>),
}

/// The way of a request with this head.
pub fn way(config: &Config, head: &Head<'_>) -> Way {
    if config.feedback.as_ref().is_some_and(|feedback| feedback.path.as_bytes() == head.path && head.method == b"POST")
    {
        return Way::Feedback;
    }
    let target = Target::of(head.method, head.path, &config.path_prefixes);
    match target {
        Target::Api(dialect) if !head.is_upgrade => Way::Api(dialect),
        Target::Count(dialect) if !head.is_upgrade => Way::Count(dialect),
        target => unread(config, head, target),
    }
}

/// The way of what is not read here.
fn unread(config: &Config, head: &Head<'_>, target: Target) -> Way {
    let paths = &config.paths;
    let is_public = |form: &str| paths.public.iter().any(|open| open.has(head.path, form));
    let (is_public, passes, like) = match &target {
        Target::Other(form) => {
            let is_allowed = || paths.allow.iter().any(|open| open.has(head.path, form));
            (is_public(form), paths.other == Policy::Pass || is_allowed(), None)
        }
        Target::Models(_) => {
            let form = normal(head.path).unwrap_or_default();
            (is_public(&form), paths.allow.iter().any(|open| open.has(head.path, &form)), None)
        }
        // What is open below a path does not open an API's own path to anything that is not counted.
        Target::Api(dialect) | Target::Like(Some(dialect)) => {
            let like = (head.method == b"POST" && !head.is_upgrade).then_some(*dialect);
            (false, paths.allow.iter().any(|open| open.is(head.path)), like)
        }
        Target::Count(_) | Target::Like(None) => (false, paths.allow.iter().any(|open| open.is(head.path)), None),
        Target::Unreadable => (false, false, None),
    };
    match (target, like) {
        (Target::Models(name), _) if config.lists_models && head.is_safe() => Way::Models(name, is_public),
        _ if head.is_preflight() => Way::Public,
        _ if (passes || head.is_safe()) && is_public => Way::Public,
        _ if passes || head.is_safe() => Way::Open,
        // Nothing is closed where nothing is configured.
        (_, Some(dialect)) if !paths.is_configured => Way::Api(dialect),
        _ if !paths.is_configured => Way::Open,
        _ => Way::Closed(like),
    }
}
