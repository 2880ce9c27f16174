//! What the help says is true, and `docs/command.md` says the same.

use std::fs;
use std::path::Path;

use clap::{Command, CommandFactory, Parser};

use crate::Cli;

const PAGE: &str = "docs/command.md";
/// Where a terminal ends.
const WIDTH: usize = 80;

/// All sub-commands, each with its help.
fn each() -> Vec<(String, String)> {
    let mut all = Cli::command().bin_name("penstock").term_width(WIDTH);
    all.build();
    let names: Vec<String> = all.get_subcommands().map(|of| of.get_name().to_owned()).collect();
    let help = |name: String| {
        let text = all.find_subcommand_mut(&name).map(|of: &mut Command| of.render_long_help().to_string());
        text.map(|text| (name, text))
    };
    names.into_iter().filter(|name| name != "help").filter_map(help).collect()
}

/// The lines under `Examples:`, those that end with a backslash joined.
fn examples(help: &str) -> Vec<String> {
    let (_, examples) = help.split_once("Examples:\n").unwrap_or_default();
    let block = examples.split("\n\n").next().unwrap_or_default().replace("\\\n", " ");
    block.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
}

#[test]
fn every_sub_command_has_examples_that_it_understands() {
    for (name, help) in each() {
        let examples = examples(&help);
        assert!(!examples.is_empty(), "`penstock {name} --help` has no examples");
        for example in examples {
            let (_, arguments) = example.split_once("penstock ").expect(&example);
            let words = std::iter::once("penstock").chain(arguments.split_whitespace());
            let read = Cli::try_parse_from(words);
            assert!(read.is_ok(), "{example}: {}", read.map(|_| ()).unwrap_err());
        }
    }
}

#[test]
fn help_fits_a_terminal() {
    for (name, help) in each() {
        // clap wraps all but how it is used.
        for line in help.lines().filter(|line| !line.starts_with("Usage:")) {
            assert!(line.chars().count() <= WIDTH, "{name}: {line}");
        }
    }
}

#[test]
fn shared_flags_mean_the_same_everywhere() {
    let all = Cli::command();
    for of in all.get_subcommands() {
        for (flag, takes) in [("json", false), ("config", true), ("seed", true)] {
            if let Some(known) = of.get_arguments().find(|argument| argument.get_long() == Some(flag)) {
                assert_eq!(known.get_action().takes_values(), takes, "{} --{flag}", of.get_name());
            }
        }
    }
}

#[test]
fn the_page_says_what_the_help_says() {
    let mut page = String::from(
        "# The command\n\n\
         `penstock` shows what the filters do, and helps to set them up, without a cluster: `cargo install --path harness/cli`. This page is\n\
         its help, but for `penstock run`, whose options depend on what is built in; `UPDATE_HELP=1 cargo test -p penstock-cli help` writes it anew.\n\n```text\n",
    );
    let mut all = Cli::command().bin_name("penstock").term_width(WIDTH);
    page.push_str(all.render_long_help().to_string().trim_end());
    page.push_str("\n```\n");
    for (name, help) in each().into_iter().filter(|(name, _)| name != "run") {
        page.push_str(&format!("\n## penstock {name}\n\n```text\n{}\n```\n", help.trim_end()));
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(PAGE);
    let page: String = page.lines().map(|line| format!("{}\n", line.trim_end())).collect();
    if std::env::var_os("UPDATE_HELP").is_some() {
        fs::write(&path, &page).unwrap();
    }
    let stands = fs::read_to_string(&path).unwrap_or_default();
    assert!(stands == page, "{PAGE} does not say what the help says; UPDATE_HELP=1 mends it");
}
