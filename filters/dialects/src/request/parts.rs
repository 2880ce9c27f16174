//! The parts of a prompt that are no texts, in every spelling that servers take: OpenAI's `image_url`, `input_audio`, `file` and `input_*`,
//! the parts that vLLM and SGLang have beside ("Multimodal Inputs"), and the sources of Anthropic's blocks. They are found by the keys that
//! they stand under, at whatever depth, so that it makes no difference in which message, result of a tool or variable they are.
//!
//! What an object is may be said behind what is in it, so an object is judged when it closes.

use crate::json::lexer::Event;
use crate::json::path::Field::{
    self, AudioEmbeds, AudioKey, AudioUrl, Content, Data, Detail, DocumentUrl, FileData, FileId, FileKey, FileUrl, Id,
    Image as ImageKey, ImageEmbeds, ImageUrl, Images as ImagesKey, Input, InputAudio, InputFile, InputImage,
    InputVideo, MediaType, Output, Prompt, PromptEmbeds, ResultKey, Source as SourceKey, System, Type, Url, Uuid,
    Video, VideoEmbeds, VideoUrl,
};
use crate::json::path::Step::{Item, Key};
use crate::json::path::{At, STEPS_MAX, Step};
use crate::request::head::Head;
use crate::request::image::{Image, Images, size};
use crate::request::media::{Kind, Media};
use crate::request::piece::{Found, Piece, Slot};
use crate::request::source::{Content as SourceContent, Source};
use crate::sink::PromptSink;

/// How long a URL is at most; what is longer counts as text besides.
const NAME_FREE: u64 = 2048;

/// The parts of one request. Most have none, and pay nothing for them.
#[derive(Default)]
pub struct Parts(Option<Box<State>>);

/// What is known of the parts so far.
#[derive(Default)]
pub struct State {
    pub images: Images,
    pub media: Media,
    /// A text stood in the place of a document.
    pub has_texts: bool,
    piece: Piece,
    /// The current id is not empty.
    has_id: bool,
    source: Source,
    /// The current word for a type or a detail.
    word: Head,
    /// The current text in a field that nothing is known of.
    unknown: Head,
    /// The objects that are open, by their depth.
    levels: [Level; STEPS_MAX + 1],
}

/// What is known of an open object.
#[derive(Clone, Copy, Default)]
struct Level {
    word: Word,
    /// `detail` is `low`, and never was anything else.
    low: Option<bool>,
    /// The last image in it, of those that are looked at.
    image: Option<u16>,
    /// Files that it names.
    ids: u16,
    /// How many of its sources only have a name.
    sources: u16,
    /// URLs in fields that nothing is known of.
    urls: u16,
    /// It has media of its own.
    has_media: bool,
    /// It names what the server has cached.
    has_uuid: bool,
}

/// What the type of an object says that it is. Of two that are given the last one here is believed.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Word {
    #[default]
    Missing,
    /// Something that is no medium.
    Other,
    /// Something that nothing is known of.
    Unknown,
    Vectors,
    Image,
    Audio,
    Video,
    File,
}

impl Word {
    fn of(word: &str) -> Self {
        match word {
            "image" | "image_url" | "image_file" | "input_image" | "computer_screenshot" => Self::Image,
            "audio" | "audio_url" | "input_audio" => Self::Audio,
            "video" | "video_url" | "input_video" => Self::Video,
            "file" | "input_file" | "document" | "input_document" | "document_url" => Self::File,
            "image_embeds" | "audio_embeds" | "video_embeds" | "prompt_embeds" => Self::Vectors,
            "thinking" | "redacted_thinking" | "reasoning" | "refusal" | "message" | "tool_use" | "server_tool_use" => {
                Self::Other
            }
            // What calls, and what is said or found: `output_text`, `function_call`, `tool_result`, `mcp_list_tools`.
            _ if ["text", "_call", "_output", "_result", "_tools"].iter().any(|end| word.ends_with(end)) => Self::Other,
            _ => Self::Unknown,
        }
    }

    fn kind(self) -> Option<Kind> {
        Some(match self {
            Self::Missing | Self::Other | Self::Unknown => return None,
            Self::Vectors => Kind::Vectors,
            Self::Image => Kind::Image,
            Self::Audio => Kind::Audio,
            Self::Video => Kind::Video,
            Self::File => Kind::File,
        })
    }
}

/// The kind of what stands under this key.
fn medium(field: Field) -> Option<Kind> {
    Some(match field {
        ImageUrl | ImageKey | ImagesKey | InputImage => Kind::Image,
        AudioUrl | AudioKey | InputAudio => Kind::Audio,
        VideoUrl | Video | InputVideo => Kind::Video,
        FileKey | InputFile | FileUrl | DocumentUrl => Kind::File,
        ImageEmbeds | AudioEmbeds | VideoEmbeds | PromptEmbeds => Kind::Vectors,
        _ => return None,
    })
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// It belongs to something else.
    Not,
    /// It was read.
    Done,
    /// It was read, and is a word or an id, which are only so long.
    Label,
}

impl Parts {
    /// Reads what belongs to a part that is no text.
    pub fn read(&mut self, at: &At<'_>, sink: &mut impl PromptSink) -> Read {
        if is_place(at.steps) { self.0.get_or_insert_default().read(at, sink) } else { Read::Not }
    }

    /// A text in a field that nothing is known of. Where it is a URL, and what it stands in is no text, it names something.
    pub fn unknown(&mut self, at: &At<'_>) {
        let part = (1..=3).filter_map(|n| at.steps.get(..at.steps.len().checked_sub(n)?)).find(|steps| is_part(steps));
        if let Some(part) = part {
            self.0.get_or_insert_default().unknown(part.len(), at.event);
        }
    }

    /// An object or an array is complete, and what it is is known. To be called for every one of a body.
    pub fn close(&mut self, steps: &[Step]) {
        if let Some(state) = &mut self.0 {
            state.close(steps);
        }
    }

    /// All of the request has been read.
    pub fn finish(self) -> Option<Box<State>> {
        self.0
    }
}

/// Whether something belongs to a part that is no text, or may.
fn is_place(steps: &[Step]) -> bool {
    match steps {
        [.., Key(ImageEmbeds | AudioEmbeds | VideoEmbeds | PromptEmbeds), _]
        | [.., Key(Type | Detail | FileId | Uuid | Id | Data | MediaType | Url | FileData | ResultKey)] => true,
        [.., Key(field)] | [.., Key(field), Item] => medium(*field).is_some(),
        _ => false,
    }
}

impl State {
    fn read(&mut self, at: &At<'_>, sink: &mut impl PromptSink) -> Read {
        match (at.steps, at.event) {
            ([.., Key(SourceKey), Key(Data)], event) => self.source.data(event, sink),
            ([.., Key(SourceKey), Key(field @ (Type | MediaType))], event) => {
                self.source.word(*field, event);
                return Read::Label;
            }
            ([.., Key(field @ (Type | Detail))], event) => {
                self.word(*field, at.steps.len(), event);
                return Read::Label;
            }
            ([.., Key(FileId | Uuid)] | [.., Key(AudioKey), Key(Id)], event) => {
                self.id(at.steps, event);
                return Read::Label;
            }
            (steps, event) => match self.slot(steps) {
                Some(slot) => return self.string(slot, steps, event, sink),
                None => return Read::Not,
            },
        }
        Read::Done
    }

    fn close(&mut self, steps: &[Step]) {
        if let [.., Key(SourceKey)] = steps {
            match self.source.end() {
                SourceContent::Nothing => {}
                SourceContent::Text(bytes) => self.media.text(bytes),
                SourceContent::Data(Kind::Image, start, bytes) => self.image(&start, bytes, steps.len()),
                SourceContent::Data(kind, start, bytes) => self.media.add(kind, &start, bytes),
            }
        }
        if let ([.., Key(SourceKey)], Some(block)) = (steps, self.levels.get_mut(steps.len().saturating_sub(1))) {
            block.has_media |= block.urls == 0;
        }
        let Some(level) = self.levels.get_mut(steps.len()).map(core::mem::take) else { return };
        let image = level.image.filter(|_| level.low == Some(true));
        if let Some(image) = image.and_then(|at| self.images.all.get_mut(usize::from(at))) {
            image.low = true;
        }
        let kind = level.word.kind();
        // A source without a type beside it is no image for that.
        for _ in 0..level.sources {
            self.name(kind.unwrap_or(Kind::File), 0);
        }
        let is_part = is_part(steps);
        if let Some(kind) = kind.or((is_part && level.word == Word::Missing).then_some(Kind::File)) {
            for _ in 0..level.ids {
                self.name(kind, 0);
            }
        }
        // What says that it is a medium and has none in a spelling that is known, or what nothing is known of and has a URL, names one.
        let has_some = level.has_media || level.image.is_some() || level.ids > 0 || level.sources > 0;
        let is_named = level.has_uuid && !level.has_media || is_part && !has_some;
        if let Some(kind) = kind.filter(|_| is_named) {
            self.name(kind, 0);
        }
        for _ in 0..if level.word == Word::Unknown { level.urls } else { 0 } {
            self.name(Kind::File, 0);
        }
    }

    fn unknown(&mut self, depth: usize, event: &Event<'_>) {
        if *event != Event::TextEnd {
            return self.unknown.keep(event);
        }
        if let Some(level) = self.levels.get_mut(depth).filter(|_| is_url(self.unknown.as_str())) {
            level.urls = level.urls.saturating_add(1);
        }
        self.unknown = Head::default();
    }

    /// A word for what something is.
    fn word(&mut self, field: Field, depth: usize, event: &Event<'_>) {
        let Some(level) = self.levels.get_mut(depth.saturating_sub(1)) else { return };
        match event {
            Event::TextEnd if field == Type => level.word = level.word.max(Word::of(self.word.as_str())),
            Event::TextEnd => level.low = Some(level.low.unwrap_or(true) && self.word.as_str() == "low"),
            event => self.word.keep(event),
        }
    }

    /// The id of something that the server has.
    fn id(&mut self, steps: &[Step], event: &Event<'_>) {
        self.has_id |= matches!(event, Event::Text(part) if !part.is_empty());
        if *event != Event::TextEnd || !core::mem::take(&mut self.has_id) {
            return;
        }
        let [.., parent, Key(field)] = steps else { return };
        // Of a source it is its block that says what it is.
        let is_source = *parent == Key(SourceKey);
        let depth = steps.len().saturating_sub(if is_source { 2 } else { 1 });
        let Some(level) = self.levels.get_mut(depth) else { return };
        match parent {
            _ if *field == Uuid => level.has_uuid = true,
            _ if is_source => level.sources = level.sources.saturating_add(1),
            Key(parent) if let Some(kind) = medium(*parent) => self.name(kind, 0),
            _ => level.ids = level.ids.saturating_add(1),
        }
    }

    /// A string in the place of a medium, or something else there.
    fn string(&mut self, slot: Slot, steps: &[Step], event: &Event<'_>, sink: &mut impl PromptSink) -> Read {
        let level = self.levels.get_mut(steps.len().saturating_sub(1));
        if let (Event::Text(_) | Event::Object | Event::Array, Some(level)) = (event, level) {
            level.has_media = true;
        }
        match event {
            Event::Text(part) => self.piece.part(slot, part, sink),
            Event::TextEnd => {
                let found = self.piece.end(slot, sink);
                self.add(found, steps);
            }
            Event::Key(_) => {}
            // What stands under a key of media and is no string is read as anything else is.
            _ => return Read::Not,
        }
        Read::Done
    }

    /// What a string here may be, where this is a place for media.
    fn slot(&self, steps: &[Step]) -> Option<Slot> {
        let own = || self.levels.get(steps.len().checked_sub(1)?)?.word.kind();
        match steps {
            [.., Key(SourceKey), Key(Url)] => Some(Slot::Url(Kind::File)),
            [.., Key(parent), Key(Url)] => medium(*parent).or_else(own).map(Slot::Url),
            [.., Key(parent), Key(Data)] => medium(*parent).or_else(own).map(Slot::Data),
            [.., Key(Url)] => own().map(Slot::Url),
            [.., Key(Data)] => own().map(Slot::Data),
            [.., Key(ImageEmbeds | AudioEmbeds | VideoEmbeds | PromptEmbeds), Item | Key(_)] => {
                Some(Slot::Data(Kind::Vectors))
            }
            [.., Key(ResultKey)] if own().is_none() => Some(Slot::Result),
            [.., Key(FileData | ResultKey)] => Some(Slot::Data(Kind::File)),
            [.., Key(field)] | [.., Key(field), Item] => medium(*field).map(|kind| match kind {
                Kind::Vectors => Slot::Data(kind),
                kind => Slot::Url(kind),
            }),
            _ => None,
        }
    }

    fn add(&mut self, found: Found, steps: &[Step]) {
        match found {
            Found::Text | Found::Decoded => self.has_texts = true,
            Found::Data { kind: Kind::Image, start, bytes } => self.image(&start, bytes, steps.len()),
            Found::Data { kind, start, bytes } => self.media.add(kind, &start, bytes),
            Found::Name { kind: Kind::Image, bytes } => {
                let at = self.images.add(Image::default());
                self.stands(at, steps.len());
                self.media.text(bytes.saturating_sub(NAME_FREE));
            }
            Found::Name { bytes, .. } if steps.iter().rev().nth(1) == Some(&Key(SourceKey)) => {
                if let Some(level) = self.levels.get_mut(steps.len().saturating_sub(2)) {
                    level.sources = level.sources.saturating_add(1);
                }
                self.media.text(bytes.saturating_sub(NAME_FREE));
            }
            Found::Name { kind, bytes } => self.name(kind, bytes),
        }
    }

    /// An image in the object at this depth.
    fn image(&mut self, start: &str, bytes: u64, depth: usize) {
        let at = self.images.add(Image { low: false, size: size(start, bytes), bytes: Some(bytes) });
        self.stands(at, depth);
    }

    fn stands(&mut self, image: Option<usize>, depth: usize) {
        if let Some(level) = self.levels.get_mut(depth.saturating_sub(1)) {
            level.image = image.and_then(|at| u16::try_from(at).ok());
        }
    }

    /// Something that the request only names, with so many bytes.
    fn name(&mut self, kind: Kind, bytes: u64) {
        match kind {
            Kind::Image => {
                let _ = self.images.add(Image::default());
            }
            kind => self.media.name(kind),
        }
        self.media.text(bytes.saturating_sub(NAME_FREE));
    }
}

/// Whether an object here is a part of a prompt, and not something that is told of one.
fn is_part(steps: &[Step]) -> bool {
    matches!(
        steps,
        [.., Key(Content | Output), Item]
            | [.., Key(Content | Output)]
            | [Key(Input | System), Item]
            | [Key(Prompt), _, _]
    )
}

/// Whether a text that begins like this is a URL and nothing else.
fn is_url(start: &str) -> bool {
    let is_scheme = |scheme: &str| !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let scheme = start.split_once("://").map(|(scheme, _)| scheme);
    scheme.is_some_and(is_scheme) && !start.contains(char::is_whitespace)
}
