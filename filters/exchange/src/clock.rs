//! A clock that does not go back, whatever the system's clock does.
//!
//! A bucket's state is an instant: where the system's clock is set back by an hour, every bucket in use would be an hour from being full.
//! So time goes on from where it was, by an offset that the workers share. Forwards it follows the system's clock: at worst buckets are
//! full, and who was silent beats again.

use penstock_units::Nanos;

use crate::keys;
use crate::port::Store;

/// Steps back of less than this are waited out: clocks are adjusted by a little all the time, and workers read them at different moments.
const TOLERANCE: Nanos = Nanos::SECOND;

/// One worker's view.
#[derive(Debug, Default)]
pub struct Clock {
    last: Nanos,
    /// Shared by the workers, in nanoseconds, little-endian.
    offset: Nanos,
}

impl Clock {
    /// The time, where the system's clock says `wall`.
    pub fn read(&mut self, wall: Nanos, store: &mut dyn Store) -> Nanos {
        let mut now = wall.saturating_add(self.offset);
        if now.saturating_add(TOLERANCE) < self.last {
            self.refresh(store);
            now = wall.saturating_add(self.offset);
            if now.saturating_add(TOLERANCE) < self.last {
                let offset = self.last.saturating_sub(wall);
                let mut agreed = offset;
                let _ = store.update(keys::CLOCK, &mut |old| {
                    agreed = old.map_or(Nanos::ZERO, decode).max(offset);
                    Some(agreed.0.to_le_bytes().to_vec())
                });
                self.offset = agreed;
                now = wall.saturating_add(agreed);
            }
        }
        self.last = self.last.max(now);
        self.last
    }

    /// Asks what other workers found.
    pub fn refresh(&mut self, store: &mut dyn Store) {
        self.offset = self.offset.max(store.get(keys::CLOCK).as_deref().map_or(Nanos::ZERO, decode));
    }
}

fn decode(bytes: &[u8]) -> Nanos {
    Nanos(bytes.try_into().map_or(0, u64::from_le_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::{Change, Contended};

    #[derive(Default)]
    struct One(Option<Vec<u8>>);

    impl Store for One {
        fn get(&mut self, _: &str) -> Option<Vec<u8>> {
            self.0.clone()
        }

        fn update(&mut self, _: &str, change: Change<'_>) -> Result<u32, Contended> {
            self.0 = change(self.0.as_deref()).or(self.0.take());
            Ok(0)
        }
    }

    const HOUR: u64 = 3_600_000_000_000;
    const MS: u64 = 1_000_000;

    #[test]
    fn time_goes_on_when_the_clock_is_set_back() {
        let (mut store, mut a, mut b) = (One::default(), Clock::default(), Clock::default());
        let start = 1000 * HOUR;
        assert_eq!(a.read(Nanos(start), &mut store), Nanos(start));
        assert_eq!(b.read(Nanos(start + MS), &mut store), Nanos(start + MS));
        // A little is waited out.
        assert_eq!(a.read(Nanos(start - 500 * MS), &mut store), Nanos(start));
        assert_eq!(store.0, None);
        let back = start - HOUR;
        assert_eq!(a.read(Nanos(back), &mut store), Nanos(start));
        assert_eq!(a.read(Nanos(back + MS), &mut store), Nanos(start + MS));
        // The other agrees, and so does one that begins afterwards.
        assert_eq!(b.read(Nanos(back + 2 * MS), &mut store), Nanos(start + 2 * MS));
        let mut c = Clock::default();
        c.refresh(&mut store);
        assert_eq!(c.read(Nanos(back + 3 * MS), &mut store), Nanos(start + 3 * MS));
        // Forwards it follows.
        assert_eq!(a.read(Nanos(back + 2 * HOUR), &mut store), Nanos(start + 2 * HOUR));
    }
}
