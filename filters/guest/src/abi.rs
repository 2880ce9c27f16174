//! The host's functions (proxy-wasm ABI 0.2.1), as far as they are used, each answering a status instead of panicking.
#![allow(unsafe_code, reason = "foreign functions; the only such module of the workspace")]

use penstock_units::{Millis, Nanos};
use proxy_wasm::hostcalls;
use proxy_wasm::types::{BufferType, MapType, MetricType};

/// Anything but `Ok`, by the ABI's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(pub u32);

impl Status {
    /// `NotFound`
    pub const NOT_FOUND: Self = Self(1);
    /// `BadArgument`
    pub const BAD_ARGUMENT: Self = Self(2);
    /// `CasMismatch`
    pub const CAS_MISMATCH: Self = Self(8);
    /// `InternalFailure`
    pub const INTERNAL_FAILURE: Self = Self(10);
}

mod host {
    #[link(wasm_import_module = "env")]
    unsafe extern "C" {
        pub fn proxy_log(level: u32, data: *const u8, size: usize) -> u32;
        pub fn proxy_get_current_time_nanoseconds(time: *mut u64) -> u32;
        pub fn proxy_set_tick_period_milliseconds(period: u32) -> u32;
        pub fn proxy_get_buffer_bytes(
            kind: u32,
            start: usize,
            size_max: usize,
            data: *mut *mut u8,
            size: *mut usize,
        ) -> u32;
        pub fn proxy_set_buffer_bytes(kind: u32, start: usize, replaced: usize, data: *const u8, size: usize) -> u32;
        pub fn proxy_get_header_map_pairs(kind: u32, data: *mut *mut u8, size: *mut usize) -> u32;
        pub fn proxy_replace_header_map_value(
            kind: u32,
            key: *const u8,
            key_size: usize,
            value: *const u8,
            value_size: usize,
        ) -> u32;
        pub fn proxy_remove_header_map_value(kind: u32, key: *const u8, key_size: usize) -> u32;
        pub fn proxy_get_property(path: *const u8, path_size: usize, data: *mut *mut u8, size: *mut usize) -> u32;
        pub fn proxy_set_property(path: *const u8, path_size: usize, data: *const u8, size: usize) -> u32;
        pub fn proxy_get_shared_data(
            key: *const u8,
            key_size: usize,
            data: *mut *mut u8,
            size: *mut usize,
            cas: *mut u32,
        ) -> u32;
        pub fn proxy_set_shared_data(key: *const u8, key_size: usize, data: *const u8, size: usize, cas: u32) -> u32;
        pub fn proxy_continue_stream(kind: u32) -> u32;
        pub fn proxy_set_effective_context(id: u32) -> u32;
        pub fn proxy_send_local_response(
            status: u32,
            details: *const u8,
            details_size: usize,
            body: *const u8,
            body_size: usize,
            headers: *const u8,
            headers_size: usize,
            grpc_status: i32,
        ) -> u32;
        pub fn proxy_define_metric(kind: u32, name: *const u8, name_size: usize, id: *mut u32) -> u32;
        pub fn proxy_record_metric(id: u32, value: u64) -> u32;
        pub fn proxy_increment_metric(id: u32, offset: i64) -> u32;
        pub fn proxy_call_foreign_function(
            name: *const u8,
            name_size: usize,
            argument: *const u8,
            argument_size: usize,
            data: *mut *mut u8,
            size: *mut usize,
        ) -> u32;
    }
}

unsafe extern "C" {
    /// The SDK's own callback, which hands over to the root context.
    fn proxy_on_queue_ready(root: u32, queue: u32);
}

/// Has the SDK run the root context's `on_queue_ready`, here and now. Not to be used while a callback of the root context runs.
pub fn tell_root(root: u32) {
    // SAFETY: the function is the SDK's, of this module, and takes no pointers.
    unsafe { proxy_on_queue_ready(root, 0) };
}

fn check(status: u32) -> Result<(), Status> {
    if status == 0 { Ok(()) } else { Err(Status(status)) }
}

/// Calls a host function that answers bytes, allocated by the SDK's `proxy_on_memory_allocate`.
fn bytes(call: impl FnOnce(*mut *mut u8, *mut usize) -> u32) -> Result<Vec<u8>, Status> {
    let mut data = core::ptr::null_mut();
    let mut size = 0;
    check(call(&mut data, &mut size))?;
    if data.is_null() {
        return Ok(Vec::new());
    }
    // SAFETY: the host asked the SDK for `size` bytes, which come from a vector of that capacity, and filled them. Nobody
    // else knows the pointer.
    Ok(unsafe { Vec::from_raw_parts(data, size, size) })
}

/// Writes to the proxy's log.
pub fn log(level: u32, text: &str) {
    // SAFETY: pointer and length are of `text`.
    let _ = unsafe { host::proxy_log(level, text.as_ptr(), text.len()) };
}

/// Nanoseconds since the Unix epoch.
pub fn now() -> Nanos {
    let mut time = 0;
    // SAFETY: `time` outlives the call.
    let _ = unsafe { host::proxy_get_current_time_nanoseconds(&mut time) };
    Nanos(time)
}

/// Asks for ticks.
pub fn set_tick_period(period: Millis) -> Result<(), Status> {
    let period = u32::try_from(period.0).unwrap_or(u32::MAX);
    // SAFETY: no pointers.
    check(unsafe { host::proxy_set_tick_period_milliseconds(period) })
}

/// Up to `size_max` bytes of a buffer from `start` on.
pub fn buffer(kind: BufferType, start: usize, size_max: usize) -> Result<Vec<u8>, Status> {
    // SAFETY: the two out-pointers outlive the call.
    bytes(|data, size| unsafe { host::proxy_get_buffer_bytes(kind as u32, start, size_max, data, size) })
}

/// Replaces `replaced` bytes of a buffer from its beginning on.
pub fn set_buffer(kind: BufferType, replaced: usize, with: &[u8]) -> Result<(), Status> {
    // SAFETY: pointer and length are of `with`.
    check(unsafe { host::proxy_set_buffer_bytes(kind as u32, 0, replaced, with.as_ptr(), with.len()) })
}

/// All headers of a message, names and values as they are on the wire.
pub fn headers(kind: MapType) -> Result<Vec<(String, Vec<u8>)>, Status> {
    // SAFETY: the two out-pointers outlive the call.
    let map = bytes(|data, size| unsafe { host::proxy_get_header_map_pairs(kind as u32, data, size) })?;
    Ok(pairs(&map).unwrap_or_default())
}

/// The ABI's form of a map: the number of pairs, their sizes, then keys and values, each followed by a zero.
fn pairs(map: &[u8]) -> Option<Vec<(String, Vec<u8>)>> {
    let word = |i: usize| -> Option<usize> {
        let from = i.checked_mul(4)?;
        let bytes = map.get(from..from.checked_add(4)?)?;
        usize::try_from(u32::from_le_bytes(bytes.try_into().ok()?)).ok()
    };
    let count = if map.is_empty() { 0 } else { word(0)? };
    let mut at = count.checked_mul(8)?.checked_add(4)?;
    let mut take = |len: usize| {
        let end = at.checked_add(len)?;
        let slice = map.get(at..end)?;
        at = end.checked_add(1)?;
        Some(slice)
    };
    // Each takes two words at least, whatever number stands there.
    let mut out = Vec::with_capacity(count.min(map.len() / 8));
    for i in 0..count {
        let (key, value) = (word(i.checked_mul(2)?.checked_add(1)?)?, word(i.checked_mul(2)?.checked_add(2)?)?);
        let (key, value) = (take(key)?, take(value)?);
        let key = String::from_utf8(key.to_vec());
        let key = key.unwrap_or_else(|bytes| String::from_utf8_lossy(bytes.as_bytes()).into_owned());
        out.push((key, value.to_vec()));
    }
    Some(out)
}

/// The inverse of [`pairs`].
fn map(pairs: &[(&str, &[u8])]) -> Vec<u8> {
    let size = |len: usize| u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes();
    let mut out = size(pairs.len()).to_vec();
    for (key, value) in pairs {
        out.extend(size(key.len()));
        out.extend(size(value.len()));
    }
    for (key, value) in pairs {
        for part in [key.as_bytes(), value] {
            out.extend_from_slice(part);
            out.push(0);
        }
    }
    out
}

/// Sets a header, replacing others of that name.
pub fn set_header(kind: MapType, key: &str, value: &[u8]) -> Result<(), Status> {
    // SAFETY: pointers and lengths are of `key` and `value`.
    check(unsafe {
        host::proxy_replace_header_map_value(kind as u32, key.as_ptr(), key.len(), value.as_ptr(), value.len())
    })
}

/// Removes a header.
pub fn remove_header(kind: MapType, key: &str) -> Result<(), Status> {
    // SAFETY: pointer and length are of `key`.
    check(unsafe { host::proxy_remove_header_map_value(kind as u32, key.as_ptr(), key.len()) })
}

/// A property by its path.
pub fn property(path: &[&str]) -> Option<Vec<u8>> {
    let path = path.join("\0");
    // SAFETY: pointer and length are of `path`; the two out-pointers outlive the call.
    bytes(|data, size| unsafe { host::proxy_get_property(path.as_ptr(), path.len(), data, size) }).ok()
}

/// Sets a property of the stream: filter state.
pub fn set_property(key: &str, value: &[u8]) -> Result<(), Status> {
    // SAFETY: pointers and lengths are of `key` and `value`.
    check(unsafe { host::proxy_set_property(key.as_ptr(), key.len(), value.as_ptr(), value.len()) })
}

/// A shared value and the number to change it with.
pub fn shared_data(key: &str) -> Result<(Vec<u8>, u32), Status> {
    let mut cas = 0;
    // SAFETY: pointer and length are of `key`; the three out-pointers outlive the call.
    let value =
        bytes(|data, size| unsafe { host::proxy_get_shared_data(key.as_ptr(), key.len(), data, size, &mut cas) })?;
    Ok((value, cas))
}

/// Changes a shared value if `cas` is still its number.
pub fn set_shared_data(key: &str, value: &[u8], cas: u32) -> Result<(), Status> {
    // SAFETY: pointers and lengths are of `key` and `value`.
    check(unsafe { host::proxy_set_shared_data(key.as_ptr(), key.len(), value.as_ptr(), value.len(), cas) })
}

/// Makes host calls act on another context.
pub fn set_effective_context(id: u32) -> Result<(), Status> {
    // SAFETY: no pointers.
    check(unsafe { host::proxy_set_effective_context(id) })
}

/// Lets the request of the current stream go.
pub fn continue_request() -> Result<(), Status> {
    // SAFETY: no pointers. 0 is the request's direction.
    check(unsafe { host::proxy_continue_stream(0) })
}

/// Answers the request of the current stream.
pub fn reply(status: u32, details: &str, headers: &[(&str, &[u8])], body: &[u8]) -> Result<(), Status> {
    let headers = map(headers);
    // SAFETY: pointers and lengths are of `details`, `body` and `headers`. -1 is no gRPC status.
    check(unsafe {
        host::proxy_send_local_response(
            status,
            details.as_ptr(),
            details.len(),
            body.as_ptr(),
            body.len(),
            headers.as_ptr(),
            headers.len(),
            -1,
        )
    })
}

/// Calls a cluster by gRPC; the answer comes with the number that is returned. It has to go through the SDK, which knows the context again by
/// what it notes here, and panics on statuses that no host answers to this call.
pub fn grpc_call(cluster: &str, service: &str, method: &str, message: &[u8], timeout: Millis) -> Result<u32, Status> {
    // `envoy.config.core.v3.GrpcService` with `envoy_grpc.cluster_name`; each length is one byte, which the configuration has checked. The
    // SDK wants text, and below 128 bytes are.
    let length = |len: usize| char::from(u8::try_from(len).unwrap_or(0x7f) & 0x7f);
    let target = format!("\n{}\n{}{cluster}", length(cluster.len().saturating_add(2)), length(cluster.len()));
    let called = hostcalls::dispatch_grpc_call(&target, service, method, Vec::new(), Some(message), duration(timeout));
    called.map_err(|status| Status(status as u32))
}

/// Calls a cluster by HTTP; as above.
pub fn http_call(cluster: &str, headers: &[(&str, &str)], body: &[u8], timeout: Millis) -> Result<u32, Status> {
    let body = Some(body).filter(|body| !body.is_empty());
    let called = hostcalls::dispatch_http_call(cluster, headers.to_vec(), body, Vec::new(), duration(timeout));
    called.map_err(|status| Status(status as u32))
}

fn duration(timeout: Millis) -> core::time::Duration {
    core::time::Duration::from_millis(timeout.0)
}

/// Defines a metric, or finds the one of that name.
pub fn define_metric(kind: MetricType, name: &str) -> Result<u32, Status> {
    let mut id = 0;
    // SAFETY: pointer and length are of `name`; `id` outlives the call.
    check(unsafe { host::proxy_define_metric(kind as u32, name.as_ptr(), name.len(), &mut id) })?;
    Ok(id)
}

/// Sets a gauge, or observes a value of a histogram.
pub fn record_metric(id: u32, value: u64) -> Result<(), Status> {
    // SAFETY: no pointers.
    check(unsafe { host::proxy_record_metric(id, value) })
}

/// Adds to a counter.
pub fn increment_metric(id: u32, offset: i64) -> Result<(), Status> {
    // SAFETY: no pointers.
    check(unsafe { host::proxy_increment_metric(id, offset) })
}

/// Calls a function that only some hosts have.
pub fn foreign_function(name: &str, argument: &[u8]) -> Result<Vec<u8>, Status> {
    // SAFETY: pointers and lengths are of `name` and `argument`; the two out-pointers outlive the call.
    bytes(|data, size| unsafe {
        host::proxy_call_foreign_function(name.as_ptr(), name.len(), argument.as_ptr(), argument.len(), data, size)
    })
}
