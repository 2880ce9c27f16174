//! The parts of a prompt that are no texts, in every spelling that servers take: OpenAI's `image_url`, `input_audio`, `file` and `input_*`,
//! the parts that vLLM and SGLang have beside ("Multimodal Inputs"), and the sources of Anthropic's blocks. They are found by the keys that
//! they stand under, at whatever depth, so that it makes no difference in which message, result of a tool or variable they are.
//!
//! What an object is may be said behind what is in it, so an object is judged when it closes.

use crate::json::lexer::Event;
use crate::json::path::Field::{
    self, AudioEmbeds, AudioKey, AudioUrl, Content, Data, Detail, DocumentUrl, FileData, FileId, FileKey, FileUrl, Id,
    Image as ImageKey, ImageEmbeds, ImageUrl, Input, InputAudio, InputFile, InputImage, InputVideo, MediaType, Output,
    Prompt, PromptEmbeds, ResultKey, Source as SourceKey, Type, Url, Uuid, Video, VideoEmbeds, VideoUrl,
};
use crate::json::path::Step::{Item, Key};
use crate::json::path::{At, STEPS_MAX, Step};
use crate::request::draft::Draft;
use crate::request::head::Head;
use crate::request::image::{Image, Images, size};
use crate::request::media::{Kind, Media};
use crate::request::piece::{Found, Piece, Slot};
use crate::request::source::{Content as SourceContent, Source};
use crate::sink::PromptSink;

/// How long a URL is at most; what is longer counts as text besides.
const NAME_FREE: u64 = 2048;

/// What is known of the parts so far.
#[derive(Default)]
pub struct Parts {
    pub images: Images,
    pub media: Media,
    /// A text stood in the place of a document.
    pub has_texts: bool,
    piece: Piece,
    source: Source,
    /// The current word for a type or a detail.
    word: Head,
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
            "file" | "input_file" | "document" | "document_url" => Self::File,
            "image_embeds" | "audio_embeds" | "video_embeds" | "prompt_embeds" => Self::Vectors,
            _ => Self::Other,
        }
    }

    fn kind(self) -> Option<Kind> {
        Some(match self {
            Self::Missing | Self::Other => return None,
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
        ImageUrl | ImageKey | InputImage => Kind::Image,
        AudioUrl | AudioKey | InputAudio => Kind::Audio,
        VideoUrl | Video | InputVideo => Kind::Video,
        FileKey | InputFile | FileUrl | DocumentUrl => Kind::File,
        ImageEmbeds | AudioEmbeds | VideoEmbeds | PromptEmbeds => Kind::Vectors,
        _ => return None,
    })
}

/// Reads what belongs to a part that is no text. Whether this did.
pub fn read(at: &At<'_>, draft: &mut Draft, sink: &mut impl PromptSink) -> bool {
    let depth = at.steps.len();
    match (at.steps, at.event) {
        ([.., Key(SourceKey), Key(Data)], event) => draft.parts.source.data(event, sink),
        ([.., Key(SourceKey), Key(field @ (Type | MediaType))], event) => {
            draft.label(event);
            draft.parts.source.word(*field, event);
        }
        ([.., Key(field @ (Type | Detail))], event) => word(*field, depth, event, draft),
        ([.., Key(FileId | Uuid)] | [.., Key(AudioKey), Key(Id)], event) => name(at.steps, event, draft),
        (steps, event) => match draft.parts.slot(steps) {
            Some(slot) => return string(slot, steps, event, draft, sink),
            None => return false,
        },
    }
    true
}

/// A word for what something is.
fn word(field: Field, depth: usize, event: &Event<'_>, draft: &mut Draft) {
    draft.label(event);
    let Parts { word, levels, .. } = &mut draft.parts;
    let Some(level) = levels.get_mut(depth.saturating_sub(1)) else { return };
    match event {
        Event::TextEnd if field == Type => level.word = level.word.max(Word::of(word.as_str())),
        Event::TextEnd => level.low = Some(level.low.unwrap_or(true) && word.as_str() == "low"),
        event => word.keep(event),
    }
}

/// The id of something that the server has.
fn name(steps: &[Step], event: &Event<'_>, draft: &mut Draft) {
    let is_empty = draft.label(event) == 0;
    let [.., parent, Key(field)] = steps else { return };
    // Of a source it is its block that says what it is.
    let is_source = *parent == Key(SourceKey);
    let depth = steps.len().saturating_sub(if is_source { 2 } else { 1 });
    let Some(level) = draft.parts.levels.get_mut(depth) else { return };
    if *event != Event::TextEnd || is_empty {
        return;
    }
    match parent {
        _ if *field == Uuid => level.has_uuid = true,
        _ if is_source => level.sources = level.sources.saturating_add(1),
        Key(field) if medium(*field).is_some() => {
            let kind = medium(*field).unwrap_or(Kind::File);
            draft.parts.name(kind, 0);
        }
        _ => level.ids = level.ids.saturating_add(1),
    }
}

/// A string in the place of a medium, or something else there.
fn string(slot: Slot, steps: &[Step], event: &Event<'_>, draft: &mut Draft, sink: &mut impl PromptSink) -> bool {
    let Parts { piece, levels, .. } = &mut draft.parts;
    let depth = steps.len().saturating_sub(1);
    if let (Event::Text(_) | Event::Object | Event::Array, Some(level)) = (event, levels.get_mut(depth)) {
        level.has_media = true;
    }
    match event {
        Event::Text(part) => piece.part(slot, part, sink),
        Event::TextEnd => {
            let found = piece.end(slot, sink);
            draft.parts.add(found, steps);
        }
        // What stands under a key of media and is no string is read as anything else is.
        _ => return matches!(event, Event::Key(_)),
    }
    true
}

/// An object or an array is complete, and what it is is known. To be called for every one of a body.
pub fn close(steps: &[Step], draft: &mut Draft) {
    let parts = &mut draft.parts;
    if let [.., Key(SourceKey)] = steps {
        match parts.source.end() {
            SourceContent::Nothing => {}
            SourceContent::Text(bytes) => parts.media.text(bytes),
            SourceContent::Image(start, bytes) => parts.image(&start, bytes, steps.len()),
            SourceContent::Document(start, bytes) => parts.media.add(Kind::File, &start, bytes),
        }
    }
    let Some(level) = parts.levels.get_mut(steps.len()).map(core::mem::take) else { return };
    let image = level.image.filter(|_| level.low == Some(true));
    if let Some(image) = image.and_then(|at| parts.images.all.get_mut(usize::from(at))) {
        image.low = true;
    }
    let kind = level.word.kind();
    // A source without a type beside it is no image for that.
    for _ in 0..level.sources {
        parts.name(kind.unwrap_or(Kind::File), 0);
    }
    let is_part = level.word == Word::Missing && is_part(steps);
    if let Some(kind) = kind.or(is_part.then_some(Kind::File)) {
        for _ in 0..level.ids {
            parts.name(kind, 0);
        }
    }
    if let Some(kind) = kind.filter(|_| level.has_uuid && !level.has_media) {
        parts.name(kind, 0);
    }
}

/// Whether an object here is a part of a prompt, and not something that is told of one.
fn is_part(steps: &[Step]) -> bool {
    matches!(
        steps,
        [.., Key(Content | Output), Item] | [.., Key(Content | Output)] | [Key(Input), Item] | [Key(Prompt), _, _]
    )
}

impl Parts {
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
            Found::Text => self.has_texts = true,
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
        let at = self.images.add(Image { low: false, size: size(start), bytes: Some(bytes) });
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
