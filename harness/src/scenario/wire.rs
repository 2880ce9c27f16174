//! HTTP/1.1 by hand, for both ends of a proxy under test: byte for byte what a scenario says, including what a good client would never send.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use crate::message::Headers;

/// No message head is longer.
const HEAD_BYTES_MAX: usize = 1 << 20;

/// A connection and what was read ahead of it.
pub(super) struct Wire {
    stream: TcpStream,
    ahead: Vec<u8>,
}

/// How a body ends.
enum Framing {
    Length(usize),
    Chunked,
    Close,
}

impl Wire {
    pub fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Wire { stream, ahead: Vec::new() })
    }

    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// The start line and the headers; `None` when the connection is closed before a message.
    pub fn read_head(&mut self) -> io::Result<Option<(String, Headers)>> {
        let end = loop {
            if let Some(at) = self.ahead.windows(4).position(|window| window == b"\r\n\r\n") {
                break at;
            }
            if self.ahead.len() > HEAD_BYTES_MAX {
                return Err(io::Error::other("the head of the message does not end"));
            }
            if self.fill()? == 0 {
                return if self.ahead.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        };
        let head: Vec<u8> = self.ahead.drain(..end + 4).collect();
        let mut lines = head[..end].split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let start = String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
        let mut headers = Headers::default();
        for line in lines {
            let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
            let value = line.get(colon + 1..).unwrap_or_default().trim_ascii();
            headers.add(&String::from_utf8_lossy(&line[..colon]), value);
        }
        Ok(Some((start, headers)))
    }

    /// Reads a body and hands over each piece as it arrives; the callback says whether to read on. True when the body came to its end.
    pub fn read_body(
        &mut self,
        headers: &Headers,
        until_close: bool,
        mut piece: impl FnMut(&[u8]) -> bool,
    ) -> io::Result<bool> {
        let framing = match headers.text("content-length").and_then(|length| length.parse().ok()) {
            Some(length) => Framing::Length(length),
            None if headers.text("transfer-encoding").is_some() => Framing::Chunked,
            None if until_close => Framing::Close,
            None => Framing::Length(0),
        };
        match framing {
            Framing::Length(length) => self.read_exactly(length, &mut piece),
            Framing::Chunked => loop {
                let line = self.read_line()?;
                let size = usize::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16)
                    .map_err(io::Error::other)?;
                let whole = self.read_exactly(size, &mut piece)?;
                self.read_line()?;
                if size == 0 || !whole {
                    return Ok(whole);
                }
            },
            Framing::Close => loop {
                if self.ahead.is_empty() && self.fill()? == 0 {
                    return Ok(true);
                }
                if !piece(&std::mem::take(&mut self.ahead)) {
                    return Ok(false);
                }
            },
        }
    }

    fn read_exactly(&mut self, mut left: usize, piece: &mut impl FnMut(&[u8]) -> bool) -> io::Result<bool> {
        while left > 0 {
            if self.ahead.is_empty() && self.fill()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let part: Vec<u8> = self.ahead.drain(..left.min(self.ahead.len())).collect();
            left -= part.len();
            if !piece(&part) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn read_line(&mut self) -> io::Result<String> {
        loop {
            if let Some(at) = self.ahead.windows(2).position(|window| window == b"\r\n") {
                let line: Vec<u8> = self.ahead.drain(..at + 2).collect();
                return Ok(String::from_utf8_lossy(&line[..at]).into_owned());
            }
            if self.fill()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    fn fill(&mut self) -> io::Result<usize> {
        let mut buffer = [0; 16 * 1024];
        let read = self.stream.read(&mut buffer)?;
        self.ahead.extend_from_slice(&buffer[..read]);
        Ok(read)
    }
}

/// A start line and headers as bytes.
pub(super) fn head<'a>(start: &str, headers: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Vec<u8> {
    let mut bytes = format!("{start}\r\n").into_bytes();
    for (name, value) in headers {
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}

/// A piece of a chunked body.
pub(super) fn chunk(piece: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat()
}
