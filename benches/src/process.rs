//! What the system knows of a process: the time that it ran for, and the memory that it has.

use std::fs;

/// Nanoseconds that all threads of a process have run for.
///
/// # Errors
/// When there is no such process.
pub fn cpu_nanos(pid: u32) -> Result<u64, String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).map_err(|error| format!("/proc/{pid}: {error}"))?;
    let run = |task: fs::DirEntry| {
        // Where /proc/PID/stat has ticks of ten milliseconds, this has nanoseconds.
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    };
    Ok(tasks.flatten().filter_map(run).sum())
}

/// Bytes of memory that a process has, without what is swapped out.
///
/// # Errors
/// When there is no such process.
pub fn resident_bytes(pid: u32) -> Result<u64, String> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok());
    kib.map(|kib: u64| kib * 1024).ok_or_else(|| format!("{path} has no VmRSS"))
}
