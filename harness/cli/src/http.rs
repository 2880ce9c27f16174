//! What commands share that ask something over HTTP.

use std::time::Duration;

use reqwest::{Client, Url};

/// A client that waits no longer than this for an answer.
///
/// # Errors
/// When the machine has nothing to make it of.
pub fn client(timeout: Duration) -> Result<Client, String> {
    Client::builder().timeout(timeout).build().map_err(|error| error.to_string())
}

/// What went wrong with a request, by what it comes from.
pub fn said(url: &Url, error: &reqwest::Error) -> String {
    let mut source: &dyn std::error::Error = error;
    while let Some(next) = source.source() {
        source = next;
    }
    format!("{url}: {source}")
}
