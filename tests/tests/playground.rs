//! The page of the playground in a browser, as `cargo xtask playground` makes it.

use std::fs;
use std::process::Command;

use penstock_tests::{checkout, find_node_clients, need, skip};

/// With what it makes the tables of both encodings of.
const BYTES_MAX: u64 = 6 << 20;

#[test]
fn the_page_is_used_as_a_person_would() {
    let page = checkout().join("dist/playground.html");
    let Ok(size) = fs::metadata(&page).map(|data| data.len()) else {
        skip!("there is no dist/playground.html; run `cargo xtask playground`")
    };
    assert!(size <= BYTES_MAX, "the page has {size} bytes");
    let packages = need!(find_node_clients());
    let found = |program: &&str| Command::new(program).arg("--version").output().is_ok_and(|out| out.status.success());
    let Some(chromium) = ["chromium", "chromium-browser", "google-chrome"].into_iter().find(found) else {
        skip!("there is no Chromium; install Debian's package chromium")
    };
    let mut run = Command::new("node");
    run.arg(checkout().join("tests/tests/playground/page.cjs")).arg(&page).arg(chromium);
    run.args(std::env::var_os("PENSTOCK_SCREENSHOTS")).env("NODE_PATH", packages);
    let ran = run.output().expect("node");
    let said = [ran.stdout, ran.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(ran.status.success(), "{said}");
    println!("{said}");
}
