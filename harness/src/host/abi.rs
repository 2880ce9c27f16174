//! The proxy-wasm host calls (ABI 0.2.1), answered the way Envoy answers them.
//!
//! A host call never drives a stream itself: what it asks for is queued as an action and done when the guest has returned.

use std::time::Duration;

use wasmtime::{Caller, Linker, Result};

use super::callouts::Protocol;
use super::guest::{Fault, Guest, Outcome, Request};
use super::lock::lock;
use super::pairs;
use super::properties;
use super::state::{Tick, VmState};
use super::status::Status;
use super::stream::{Action, Direction, LocalReply};

const ENV: &str = "env";

fn answer(outcome: Outcome) -> Result<u32> {
    match outcome {
        Ok(()) => Ok(Status::Ok as u32),
        Err(Fault::Status(status)) => Ok(status as u32),
        Err(Fault::Trap(error)) => Err(error),
    }
}

pub(super) fn link(linker: &mut Linker<VmState>) -> Result<()> {
    link_process(linker)?;
    link_shared(linker)?;
    link_metrics(linker)?;
    link_headers(linker)?;
    link_buffers(linker)?;
    link_stream(linker)?;
    link_callouts(linker)
}

/// The last of the maps of headers: what came before the message of a gRPC answer, and behind it.
const MAP_MAX: u32 = 7;

/// Log, time, ticks and contexts.
fn link_process(linker: &mut Linker<VmState>) -> Result<()> {
    linker.func_wrap(ENV, "proxy_log", |c: Caller<'_, VmState>, level: u32, at: u32, len: u32| {
        let mut guest = Guest::called("proxy_log", c);
        answer(guest.text(at, len).map(|message| guest.say(level, message)))
    })?;
    linker.func_wrap(ENV, "proxy_get_log_level", |c: Caller<'_, VmState>, out: u32| {
        answer(Guest::called("proxy_get_log_level", c).write(out, &0u32.to_le_bytes()))
    })?;
    linker.func_wrap(ENV, "proxy_get_current_time_nanoseconds", |c: Caller<'_, VmState>, out: u32| {
        let now = c.data().process.now().as_nanos() as u64;
        answer(Guest::called("proxy_get_current_time_nanoseconds", c).write(out, &now.to_le_bytes()))
    })?;
    linker.func_wrap(ENV, "proxy_set_tick_period_milliseconds", |mut c: Caller<'_, VmState>, period: u32| {
        let state = c.data_mut();
        state.called("proxy_set_tick_period_milliseconds");
        let now = state.process.now();
        // Timers belong to the root context, whichever context sets them.
        let Some(context) = state.context() else { return Status::BadArgument as u32 };
        if period == 0 {
            state.ticks.remove(&context.root);
        } else {
            let every = Duration::from_millis(u64::from(period));
            state.ticks.insert(context.root, Tick { every, due: now + every });
        }
        Status::Ok as u32
    })?;
    linker.func_wrap(ENV, "proxy_set_effective_context", |mut c: Caller<'_, VmState>, context: u32| {
        c.data_mut().called("proxy_set_effective_context");
        if !c.data().contexts.contains_key(&context) {
            return Status::BadArgument as u32;
        }
        c.data_mut().effective = context;
        Status::Ok as u32
    })?;
    linker.func_wrap(ENV, "proxy_done", |_: Caller<'_, VmState>| Status::Ok as u32)?;
    linker.func_wrap(
        ENV,
        "proxy_call_foreign_function",
        |_: Caller<'_, VmState>, _: u32, _: u32, _: u32, _: u32, _: u32, _: u32| Status::NotFound as u32,
    )?;
    linker.func_wrap(ENV, "proxy_get_status", |c: Caller<'_, VmState>, code: u32, at: u32, len: u32| {
        let mut guest = Guest::called("proxy_get_status", c);
        let (status, message) = guest.0.data().status.clone();
        answer(guest.write(code, &status.to_le_bytes()).and_then(|()| guest.give(message.as_bytes(), at, len)))
    })?;
    Ok(())
}

/// Shared data, and the queues, which this host does not offer.
fn link_shared(linker: &mut Linker<VmState>) -> Result<()> {
    linker.func_wrap(
        ENV,
        "proxy_get_shared_data",
        |c: Caller<'_, VmState>, key: u32, key_len: u32, at: u32, len: u32, cas_out: u32| {
            let mut guest = Guest::called("proxy_get_shared_data", c);
            answer(guest.text(key, key_len).and_then(|key| {
                let state = guest.0.data();
                let found = state.process.shared().get(&state.vm_id, &key).map(|(value, cas)| (value.to_vec(), cas));
                let (value, cas) = found.ok_or(Status::NotFound)?;
                guest.give(&value, at, len)?;
                guest.write(cas_out, &cas.to_le_bytes())
            }))
        },
    )?;
    linker.func_wrap(
        ENV,
        "proxy_set_shared_data",
        |c: Caller<'_, VmState>, key: u32, key_len: u32, at: u32, len: u32, cas: u32| {
            let mut guest = Guest::called("proxy_set_shared_data", c);
            answer(guest.text(key, key_len).and_then(|key| {
                let value = guest.read(at, len)?;
                let state = guest.0.data();
                Ok(state.process.shared().set(&state.vm_id, &key, &value, cas)?)
            }))
        },
    )?;
    let (unimplemented, none) = (Status::Unimplemented as u32, Status::NotFound as u32);
    linker.func_wrap(ENV, "proxy_register_shared_queue", move |_: Caller<'_, VmState>, _: u32, _: u32, _: u32| {
        unimplemented
    })?;
    linker.func_wrap(
        ENV,
        "proxy_resolve_shared_queue",
        move |_: Caller<'_, VmState>, _: u32, _: u32, _: u32, _: u32, _: u32| none,
    )?;
    for name in ["proxy_dequeue_shared_queue", "proxy_enqueue_shared_queue"] {
        linker.func_wrap(ENV, name, move |_: Caller<'_, VmState>, _: u32, _: u32, _: u32| none)?;
    }
    Ok(())
}

fn link_metrics(linker: &mut Linker<VmState>) -> Result<()> {
    linker.func_wrap(
        ENV,
        "proxy_define_metric",
        |c: Caller<'_, VmState>, kind: u32, at: u32, len: u32, out: u32| {
            let mut guest = Guest::called("proxy_define_metric", c);
            answer(guest.text(at, len).and_then(|name| {
                let id = guest.0.data().process.metrics().define(kind, &name)?;
                guest.write(out, &id.to_le_bytes())
            }))
        },
    )?;
    linker.func_wrap(ENV, "proxy_increment_metric", |c: Caller<'_, VmState>, id: u32, offset: i64| {
        let guest = Guest::called("proxy_increment_metric", c);
        answer(guest.0.data().process.metrics().increment(id, offset).map_err(Fault::from))
    })?;
    linker.func_wrap(ENV, "proxy_record_metric", |c: Caller<'_, VmState>, id: u32, value: u64| {
        let guest = Guest::called("proxy_record_metric", c);
        answer(guest.0.data().process.metrics().record(id, value).map_err(Fault::from))
    })?;
    linker.func_wrap(ENV, "proxy_get_metric", |c: Caller<'_, VmState>, id: u32, out: u32| {
        let value = c.data().process.metrics().get(id);
        answer(
            value
                .map_err(Fault::from)
                .and_then(|value| Guest::called("proxy_get_metric", c).write(out, &value.to_le_bytes())),
        )
    })?;
    Ok(())
}

fn link_headers(linker: &mut Linker<VmState>) -> Result<()> {
    linker.func_wrap(ENV, "proxy_get_header_map_pairs", |c: Caller<'_, VmState>, map: u32, at: u32, len: u32| {
        let mut guest = Guest::called("proxy_get_header_map_pairs", c);
        if map > MAP_MAX {
            return answer(Err(Status::BadArgument.into()));
        }
        // A map that is not there reads as an empty one, unlike a single value of it.
        let pairs = guest.headers(map, pairs::serialize).unwrap_or_default();
        answer(guest.give(&pairs, at, len))
    })?;
    linker.func_wrap(
        ENV,
        "proxy_get_header_map_value",
        |c: Caller<'_, VmState>, map: u32, key: u32, key_len: u32, at: u32, len: u32| {
            let mut guest = Guest::called("proxy_get_header_map_value", c);
            answer(guest.text(key, key_len).and_then(|key| {
                let value = guest.headers(map, |headers| headers.get(&key).map(<[u8]>::to_vec))?;
                guest.give(&value.ok_or(Status::NotFound)?, at, len)
            }))
        },
    )?;
    linker.func_wrap(ENV, "proxy_set_header_map_pairs", |c: Caller<'_, VmState>, map: u32, at: u32, len: u32| {
        let mut guest = Guest::called("proxy_set_header_map_pairs", c);
        answer(guest.read(at, len).and_then(|bytes| {
            let pairs = pairs::deserialize(&bytes).ok_or(Status::ParseFailure)?;
            guest.edit_headers(map, |headers| *headers = pairs)
        }))
    })?;
    linker.func_wrap(
        ENV,
        "proxy_remove_header_map_value",
        |c: Caller<'_, VmState>, map: u32, key: u32, key_len: u32| {
            let mut guest = Guest::called("proxy_remove_header_map_value", c);
            answer(guest.text(key, key_len).and_then(|key| guest.edit_headers(map, |headers| headers.remove(&key))))
        },
    )?;
    linker.func_wrap(
        ENV,
        "proxy_replace_header_map_value",
        |c: Caller<'_, VmState>, map: u32, key: u32, key_len: u32, at: u32, len: u32| {
            let mut guest = Guest::called("proxy_replace_header_map_value", c);
            answer(guest.text(key, key_len).and_then(|key| {
                let value = guest.read(at, len)?;
                guest.edit_headers(map, |headers| headers.set(&key, &value))
            }))
        },
    )?;
    linker.func_wrap(
        ENV,
        "proxy_add_header_map_value",
        |c: Caller<'_, VmState>, map: u32, key: u32, key_len: u32, at: u32, len: u32| {
            let mut guest = Guest::called("proxy_add_header_map_value", c);
            answer(guest.text(key, key_len).and_then(|key| {
                let value = guest.read(at, len)?;
                guest.edit_headers(map, |headers| headers.add(&key, &value))
            }))
        },
    )?;
    Ok(())
}

fn link_buffers(linker: &mut Linker<VmState>) -> Result<()> {
    linker.func_wrap(
        ENV,
        "proxy_get_buffer_bytes",
        |c: Caller<'_, VmState>, buffer: u32, start: u32, max: u32, at: u32, len: u32| {
            let mut guest = Guest::called("proxy_get_buffer_bytes", c);
            answer(guest.buffer(buffer).and_then(|bytes| {
                let end = (start as usize).checked_add(max as usize).ok_or(Status::BadArgument)?.min(bytes.len());
                match bytes.get(start as usize..end) {
                    Some(part) if !part.is_empty() => guest.give(part, at, len),
                    _ => Ok(()),
                }
            }))
        },
    )?;
    linker.func_wrap(ENV, "proxy_get_buffer_status", |c: Caller<'_, VmState>, buffer: u32, len: u32, flags: u32| {
        let mut guest = Guest::called("proxy_get_buffer_status", c);
        answer(guest.buffer(buffer).and_then(|bytes| {
            guest.write(len, &(bytes.len() as u32).to_le_bytes())?;
            guest.write(flags, &[0; 4])
        }))
    })?;
    linker.func_wrap(
        ENV,
        "proxy_set_buffer_bytes",
        |c: Caller<'_, VmState>, buffer: u32, start: u32, size: u32, at: u32, len: u32| {
            let mut guest = Guest::called("proxy_set_buffer_bytes", c);
            answer(
                guest.read(at, len).and_then(|value| guest.edit_buffer(buffer, start as usize, size as usize, &value)),
            )
        },
    )?;
    Ok(())
}

/// What acts on the stream: properties, going on, breaking off, answering.
fn link_stream(linker: &mut Linker<VmState>) -> Result<()> {
    linker.func_wrap(
        ENV,
        "proxy_get_property",
        |c: Caller<'_, VmState>, path: u32, path_len: u32, at: u32, len: u32| {
            let mut guest = Guest::called("proxy_get_property", c);
            answer(guest.read(path, path_len).and_then(|path| {
                if path.is_empty() {
                    return Err(Status::SerializationFailure.into());
                }
                let value = properties::get(guest.0.data(), &path).ok_or(Status::NotFound)?;
                guest.give(&value, at, len)
            }))
        },
    )?;
    linker.func_wrap(
        ENV,
        "proxy_set_property",
        |c: Caller<'_, VmState>, path: u32, path_len: u32, at: u32, len: u32| {
            let mut guest = Guest::called("proxy_set_property", c);
            answer(guest.text(path, path_len).and_then(|path| {
                let value = guest.read(at, len)?;
                guest.stream(|stream, _| stream.filter_state.insert(format!("wasm.{path}"), value)).map(drop)
            }))
        },
    )?;
    linker.func_wrap(ENV, "proxy_continue_stream", |c: Caller<'_, VmState>, kind: u32| {
        let mut guest = Guest::called("proxy_continue_stream", c);
        let direction = match kind {
            0 => Direction::Request,
            1 => Direction::Response,
            _ => return answer(Err(Status::BadArgument.into())),
        };
        // Envoy forgets the request's headers here, whichever direction goes on.
        let known =
            guest.stream(|stream, context| stream.filter(Direction::Request, context.plugin).headers_visible = false);
        answer(known.map_or(Ok(()), |()| guest.act(Action::Continue(direction))))
    })?;
    linker.func_wrap(ENV, "proxy_close_stream", |c: Caller<'_, VmState>, kind: u32| {
        answer(if kind < 2 {
            Guest::called("proxy_close_stream", c).act(Action::Reset)
        } else {
            Err(Status::BadArgument.into())
        })
    })?;
    linker.func_wrap(
        ENV,
        "proxy_send_local_response",
        |c: Caller<'_, VmState>,
         status: u32,
         details: u32,
         details_len: u32,
         body: u32,
         body_len: u32,
         headers: u32,
         headers_len: u32,
         _grpc: i32| {
            let mut guest = Guest::called("proxy_send_local_response", c);
            answer(guest.read(headers, headers_len).and_then(|pairs| {
                let headers = pairs::deserialize(&pairs).ok_or(Status::ParseFailure)?;
                let (body, details) = (guest.read(body, body_len)?, guest.text(details, details_len)?);
                guest.act(Action::LocalReply(LocalReply { status, headers, body, details }))
            }))
        },
    )?;
    Ok(())
}

/// HTTP and gRPC calls to other services. The test answers them.
fn link_callouts(linker: &mut Linker<VmState>) -> Result<()> {
    linker.func_wrap(
        ENV,
        "proxy_http_call",
        |c: Caller<'_, VmState>,
         up: u32,
         up_len: u32,
         pairs: u32,
         pairs_len: u32,
         body: u32,
         body_len: u32,
         _: u32,
         _: u32,
         timeout_ms: u32,
         out: u32| {
            let mut guest = Guest::called("proxy_http_call", c);
            answer(guest.read(pairs, pairs_len).and_then(|pairs| {
                let headers = pairs::deserialize(&pairs).ok_or(Status::ParseFailure)?;
                if [":method", ":path", ":authority"].iter().any(|name| headers.get(name).is_none()) {
                    return Err(Status::BadArgument.into());
                }
                let (upstream, body) = (guest.read(up, up_len)?, guest.read(body, body_len)?);
                let (protocol, method) = (Protocol::Http, "http".to_owned());
                guest.call_out(Request { protocol, upstream, method, headers, body, timeout_ms }, out)
            }))
        },
    )?;
    linker.func_wrap(
        ENV,
        "proxy_grpc_call",
        |c: Caller<'_, VmState>,
         up: u32,
         up_len: u32,
         service: u32,
         service_len: u32,
         method: u32,
         method_len: u32,
         pairs: u32,
         pairs_len: u32,
         message: u32,
         message_len: u32,
         timeout_ms: u32,
         out: u32| {
            let mut guest = Guest::called("proxy_grpc_call", c);
            answer(guest.read(pairs, pairs_len).and_then(|pairs| {
                let headers = pairs::deserialize(&pairs).ok_or(Status::ParseFailure)?;
                let method = format!("{}/{}", guest.text(service, service_len)?, guest.text(method, method_len)?);
                let (upstream, body) = (guest.read(up, up_len)?, guest.read(message, message_len)?);
                let protocol = Protocol::Grpc;
                guest.call_out(Request { protocol, upstream, method, headers, body, timeout_ms }, out)
            }))
        },
    )?;
    for name in ["proxy_grpc_cancel", "proxy_grpc_close"] {
        linker.func_wrap(ENV, name, |c: Caller<'_, VmState>, token: u32| {
            let state = c.data();
            answer(lock(&state.traffic).callouts.cancel_grpc(state.index, token).map_err(Fault::from))
        })?;
    }
    let unimplemented = Status::Unimplemented as u32;
    linker.func_wrap(
        ENV,
        "proxy_grpc_stream",
        move |_: Caller<'_, VmState>, _: u32, _: u32, _: u32, _: u32, _: u32, _: u32, _: u32, _: u32, _: u32| {
            unimplemented
        },
    )?;
    linker.func_wrap(ENV, "proxy_grpc_send", move |_: Caller<'_, VmState>, _: u32, _: u32, _: u32, _: u32| {
        unimplemented
    })?;
    Ok(())
}
