//! What is known of an object or an array of a prompt that is open, and what it names when it closes.

use crate::request::media::Kind;

/// What is known of an open object or array.
#[derive(Clone, Copy, Default)]
pub struct Level {
    pub word: Word,
    /// `detail` is `low`, and never was anything else.
    pub low: Option<bool>,
    /// The last image in it, of those that are looked at.
    pub image: Option<u16>,
    /// Files that it names.
    pub ids: u16,
    /// How many of its sources only have a name.
    pub sources: u16,
    /// URLs in fields that nothing is known of.
    pub urls: u16,
    /// It has media of its own, which have a price.
    pub has_media: bool,
    /// There is something in it, whatever that is.
    pub has_any: bool,
    /// It names what the server has cached.
    pub has_uuid: bool,
    /// The media whose keys it has with nothing under them, or nothing that is known.
    pub hollow: Kinds,
    pub odd: Kinds,
    /// The medium whose key came last, and nothing under it so far.
    pub key: Option<Kind>,
}

impl Level {
    /// It has something that has a price.
    pub fn has_some(&self) -> bool {
        self.has_media || self.image.is_some() || self.ids > 0 || self.sources > 0
    }

    /// What it names beside its ids and URLs.
    pub fn named(&self, is_part: bool) -> Kinds {
        let mut kinds = Kinds::default();
        if is_part && self.has_uuid {
            // vLLM then goes by the keys alone, whatever the type is, and takes what has nothing under it from its cache.
            kinds = self.odd;
            self.hollow.all().chain(self.key).for_each(|kind| kinds.add(Some(kind)));
        } else if is_part && self.word != Word::Other && self.word.kind().is_none() {
            kinds = self.odd;
        }
        // What says that it is a medium and has none in a spelling that is known names one.
        let is_named = self.has_uuid && !self.has_media || is_part && !self.has_some();
        if is_named && kinds.all().next().is_none() {
            kinds.add(self.word.kind());
        }
        kinds
    }
}

/// Some of the kinds that there are.
#[derive(Clone, Copy, Default)]
pub struct Kinds([bool; Kind::ALL.len()]);

impl Kinds {
    pub fn add(&mut self, kind: Option<Kind>) {
        for (known, has) in Kind::ALL.iter().zip(&mut self.0) {
            *has |= Some(*known) == kind;
        }
    }

    pub fn all(self) -> impl Iterator<Item = Kind> {
        Kind::ALL.into_iter().zip(self.0).filter_map(|(kind, has)| has.then_some(kind))
    }
}

/// What the type of an object says that it is. Of two that are given the last one here is believed.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Word {
    #[default]
    Missing,
    /// Something that calls, or tells of what was found: the files in it are only told of.
    Other,
    /// A text.
    Text,
    /// Something that nothing is known of.
    Unknown,
    Vectors,
    Image,
    Audio,
    Video,
    File,
}

impl Word {
    pub fn of(word: &str) -> Self {
        match word {
            "image" | "image_url" | "image_file" | "image_pil" | "input_image" | "computer_screenshot" => Self::Image,
            "audio" | "audio_url" | "input_audio" => Self::Audio,
            "video" | "video_url" | "input_video" => Self::Video,
            "file" | "input_file" | "document" | "input_document" | "document_url" => Self::File,
            "image_embeds" | "audio_embeds" | "video_embeds" | "prompt_embeds" => Self::Vectors,
            "thinking" | "redacted_thinking" | "reasoning" | "refusal" | "message" | "tool_use" | "server_tool_use" => {
                Self::Other
            }
            // `input_text`, `output_text`.
            _ if word.ends_with("text") => Self::Text,
            // What calls, and what was found: `function_call`, `tool_result`, `mcp_list_tools`.
            _ if ["_call", "_output", "_result", "_tools"].iter().any(|end| word.ends_with(end)) => Self::Other,
            _ => Self::Unknown,
        }
    }

    pub fn kind(self) -> Option<Kind> {
        Some(match self {
            Self::Missing | Self::Other | Self::Text | Self::Unknown => return None,
            Self::Vectors => Kind::Vectors,
            Self::Image => Kind::Image,
            Self::Audio => Kind::Audio,
            Self::Video => Kind::Video,
            Self::File => Kind::File,
        })
    }
}
