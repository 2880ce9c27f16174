//! `penstock count`: what a text or a request costs, by the code of the filters.

use std::fs;
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use penstock_document::yaml;
use penstock_playground::count::{self, Counted, Text};
use penstock_tokens::Vocabulary;
use serde_json::{Value, json};

/// The examples of its help.
pub const EXAMPLES: &str = "\
Examples:
  penstock count prompt.txt
  echo -n 'What is a sluice?' | penstock count --explain
  penstock count --request request.json --explain
  penstock count --request request.json --config penstock.yaml --model chat
  penstock count --tokenizer vocabulary.bin prompt.txt";

/// Options of `penstock count`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// What to count; standard input without it.
    file: Option<PathBuf>,
    /// It is a request as clients send it, in JSON, and not a text.
    #[arg(long)]
    request: bool,
    /// Where the request would be sent.
    #[arg(long, default_value = "/v1/chat/completions", requires = "request")]
    path: String,
    /// Shows the pieces of each text, within which tokens are merged, and what is around the texts.
    #[arg(long)]
    explain: bool,
    /// An encoding that is built in, or the file of a table that `penstock vocab` made (for texts).
    #[arg(long, default_value = "o200k_base", conflicts_with = "config")]
    tokenizer: String,
    /// A configuration, as the filters get it or as the chart's values have it: models are counted as it says.
    #[arg(long, requires = "request")]
    config: Option<PathBuf>,
    /// Counts for this model, whatever the request says.
    #[arg(long, requires = "config")]
    model: Option<String>,
    /// Writes JSON.
    #[arg(long)]
    json: bool,
}

/// Counts, and prints what it costs.
///
/// # Errors
/// What cannot be read, or is no request.
pub fn run(arguments: &Arguments) -> Result<(), String> {
    let bytes = input(arguments.file.as_deref())?;
    let output = if arguments.request { of_request(arguments, &bytes)? } else { of_text(arguments, &bytes)? };
    match io::stdout().lock().write_all(output.as_bytes()) {
        // Who reads only the beginning has what it wants.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(format!("cannot write: {error}")),
        _ => Ok(()),
    }
}

fn input(file: Option<&Path>) -> Result<Vec<u8>, String> {
    match file {
        Some(file) if file != Path::new("-") => fs::read(file).map_err(|error| format!("{}: {error}", file.display())),
        _ => {
            let mut bytes = Vec::new();
            io::stdin().lock().read_to_end(&mut bytes).map_err(|error| format!("standard input: {error}"))?;
            Ok(bytes)
        }
    }
}

fn of_text(arguments: &Arguments, bytes: &[u8]) -> Result<String, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        format!("the text is not UTF-8 from byte {} on; convert it with iconv", error.valid_up_to())
    })?;
    let counted = count::text(vocabulary(&arguments.tokenizer)?, text);
    Ok(if arguments.json {
        let mut value = json!({"tokens": counted.tokens, "bytes": text.len()});
        if arguments.explain {
            value["pieces"] = json!(counted.pieces);
        }
        format!("{value:#}\n")
    } else if arguments.explain {
        format!("{}\n{} tokens in {} bytes\n", shown(&counted), counted.tokens, text.len())
    } else {
        format!("{}\n", counted.tokens)
    })
}

/// One that is built in, or else the table in a file.
fn vocabulary(name: &str) -> Result<&'static Vocabulary, String> {
    let unknown = match count::encoding(name) {
        Ok(encoding) => return Ok(encoding.vocabulary()),
        Err(unknown) => unknown,
    };
    let table = fs::read(name).map_err(|error| format!("{unknown}; and as a file: {name}: {error}"))?;
    let table = Vocabulary::from_bytes(table.leak()).map_err(|error| format!("{name}: {error}"))?;
    Ok(Box::leak(Box::new(table)))
}

fn of_request(arguments: &Arguments, bytes: &[u8]) -> Result<String, String> {
    let config = match &arguments.config {
        Some(file) => config(file)?,
        None => {
            count::encoding(&arguments.tokenizer)
                .map_err(|error| format!("{error}; a table of one's own counts texts alone"))?;
            json!({"models": [{"name": "*", "tokenizer": arguments.tokenizer}]})
        }
    };
    let body = match &arguments.model {
        Some(model) => with_model(bytes, model)?,
        None => bytes.to_vec(),
    };
    let counted = count::of_request(&config, &arguments.path, &body)?;
    Ok(if arguments.json { json(&counted, arguments.explain) } else { table(&counted, arguments.explain) })
}

fn config(file: &Path) -> Result<Value, String> {
    let said = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    let text = fs::read_to_string(file).map_err(|error| said(&error))?;
    let read = yaml::read(&text, &|line| line);
    if let Some((line, _)) = read.troubles.first() {
        return Err(format!("{}:{line}: not readable; `penstock check {0}` says more", file.display()));
    }
    let value = read.documents.first().map_or(Value::Null, |document| document.json());
    let inner = value.pointer("/spec/pluginConfig").or(value.get("config")).filter(|inner| inner.is_object());
    Ok(inner.unwrap_or(&value).clone())
}

fn with_model(bytes: &[u8], model: &str) -> Result<Vec<u8>, String> {
    let mut value: Value =
        serde_json::from_slice(bytes).map_err(|error| format!("the request is not JSON: {error}"))?;
    let Some(request) = value.as_object_mut() else { return Err("the request is no JSON object".to_owned()) };
    request.insert("model".to_owned(), model.into());
    Ok(value.to_string().into_bytes())
}

fn json(counted: &Counted, explain: bool) -> String {
    let mut value = json!(counted);
    if !explain {
        let messages = value["messages"].as_array_mut().into_iter().flatten();
        for part in messages.filter_map(Value::as_object_mut) {
            part.remove("texts");
        }
        value["texts"] = counted.texts.iter().map(|text| text.tokens).collect();
    }
    format!("{value:#}\n")
}

fn table(counted: &Counted, explain: bool) -> String {
    let mut out = String::new();
    let mut row = |tokens: i64, what: &str| out.push_str(&format!("{tokens:>9}  {what}\n"));
    let signed = |tokens: u64| i64::try_from(tokens).unwrap_or(i64::MAX);
    for (i, message) in counted.messages.iter().enumerate() {
        row(signed(message.tokens), &format!("messages[{i}] {}", message.role));
        if explain {
            for text in &message.texts {
                row(signed(text.tokens), &format!("  {}", shown(text)));
            }
            row(signed(message.framing), "  around it");
        }
    }
    for text in &counted.texts {
        let what = if explain { shown(text) } else { "a text that is in no message".to_owned() };
        row(signed(text.tokens), &what);
    }
    if counted.reply > 0 {
        row(signed(counted.reply), "before the reply");
    }
    if counted.rest != 0 {
        row(counted.rest, if counted.rest > 0 { "tools, images and others" } else { "an estimate below its texts" });
    }
    let estimated = if counted.estimated { ", an estimate" } else { "" };
    row(signed(counted.tokens), &format!("in all, for {}{estimated}", counted.model));
    out
}

/// A text cut into its pieces: by colours on a terminal, else by bars. A piece of several tokens has their number behind it.
fn shown(text: &Text) -> String {
    let colours = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let pieces: Vec<String> = text.pieces.iter().enumerate().map(|(i, piece)| coloured(i, piece, colours)).collect();
    pieces.join(if colours { "" } else { "|" })
}

fn coloured(i: usize, (piece, tokens): &(String, u64), colours: bool) -> String {
    // What would move the cursor, or begin a sequence of the terminal's, is written out.
    let plain: String =
        piece.chars().flat_map(|c| if c.is_control() { c.escape_debug().collect() } else { vec![c] }).collect();
    let number = if *tokens > 1 { format!("[{tokens}]") } else { String::new() };
    if colours {
        format!("\u{1b}[{}m{plain}{number}\u{1b}[0m", if i.is_multiple_of(2) { 36 } else { 33 })
    } else {
        plain + &number
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn of(options: &[&str], bytes: &str) -> Result<String, String> {
        let Only { arguments } = Only::try_parse_from([&["count"], options].concat()).map_err(|e| e.to_string())?;
        if arguments.request { of_request(&arguments, bytes.as_bytes()) } else { of_text(&arguments, bytes.as_bytes()) }
    }

    #[test]
    fn texts_cost_their_pieces() {
        assert_eq!(of(&[], "お誕生日おめでとう").unwrap(), "8\n");
        assert_eq!(of(&["--explain"], "2 + 2").unwrap(), "2| +| |2\n4 tokens in 5 bytes\n");
        assert!(!of(&["--explain"], "\u{1b}[2J").unwrap().contains('\u{1b}'));
        let value: Value = serde_json::from_str(&of(&["--json", "--explain"], "a b").unwrap()).unwrap();
        assert_eq!(value, json!({"tokens": 2, "bytes": 3, "pieces": [["a", 1], [" b", 1]]}));
    }

    #[test]
    fn requests_cost_their_texts_and_what_is_around_them() {
        let body =
            r#"{"messages":[{"role":"user","content":"hello world"},{"role":"assistant","name":"ada","content":""}]}"#;
        let said = of(&["--request", "--explain"], body).unwrap();
        let total: i64 = said.lines().last().unwrap().split_whitespace().next().unwrap().parse().unwrap();
        let sum: i64 = said
            .lines()
            .filter(|line| line.contains("messages[") || line.contains("before the reply"))
            .map(|line| line.split_whitespace().next().unwrap().parse::<i64>().unwrap())
            .sum();
        assert_eq!(total, sum, "{said}");
        assert!(said.contains("hello| world") && said.contains("messages[1] assistant"), "{said}");
        let tools = body.replacen('{', r#"{"tools":[{"type":"function","function":{"name":"f"}}],"#, 1);
        assert!(of(&["--request"], &tools).unwrap().contains("tools, images"));
        let value: Value = serde_json::from_str(&of(&["--request", "--json"], body).unwrap()).unwrap();
        assert_eq!(value["tokens"], total);
    }

    #[test]
    fn what_cannot_be_counted_is_said_to_be_wrong() {
        for (options, body, says) in [
            (&["--request"][..], "{", "JSON"),
            (&["--request"], "", "empty"),
            (&["--request", "--path", "/v2/else"], "{}", "path"),
            (&["--tokenizer", "p50k"], "x", "o200k_base"),
            (&["--request", "--tokenizer", "p50k"], "{}", "texts alone"),
            (&["--model", "chat"], "x", "--config"),
        ] {
            let error = of(options, body).unwrap_err();
            assert!(error.contains(says), "{options:?}: {error}");
        }
    }
}
