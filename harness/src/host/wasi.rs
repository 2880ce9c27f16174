//! The part of WASI preview 1 that Envoy offers. Time is the test's clock, randomness is seeded.

use wasmtime::{Caller, ExternType, Linker, Result, Val};

use super::guest::Guest;
use super::module::Module;
use super::state::VmState;

const WASI: &str = "wasi_snapshot_preview1";
const BADF: i32 = 8;
const FAULT: u32 = 21;
const NOSYS: i32 = 52;

pub(super) fn link(linker: &mut Linker<VmState>, module: &Module) -> Result<()> {
    linker.func_wrap(
        WASI,
        "fd_write",
        |caller: Caller<'_, VmState>, fd: u32, iovs: u32, count: u32, written: u32| {
            let mut guest = Guest::called("fd_write", caller);
            let mut text = Vec::new();
            for index in 0..count {
                let (Ok(at), Ok(len)) = (guest.read_u32(iovs + index * 8), guest.read_u32(iovs + index * 8 + 4)) else {
                    return FAULT;
                };
                match guest.read(at, len) {
                    Ok(bytes) => text.extend(bytes),
                    Err(_) => return FAULT,
                }
            }
            // Envoy logs stdout as info and stderr as error; a panic's message comes this way.
            let level = if fd == 2 { 4 } else { 2 };
            guest.say(level, String::from_utf8_lossy(&text).trim_end().to_owned());
            guest.write(written, &(text.len() as u32).to_le_bytes()).map_or(FAULT, |()| 0)
        },
    )?;
    linker.func_wrap(
        WASI,
        "clock_time_get",
        |caller: Caller<'_, VmState>, _clock: u32, _precision: u64, out: u32| {
            let now = caller.data().process.now().as_nanos() as u64;
            Guest::called("clock_time_get", caller).write(out, &now.to_le_bytes()).map_or(FAULT, |()| 0)
        },
    )?;
    linker.func_wrap(WASI, "random_get", |mut caller: Caller<'_, VmState>, out: u32, len: u32| {
        let bytes: Vec<u8> = (0..len).map(|_| next_random(&mut caller.data_mut().random)).collect();
        Guest::called("random_get", caller).write(out, &bytes).map_or(FAULT, |()| 0)
    })?;
    for name in ["environ_sizes_get", "args_sizes_get"] {
        linker.func_wrap(WASI, name, |caller: Caller<'_, VmState>, count: u32, size: u32| {
            let mut guest = Guest(caller);
            let written = guest.write(count, &[0; 4]).and_then(|()| guest.write(size, &[0; 4]));
            written.map_or(FAULT, |()| 0)
        })?;
    }
    for name in ["environ_get", "args_get"] {
        linker.func_wrap(WASI, name, |_: Caller<'_, VmState>, _: u32, _: u32| 0u32)?;
    }
    linker.func_wrap(WASI, "proc_exit", |_: Caller<'_, VmState>, code: u32| -> Result<()> {
        Err(wasmtime::Error::msg(format!("the module called proc_exit({code})")))
    })?;
    the_rest(linker, module)
}

/// Every other WASI import answers that there is no such file, or no such call.
fn the_rest(linker: &mut Linker<VmState>, module: &Module) -> Result<()> {
    const OFFERED: [&str; 8] = [
        "fd_write",
        "clock_time_get",
        "random_get",
        "environ_sizes_get",
        "args_sizes_get",
        "environ_get",
        "args_get",
        "proc_exit",
    ];
    for import in module.0.imports().filter(|i| i.module() == WASI && !OFFERED.contains(&i.name())) {
        if let ExternType::Func(ty) = import.ty() {
            let errno = if import.name().starts_with("fd_") { BADF } else { NOSYS };
            linker.func_new(WASI, import.name(), ty, move |_, _, results| {
                results.iter_mut().for_each(|result| *result = Val::I32(errno));
                Ok(())
            })?;
        }
    }
    Ok(())
}

/// One byte of splitmix64.
fn next_random(state: &mut u64) -> u8 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) as u8
}
