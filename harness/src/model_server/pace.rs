//! How fast the server is when it has much to do: prompts are read one after the other, and what is generated is shared by all streams. So it
//! is with a GPU that batches continuously, without chunked prefill.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

/// Both rates, and who shares them.
#[derive(Debug)]
pub(super) struct Pace {
    /// Tokens per second; 0 for no bound.
    prefill: u64,
    decode: u64,
    /// When the prompts that came so far are read. The lock is taken in the order of arrival.
    reads: Mutex<Instant>,
    generating: AtomicUsize,
}

impl Pace {
    pub(super) fn new(prefill: u64, decode: u64) -> Self {
        Self { prefill, decode, reads: Mutex::new(Instant::now()), generating: AtomicUsize::new(0) }
    }

    /// Waits until a prompt is read. A client that hangs up meanwhile takes no more of the time.
    pub(super) async fn read(&self, tokens: u64) {
        if let Some(takes) = seconds(tokens, self.prefill) {
            let mut free = self.reads.lock().await;
            let done = (*free).max(Instant::now()) + takes;
            sleep_until(done).await;
            *free = done;
        }
    }

    /// One more stream generates, until what is returned is dropped.
    pub(super) fn generate(self: &Arc<Self>) -> Generating {
        self.generating.fetch_add(1, Ordering::Relaxed);
        Generating(Arc::clone(self))
    }
}

/// A stream that generates.
#[derive(Debug)]
pub(super) struct Generating(Arc<Pace>);

impl Generating {
    /// From one token of this stream to the next, which takes `alone` where there is nobody else.
    pub(super) fn inter_token(&self, alone: Duration) -> Duration {
        let streams = self.0.generating.load(Ordering::Relaxed) as u64;
        alone.max(seconds(streams, self.0.decode).unwrap_or_default())
    }
}

impl Drop for Generating {
    fn drop(&mut self) {
        self.0.generating.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How long so many tokens take; `None` where there is no bound.
fn seconds(tokens: u64, rate: u64) -> Option<Duration> {
    (rate > 0).then(|| Duration::from_secs_f64(tokens as f64 / rate as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_generated_is_shared() {
        let pace = Arc::new(Pace::new(0, 100));
        let alone = Duration::from_millis(15);
        let one = pace.generate();
        assert_eq!(one.inter_token(alone), alone);
        let others = [pace.generate(), pace.generate()];
        assert_eq!(one.inter_token(alone), Duration::from_millis(30));
        drop(others);
        assert_eq!(one.inter_token(alone), alone);
    }

    #[tokio::test]
    async fn prompts_are_read_one_after_the_other() {
        let pace = Pace::new(1000, 0);
        let began = Instant::now();
        tokio::join!(pace.read(50), pace.read(100));
        assert!(began.elapsed() >= Duration::from_millis(150));
    }

    #[tokio::test]
    async fn who_does_not_wait_takes_no_time() {
        let pace = Pace::new(1000, 0);
        let began = Instant::now();
        let left = tokio::time::timeout(Duration::from_millis(10), pace.read(60_000)).await;
        assert!(left.is_err());
        pace.read(10).await;
        assert!(began.elapsed() < Duration::from_secs(30));
    }
}
