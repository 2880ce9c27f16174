//! `penstock top` where there is nothing to see. What there is of a real Envoy is looked at in `canary.rs`.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Output};

fn penstock(address: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_penstock"));
    command.args(["top", "--every", "1", "--envoy", address]).output().expect("it starts")
}

#[test]
fn a_page_without_a_filter_is_said_to_be_one() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]).unwrap();
            let page = "envoy_server_live{} 1\n";
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", page.len());
            stream.write_all(format!("{head}{page}").as_bytes()).unwrap();
        }
    });
    let output = penstock(&address);
    server.join().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && said.contains("no filter is in the chain"), "{said}");
    assert!(!said.contains('\u{1b}') && said.lines().all(|line| line.chars().count() <= 80), "{said}");
}

#[test]
fn nobody_at_all_is_an_error_where_it_is_shown_once() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = penstock(&format!("http://{gone}"));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && said.contains(&gone.to_string()), "{said}");
}
