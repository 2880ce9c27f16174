//! What can be said of an API in data. Each dialect's file says it of its own.

use crate::error::ErrorKind;
use crate::json::path::Field;

/// The longest model name that is read, in bytes.
pub const MODEL_BYTES_MAX: usize = 256;

/// One API, as far as data can describe it.
pub struct Api {
    /// The paths at which it is served; where the model's name is in the path, what stands in front of the name.
    pub paths: &'static [&'static str],
    /// Where clients ask what a prompt costs.
    pub count: Option<CountApi>,
    /// Where the model's name is.
    pub model: ModelAt,
    /// The keys that set the ceiling of a choice's output.
    pub ceilings: &'static [Field],
    /// The key under which a ceiling is inserted where a request has none.
    pub ceiling_key: Option<&'static str>,
    /// Whether a model may want another key there.
    pub is_ceiling_key_configurable: bool,
    /// Whether streams report usage only where `stream_options` ask for it.
    pub usage_on_request: bool,
    /// Whether the reported prompt leaves out what was read from a cache or written to one.
    pub usage_leaves_out_cached: bool,
    /// What a prompt costs beside its texts.
    pub framing: Framing,
    /// What decides the price of an image.
    pub image_price: ImagePrice,
    /// Whether anything is generated.
    pub generates: bool,
    /// Whether what is generated belongs to one of several `choices`, whose index may stand behind the text.
    pub has_choices: bool,
    /// The JSON body of an error.
    pub error: fn(kind: ErrorKind, message: &str, param: Option<&str>) -> Vec<u8>,
}

/// A path at which requests are counted and not answered.
pub struct CountApi {
    /// The path.
    pub path: &'static str,
    /// The JSON body of the answer: so many tokens.
    pub answer: fn(tokens: u64) -> Vec<u8>,
}

/// Where a request names its model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelAt {
    /// In the body, under `model`.
    Body,
    /// In the path, behind the API's own, as in Gemini's `/v1beta/models/NAME:generateContent`.
    Path {
        /// What may stand behind the name: `:generateContent`.
        actions: &'static [&'static str],
    },
}

/// What a prompt costs in tokens beside its texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framing {
    /// Around each message.
    pub message: u64,
    /// For the presence of a name.
    pub name: u64,
    /// To prime the reply.
    pub reply: u64,
    /// Whether that is documented; otherwise it is an estimate.
    pub documented: bool,
}

impl Framing {
    /// For texts that are sent as they are.
    pub(crate) const NONE: Self = Self { message: 0, name: 0, reply: 0, documented: true };

    /// The tokens around so many messages, so many of which carry a name.
    pub fn tokens(&self, messages: u64, names: u64) -> u64 {
        let messages = messages.saturating_mul(self.message);
        let names = names.saturating_mul(self.name);
        messages.saturating_add(names).saturating_add(self.reply)
    }
}

/// What decides the price of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImagePrice {
    /// The `detail` that was asked for, and how many tiles cover the image.
    Detail,
    /// Its area.
    Area,
}

impl Api {
    /// Whether requests to this path, as it is written, are requests to this API.
    pub(crate) fn is_at(&self, path: &[u8]) -> bool {
        let is_own = |path: &[u8]| self.paths.iter().any(|own| own.as_bytes() == path);
        match self.model {
            ModelAt::Body => is_own(path),
            ModelAt::Path { actions } => split_name(path, actions).is_some_and(|(before, _)| is_own(before)),
        }
    }

    /// Whether a path of this normal form might be this API's for some server.
    pub(crate) fn is_like(&self, form: &str) -> bool {
        let own = |path: &str| self.paths.iter().any(|own| own.trim_end_matches('/').eq_ignore_ascii_case(path));
        match self.model {
            ModelAt::Body => own(form),
            ModelAt::Path { actions } => {
                let mut actions = actions.iter().map(|action| action.to_ascii_lowercase());
                let named = actions.any(|action| form.ends_with(&action));
                named && form.rsplit_once('/').is_some_and(|(before, _)| own(before))
            }
        }
    }

    /// The model that such a path names, whatever prefix it has.
    pub(crate) fn model_in<'a>(&self, path: &'a [u8]) -> Option<&'a str> {
        let ModelAt::Path { actions } = self.model else { return None };
        let (before, name) = split_name(path, actions)?;
        self.paths.iter().any(|own| before.ends_with(own.as_bytes())).then_some(name)
    }
}

/// The model's name at the end of a path, in front of one of the actions, and what stands before it.
fn split_name<'a>(path: &'a [u8], actions: &[&str]) -> Option<(&'a [u8], &'a str)> {
    let path = actions.iter().find_map(|action| path.strip_suffix(action.as_bytes()))?;
    let name = path.rsplit(|byte| *byte == b'/').next()?;
    let before = path.strip_suffix(name)?;
    let name = core::str::from_utf8(name).ok()?;
    // Servers differ in what they undo.
    if name.contains(['%', ';', '\\', '#']) || matches!(name, "." | "..") {
        return None;
    }
    (1..=MODEL_BYTES_MAX).contains(&name.len()).then_some((before, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: Api = Api {
        paths: &["/v1/made-up"],
        count: None,
        model: ModelAt::Body,
        ceilings: &[],
        ceiling_key: None,
        is_ceiling_key_configurable: false,
        usage_on_request: false,
        usage_leaves_out_cached: false,
        framing: Framing::NONE,
        image_price: ImagePrice::Detail,
        generates: true,
        has_choices: false,
        error: crate::error::openai,
    };
    const PATH: Api = Api {
        paths: &["/v0/models/", "/v1/models/"],
        model: ModelAt::Path { actions: &[":make", ":streamMake"] },
        ..BODY
    };

    #[test]
    fn a_path_may_name_the_model() {
        for (path, model) in [
            ("/v1/models/m-1.5:make", Some("m-1.5")),
            ("/v0/models/a:b:streamMake", Some("a:b")),
            ("/v1/models/:make", None),
            ("/v1/models/m", None),
            ("/v1/models/m:other", None),
            ("/v1/models/m/n:make", None),
            ("/v2/models/m:make", None),
            ("/v1/models/%6d:make", None),
            ("/v1/models/..:make", None),
            (&format!("/v1/models/{}:make", "m".repeat(MODEL_BYTES_MAX + 1)), None),
        ] {
            assert_eq!(PATH.model_in(path.as_bytes()), model, "{path}");
            assert_eq!(PATH.is_at(path.as_bytes()), model.is_some(), "{path}");
        }
        assert_eq!(PATH.model_in(b"/prefix/v1/models/m:make"), Some("m"));
        assert!(!PATH.is_at(b"/prefix/v1/models/m:make") && !PATH.is_at(b"/v1/models/\xff:make"));
        assert!(
            PATH.is_like("/v1/models/m:streammake") && !PATH.is_like("/v1/models/m") && BODY.is_like("/v1/made-up")
        );
        assert!(BODY.is_at(b"/v1/made-up") && !BODY.is_at(b"/v1/made-up/m:make"));
        assert_eq!(BODY.model_in(b"/v1/made-up"), None);
    }

    #[test]
    fn framing_saturates() {
        let framing = Framing { message: 3, name: 1, reply: 3, documented: true };
        assert_eq!((framing.tokens(0, 0), framing.tokens(2, 1)), (3, 10));
        assert_eq!((framing.tokens(u64::MAX, u64::MAX), Framing::NONE.tokens(9, 9)), (u64::MAX, 0));
    }
}
