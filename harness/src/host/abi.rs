//! The proxy-wasm host calls (ABI 0.2.1), answered the way Envoy answers them.
//!
//! A host call never drives a stream itself: what it asks for is queued as an action and done when the guest has returned.

use std::time::Duration;

use wasmtime::{Caller, Extern, Linker, Result};

use super::headers::Headers;
use super::process::lock;
use super::properties;
use super::status::Status;
use super::stream::{Action, Callout, Direction, LocalReply, Stream, Traffic};
use super::vm::{Context, Tick, VmState};

const ENV: &str = "env";

/// Why a host call did not do what it was asked.
pub(super) enum Fault {
    Status(Status),
    /// The guest's own allocator failed: that ends the VM.
    Trap(wasmtime::Error),
}

impl From<Status> for Fault {
    fn from(status: Status) -> Self {
        Fault::Status(status)
    }
}

type Outcome = std::result::Result<(), Fault>;

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

/// Log, time, ticks and contexts.
fn link_process(linker: &mut Linker<VmState>) -> Result<()> {
    linker.func_wrap(ENV, "proxy_log", |c: Caller<'_, VmState>, level: u32, at: u32, len: u32| {
        let mut guest = Guest(c);
        answer(guest.text(at, len).map(|message| guest.say(level, message)))
    })?;
    linker.func_wrap(ENV, "proxy_get_log_level", |c: Caller<'_, VmState>, out: u32| {
        answer(Guest(c).write(out, &0u32.to_le_bytes()))
    })?;
    linker.func_wrap(ENV, "proxy_get_current_time_nanoseconds", |c: Caller<'_, VmState>, out: u32| {
        let now = c.data().process.now().as_nanos() as u64;
        answer(Guest(c).write(out, &now.to_le_bytes()))
    })?;
    linker.func_wrap(ENV, "proxy_set_tick_period_milliseconds", |mut c: Caller<'_, VmState>, period: u32| {
        let state = c.data_mut();
        let (context, now) = (state.effective, state.process.now());
        if period == 0 {
            state.ticks.remove(&context);
        } else {
            let every = Duration::from_millis(u64::from(period));
            state.ticks.insert(context, Tick { every, due: now + every });
        }
        Status::Ok as u32
    })?;
    linker.func_wrap(ENV, "proxy_set_effective_context", |mut c: Caller<'_, VmState>, context: u32| {
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
        let mut guest = Guest(c);
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
            let mut guest = Guest(c);
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
            let mut guest = Guest(c);
            answer(guest.text(key, key_len).and_then(|key| {
                let value = guest.read(at, len)?;
                let state = guest.0.data();
                Ok(state.process.shared().set(&state.vm_id, &key, &value, cas)?)
            }))
        },
    )?;
    let unimplemented = Status::Unimplemented as u32;
    linker.func_wrap(ENV, "proxy_register_shared_queue", move |_: Caller<'_, VmState>, _: u32, _: u32, _: u32| {
        unimplemented
    })?;
    linker.func_wrap(
        ENV,
        "proxy_resolve_shared_queue",
        move |_: Caller<'_, VmState>, _: u32, _: u32, _: u32, _: u32, _: u32| unimplemented,
    )?;
    linker.func_wrap(ENV, "proxy_dequeue_shared_queue", move |_: Caller<'_, VmState>, _: u32, _: u32, _: u32| {
        unimplemented
    })?;
    linker.func_wrap(ENV, "proxy_enqueue_shared_queue", move |_: Caller<'_, VmState>, _: u32, _: u32, _: u32| {
        unimplemented
    })?;
    Ok(())
}

fn link_metrics(linker: &mut Linker<VmState>) -> Result<()> {
    linker.func_wrap(
        ENV,
        "proxy_define_metric",
        |c: Caller<'_, VmState>, kind: u32, at: u32, len: u32, out: u32| {
            let mut guest = Guest(c);
            answer(guest.text(at, len).and_then(|name| {
                let id = guest.0.data().process.metrics().define(kind, &name)?;
                guest.write(out, &id.to_le_bytes())
            }))
        },
    )?;
    linker.func_wrap(ENV, "proxy_increment_metric", |c: Caller<'_, VmState>, id: u32, offset: i64| {
        answer(c.data().process.metrics().increment(id, offset).map_err(Fault::from))
    })?;
    linker.func_wrap(ENV, "proxy_record_metric", |c: Caller<'_, VmState>, id: u32, value: u64| {
        answer(c.data().process.metrics().record(id, value).map_err(Fault::from))
    })?;
    linker.func_wrap(ENV, "proxy_get_metric", |c: Caller<'_, VmState>, id: u32, out: u32| {
        let value = c.data().process.metrics().get(id);
        answer(value.map_err(Fault::from).and_then(|value| Guest(c).write(out, &value.to_le_bytes())))
    })?;
    Ok(())
}

fn link_headers(linker: &mut Linker<VmState>) -> Result<()> {
    linker.func_wrap(ENV, "proxy_get_header_map_pairs", |c: Caller<'_, VmState>, map: u32, at: u32, len: u32| {
        let mut guest = Guest(c);
        // A map that is not there reads as an empty one, unlike a single value of it.
        let pairs = guest.headers(map, |headers| headers.serialize()).unwrap_or_default();
        answer(guest.give(&pairs, at, len))
    })?;
    linker.func_wrap(
        ENV,
        "proxy_get_header_map_value",
        |c: Caller<'_, VmState>, map: u32, key: u32, key_len: u32, at: u32, len: u32| {
            let mut guest = Guest(c);
            answer(guest.text(key, key_len).and_then(|key| {
                let value = guest.headers(map, |headers| headers.get(&key).map(<[u8]>::to_vec))?;
                guest.give(&value.ok_or(Status::NotFound)?, at, len)
            }))
        },
    )?;
    linker.func_wrap(ENV, "proxy_set_header_map_pairs", |c: Caller<'_, VmState>, map: u32, at: u32, len: u32| {
        let mut guest = Guest(c);
        answer(guest.read(at, len).and_then(|bytes| {
            let pairs = Headers::deserialize(&bytes).ok_or(Status::ParseFailure)?;
            guest.edit_headers(map, |headers| *headers = pairs)
        }))
    })?;
    linker.func_wrap(
        ENV,
        "proxy_remove_header_map_value",
        |c: Caller<'_, VmState>, map: u32, key: u32, key_len: u32| {
            let mut guest = Guest(c);
            answer(guest.text(key, key_len).and_then(|key| guest.edit_headers(map, |headers| headers.remove(&key))))
        },
    )?;
    linker.func_wrap(
        ENV,
        "proxy_replace_header_map_value",
        |c: Caller<'_, VmState>, map: u32, key: u32, key_len: u32, at: u32, len: u32| {
            let mut guest = Guest(c);
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
            let mut guest = Guest(c);
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
            let mut guest = Guest(c);
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
        let mut guest = Guest(c);
        answer(guest.buffer(buffer).and_then(|bytes| {
            guest.write(len, &(bytes.len() as u32).to_le_bytes())?;
            guest.write(flags, &[0; 4])
        }))
    })?;
    linker.func_wrap(
        ENV,
        "proxy_set_buffer_bytes",
        |c: Caller<'_, VmState>, buffer: u32, start: u32, size: u32, at: u32, len: u32| {
            let mut guest = Guest(c);
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
            let mut guest = Guest(c);
            answer(guest.read(path, path_len).and_then(|path| {
                let value = properties::get(guest.0.data(), &path).ok_or(Status::NotFound)?;
                guest.give(&value, at, len)
            }))
        },
    )?;
    linker.func_wrap(
        ENV,
        "proxy_set_property",
        |c: Caller<'_, VmState>, path: u32, path_len: u32, at: u32, len: u32| {
            let mut guest = Guest(c);
            answer(guest.text(path, path_len).and_then(|path| {
                let value = guest.read(at, len)?;
                guest.stream(|stream, _| stream.filter_state.insert(format!("wasm.{path}"), value)).map(drop)
            }))
        },
    )?;
    linker.func_wrap(ENV, "proxy_continue_stream", |c: Caller<'_, VmState>, kind: u32| {
        let mut guest = Guest(c);
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
        answer(if kind < 2 { Guest(c).act(Action::Reset) } else { Err(Status::BadArgument.into()) })
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
            let mut guest = Guest(c);
            answer(guest.read(headers, headers_len).and_then(|pairs| {
                let headers = Headers::deserialize(&pairs).ok_or(Status::ParseFailure)?;
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
            let mut guest = Guest(c);
            answer(guest.read(pairs, pairs_len).and_then(|pairs| {
                let headers = Headers::deserialize(&pairs).ok_or(Status::ParseFailure)?;
                if [":method", ":path", ":authority"].iter().any(|name| headers.get(name).is_none()) {
                    return Err(Status::BadArgument.into());
                }
                let (upstream, body) = (guest.read(up, up_len)?, guest.read(body, body_len)?);
                guest.call_out(
                    Callout { upstream, headers, body, timeout_ms, ..no_callout("http".to_owned(), false) },
                    out,
                )
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
            let mut guest = Guest(c);
            answer(guest.read(pairs, pairs_len).and_then(|pairs| {
                let headers = Headers::deserialize(&pairs).ok_or(Status::ParseFailure)?;
                let name = format!("{}/{}", guest.text(service, service_len)?, guest.text(method, method_len)?);
                let (upstream, body) = (guest.read(up, up_len)?, guest.read(message, message_len)?);
                guest.call_out(Callout { upstream, headers, body, timeout_ms, ..no_callout(name, true) }, out)
            }))
        },
    )?;
    linker.func_wrap(ENV, "proxy_grpc_cancel", |c: Caller<'_, VmState>, token: u32| {
        let mut traffic = lock(&c.data().traffic);
        let before = traffic.callouts.len();
        traffic.callouts.retain(|call| call.token != token);
        if traffic.callouts.len() < before { Status::Ok as u32 } else { Status::NotFound as u32 }
    })?;
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
    linker.func_wrap(ENV, "proxy_grpc_close", move |_: Caller<'_, VmState>, _: u32| unimplemented)?;
    Ok(())
}

fn no_callout(method: String, grpc: bool) -> Callout {
    Callout {
        token: 0,
        upstream: Vec::new(),
        method,
        headers: Headers::default(),
        body: Vec::new(),
        timeout_ms: 0,
        grpc,
        vm: 0,
        context: 0,
    }
}

/// The calling module: its memory, and what its effective context gives access to.
pub(super) struct Guest<'a>(pub Caller<'a, VmState>);

impl Guest<'_> {
    pub fn read(&mut self, at: u32, len: u32) -> std::result::Result<Vec<u8>, Fault> {
        let memory = self.0.get_export("memory").and_then(Extern::into_memory).ok_or(Status::InvalidMemoryAccess)?;
        let range = at as usize..(at as usize).saturating_add(len as usize);
        Ok(memory.data(&self.0).get(range).ok_or(Status::InvalidMemoryAccess)?.to_vec())
    }

    pub fn read_u32(&mut self, at: u32) -> std::result::Result<u32, Fault> {
        let bytes = self.read(at, 4)?;
        Ok(bytes.iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte)))
    }

    /// Names, keys and messages; bytes that are not UTF-8 are replaced.
    fn text(&mut self, at: u32, len: u32) -> std::result::Result<String, Fault> {
        Ok(String::from_utf8_lossy(&self.read(at, len)?).into_owned())
    }

    pub fn write(&mut self, at: u32, bytes: &[u8]) -> Outcome {
        let memory = self.0.get_export("memory").and_then(Extern::into_memory).ok_or(Status::InvalidMemoryAccess)?;
        memory.write(&mut self.0, at as usize, bytes).map_err(|_| Status::InvalidMemoryAccess.into())
    }

    /// Hands bytes to the guest in memory that its own allocator provides, and writes address and size where it wants them.
    fn give(&mut self, bytes: &[u8], at: u32, len: u32) -> Outcome {
        let mut address = 0;
        if !bytes.is_empty() {
            let allocate = ["proxy_on_memory_allocate", "malloc"].iter().find_map(|name| self.0.get_export(name));
            let allocate = allocate.and_then(Extern::into_func).ok_or(Status::InvalidMemoryAccess)?;
            let allocate = allocate.typed::<u32, u32>(&self.0).map_err(Fault::Trap)?;
            address = allocate.call(&mut self.0, bytes.len() as u32).map_err(Fault::Trap)?;
            self.write(address, bytes)?;
        }
        self.write(at, &address.to_le_bytes())?;
        self.write(len, &(bytes.len() as u32).to_le_bytes())
    }

    pub fn say(&mut self, level: u32, message: String) {
        let state = self.0.data();
        state.process.say(level, state.worker, message);
    }

    /// Works on the effective context's stream; NotFound where the effective context is a root context.
    fn stream<R>(&mut self, work: impl FnOnce(&mut Stream, Context) -> R) -> std::result::Result<R, Fault> {
        let state = self.0.data();
        let context = state.context().ok_or(Status::NotFound)?;
        let mut traffic = lock(&state.traffic);
        let stream = context.stream.and_then(|id| traffic.streams.get_mut(&id)).ok_or(Status::NotFound)?;
        Ok(work(stream, context))
    }

    fn act(&mut self, action: Action) -> Outcome {
        let state = self.0.data();
        if let Some(Context { plugin, stream: Some(stream) }) = state.context() {
            lock(&state.traffic).actions.push_back((stream, plugin, action));
        }
        Ok(())
    }

    /// Reads a header map. One that is out of reach now is a BadArgument, and NotFound while access is being logged.
    fn headers<R>(&mut self, map: u32, read: impl FnOnce(&Headers) -> R) -> std::result::Result<R, Fault> {
        let direction = match map {
            0 => Direction::Request,
            2 => Direction::Response,
            1 | 3 => return self.stream(|stream, _| missing(stream)).and_then(Err),
            4..=7 => {
                let answer = self.0.data().answer.as_ref().filter(|answer| !answer.grpc && map == 6);
                return Ok(read(&answer.ok_or(Status::BadArgument)?.headers));
            }
            _ => return Err(Status::BadArgument.into()),
        };
        self.stream(|stream, context| {
            let visible = stream.filter(direction, context.plugin).headers_visible || stream.log_phase;
            if visible { Ok(read(&stream.flow(direction).headers)) } else { Err(missing(stream)) }
        })?
    }

    fn edit_headers(&mut self, map: u32, edit: impl FnOnce(&mut Headers)) -> Outcome {
        let direction = match map {
            0 => Direction::Request,
            2 => Direction::Response,
            _ => return Err(Status::BadArgument.into()),
        };
        let edited = self.stream(|stream, context| {
            let visible = stream.filter(direction, context.plugin).headers_visible && !stream.log_phase;
            if visible {
                edit(&mut stream.flow(direction).headers);
            }
            visible
        });
        if edited.unwrap_or(false) { Ok(()) } else { Err(Status::BadArgument.into()) }
    }

    fn buffer(&mut self, buffer: u32) -> std::result::Result<Vec<u8>, Fault> {
        let state = self.0.data();
        match buffer {
            0 => self.stream(|s, c| s.filter(Direction::Request, c.plugin).buffer().cloned().unwrap_or_default()),
            1 => self.stream(|s, c| s.filter(Direction::Response, c.plugin).buffer().cloned().unwrap_or_default()),
            4 | 5 => {
                let answer = state.answer.as_ref().filter(|answer| answer.grpc == (buffer == 5));
                Ok(answer.ok_or(Status::NotFound)?.body.clone())
            }
            6 => Ok(state.vm_configuration.clone()),
            7 => Ok(state.plugins[state.configuring.ok_or(Status::NotFound)?].configuration.clone()),
            _ => Err(Status::NotFound.into()),
        }
    }

    /// Envoy's buffers take an edit at the front (of `size` bytes, 0 prepends) or behind the end; one in the middle is refused.
    fn edit_buffer(&mut self, buffer: u32, start: usize, size: usize, value: &[u8]) -> Outcome {
        let direction = match buffer {
            0 => Direction::Request,
            1 => Direction::Response,
            _ => return Err(Status::BadArgument.into()),
        };
        let edited = self.stream(|stream, context| {
            let Some(bytes) = stream.filter(direction, context.plugin).buffer() else { return false };
            if start == 0 {
                bytes.splice(..size.min(bytes.len()), value.iter().copied());
            } else if start >= bytes.len() {
                bytes.extend(value);
            } else {
                return false;
            }
            true
        })?;
        if edited { Ok(()) } else { Err(Status::BadArgument.into()) }
    }

    fn call_out(&mut self, callout: Callout, out: u32) -> Outcome {
        let state = self.0.data();
        let (vm, context) = (state.index, state.effective);
        let token = {
            let traffic: &mut Traffic = &mut lock(&state.traffic);
            traffic.last_token += 1;
            let token = traffic.last_token;
            traffic.callouts.push(Callout { token, vm, context, ..callout });
            token
        };
        self.write(out, &token.to_le_bytes())
    }
}

fn missing(stream: &Stream) -> Fault {
    Fault::Status(if stream.log_phase { Status::NotFound } else { Status::BadArgument })
}
