//! The parts of a prompt that are no texts: what each of them is taken for, and that none is free, or cheaper for being larger.

use super::Texts;
use crate::dialect::Dialect::{self, Chat, Completions, Embeddings, Messages, Responses};
use crate::json::unreadable::Unreadable;
use crate::request::Request;
use crate::request::image::IMAGES_MAX;
use crate::request::media::{Media, Named};
use crate::request::reader::RequestReader;

const NONE: Media = Media {
    audio_ms: 0,
    video_ms: 0,
    document_bytes: 0,
    vectors: 0,
    text_bytes: 0,
    named: Named { audio: 0, video: 0, files: 0 },
};

/// Where a part of a prompt may stand, in each dialect that has parts.
const PLACES: &[(Dialect, &str)] = &[
    (Chat, r#"{"messages":[{"role":"user","content":[PART]}]}"#),
    (Chat, r#"{"messages":[{"role":"tool","content":[{"type":"text","text":"r"},PART]}]}"#),
    (Embeddings, r#"{"messages":[{"role":"user","content":[PART]}]}"#),
    (Responses, r#"{"input":[{"role":"user","content":[PART]}]}"#),
    (Responses, r#"{"input":[PART]}"#),
    (Responses, r#"{"input":[{"type":"function_call_output","call_id":"c","output":[PART]}]}"#),
    (Responses, r#"{"input":[{"type":"computer_call_output","call_id":"c","output":PART}]}"#),
    (Responses, r#"{"prompt":{"id":"p","variables":{"x":PART}}}"#),
    (Messages, r#"{"messages":[{"role":"user","content":[PART]}]}"#),
    (Messages, r#"{"system":[PART],"messages":[]}"#),
    (
        Messages,
        r#"{"messages":[{"role":"user","content":[{"type":"tool_result","tool_use_id":"t","content":[PART]}]}]}"#,
    ),
    (
        Messages,
        r#"{"messages":[{"role":"user","content":[{"type":"document","source":{"type":"content","content":[PART]}}]}]}"#,
    ),
];

/// Parts with data in them, in the spellings that servers take.
const WITH_DATA: &[&str] = &[
    r#"{"type":"image_url","image_url":{"url":"data:image/jpeg;base64,DATA"}}"#,
    r#"{"type":"image_url","image_url":"data:image/jpeg;base64,DATA"}"#,
    r#"{"image_url":"data:image/jpeg;base64,DATA"}"#,
    r#"{"type":"image_url","image_url":{"url":"DATA"}}"#,
    r#"{"type":"image","image":"data:image/webp;base64,DATA"}"#,
    r#"{"type":"image","image":{"data":"DATA"}}"#,
    r#"{"type":"input_image","image_url":"data:image/jpeg;base64,DATA","detail":"high"}"#,
    r#"{"type":"input_image","input_image":{"data":"DATA","format":"jpeg"}}"#,
    r#"{"type":"image","url":"data:image/jpeg;base64,DATA"}"#,
    r#"{"type":"image","source":{"type":"base64","media_type":"image/jpeg","data":"DATA"}}"#,
    r#"{"type":"image","source":{"data":"DATA","media_type":"image/jpeg","type":"base64"}}"#,
    r#"{"source":{"type":"url","url":"data:image/jpeg;base64,/9j/DATA"},"type":"image"}"#,
    r#"{"type":"image_generation_call","result":"/9j/DATA"}"#,
    r#"{"type":"input_audio","input_audio":{"data":"DATA","format":"mp3"}}"#,
    r#"{"type":"input_audio","input_audio":"DATA"}"#,
    r#"{"type":"audio_url","audio_url":{"url":"data:audio/mp3;base64,DATA"}}"#,
    r#"{"type":"audio","audio":{"data":"DATA"}}"#,
    r#"{"type":"video_url","video_url":{"url":"data:video/mp4;base64,DATA"}}"#,
    r#"{"type":"video","video":"data:video/mp4;base64,DATA"}"#,
    r#"{"type":"input_video","input_video":{"data":"DATA","format":"mp4"}}"#,
    r#"{"type":"file","file":{"filename":"a.pdf","file_data":"data:application/pdf;base64,DATA"}}"#,
    r#"{"type":"file","file":{"filename":"a.pdf","file_data":"DATA"}}"#,
    r#"{"type":"input_file","filename":"a.pdf","file_data":"data:application/pdf;base64,DATA"}"#,
    r#"{"type":"input_file","filename":"a.pdf","file_data":"DATA"}"#,
    r#"{"type":"document_url","document_url":"data:application/pdf;base64,DATA"}"#,
    r#"{"type":"image_url","image_url":{"url":"data:application/pdf;base64,DATA"}}"#,
    r#"{"type":"document","source":{"type":"base64","media_type":"application/pdf","data":"DATA"}}"#,
    r#"{"type":"document","source":{"data":"DATA","media_type":"application/pdf"}}"#,
    r#"{"type":"image_embeds","image_embeds":"DATA"}"#,
    r#"{"type":"image_embeds","image_embeds":{"image_embeds":"DATA","image_grid_thw":"AAAA"}}"#,
    r#"{"type":"audio_embeds","audio_embeds":"DATA"}"#,
    r#"{"type":"prompt_embeds","data":"DATA"}"#,
];

/// Parts that are texts, which the counter has.
const WITH_TEXT: &[&str] = &[
    r#"{"type":"text","text":"TEXT"}"#,
    r#"{"type":"document","source":{"type":"text","media_type":"text/plain","data":"TEXT"}}"#,
    r#"{"type":"document","source":{"type":"content","content":"TEXT"}}"#,
    r#"{"type":"document","source":{"type":"content","content":[{"type":"text","text":"TEXT"}]}}"#,
    r#"{"type":"document","title":"t","context":"TEXT","source":{"type":"content","content":[]}}"#,
    r#"{"type":"search_result","source":"https://x","title":"t","content":[{"type":"text","text":"TEXT"}]}"#,
    r#"{"type":"search_result","source":"TEXT","title":"t","content":[]}"#,
    r#"{"type":"search_result","source":"https://x","title":"TEXT","content":[]}"#,
    r#"{"type":"file","file":{"filename":"TEXT","file_data":"AAAA"}}"#,
    r#"{"type":"file","file":{"filename":"a.txt","file_data":"TEXT"}}"#,
    r#"{"type":"file","file":{"filename":"a.txt","file_data":"data:text/plain;base64,ENCODED"}}"#,
    r#"{"type":"file","file":{"filename":"a.txt","file_data":"ENCODED"}}"#,
    r#"{"type":"input_file","filename":"a.txt","file_data":"data:text/csv;base64,ENCODED"}"#,
    r#"{"type":"document","source":{"type":"base64","media_type":"text/plain","data":"ENCODED"}}"#,
    r#"{"type":"tool_result","content":"TEXT"}"#,
    r#"{"type":"note","result":"TEXT"}"#,
];

/// What is charged for a request beside its texts: an upper bound by the rules that are documented, so that nothing is taken for free.
fn price(request: &Request) -> u64 {
    let Media { audio_ms, video_ms, document_bytes, vectors, text_bytes, named } = request.media;
    let images = request.images.iter().map(|image| match image.size {
        None if image.low => 85,
        None => 700 + image.bytes.unwrap_or_default() / 100,
        Some((width, height)) => u64::from(width) * u64::from(height) / 750,
    });
    let named = (named.audio + named.video + named.files) * 10_000;
    images.sum::<u64>() + audio_ms / 31 + video_ms / 4 + document_bytes / 8 + vectors + text_bytes / 4 + named
}

fn of(dialect: Dialect, body: &str) -> (Request, Vec<String>) {
    let read = |body: &str| {
        let (mut texts, mut reader) = (Texts::default(), RequestReader::new(dialect));
        for piece in body.as_bytes().chunks(1009) {
            reader.push(piece, &mut texts)?;
        }
        Ok::<_, Unreadable>((reader.finish(&mut texts)?, texts.0))
    };
    read(body).unwrap_or_else(|error| panic!("{dialect:?} {body}: {error}"))
}

#[test]
fn every_part_costs_by_its_size_and_is_no_text() {
    let body = |place: &str, part: &str, n: usize| place.replace("PART", &part.replace("DATA", &"AAAA".repeat(n / 4)));
    for (dialect, place) in PLACES {
        for part in WITH_DATA {
            let costs = [1_000, 100_000, 200_000].map(|n| {
                let (request, texts) = of(*dialect, &body(place, part, n));
                assert!(texts.iter().all(|text| text.len() < 100), "{dialect:?} {place} {part}: {texts:?}");
                assert!(request.media.text_bytes < 100, "{place} {part}: {:?}", request.media);
                assert!(request.media != NONE || !request.images.is_empty(), "{place} {part}");
                assert_eq!(request.media.named, Named::default(), "{place} {part}");
                price(&request)
            });
            assert!(
                costs[0] > 0 && costs[0] < costs[1] && costs[1] < costs[2],
                "{dialect:?} {place} {part}: {costs:?}"
            );
        }
    }
}

#[test]
fn a_part_that_is_a_text_is_counted_as_one() {
    let text = "a long text ".repeat(50);
    let encoded = "YSBsb25nIHRleHQg".repeat(50);
    for (dialect, place) in PLACES {
        for part in WITH_TEXT {
            let (_, texts) =
                of(*dialect, &place.replace("PART", part).replace("TEXT", &text).replace("ENCODED", &encoded));
            assert!(texts.contains(&text), "{dialect:?} {place} {part}: {texts:?}");
        }
    }
}

#[test]
fn what_is_only_named_is_known_as_that() {
    let named = |audio, video, files| Named { audio, video, files };
    let rows: &[(&str, Named, usize)] = &[
        (r#"{"type":"file","file":{"file_id":"file-1"}}"#, named(0, 0, 1), 0),
        (r#"{"type":"file","file":{"file_data":"https://x/a.pdf","filename":"a.pdf"}}"#, named(0, 0, 1), 0),
        (r#"{"type":"file","file":{"file_data":null,"file_id":"file-1"}}"#, named(0, 0, 1), 0),
        (r#"{"type":"input_file","file_id":"file-1"}"#, named(0, 0, 1), 0),
        (r#"{"file_id":"file-1","type":"input_file"}"#, named(0, 0, 1), 0),
        (r#"{"type":"input_file","file_url":"https://x/a.pdf"}"#, named(0, 0, 1), 0),
        (r#"{"type":"document","source":{"type":"url","url":"https://x/a.pdf"}}"#, named(0, 0, 1), 0),
        (r#"{"source":{"type":"url","url":"https://x/a.pdf"},"type":"document"}"#, named(0, 0, 1), 0),
        (r#"{"type":"document","source":{"type":"file","file_id":"file_1"}}"#, named(0, 0, 1), 0),
        (
            r#"{"type":"document","cache_control":{"type":"ephemeral"},"source":{"type":"file","file_id":"f"}}"#,
            named(0, 0, 1),
            0,
        ),
        (r#"{"type":"image","type":"document","source":{"type":"file","file_id":"file_1"}}"#, named(0, 0, 1), 0),
        (r#"{"source":{"type":"file","file_id":"file_1"}}"#, named(0, 0, 1), 0),
        (r#"{"type":"document_url","document_url":"https://x/a.pdf"}"#, named(0, 0, 1), 0),
        (r#"{"type":"image","source":{"type":"url","url":"https://x/a.png"}}"#, named(0, 0, 0), 1),
        (r#"{"source":{"file_id":"file_1"},"type":"image"}"#, named(0, 0, 0), 1),
        (r#"{"type":"input_image","file_id":"file-1"}"#, named(0, 0, 0), 1),
        (r#"{"type":"computer_screenshot","file_id":"file-1"}"#, named(0, 0, 0), 1),
        (r#"{"type":"image_url","image_url":{"url":"https://x/a.png"}}"#, named(0, 0, 0), 1),
        (r#"{"image_url":"https://x/a.png"}"#, named(0, 0, 0), 1),
        (r#"{"type":"image_url","image_url":null,"uuid":"known"}"#, named(0, 0, 0), 1),
        (r#"{"type":"video_url","uuid":"known"}"#, named(0, 1, 0), 0),
        (r#"{"type":"video_url","video_url":{"url":"https://x/a.mp4"}}"#, named(0, 1, 0), 0),
        (r#"{"type":"video","video":"https://x/a.mp4"}"#, named(0, 1, 0), 0),
        (r#"{"type":"video","video":["https://x/1","https://x/2"]}"#, named(0, 2, 0), 0),
        (r#"{"type":"audio_url","audio_url":{"url":"https://x/a.mp3"}}"#, named(1, 0, 0), 0),
        (r#"{"type":"input_audio","input_audio":"https://x/a.mp3"}"#, named(1, 0, 0), 0),
        (r#"{"audio":{"id":"audio_1"}}"#, named(1, 0, 0), 0),
        // What vLLM has cached goes by its key, whatever the type is.
        (r#"{"type":"image_url","image_url":{},"uuid":"known"}"#, named(0, 0, 0), 1),
        (r#"{"type":"image_url","image_url":{"url":null,"detail":"low"},"uuid":"known"}"#, named(0, 0, 0), 1),
        (r#"{"type":"image_url","image_url":{"url":""},"uuid":""}"#, named(0, 0, 0), 1),
        (r#"{"uuid":"known","image_url":null}"#, named(0, 0, 0), 1),
        (r#"{"image_pil":null,"uuid":"known"}"#, named(0, 0, 0), 1),
        (r#"{"type":"video_url","video_url":{"url":null},"uuid":"known"}"#, named(0, 1, 0), 0),
        (r#"{"video_url":{},"uuid":"known"}"#, named(0, 1, 0), 0),
        (r#"{"video_url":null,"uuid":7}"#, named(0, 1, 0), 0),
        (r#"{"type":"text","text":"x","video_url":null,"uuid":"known"}"#, named(0, 1, 0), 0),
        (r#"{"video_url":null,"image_url":"https://x","uuid":"known"}"#, named(0, 1, 0), 1),
        (r#"{"audio_url":{"url":null,"uuid":"known"}}"#, named(1, 0, 0), 0),
        (r#"{"type":"image_embeds","image_embeds":{},"uuid":"known"}"#, named(0, 0, 1), 0),
        (r#"{"type":"image_url","image_url":{"url":"https://x"},"uuid":"new"}"#, named(0, 0, 0), 1),
        (r#"{"type":"text","text":"x","uuid":"known"}"#, named(0, 0, 0), 0),
        // Clients that write out all that there may be.
        (r#"{"type":"text","text":"x","image_url":null,"video_url":{"url":null},"uuid":null}"#, named(0, 0, 0), 0),
        (r#"{"text":"x","image":null,"file":{},"file_data":null}"#, named(0, 0, 0), 0),
        // Files in other spellings.
        (r#"{"type":"container_upload","file_id":"file_1"}"#, named(0, 0, 1), 0),
        (r#"{"type":"pdf","file_id":"file_1"}"#, named(0, 0, 1), 0),
        (r#"{"type":"input_pdf","pdf":{"file_id":"file_1"}}"#, named(0, 0, 1), 0),
        (r#"{"type":"input_text","text":"x","file_id":"file_1"}"#, named(0, 0, 1), 0),
        (r#"{"type":"file","file":{"file_id":7}}"#, named(0, 0, 1), 0),
        (r#"{"type":"file","file":{"id":"file_1"}}"#, named(0, 0, 1), 0),
        (r#"{"type":"file","file":{"path":"/data/a.pdf"}}"#, named(0, 0, 1), 0),
        (r#"{"file":{"path":"/data/a.pdf"}}"#, named(0, 0, 1), 0),
        (r#"{"type":"document","source":{"type":"file","id":"file_1"}}"#, named(0, 0, 1), 0),
        (r#"{"file_data":{"file_uri":"gs://x/a.pdf"}}"#, named(0, 0, 1), 0),
        (r#"{"file_data":{"file_id":"file_1"}}"#, named(0, 0, 1), 0),
        (r#"{"type":"media","media":{"url":"https://x/a.mp4"}}"#, named(0, 0, 1), 0),
        (r#"{"type":"video","video":{"frames":["https://x/1","https://x/2"]}}"#, named(0, 2, 0), 0),
        (r#"{"type":"video","video":[["https://x/1"],["https://x/2"]]}"#, named(0, 2, 0), 0),
        (r#"{"images":[{"url":"https://x/1"},{"url":"https://x/2"}]}"#, named(0, 0, 0), 2),
        // What only tells of a file has none of it.
        (r#"{"type":"code_execution_output","file_id":"file_1"}"#, named(0, 0, 0), 0),
        (
            r#"{"type":"output_text","annotations":[{"type":"file_citation","file_id":"file-1","index":1}]}"#,
            named(0, 0, 0),
            0,
        ),
        (r#"{"type":"file_search_call","results":[{"file_id":"file-1","score":1}]}"#, named(0, 0, 0), 0),
        // What says that it is one is one, in whatever spelling.
        (r#"{"type":"image_url","image_url":null}"#, named(0, 0, 0), 1),
        (r#"{"type":"document","document":{"url":"https://x/a.pdf"}}"#, named(0, 0, 1), 0),
        (r#"{"document":{"url":"https://x/a.pdf"},"type":"document"}"#, named(0, 0, 1), 0),
        (r#"{"type":"input_document","input_document":"https://x/a.pdf"}"#, named(0, 0, 1), 0),
        (r#"{"type":"video_url","videoUrl":{"url":"https://x/a.mp4"}}"#, named(0, 1, 0), 0),
        (r#"{"type":"document","source":{"type":"gcs","uri":"gs://x/a.pdf"}}"#, named(0, 0, 1), 0),
        (r#"{"type":"media","file_uri":"gs://x/a.mp4"}"#, named(0, 0, 1), 0),
        (r#"{"file_uri":"gs://x/a.mp4","type":"media"}"#, named(0, 0, 1), 0),
        (r#"{"type":"media","file_data":{"file_uri":"gs://x/a.mp4"}}"#, named(0, 0, 1), 0),
        (r#"{"type":"media","parts":["gs://x/1","gs://x/2"]}"#, named(0, 0, 2), 0),
        (r#"{"images":["https://x/1","https://x/2"]}"#, named(0, 0, 0), 2),
        (r#"{"type":"media","note":"See https://x/a.mp4"}"#, named(0, 0, 0), 0),
        (r#"{"type":"text","text":"https://x","link":"https://x"}"#, named(0, 0, 0), 0),
        (r#"{"type":"tool_result","link":"https://x"}"#, named(0, 0, 0), 0),
        (r#"{"type":"note","result":"ok"}"#, named(0, 0, 0), 0),
        (r#"{"type":"note","result":"error: none"}"#, named(0, 0, 0), 0),
        (r#"{"type":"web_search_result","url":"https://x"}"#, named(0, 0, 0), 0),
        (r#"{"type":"document","source":{"type":"content","content":[]}}"#, named(0, 0, 0), 0),
        (r#"{"type":"document","source":{"type":"text","media_type":"text/plain","data":"a b"}}"#, named(0, 0, 0), 0),
    ];
    for (dialect, place) in PLACES {
        for (part, named, images) in rows {
            let (request, _) = of(*dialect, &place.replace("PART", part));
            assert_eq!((request.media.named, request.images.len()), (*named, *images), "{dialect:?} {place} {part}");
            assert_eq!((request.media.text_bytes, request.media.document_bytes), (0, 0), "{place} {part}");
        }
    }
}

#[test]
fn nothing_becomes_cheaper_by_growing() {
    // What is shorter than 64 bytes in the place of a URL is a name.
    let lengths = [99, 400, 1_000, 3_000, 20_000, 60_000];
    let names = [
        r#"{"type":"image_url","image_url":{"url":"https://x/GROWS"}}"#,
        r#"{"type":"file","file":{"file_id":"GROWS"}}"#,
        r#"{"type":"input_file","file_url":"https://x/GROWS"}"#,
        r#"{"type":"video_url","video_url":{"url":"file:///GROWS"}}"#,
        r#"{"type":"document","source":{"type":"url","url":"https://x/GROWS"}}"#,
        r#"{"type":"GROWS","text":"x"}"#,
        r#"{"type":"image_url","image_url":{"url":"https://x","detail":"GROWS"}}"#,
        r#"{"type":"document","source":{"type":"GROWS","media_type":"GROWS","data":"AAAA"}}"#,
        r#"{"type":"image_embeds","image_embeds":[GROWING1]}"#,
        r#"{"type":"file","file":{"file_data":[GROWING1]}}"#,
    ];
    let data = WITH_DATA.iter().map(|part| part.replace("DATA", "GROWS"));
    for part in data.chain(names.map(str::to_owned)) {
        for (dialect, place) in PLACES {
            let costs = lengths.map(|n| {
                let part = part.replace("GROWS", &"A".repeat(n)).replace("GROWING", &"1,".repeat(n));
                let (request, texts) = of(*dialect, &place.replace("PART", &part));
                price(&request) + texts.iter().map(|text| text.len() as u64).sum::<u64>()
            });
            assert!(costs.is_sorted(), "{dialect:?} {place} {part}: {costs:?}");
        }
    }
    // More of the same are never cheaper than fewer.
    for part in WITH_DATA {
        let part = part.replace("DATA", &"AAAA".repeat(500));
        for (dialect, place) in PLACES.iter().filter(|(_, place)| place.contains("[PART]")) {
            let costs =
                [1, 2, 7].map(|n| price(&of(*dialect, &place.replace("PART", &vec![part.as_str(); n].join(","))).0));
            assert!(costs[0] < costs[1] && costs[1] < costs[2], "{dialect:?} {place} {part}: {costs:?}");
        }
    }
}

#[test]
fn what_stands_beside_an_image_is_its_own() {
    let low = |part: &str| of(Chat, &format!(r#"{{"messages":[{{"content":[{part}]}}]}}"#)).0.images[0].low;
    assert!(
        low(r#"{"image_url":{"detail":"low","url":"https://x"}}"#)
            && low(r#"{"image_url":"https://x","detail":"low"}"#)
    );
    assert!(!low(r#"{"image_url":{"detail":"low","detail":"high","url":"https://x"}}"#));
    assert!(!low(r#"{"image_url":{"detail":"high","url":"https://x","detail":"low"}}"#));
    assert!(!low(r#"{"x":{"detail":"low"},"image_url":"https://x"}"#));
    // Nothing is left of an object that is closed, wherever it was.
    let (request, _) = of(
        Responses,
        r#"{"prompt":{"id":"p","variables":{"detail":"low","type":"image"}},"input":[{"image_url":"https://x","file_id":"f"}]}"#,
    );
    assert_eq!((request.images[0].low, request.media.named.files), (false, 1));
}

#[test]
fn images_and_vectors_beyond_are_counted() {
    let many = vec![r#"{"image_url":"https://x/y"}"#; IMAGES_MAX + 5].join(",");
    let (request, _) = of(Chat, &format!(r#"{{"messages":[{{"content":[{many}]}}]}}"#));
    assert_eq!((request.images.len(), request.images_beyond), (IMAGES_MAX, 5));
    let data = "A".repeat(40_000);
    let (request, _) = of(Completions, &format!(r#"{{"prompt_embeds":["{data}","{data}"]}}"#));
    assert_eq!(request.media.vectors, 30);
    let (request, _) = of(Completions, &format!(r#"{{"prompt_embeds":[[{}1]]}}"#, "0.125,".repeat(2_000)));
    assert!(request.media.text_bytes > 8_000);
}

#[test]
fn a_source_is_what_it_turns_out_to_be() {
    let data = "A".repeat(80_000);
    for (source, media) in [
        (r#"{"type":"base64","media_type":"application/pdf","data":"DATA"}"#, Media { document_bytes: 60_000, ..NONE }),
        (r#"{"data":"DATA","media_type":"application/pdf"}"#, Media { document_bytes: 60_000, ..NONE }),
        // A text without a blank cannot be told from data before its type has come.
        (r#"{"data":"DATA","media_type":"text/plain"}"#, Media { text_bytes: 80_000, ..NONE }),
        (r#"{"data":"DATA"}"#, Media { text_bytes: 80_000, ..NONE }),
        (r#"{"type":"content","content":[]}"#, NONE),
    ] {
        for body in [
            r#"{"messages":[{"content":[{"source":SOURCE}]}]}"#,
            r#"{"messages":[{"content":[{"content":[{"source":SOURCE}]}]}]}"#,
            r#"{"messages":[{"content":[{"source":{"content":[{"source":SOURCE}]}}]}]}"#,
        ] {
            let (request, texts) = of(Messages, &body.replace("SOURCE", source).replace("DATA", &data));
            assert_eq!((request.media, texts.len()), (media, 0), "{source} {body}");
        }
    }
}

/// What a request costs by these rules, a byte of text as a token.
fn cost(dialect: Dialect, part: &str) -> u64 {
    let (request, texts) = of(dialect, &format!(r#"{{"messages":[{{"content":[{part}]}}]}}"#));
    price(&request) + texts.iter().map(|text| text.len() as u64).sum::<u64>()
}

#[test]
fn what_decoders_skip_hides_nothing() {
    let zeros = "A".repeat(1_000_000);
    for data in
        ["YSBsb25nIHRleHQg".repeat(5_000), format!("AAAAIGZ0eXBpc29tAAACAA{zeros}"), format!("JVBERi0xLjQK////{zeros}")]
    {
        let (one, rest) = data.split_at(1);
        for part in [
            r#"{"type":"file","file":{"file_data":"DATA"}}"#,
            r#"{"image_url":{"url":"DATA"}}"#,
            r#"{"image_url":{"url":"data:image/png;base64,DATA"}}"#,
            r#"{"input_audio":{"data":"DATA"}}"#,
            r#"{"source":{"type":"base64","media_type":"image/png","data":"DATA"}}"#,
        ] {
            let of = |data: &str| cost(Messages, &part.replace("DATA", data));
            let plain = of(&data);
            for odd in [
                format!(r"{one}\n{rest}"),
                format!("={data}"),
                format!(r"{}{data}", r"\r\n".repeat(100)),
                format!("{}{data}", "=".repeat(5_000)),
            ] {
                assert!(of(&odd) >= plain, "{part} {}: {} {plain}", &odd[..30], of(&odd));
            }
        }
    }
}

#[test]
fn the_order_of_keys_makes_no_source_cheaper() {
    let (text, encoded) = ("a long text ".repeat(5_000), "YSBsb25nIHRleHQg".repeat(5_000));
    let of = |source: &str| {
        cost(Messages, &format!(r#"{{"source":{{{}}}}}"#, source.replace("DATA", &encoded).replace("TEXT", &text)))
    };
    for (before, behind) in [
        (
            r#""type":"base64","media_type":"application/json","data":"DATA""#,
            r#""data":"DATA","type":"base64","media_type":"application/json""#,
        ),
        (r#""media_type":"text/plain","type":"base64","data":"DATA""#, r#""data":"DATA","media_type":"text/plain""#),
        (r#""type":"text","data":"TEXT""#, r#""data":"TEXT","media_type":"text/plain","type":"text""#),
    ] {
        assert!(of(behind) >= of(before), "{behind}: {} {}", of(behind), of(before));
    }
    // A text that is to be taken as it is, and only looks like base64.
    let raw = of(r#""data":"DATA","type":"text""#);
    assert!(raw >= encoded.len() as u64, "{raw}");
}

#[test]
fn vectors_are_in_base64() {
    let text = "a long text ".repeat(500);
    for part in [
        r#"{"prompt_embeds":"TEXT"}"#,
        r#"{"type":"prompt_embeds","data":"TEXT"}"#,
        r#"{"image_embeds":{"image_embeds":"TEXT"}}"#,
        r#"{"image_embeds":["TEXT"]}"#,
    ] {
        assert!(cost(Chat, &part.replace("TEXT", &text)) > 5_900, "{part}");
        assert!(cost(Chat, &part.replace("TEXT", &"A".repeat(6_000))) < 20, "{part}");
    }
    // Only parts have any.
    let message = r#"{"messages":[{"role":"tool","content":"a","x":{"prompt_embeds":"DATA"}}]}"#;
    let data = "A".repeat(6_000);
    assert!(of(Chat, &message.replace("DATA", &data)).1.contains(&data));
    // Numbers are vectors as well, and nothing that is only named.
    let (request, _) = of(Chat, r#"{"messages":[{"content":[{"type":"image_embeds","image_embeds":[[0.5],[0.5]]}]}]}"#);
    assert_eq!(request.media.named, Named::default());
}

#[test]
fn nothing_is_cheaper_for_its_label() {
    let zeros = "A".repeat(1_000_000);
    let (mp4, zip) = (format!("AAAAIGZ0eXBpc29tAAACAA{zeros}"), format!("UEsDBBQABgAIAAAA{zeros}"));
    let pdf = format!("JVBERi0xLjQK////{zeros}");
    let kinds = |media: Media, images: usize| {
        (media.video_ms > 0, media.document_bytes > 700_000, media.text_bytes > 900_000, images)
    };
    let (film, document, text) = ((true, false, false, 0), (false, true, false, 0), (false, false, true, 0));
    for (dialect, part, data, expected) in [
        (Chat, r#"{"image_url":{"url":"data:Video/mp4;base64,DATA"}}"#, &zeros, film),
        (Chat, r#"{"image_url":{"url":" data:video/mp4;base64,DATA"}}"#, &zeros, film),
        (Chat, r#"{"image_url":{"url":"DATA"}}"#, &mp4, film),
        (Chat, r#"{"image_url":{"url":"data:image/png;base64,DATA"}}"#, &mp4, film),
        (Chat, r#"{"image_url":{"url":"DATA"}}"#, &zip, document),
        (Chat, r#"{"audio_url":{"url":"data:application/zip;base64,DATA"}}"#, &zeros, document),
        (Messages, r#"{"source":{"type":"base64","media_type":"image/png","data":"DATA"}}"#, &pdf, document),
        (Messages, r#"{"source":{"data":"DATA","media_type":"Image/png","type":"base64"}}"#, &pdf, document),
        (Messages, r#"{"source":{"data":"DATA","media_type":"image/png","type":"text"}}"#, &zeros, text),
        (
            Messages,
            r#"{"source":{"type":"base64","media_type":"image/png","data":"iVBORw0KGgo=","data":"DATA"}}"#,
            &pdf,
            text,
        ),
    ] {
        let part = part.replace("DATA", data);
        let (request, _) = of(dialect, &format!(r#"{{"messages":[{{"content":[{part}]}}]}}"#));
        assert_eq!(kinds(request.media, request.images.len()), expected, "{}", part.get(..99).unwrap());
    }
    let text = "a long text ".repeat(50);
    let encoded = "YSBsb25nIHRleHQg".repeat(50);
    for (dialect, part) in [
        (Messages, r#"{"source":{"type":"text","media_type":"image/png","data":"TEXT"}}"#),
        (Messages, r#"{"source":{"media_type":"application/pdf","type":"text","data":"TEXT"}}"#),
        (Messages, r#"{"source":{"type":"base64","media_type":"Text/plain","data":"ENCODED"}}"#),
        (Messages, r#"{"source":{"type":"base64","media_type":"application/json","data":"ENCODED"}}"#),
        (Messages, r#"{"source":{"type":"base64","media_type":"image/png","data":"ENCODED"}}"#),
        (Chat, r#"{"image_url":{"url":"data:text/plain;base64,ENCODED"}}"#),
        (Chat, r#"{"video_url":{"url":"data:image/png;base64,ENCODED"}}"#),
        (Chat, r#"{"audio_url":"ENCODED"}"#),
    ] {
        let part = part.replace("TEXT", &text).replace("ENCODED", &encoded);
        let (_, texts) = of(dialect, &format!(r#"{{"messages":[{{"content":[{part}]}}]}}"#));
        assert!(texts.contains(&text), "{dialect:?} {part}: {texts:?}");
    }
}

#[test]
fn every_prompt_of_vectors_is_answered() {
    for (body, choices) in [
        (r#"{"prompt_embeds":"AAAA"}"#, 1),
        (r#"{"prompt_embeds":["AAAA","AAAA"]}"#, 2),
        (r#"{"prompt":"","prompt_embeds":["AAAA","AAAA"],"n":3}"#, 6),
        (r#"{"prompt":null,"prompt_embeds":[[0.5],[0.5]]}"#, 2),
        (r#"{"prompt_embeds":["AAAA","AAAA"],"prompt":"a"}"#, 3),
        (r#"{"prompt_embeds":["AAAA","AAAA"],"prompt":["a","b"]}"#, 4),
        (r#"{"prompt":[1,2],"prompt_embeds":"AAAA"}"#, 2),
        (r#"{"prompt":["a","b"]}"#, 2),
        (r#"{"prompt":"a"}"#, 1),
        (r#"{}"#, 1),
    ] {
        let (request, _) = of(Completions, body);
        assert_eq!(request.choices, choices, "{body}");
    }
}
