//! What no input may do: panic, hang, take the stack.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use penstock_document::at::At;
use penstock_document::yaml;

use super::document::documents;
use super::finding::Findings;
use super::set::Set;

use super::{PAGE, rules};

/// Everything but reading files.
fn whole(text: &str) -> Findings {
    let mut found = Findings::default();
    let read = yaml::read(text, &|line| line);
    let documents = read.documents.into_iter().flat_map(|node| documents(At::root("x".into(), node))).collect();
    let set = Set::new(documents, &mut found);
    rules::all(&set, &mut found);
    found
}

fn good() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/check/good");
    let files = fs::read_dir(folder).unwrap();
    files.map(|file| fs::read_to_string(file.unwrap().path()).unwrap()).collect()
}

/// Lines are those of the file, also below a block in it, whatever stands before its first line.
#[test]
fn a_block_s_lines_are_the_file_s() {
    for (before, line) in [
        ("value: |\n", 2),
        ("value: | # why\n", 2),
        ("value: |-\n", 2),
        ("value: |\n\n\n", 4),
        ("\n# x\nvalue: |2\n", 4),
    ] {
        let text = format!("{before}  {{\n    \"a\": {{\n      \"b\": 1\n    }}\n  }}\n");
        let root = At::root("x".into(), yaml::read(&text, &|line| line).documents[0].clone());
        let inner = root.get("value").inner().unwrap();
        assert_eq!(inner.find("a.b").line, line + 2, "{text}");
        assert_eq!(root.get("value").line_at(root.get("value").words().find("\"b\"").unwrap()), line + 2, "{text}");
    }
}

/// What JSON may have and YAML may not is read all the same, if without lines.
#[test]
fn json_that_is_no_yaml_is_not_passed_over() {
    let file = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/check/good/envoy.yaml")).unwrap();
    for (find, replace) in
        [("\"every\": \"1m\"", "\t\"every\":\t\"1m\""), ("salty salty salt", "salty \\ud83d\\ude00 salt")]
    {
        assert_eq!(file.matches(find).count(), 1);
        let changed = file.replace(find, replace);
        assert!(whole(&changed).is_empty(), "{:?}", whole(&changed));
        let broken = changed.replace("exact: stable", "exact: stabel");
        let codes: Vec<_> = whole(&broken).all().map(|finding| finding.code).collect();
        assert_eq!(codes, ["PS403"], "{replace}");
    }
}

#[test]
fn paths_lead_to_the_longest_key_and_no_further_than_there_is() {
    let text = "tenants:\n  acme:\n    x: 1\n  acme.eu:\n    y: [1,\n      2]\n";
    let root = At::root("x".into(), yaml::read(text, &|line| line).documents[0].clone());
    for (path, line) in
        [("tenants.acme.x", 3), ("tenants.acme.eu.y[1]", 6), ("tenants.acme.eu.z", 4), ("no", 1), ("tenants[3]", 1)]
    {
        assert_eq!(root.find(path).line, line, "{path}");
    }
}

/// Pieces of the good files in places where they do not belong.
#[test]
fn no_mutation_of_a_good_file_panics() {
    let files = good();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % u64::try_from(below.max(1)).unwrap()).unwrap()
    };
    const PIECES: [&str; 22] = [
        "{", "}", "[", "]", ": ", "- ", "\n", "\"", "'", "|", ">", "&a ", "*a", "<<: *a\n", "null", "-1", "1e400", "é",
        "\t", "---\n", "#", "{a: [b]}",
    ];
    let end = Instant::now() + Duration::from_secs(3);
    let mut rounds = 0;
    while Instant::now() < end || rounds < 200 {
        let mut text: Vec<char> = files[next(files.len())].chars().collect();
        for _ in 0..=next(4) {
            let at = next(text.len());
            match next(4) {
                0 => {
                    text.splice(at..at, PIECES[next(PIECES.len())].chars());
                }
                1 => {
                    let to = (at + next(40)).min(text.len());
                    text.drain(at..to);
                }
                2 => {
                    let other: Vec<char> = files[next(files.len())].chars().collect();
                    let from = next(other.len());
                    let to = (from + next(200)).min(other.len());
                    text.splice(at..at, other[from..to].iter().copied());
                }
                _ => text[at] = char::from(u8::try_from(32 + next(95)).unwrap()),
            }
        }
        whole(&text.iter().collect::<String>());
        rounds += 1;
    }
}

/// Every value of a good file, in turn, is something else.
#[test]
fn no_value_of_another_type_panics() {
    for file in good() {
        let lines: Vec<&str> = file.lines().collect();
        for i in 0..lines.len() {
            let Some((key, _)) = lines[i].split_once(": ") else { continue };
            for value in ["[]", "{}", "[[1]]", "{a: 1}", "null", "-1", "true", "x"] {
                let mut changed = lines.clone();
                let line = format!("{key}: {value}");
                changed[i] = &line;
                whole(&changed.join("\n"));
            }
        }
    }
}

#[test]
fn what_is_large_or_deep_is_done_with_soon() {
    let nested = |open: &str, n: usize| open.repeat(n);
    let merges: String = (0..3000)
        .map(|i| {
            format!("a{i}: &a{i} {{k{i}: 1, <<: {}}}\n", if i == 0 { "{}".to_owned() } else { format!("*a{}", i - 1) })
        })
        .collect();
    for text in [
        nested("[", 1 << 20),
        nested("{a: ", 1 << 18),
        nested("- ", 1 << 18),
        nested("? ", 1 << 18),
        nested("a:\n ", 1 << 16),
        (0..200_000).map(|i| format!("k{i}: v\n")).collect(),
        (0..5_000).map(|i| format!("{}a:\n", " ".repeat(i))).collect(),
        nested("a: b: ", 1 << 18),
        "\"".to_owned() + &nested("\\u0041", 1 << 18),
        nested("!x ", 1 << 18),
        nested("&a ", 1 << 18),
        merges,
        format!("models: {}", nested("[{name: ", 1 << 14)),
    ] {
        let start = Instant::now();
        whole(&text);
        assert!(start.elapsed() < Duration::from_secs(20), "{:?} for {:?}", start.elapsed(), &text[..40]);
    }
}

#[test]
fn the_page_is_in_the_command() {
    assert!(super::section("PS101").is_some_and(|text| text.contains("**Mend.**")), "{}", PAGE.len());
}
