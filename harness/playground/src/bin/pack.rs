//! Packs the modules, the vocabularies and the page's parts into one file that works from a disk: `pack PAGE PARTS GENERATOR PLACE...`.
//! `cargo xtask playground` runs it: in PARTS are `module.wasm`, and a `PLACE.table` for each place in its memory where a table has to be.

use std::io::Write;
use std::path::Path;
use std::{env, fs};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use penstock_playground::vocabulary;
use penstock_token_tables::layout::Pattern;
use penstock_token_tables::{Vocabulary, generate};
use serde_json::json;
use tiktoken_rs::CoreBPE;

const PAGE: &str = include_str!("../../page/index.html");
const STYLE: &str = include_str!("../../page/style.css");
const SCRIPT: &str = include_str!("../../page/page.js");
const WORKER: &str = include_str!("../../page/worker.js");

fn main() -> Result<(), String> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [page, parts, generator, places @ ..] = &arguments[..] else {
        return Err("what to pack: pack PAGE PARTS GENERATOR PLACE...".to_owned());
    };
    let parts = Path::new(parts);
    let mut places: Vec<(u32, Vec<u8>)> = places
        .iter()
        .map(|place| Ok((number(place)?, read(&parts.join(format!("{place}.table")))?)))
        .collect::<Result<_, String>>()?;
    let mut tables = Vec::new();
    for (name, vocabulary) in vocabularies()? {
        // What the page will make of it, to the byte.
        let table = generate(&vocabulary)?;
        let place = places.iter().position(|(_, other)| *other == table);
        let (at, _) = places.remove(place.ok_or_else(|| format!("the module has no table of {name}"))?);
        tables.push(json!({"name": name, "at": at, "packed": gzip(&vocabulary::packed(&vocabulary)?)?}));
    }
    if let Some((at, _)) = places.first() {
        return Err(format!("the table at {at} is of no vocabulary that is known"));
    }
    let packed = json!({
        "module": gzip(&read(&parts.join("module.wasm"))?)?,
        "generator": gzip(&read(Path::new(generator))?)?,
        "tables": tables,
    });
    let whole = whole(&packed.to_string());
    fs::write(page, &whole).map_err(|error| format!("{page}: {error}"))?;
    println!("{page}: {} bytes", whole.len());
    Ok(())
}

/// Those that modules have built in.
fn vocabularies() -> Result<[(&'static str, Vocabulary); 2], String> {
    let of = |bpe: &CoreBPE, pattern| {
        let tokens = (0..).map_while(|rank| bpe.decode_bytes(&[rank]).ok()).collect();
        Vocabulary { tokens, pattern, whole_pieces: true }
    };
    let o200k = tiktoken_rs::o200k_base().map_err(|error| error.to_string())?;
    let cl100k = tiktoken_rs::cl100k_base().map_err(|error| error.to_string())?;
    Ok([("o200k_base", of(&o200k, Pattern::O200K)), ("cl100k_base", of(&cl100k, Pattern::CL100K))])
}

fn number(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("{text} is no place"))
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    fs::read(file).map_err(|error| format!("{}: {error}", file.display()))
}

fn gzip(bytes: &[u8]) -> Result<String, String> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::best());
    packer.write_all(bytes).map_err(|error| error.to_string())?;
    Ok(BASE64_STANDARD.encode(packer.finish().map_err(|error| error.to_string())?))
}

fn whole(packed: &str) -> String {
    let worker = serde_json::Value::from(WORKER).to_string();
    let script = SCRIPT.replace("/* WORKER */''", &worker);
    PAGE.replace("/* STYLE */", STYLE).replace("/* SCRIPT */", &script).replace("/* PACKED */", packed)
}
