//! The calling module: its memory, and what its effective context may see and change.

use wasmtime::{Caller, Extern};

use super::callouts::{Callout, Protocol};
use super::lock::lock;
use super::state::{Answer, Context, VmState};
use super::status::Status;
use super::stream::{Action, Direction, Stream};
use crate::message::Headers;

/// The module's function by which the host finds room in its memory.
pub(super) const ALLOCATE: &str = "proxy_on_memory_allocate";

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

pub(super) type Outcome = std::result::Result<(), Fault>;

/// What a guest asks another service.
pub(super) struct Request {
    pub protocol: Protocol,
    pub upstream: Vec<u8>,
    pub method: String,
    pub headers: Headers,
    pub body: Vec<u8>,
    pub timeout_ms: u32,
}

/// The calling module: its memory, and what its effective context gives access to.
pub(super) struct Guest<'a>(pub Caller<'a, VmState>);

impl<'a> Guest<'a> {
    /// It calls this function.
    pub fn called(function: &'static str, mut caller: Caller<'a, VmState>) -> Self {
        caller.data_mut().called(function);
        Self(caller)
    }
}

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
    pub fn text(&mut self, at: u32, len: u32) -> std::result::Result<String, Fault> {
        Ok(String::from_utf8_lossy(&self.read(at, len)?).into_owned())
    }

    pub fn write(&mut self, at: u32, bytes: &[u8]) -> Outcome {
        let memory = self.0.get_export("memory").and_then(Extern::into_memory).ok_or(Status::InvalidMemoryAccess)?;
        memory.write(&mut self.0, at as usize, bytes).map_err(|_| Status::InvalidMemoryAccess.into())
    }

    /// Hands bytes to the guest in memory that its own allocator provides, and writes address and size where it wants them.
    pub fn give(&mut self, bytes: &[u8], at: u32, len: u32) -> Outcome {
        let mut address = 0;
        if !bytes.is_empty() {
            self.0.data_mut().called(ALLOCATE);
            let allocate = [ALLOCATE, "malloc"].iter().find_map(|name| self.0.get_export(name));
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
    pub fn stream<R>(&mut self, work: impl FnOnce(&mut Stream, Context) -> R) -> std::result::Result<R, Fault> {
        let state = self.0.data();
        let context = state.context().ok_or(Status::NotFound)?;
        let mut traffic = lock(&state.traffic);
        let stream = context.stream.and_then(|id| traffic.streams.get_mut(&id)).ok_or(Status::NotFound)?;
        Ok(work(stream, context))
    }

    pub fn act(&mut self, action: Action) -> Outcome {
        let state = self.0.data();
        if let Some(Context { plugin, stream: Some(stream), .. }) = state.context() {
            lock(&state.traffic).actions.push_back((stream, plugin, action));
        }
        Ok(())
    }

    /// Reads a header map. One that is out of reach now is a BadArgument, and NotFound while access is being logged.
    pub fn headers<R>(&mut self, map: u32, read: impl FnOnce(&Headers) -> R) -> std::result::Result<R, Fault> {
        let direction = match map {
            0 => Direction::Request,
            2 => Direction::Response,
            1 | 3 => return self.stream(|stream, _| missing(stream)).and_then(Err),
            6 => match &self.0.data().answer {
                Some(Answer::Http { headers, .. }) => return Ok(read(headers)),
                _ => return Err(self.stream(|stream, _| missing(stream)).unwrap_or(Status::BadArgument.into())),
            },
            // The metadata and trailers of answers are not offered.
            _ => return Err(Status::BadArgument.into()),
        };
        self.stream(|stream, context| {
            let visible = stream.filter(direction, context.plugin).headers_visible || stream.log_phase;
            if visible { Ok(read(&stream.flow(direction).headers)) } else { Err(missing(stream)) }
        })?
    }

    pub fn edit_headers(&mut self, map: u32, edit: impl FnOnce(&mut Headers)) -> Outcome {
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

    pub fn buffer(&mut self, buffer: u32) -> std::result::Result<Vec<u8>, Fault> {
        let state = self.0.data();
        match buffer {
            0 => self.stream(|s, c| s.filter(Direction::Request, c.plugin).buffer().cloned().unwrap_or_default()),
            1 => self.stream(|s, c| s.filter(Direction::Response, c.plugin).buffer().cloned().unwrap_or_default()),
            4 | 5 => match &state.answer {
                Some(Answer::Http { body, .. }) if buffer == 4 => Ok(body.clone()),
                Some(Answer::Grpc { message }) if buffer == 5 => Ok(message.clone()),
                _ => Err(Status::NotFound.into()),
            },
            6 => Ok(state.vm_configuration.clone()),
            7 => Ok(state.plugins[state.configuring.ok_or(Status::NotFound)?].configuration.clone()),
            _ => Err(Status::BadArgument.into()),
        }
    }

    /// Envoy's buffers take an edit at the front (of `size` bytes, 0 prepends) or behind the end; one in the middle is refused.
    pub fn edit_buffer(&mut self, buffer: u32, start: usize, size: usize, value: &[u8]) -> Outcome {
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

    /// Sends a call out and writes its token where the guest wants it.
    pub fn call_out(&mut self, request: Request, out: u32) -> Outcome {
        let state = self.0.data();
        let context = state.context().ok_or(Status::BadArgument)?;
        let Request { protocol, upstream, method, headers, body, timeout_ms } = request;
        let known = state.process.uncallable().get(String::from_utf8_lossy(&upstream).as_ref()).copied();
        if let Some(status) = known.filter(|_| protocol == Protocol::Http) {
            return Err(status.into());
        }
        let (vm, root, stream) = (state.index, context.root, context.stream);
        let call = Callout { token: 0, protocol, upstream, method, headers, body, timeout_ms, stream, vm, root };
        let token = lock(&state.traffic).callouts.send(call);
        self.write(out, &token.to_le_bytes())
    }
}

fn missing(stream: &Stream) -> Fault {
    Fault::Status(if stream.log_phase { Status::NotFound } else { Status::BadArgument })
}
