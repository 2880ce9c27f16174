//! `proxy_get_property`: the stream attributes that Envoy offers, as far as filters for HTTP need them.

use super::lock::lock;
use super::state::VmState;
use super::stream::Direction;
use crate::message::Headers;

/// The value at a path whose segments are joined by NUL. Numbers are 64-bit little endian, as Envoy serialises them.
pub(super) fn get(state: &VmState, path: &[u8]) -> Option<Vec<u8>> {
    let path_text = String::from_utf8_lossy(path);
    let segments: Vec<&str> = path_text.split('\0').collect();
    let context = state.context()?;
    let plugin = &state.plugins[context.plugin];
    match segments[..] {
        ["plugin_name"] => return Some(plugin.name.clone().into_bytes()),
        ["plugin_root_id"] => return Some(plugin.root_id.clone().into_bytes()),
        ["plugin_vm_id"] => return Some(state.vm_id.clone().into_bytes()),
        _ => {}
    }
    let mut traffic = lock(&state.traffic);
    let stream = traffic.streams.get_mut(&context.stream?)?;
    // Once they went on, a filter is not told any more what they were, until the end.
    let has_request = stream.filter(Direction::Request, context.plugin).headers_visible || stream.log_phase;
    if let Some(value) = stream.properties.get(path) {
        return Some(value.clone());
    }
    match segments[..] {
        ["request", ..] if !has_request => None,
        ["request", name] => request(&stream.request.headers, name),
        ["request", "headers", name] => stream.request.headers.get(name).map(<[u8]>::to_vec),
        ["response", "code"] if stream.response.started => Some(number(u64::from(stream.response.headers.status()))),
        ["response", "code_details"] if !stream.details.is_empty() => Some(stream.details.clone().into_bytes()),
        ["response", "headers", name] => stream.response.headers.get(name).map(<[u8]>::to_vec),
        ["connection", "id"] => context.stream.map(number),
        ["upstream", "address"] if stream.response.started => Some(b"127.0.0.1:8000".to_vec()),
        ["source", "address"] => Some(b"127.0.0.1:50000".to_vec()),
        ["filter_state", key] => stream.filter_state.get(key).cloned(),
        _ => stream.filter_state.get(&format!("wasm.{path_text}")).cloned(),
    }
}

fn request(headers: &Headers, name: &str) -> Option<Vec<u8>> {
    let header = |name: &str| headers.get(name).map(<[u8]>::to_vec);
    match name {
        "path" => header(":path"),
        "url_path" => header(":path").map(|path| path.split(|byte| *byte == b'?').next().unwrap_or_default().to_vec()),
        "method" => header(":method"),
        "host" => header(":authority"),
        "scheme" => header(":scheme"),
        "id" => header("x-request-id"),
        "useragent" => header("user-agent"),
        "protocol" => Some(b"HTTP/1.1".to_vec()),
        _ => None,
    }
}

fn number(value: u64) -> Vec<u8> {
    value.to_le_bytes().to_vec()
}
