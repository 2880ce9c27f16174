//! The parts of a prompt that are no texts, in every spelling that servers take: OpenAI's `image_url`, `input_audio`, `file` and `input_*`,
//! the parts that vLLM and SGLang have beside ("Multimodal Inputs"), and the sources of Anthropic's blocks. They are found by the keys that
//! they stand under, at whatever depth, so that it makes no difference in which message, result of a tool or variable they are.
//!
//! What an object is may be said behind what is in it, so an object is judged when it closes.

use crate::json::lexer::Event;
use crate::json::path::Field::{
    self, AudioEmbeds, AudioKey, AudioUrl, Content, Data, Detail, DocumentUrl, FileData, FileId, FileKey, FileUrl, Id,
    Image as ImageKey, ImageEmbeds, ImagePil, ImageUrl, Images as ImagesKey, Input, InputAudio, InputFile, InputImage,
    InputVideo, MediaType, Output, Prompt, PromptEmbeds, ResultKey, Source as SourceKey, System, Type, Url, Uuid,
    Video, VideoEmbeds, VideoUrl,
};
use crate::json::path::Step::{Item, Key};
use crate::json::path::{At, STEPS_MAX, Step};
use crate::request::head::Head;
use crate::request::image::{Image, Images, size};
use crate::request::level::{Level, Word};
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
    /// The objects and arrays that are open, by their depth.
    levels: [Level; STEPS_MAX + 1],
}

/// The kind of what stands under this key.
fn medium(field: Field) -> Option<Kind> {
    Some(match field {
        ImageUrl | ImageKey | ImagesKey | ImagePil | InputImage => Kind::Image,
        AudioUrl | AudioKey | InputAudio => Kind::Audio,
        VideoUrl | Video | InputVideo => Kind::Video,
        FileKey | InputFile | FileUrl | DocumentUrl => Kind::File,
        ImageEmbeds | AudioEmbeds | VideoEmbeds | PromptEmbeds => Kind::Vectors,
        _ => return None,
    })
}

/// The kind of what an object or array under this key has in it.
fn holder(field: Field) -> Option<Kind> {
    if field == FileData { Some(Kind::File) } else { medium(field) }
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

    /// A text or a number in a field that nothing is known of. Where it is a URL, and what it stands in is no text, it names something.
    pub fn unknown(&mut self, at: &At<'_>) {
        if let Some(owner) = owner(at.steps) {
            self.0.get_or_insert_default().unknown(owner, at.event);
        }
    }

    /// An object or an array is complete, and what it is is known. To be called for every one of a body.
    pub fn close(&mut self, steps: &[Step]) {
        if let Some(state) = &mut self.0 {
            state.close(steps);
        }
    }

    /// There is nothing yet that may belong to one.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// All of the request has been read.
    pub fn finish(self) -> Option<Box<State>> {
        self.0
    }
}

/// What a text in a field that nothing is known of belongs to, which is an object or array with so many steps: what stands under the nearest
/// key of media, or else the part, where that is not far above it.
fn owner(steps: &[Step]) -> Option<Owner> {
    (1..steps.len()).rev().find_map(|depth| {
        let above = steps.get(..depth)?;
        let kind = if let [.., Key(field)] = above { holder(*field) } else { None };
        let is_near = steps.len().saturating_sub(depth) <= 3;
        (kind.is_some() || is_near && is_part(above)).then_some(Owner { depth, kind })
    })
}

#[derive(Clone, Copy)]
struct Owner {
    depth: usize,
    kind: Option<Kind>,
}

/// Whether vectors may stand in an object here: in a part, or at the top.
fn may_be_vectors(steps: &[Step]) -> bool {
    steps.is_empty() || is_part(steps)
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
            ([.., Key(FileId | Uuid)] | [.., Key(AudioKey | SourceKey), Key(Id)], event) => {
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
        self.names(kind.unwrap_or(Kind::File), level.sources);
        let is_part = is_part(steps);
        // What calls, or was found, only tells of the files that it names.
        if let Some(kind) = kind.or((is_part && level.word != Word::Other).then_some(Kind::File)) {
            self.names(kind, level.ids);
        }
        for kind in level.named(is_part).all() {
            self.name(kind, 0);
        }
        self.names(Kind::File, if level.word == Word::Unknown { level.urls } else { 0 });
        self.leave(steps, &level, is_part);
    }

    /// What was in this object or array, for the one that it is in.
    fn leave(&mut self, steps: &[Step], level: &Level, is_part: bool) {
        let [above @ .., Key(field)] = steps else { return };
        let Some(parent) = self.levels.get_mut(above.len()) else { return };
        if !is_part && level.word != Word::Other && level.word.kind().is_none() && self::is_part(above) {
            parent.ids = parent.ids.saturating_add(level.ids);
        }
        let Some(kind) = holder(*field) else { return };
        parent.has_uuid |= level.has_uuid;
        if level.has_any {
            parent.key = None;
        }
        if level.has_some() || level.urls > 0 {
            parent.has_media = true;
        } else if level.has_any {
            parent.odd.add(Some(kind));
        }
        self.names(kind, if level.has_some() { 0 } else { level.urls });
    }

    fn unknown(&mut self, owner: Owner, event: &Event<'_>) {
        let Some(level) = self.levels.get_mut(owner.depth) else { return };
        level.has_any |= matches!(event, Event::Text(_) | Event::Number(_));
        match event {
            // Numbers are what vectors are made of.
            Event::Number(_) => level.has_media |= owner.kind == Some(Kind::Vectors),
            Event::TextEnd => {
                let is_url = is_url(core::mem::take(&mut self.unknown).as_str());
                level.urls = level.urls.saturating_add(is_url.into());
            }
            event => self.unknown.keep(event),
        }
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
        let [.., parent, Key(field)] = steps else { return };
        // Of a source it is its block that says what it is.
        let is_source = *parent == Key(SourceKey);
        let depth = steps.len().saturating_sub(if is_source { 2 } else { 1 });
        let Some(level) = self.levels.get_mut(depth) else { return };
        if *field == Uuid {
            // One that is empty is one to whoever only asks whether it is there.
            level.has_uuid |= !matches!(event, Event::Key(_) | Event::Null | Event::Close);
            return;
        }
        self.has_id |= matches!(event, Event::Text(_) | Event::Number(_));
        if !matches!(event, Event::TextEnd | Event::Number(_)) || !core::mem::take(&mut self.has_id) {
            return;
        }
        level.has_any = true;
        match parent {
            _ if is_source => level.sources = level.sources.saturating_add(1),
            Key(parent) if let Some(kind) = medium(*parent) => {
                level.has_media = true;
                self.name(kind, 0);
            }
            _ => level.ids = level.ids.saturating_add(1),
        }
    }

    /// A string in the place of a medium, or something else there.
    fn string(&mut self, slot: Slot, steps: &[Step], event: &Event<'_>, sink: &mut impl PromptSink) -> Read {
        let Some(level) = self.levels.get_mut(steps.len().saturating_sub(1)) else { return Read::Not };
        let kind = if let [.., Key(field)] = steps { medium(*field) } else { None };
        match event {
            Event::Key(_) if kind.is_some() => level.hollow.add(core::mem::replace(&mut level.key, kind)),
            Event::Key(_) => {}
            Event::Text(part) => {
                level.has_any = true;
                if kind.is_some() {
                    level.key = None;
                }
                self.piece.part(slot, part, sink);
            }
            // An empty URL is none.
            Event::TextEnd if matches!(slot, Slot::Url(_)) && self.piece.is_empty() => {}
            Event::TextEnd => {
                level.has_media = true;
                let found = self.piece.end(slot, sink);
                self.add(found, steps);
            }
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
            [above @ .., Key(ImageEmbeds | AudioEmbeds | VideoEmbeds | PromptEmbeds), Item | Key(_)] => {
                may_be_vectors(above).then_some(Slot::Data(Kind::Vectors))
            }
            [.., Key(ResultKey)] if own().is_none() => Some(Slot::Result),
            [.., Key(FileData | ResultKey)] => Some(Slot::Data(Kind::File)),
            [above @ .., Key(field)] | [above @ .., Key(field), Item] => match medium(*field)? {
                Kind::Vectors => may_be_vectors(above).then_some(Slot::Data(Kind::Vectors)),
                kind => Some(Slot::Url(kind)),
            },
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

    /// So many things that the request only names.
    fn names(&mut self, kind: Kind, n: u16) {
        for _ in 0..n {
            self.name(kind, 0);
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
