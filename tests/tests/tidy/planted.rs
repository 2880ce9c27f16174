//! What the rules find, tried on crates that are made up: a rule that finds nothing is only worth something if it would.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::files::{Edges, Files, circles, describe};
use crate::impurities;
use crate::source::parse;

fn edges(files: &[(&str, &str)]) -> Edges {
    let texts: BTreeMap<PathBuf, &str> = files.iter().map(|(name, text)| (PathBuf::from(name), *text)).collect();
    let read = |path: &Path| texts.get(path).map(|text| (*text).to_owned());
    Files::load(Path::new("lib.rs"), &read).expect("a crate").edges()
}

/// `a.rs -> b.rs`, for all edges.
fn arrows(files: &[(&str, &str)]) -> BTreeSet<String> {
    edges(files).keys().map(|(from, to)| format!("{} -> {}", from.display(), to.display())).collect()
}

fn circle_of(files: &[(&str, &str)]) -> Vec<Vec<String>> {
    let name = |path: &PathBuf| path.display().to_string();
    circles(&edges(files)).iter().map(|circle| circle.iter().map(name).collect()).collect()
}

#[test]
fn a_circle_is_found_whichever_way_the_files_name_each_other() {
    let lib = ("lib.rs", "mod a; mod b;");
    let a = ("a.rs", "use crate::b::B; pub struct A(B);");
    for b in [
        "use crate::a::A; pub struct B(Option<Box<A>>);",
        "use super::a::A; pub struct B(Option<Box<A>>);",
        "use super::{a::{self, A as Other}}; pub struct B(Other);",
        "pub struct B; fn f(a: &crate::a::A) {}",
        "pub struct B; fn f() { g!(1, super::a::A::new()); }",
        "pub struct B; impl B { fn f() { { use crate::a; a::A::new() } } }",
        "pub struct B; #[serde(with = \"crate::a::A\")] struct C;",
        "pub struct B; mod inner { fn f(a: super::super::a::A) {} }",
        "pub struct B; macro_rules! m { () => { $crate::a::A } }",
        "pub(in crate::a) struct No; pub struct B; fn f() -> crate::a::A { x }",
    ] {
        assert_eq!(circle_of(&[lib, a, ("b.rs", b)]), [["a.rs", "b.rs"]], "{b}");
    }
}

#[test]
fn what_leans_one_way_is_no_circle() {
    let lib = ("lib.rs", "mod a; mod b;");
    let a = ("a.rs", "use crate::b::B; pub struct A(B);");
    for b in [
        "pub struct B;",
        "pub struct B; // use crate::a::A;",
        "/// See [`crate::a::A`].\npub struct B;",
        "pub struct B; const TEXT: &str = \"use crate::a::A;\";",
        "pub struct B; #[cfg(test)] mod tests { use crate::a::A; }",
        "pub struct B; #[cfg(test)] mod tests;",
        "pub struct B; #[cfg(test)] use crate::a::A; fn f() {}",
        "pub struct B; #[cfg(all(test, unix))] fn f() -> crate::a::A { crate::a::A }",
        "pub struct B; #[test] fn f() { crate::a::A; }",
        "pub(in crate::a) struct B;",
        "pub struct B; fn f() { x.a::<u8>(); std::a::f(); other::crate_::a(); }",
    ] {
        assert_eq!(arrows(&[lib, a, ("b.rs", b)]), BTreeSet::from(["a.rs -> b.rs".to_owned()]), "{b}");
    }
    // What is there without a test is not left out with it.
    let b = "pub struct B; #[cfg(not(test))] use crate::a::A; #[cfg(any(test, unix))] fn f() {}";
    assert_eq!(circle_of(&[lib, a, ("b.rs", b)]).len(), 1);
}

#[test]
fn names_are_followed_to_where_they_are_defined() {
    // The root declares and hands on: nothing leans on it, and it leans on nothing.
    let lib = ("lib.rs", "mod a; mod b; pub use a::A; pub use b::*; pub(crate) use a::inner::Deep as Low;");
    let a = ("a.rs", "pub mod inner; use crate::B; pub struct A(B);");
    let inner = ("a/inner.rs", "pub struct Deep;");
    let b = ("b.rs", "pub struct B; fn f(d: crate::Low) {}");
    let expected = ["a.rs -> b.rs", "b.rs -> a/inner.rs"].map(str::to_owned);
    assert_eq!(arrows(&[lib, a, inner, b]), BTreeSet::from(expected));
    // A root that uses what it hands on leans on it; so it does on a child that it names.
    let lib = ("lib.rs", "mod a; mod b; pub use a::A; pub struct Own(A); fn f() { b::run(); }");
    let (a, b) = (("a.rs", "pub struct A(super::Own);"), ("b.rs", "pub fn run() {}"));
    assert_eq!(circle_of(&[lib, a, b]), [["a.rs", "lib.rs"]]);
    assert!(arrows(&[lib, a, b]).contains("lib.rs -> b.rs"));
    // By way of a parent's own import, and from outside of the crate.
    let lib = ("lib.rs", "mod a; mod b; use b::B; use std::fmt; fn f(b: B) {}");
    let a = ("a.rs", "use super::{B, fmt}; fn f(b: B) -> fmt::Result {}");
    let b = ("b.rs", "pub struct B;");
    assert_eq!(arrows(&[lib, a, b]), BTreeSet::from(["a.rs -> b.rs", "lib.rs -> b.rs"].map(str::to_owned)));
}

#[test]
fn circles_of_many_files_are_told_whole() {
    let lib = ("lib.rs", "mod a; mod b; mod c { pub mod d; } mod e;");
    let a = ("a.rs", "use crate::b;\nfn f() { b::f() }");
    let b = ("b.rs", "pub fn f() { crate::c::d::f() }");
    let d = ("c/d.rs", "pub fn f() { crate::a::f(); crate::e::f() }");
    let e = ("e.rs", "pub fn f() {}");
    let edges = edges(&[lib, a, b, d, e]);
    let circles = circles(&edges);
    assert_eq!(circles.len(), 1);
    let text = describe(&circles[0], &edges);
    for words in ["3 files", "a.rs leans on b.rs: `crate::b` in line 1, `b::f` in line 2", "c/d.rs leans on a.rs"] {
        assert!(text.contains(words), "{text}");
    }
    assert!(!text.contains("e.rs"), "{text}");
}

#[test]
fn modules_are_found_wherever_they_are() {
    let lib = ("lib.rs", "mod a; #[path = \"elsewhere/x.rs\"] mod b; mod c;");
    let files = [lib, ("a/mod.rs", "mod deep; use deep::f;"), ("a/deep.rs", "pub fn f() { crate::b::f() }")];
    let files =
        [files.as_slice(), &[("elsewhere/x.rs", "pub fn f() { crate::c::g() }"), ("c.rs", "pub fn g() {}")]].concat();
    let expected = ["a/mod.rs -> a/deep.rs", "a/deep.rs -> elsewhere/x.rs", "elsewhere/x.rs -> c.rs"];
    assert_eq!(arrows(&files), BTreeSet::from(expected.map(str::to_owned)));
}

#[test]
fn clocks_and_hosts_are_found() {
    for impure in [
        "use std::time::Instant;",
        "use std::{fmt, time::{Duration, SystemTime}};",
        "fn f() { let now = std::time::Instant::now(); }",
        "use std::time;",
        "use proxy_wasm::types::Status;",
        "fn f() { proxy_wasm::hostcalls::log(); }",
    ] {
        assert!(!impurities(&parse(impure).expect("Rust")).is_empty(), "{impure}");
    }
    for pure in
        ["use std::time::Duration;", "struct Instant; // std::time::Instant", "#[cfg(test)] use std::time::Instant;"]
    {
        assert_eq!(impurities(&parse(pure).expect("Rust")), Vec::<String>::new(), "{pure}");
    }
}
