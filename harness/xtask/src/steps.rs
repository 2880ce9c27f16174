//! The steps of a command that takes minutes: what comes next, how long it usually takes, and which one failed.

use std::time::Instant;

/// Numbers the steps of one command.
pub struct Steps {
    of: usize,
    begun: usize,
    since: Instant,
}

impl Steps {
    /// A command of so many steps.
    pub fn new(of: usize) -> Self {
        Self { of, begun: 0, since: Instant::now() }
    }

    /// Does the next step. `usual` is how long it took in a fresh clone on two cores with nothing else to do.
    ///
    /// # Errors
    /// That of the work, with the step's name before it.
    pub fn step<T>(&mut self, what: &str, usual: &str, work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
        self.begun += 1;
        let number = format!("{}/{}", self.begun, self.of);
        eprintln!("xtask: {number} {what} ({usual} on two cores)");
        let began = Instant::now();
        let done = work().map_err(|message| format!("step {number}, {what}: {message}"))?;
        eprintln!("xtask: {number} took {}", duration(began.elapsed().as_secs()));
        Ok(done)
    }

    /// Says how long all of them took together.
    pub fn end(self) {
        debug_assert_eq!(self.begun, self.of, "the number of steps");
        eprintln!("xtask: all {} steps took {}", self.of, duration(self.since.elapsed().as_secs()));
    }
}

/// Seconds as people say them.
pub fn duration(seconds: u64) -> String {
    if seconds < 60 { format!("{seconds} s") } else { format!("{} min {} s", seconds / 60, seconds % 60) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_that_fails_is_named() {
        let mut steps = Steps::new(2);
        assert_eq!(steps.step("counting", "1 s", || Ok(7)), Ok(7));
        let failed = steps.step("weighing", "1 s", || Err::<(), _>("no scales".to_owned()));
        assert_eq!(failed, Err("step 2/2, weighing: no scales".to_owned()));
    }

    #[test]
    fn durations() {
        assert_eq!([duration(0), duration(59), duration(60), duration(125)], ["0 s", "59 s", "1 min 0 s", "2 min 5 s"]);
    }
}
