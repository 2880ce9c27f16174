//! What a request's path leads to: an API's own path, one that servers might take for it, or something else.

use crate::dialect::Dialect;
use crate::listing::MODELS;
use crate::path::{normal, unescaped, without_query};

/// What a request's path leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The API of a model, whose path it is to the letter.
    Api(Dialect),
    /// Where such requests are only counted.
    Count(Dialect),
    /// The models that are served, or the one of this name.
    Models(Option<String>),
    /// What is written otherwise than an API's own path, and is that for some servers; or it is that path, with another method. `None`
    /// where it is one at which requests are only counted.
    Like(Option<Dialect>),
    /// Some other path, in its normal form: see [`normal`].
    Other(String),
    /// A path of which nobody knows what servers make of it.
    Unreadable,
}

impl Target {
    /// The target of a request. A query string is ignored; anything else in front of an API's own path (`/openai/v1/chat/completions`) is
    /// not, unless `prefixes` names it.
    pub fn of(method: &[u8], path: &[u8], prefixes: &[String]) -> Self {
        match Self::written(without_query(path), prefixes) {
            Some(own) if method == b"POST" => own,
            Some(Self::Api(dialect)) => Self::Like(Some(dialect)),
            Some(_) => Self::Like(None),
            None => Self::meant(method, path, prefixes),
        }
    }

    /// The API whose path this is, to the letter.
    fn written(path: &[u8], prefixes: &[String]) -> Option<Self> {
        let counts = |dialect: Dialect, path: &[u8]| {
            dialect.api().count.as_ref().is_some_and(|count| count.path.as_bytes() == path)
        };
        let own = |path: &[u8]| {
            let api = Dialect::ALL.iter().find(|dialect| dialect.api().is_at(path)).map(|dialect| Self::Api(*dialect));
            let count = || Dialect::ALL.iter().find(|dialect| counts(**dialect, path));
            api.or_else(|| count().map(|dialect| Self::Count(*dialect)))
        };
        own(path).or_else(|| prefixes.iter().filter_map(|prefix| path.strip_prefix(prefix.as_bytes())).find_map(own))
    }

    /// What a path may be that is no API's to the letter.
    fn meant(method: &[u8], path: &[u8], prefixes: &[String]) -> Self {
        let Some(form) = normal(path) else { return Self::Unreadable };
        let behind = |prefix: &String| {
            let (before, path) = form.split_at_checked(prefix.len())?;
            before.eq_ignore_ascii_case(prefix).then_some(path)
        };
        let reads = matches!(method, b"GET" | b"HEAD");
        let own = |path: &str| like(path).or_else(|| if reads { models(path) } else { None });
        let found = own(&form).or_else(|| prefixes.iter().filter_map(behind).find_map(own));
        match found {
            Some(Self::Models(Some(name))) => Self::Models(Some(as_written(path, &name).unwrap_or(name))),
            Some(found) => found,
            None => Self::Other(form),
        }
    }
}

/// The API that some server finds at this normal form.
fn like(form: &str) -> Option<Target> {
    let api = Dialect::ALL.iter().find(|dialect| dialect.api().is_like(form));
    let counts = |dialect: &Dialect| dialect.api().count.as_ref().is_some_and(|count| count.path == form);
    match api {
        Some(dialect) => Some(Target::Like(Some(*dialect))),
        None => Dialect::ALL.iter().any(counts).then_some(Target::Like(None)),
    }
}

/// The models, where this normal form is theirs.
fn models(form: &str) -> Option<Target> {
    match form.strip_prefix(MODELS)? {
        "" => Some(Target::Models(None)),
        name => name.strip_prefix('/').map(|name| Target::Models(Some(name.to_owned()))),
    }
}

/// The end of a path that has this normal form, with its letters as they are written.
fn as_written(path: &[u8], form: &str) -> Option<String> {
    let path = unescaped(without_query(path))?;
    let name = path.get(path.len().checked_sub(form.len())?..)?;
    name.eq_ignore_ascii_case(form).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(path: &str) -> Target {
        Target::of(b"POST", path.as_bytes(), &["/openai".to_owned(), "/Azure".to_owned()])
    }

    #[test]
    fn an_api_is_at_its_own_path_to_the_letter() {
        for dialect in Dialect::ALL {
            for path in dialect.api().paths {
                assert_eq!(of(path), Target::Api(*dialect));
                assert_eq!(of(&format!("{path}?api-version=1")), Target::Api(*dialect));
                assert_eq!(of(&format!("/openai{path}")), Target::Api(*dialect));
                assert_eq!(of(&format!("/Azure{path}")), Target::Api(*dialect));
                for method in ["GET", "post", "PUT", ""] {
                    assert_eq!(Target::of(method.as_bytes(), path.as_bytes(), &[]), Target::Like(Some(*dialect)));
                }
            }
        }
    }

    #[test]
    fn what_servers_might_take_for_it_is_told_from_it() {
        for path in [
            "/v1/chat/completions/",
            "/v1/%63hat/completion%73?x=%",
            "//v1/chat/completions",
            "/V1/chat/completions",
            "/v1/./chat/completions",
            "/x/../v1/chat/completions",
            "/v1/chat/completions;x",
            "/v1%2fchat/completions",
            "/v1\\chat\\completions",
            "/openai//v1/chat/completions",
            "/OpenAI/v1/chat/completions",
            "/azure/v1/chat/completions",
            "/open%61i/v1/chat/completions",
        ] {
            assert_eq!(of(path), Target::Like(Some(Dialect::Chat)), "{path}");
        }
        for path in ["/chat/completions", "/invocations", "/v1", "/other/v1/chat/completions", "/v1/chat/completions/x"]
        {
            assert_eq!(of(path), Target::Other(path.to_owned()), "{path}");
        }
        for path in ["/v1/chat/completions%", "/v1/chat/completions%00", "/v1/%2563hat/completions", "", "*"] {
            assert_eq!(of(path), Target::Unreadable, "{path}");
        }
    }

    #[test]
    fn counting_and_models_have_paths_of_their_own() {
        let get = |path: &str| Target::of(b"GET", path.as_bytes(), &["/openai".to_owned()]);
        assert_eq!(of("/v1/messages/count_tokens?beta=true"), Target::Count(Dialect::Messages));
        assert_eq!(of("/openai/v1/responses/input_tokens"), Target::Count(Dialect::Responses));
        assert_eq!(of("/v1/messages/count_tokens/"), Target::Like(None));
        assert_eq!(get("/v1/messages/count_tokens"), Target::Like(None));
        assert_eq!(of("/v1/models"), Target::Other("/v1/models".to_owned()));
        for (path, name) in [
            ("/v1/models", None),
            ("/openai//V1/models/?limit=20", None),
            ("/v1/models/Chat-1", Some("Chat-1")),
            ("/openai/v1/models/org/Chat", Some("org/Chat")),
            ("/v1/models/org%2FChat", Some("org/Chat")),
            ("/V1/models//Chat;x", Some("chat")),
        ] {
            assert_eq!(get(path), Target::Models(name.map(str::to_owned)), "{path}");
        }
        assert_eq!(get("/v1/models/../x"), Target::Other("/v1/x".to_owned()));
        assert_eq!(get("/v1/modelset"), Target::Other("/v1/modelset".to_owned()));
    }

    proptest! {
        /// An API's path with anything in its places that servers undo: it is understood in one spelling only.
        #[test]
        fn no_two_spellings_are_understood(
            at in 0..Dialect::ALL.len(),
            changes in prop::collection::vec((0..24usize, 0..10usize), 1..4),
        ) {
            let dialect = Dialect::ALL[at];
            let own = dialect.api().paths[0];
            let mut path = own.to_owned();
            for (place, change) in changes {
                let place = place % (path.len() + 1);
                let next = path[place..].chars().next().unwrap_or('/');
                let (with, over) = match change {
                    0 => (format!("%{:02x}", u32::from(next)), next.len_utf8()),
                    1 => ("/".to_owned(), 0),
                    2 => ("/.".to_owned(), 0),
                    3 => ("/x/..".to_owned(), 0),
                    4 => (";a=b".to_owned(), 0),
                    5 => (next.to_ascii_uppercase().to_string(), next.len_utf8()),
                    6 => ("%2f".to_owned(), 0),
                    7 => ("\\".to_owned(), 0),
                    8 => ("%00".to_owned(), 0),
                    _ => ("%25".to_owned(), 0),
                };
                let end = (place + over).min(path.len());
                path.replace_range(place..end, &with);
            }
            if path != own {
                prop_assert!(!matches!(of(&path), Target::Api(_)), "{path}");
            }
            if normal(path.as_bytes()).as_deref() == Some(own) && path != own {
                prop_assert_eq!(of(&path), Target::Like(Some(dialect)), "{}", path);
            }
        }
    }
}
