//! A question to the gateway, and what a version's users would have said of its answer.

use std::time::{Duration, Instant};

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Url};
use serde_json::{Value, json};

use crate::http::{client, said};

use super::file::Plan;
use super::judge::Answer;

/// Who waits longer has long gone.
const TIMEOUT: Duration = Duration::from_secs(120);
/// What a probe's answer may be; the rest is not read.
const BODY_BYTES_MAX: usize = 4 << 20;

/// Asks in one tenant's name.
#[derive(Debug)]
pub struct Asker<'a> {
    plan: &'a Plan,
    client: Client,
    headers: HeaderMap,
}

impl<'a> Asker<'a> {
    /// Reads the key from the environment: a file is no place for it.
    ///
    /// # Errors
    /// When it is not there, or a header cannot have it.
    pub fn new(plan: &'a Plan) -> Result<Self, String> {
        let mut headers = HeaderMap::new();
        let mut put = |name: &str, value: &str| {
            let name = HeaderName::try_from(name).map_err(|_| format!("{name:?} is no name of a header"))?;
            let value = HeaderValue::try_from(value).map_err(|_| format!("{name}: the value is none of a header"))?;
            headers.insert(name, value);
            Ok::<(), String>(())
        };
        if let Some(key) = &plan.key {
            let secret = std::env::var(&key.env).ok().filter(|secret| !secret.is_empty());
            let secret = secret.ok_or_else(|| format!("key.env: {} is not set; it has the tenant's key", key.env))?;
            put(&key.header, &format!("{}{secret}", key.prefix))?;
        }
        if let Some(host) = &plan.host {
            put("host", host)?;
        }
        if let Some(chooses) = &plan.chooses {
            put(chooses, "")?;
        }
        let client = client(TIMEOUT)?;
        Ok(Self { plan, client, headers })
    }

    /// Asks a version. A gateway that cannot be reached is an error; whatever it answers is not.
    pub async fn ask(&self, version: &str, body: &Value) -> Result<Answer, String> {
        let mut headers = self.headers.clone();
        if let Some(chooses) = &self.plan.chooses {
            let name = HeaderName::try_from(chooses.as_str()).map_err(|error| error.to_string())?;
            headers.insert(name, HeaderValue::try_from(version).map_err(|error| error.to_string())?);
        }
        let began = Instant::now();
        let sent = self.client.post(self.plan.url.clone()).headers(headers).json(body).send().await;
        let mut response = sent.map_err(|error| said(&self.plan.url, &error))?;
        let status = response.status().as_u16();
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (version, id) = (header("x-penstock-version"), header("x-penstock-request-id"));
        let limit = header("x-penstock-limit");
        let mut read = Vec::new();
        // An answer that breaks off is one that is not well, and no fault of the way here.
        while let Ok(Some(chunk)) = response.chunk().await {
            if read.len() + chunk.len() > BODY_BYTES_MAX {
                break;
            }
            read.extend_from_slice(&chunk);
        }
        let refused = match (limit, status) {
            (Some(limit), _) => Some(format!("limit {limit}")),
            (None, 401 | 403) => Some(format!("status {status}")),
            (None, _) => None,
        };
        let body = String::from_utf8_lossy(&read).into_owned();
        Ok(Answer { status, version, refused, took: began.elapsed(), body, id })
    }

    /// Says what was made of an answer.
    ///
    /// # Errors
    /// When it is not taken.
    pub async fn tell(&self, to: &Url, id: &str, is_well: bool) -> Result<(), String> {
        let body = json!({"request_id": id, "score": if is_well { 1 } else { -1 }});
        let sent = self.client.post(to.clone()).headers(self.headers.clone()).json(&body).send().await;
        let response = sent.map_err(|error| said(to, &error))?;
        let status = response.status();
        if status.is_success() { Ok(()) } else { Err(format!("{to}: {status}")) }
    }
}
