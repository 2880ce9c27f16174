//! What of a prompt is no text costs: images, sounds, films, documents, and what goes by its length.

use penstock_dialects::{Image, ImagePrice, Media, Named, Request};
use penstock_tokens::framing;
use penstock_units::Tokens;

use crate::config::{Flat, Model};
use crate::flow::Flow;

/// What something costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// All of it.
    pub tokens: Tokens,
    /// What of that only says how much there may be: the length of a sound, a film or a document is not in what is read of it.
    pub rough: Tokens,
}

/// What images and other media of a request cost, and what of it goes by its length.
pub fn cost(price: ImagePrice, request: &Request, model: &Model) -> Cost {
    let Media { audio_ms, video_ms, document_bytes, vectors, text_bytes, named } = request.media;
    let flat = &model.media;
    let images = request.images.iter().map(|one| image(price, one, flat)).fold(0, u64::saturating_add);
    let beyond = image(price, &Image { bytes: Some(u64::MAX), ..Image::default() }, flat)
        .max(image(price, &Image::default(), flat))
        .saturating_mul(request.images_beyond);
    let rough = [
        framing::sound(audio_ms),
        framing::film(video_ms),
        framing::document(document_bytes),
        named.audio.saturating_mul(flat.audio.map_or(usual::AUDIO, |flat| flat.0)),
        named.video.saturating_mul(flat.video.map_or(usual::VIDEO, |flat| flat.0)),
        named.files.saturating_mul(flat.file.map_or(usual::FILE, |flat| flat.0)),
    ];
    let rough = Tokens(rough.into_iter().fold(0, u64::saturating_add));
    let others = [images, beyond, vectors, framing::bytes(text_bytes)].into_iter().fold(0, u64::saturating_add);
    Cost { tokens: rough.saturating_add(Tokens(others)), rough }
}

/// What is only named counts as this for models that are not configured, which have no prices.
mod usual {
    /// A minute.
    pub const AUDIO: u64 = 60 * 32;
    /// A minute.
    pub const VIDEO: u64 = 60 * 263;
    /// A page.
    pub const FILE: u64 = 3_000;
}

fn image(price: ImagePrice, image: &Image, flat: &Flat) -> u64 {
    if let (None, Some(Tokens(flat))) = (image.bytes, flat.image) {
        return flat;
    }
    match price {
        ImagePrice::Area => framing::image_by_area(image.size, image.bytes),
        ImagePrice::Detail => framing::image(image.low, image.size, image.bytes),
    }
}

/// What the request only names although the model has no price for that: a word for it, and the key that opens the door.
pub fn unpriced(flow: &Flow, model: &Model) -> Option<(&'static str, &'static str)> {
    let Named { audio, video, files } = flow.read.as_deref()?.request.media.named;
    let Flat { audio: for_audio, video: for_video, file: for_files, .. } = model.media;
    [
        (files, for_files, ("a document", "file")),
        (audio, for_audio, ("a sound", "audio")),
        (video, for_video, ("a film", "video")),
    ]
    .into_iter()
    .find(|(n, price, _)| *n > 0 && price.is_none() && !model.is_implicit)
    .map(|(.., what)| what)
}
