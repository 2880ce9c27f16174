//! The proxy's statistics: one registry for the whole process, as in Envoy.

use std::collections::BTreeMap;

use super::status::Status;

/// What kind of statistic a plugin defined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Only ever grows.
    Counter,
    /// One unsigned 64-bit number that wraps below zero, as Envoy's does.
    Gauge,
    /// Every recorded value.
    Histogram,
}

#[derive(Clone, Debug)]
struct Stat {
    kind: Kind,
    name: String,
    value: u64,
    recorded: Vec<u64>,
}

/// All statistics defined by the plugins of one process.
#[derive(Debug, Default)]
pub struct Metrics {
    stats: Vec<Stat>,
}

impl Metrics {
    pub(super) fn define(&mut self, kind: u32, name: &str) -> Result<u32, Status> {
        let kind = *[Kind::Counter, Kind::Gauge, Kind::Histogram].get(kind as usize).ok_or(Status::BadArgument)?;
        let index = self.stats.iter().position(|s| s.kind == kind && s.name == name).unwrap_or_else(|| {
            self.stats.push(Stat { kind, name: name.to_owned(), value: 0, recorded: Vec::new() });
            self.stats.len() - 1
        });
        Ok((index as u32) << 2 | kind as u32)
    }

    pub(super) fn increment(&mut self, id: u32, offset: i64) -> Result<(), Status> {
        let stat = self.counted(id)?;
        match stat.kind {
            Kind::Counter if offset <= 0 => return Err(Status::BadArgument),
            Kind::Counter | Kind::Gauge => stat.value = stat.value.wrapping_add_signed(offset),
            Kind::Histogram => {}
        }
        Ok(())
    }

    pub(super) fn record(&mut self, id: u32, value: u64) -> Result<(), Status> {
        let stat = self.stat(id)?;
        match stat.kind {
            Kind::Counter => stat.value = stat.value.wrapping_add(value),
            Kind::Gauge => stat.value = value,
            Kind::Histogram => stat.recorded.push(value),
        }
        Ok(())
    }

    pub(super) fn get(&mut self, id: u32) -> Result<u64, Status> {
        Ok(self.counted(id)?.value)
    }

    /// What has one value. Of a kind that has none it does not matter whether it is there.
    fn counted(&mut self, id: u32) -> Result<&mut Stat, Status> {
        if id & 3 >= Kind::Histogram as u32 { Err(Status::BadArgument) } else { self.stat(id) }
    }

    fn stat(&mut self, id: u32) -> Result<&mut Stat, Status> {
        self.stats.get_mut((id >> 2) as usize).filter(|stat| stat.kind as u32 == id & 3).ok_or(Status::NotFound)
    }

    /// The Prometheus view: `name{label="value",…}` with sorted labels to value. A histogram is shown by `_count` and `_sum`.
    pub fn prometheus(&self) -> BTreeMap<String, u64> {
        let mut out = BTreeMap::new();
        for stat in &self.stats {
            let (name, labels) = split(&stat.name);
            if stat.kind == Kind::Histogram {
                out.insert(series(&format!("{name}_count"), &labels), stat.recorded.len() as u64);
                out.insert(series(&format!("{name}_sum"), &labels), stat.recorded.iter().sum());
            } else {
                out.insert(series(name, &labels), stat.value);
            }
        }
        out
    }

    /// Every value a histogram recorded, by its Prometheus series name.
    pub fn histogram(&self, wanted: &str) -> Option<&[u64]> {
        let stat = self.stats.iter().filter(|s| s.kind == Kind::Histogram).find(|s| {
            let (name, labels) = split(&s.name);
            series(name, &labels) == wanted
        })?;
        Some(&stat.recorded)
    }
}

/// Splits `model=.=chat;.;version=.=v1;.;name` into the name and its tags, as Envoy's `stats_tags` regexes do.
fn split(stat: &str) -> (&str, BTreeMap<&str, &str>) {
    let mut labels = BTreeMap::new();
    let mut name = stat;
    for segment in stat.split(";.;") {
        match segment.split_once("=.=") {
            Some((tag, value)) => {
                labels.insert(tag, value);
            }
            None => name = segment,
        }
    }
    (name, labels)
}

fn series(name: &str, labels: &BTreeMap<&str, &str>) -> String {
    if labels.is_empty() {
        return name.to_owned();
    }
    let labels: Vec<String> = labels.iter().map(|(tag, value)| format!("{tag}=\"{value}\"")).collect();
    format!("{name}{{{}}}", labels.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gauges_wrap_counters_refuse_and_tags_become_sorted_labels() {
        let mut metrics = Metrics::default();
        let gauge = metrics.define(1, "version=.=v1;.;model=.=chat;.;pending").unwrap();
        assert_eq!(
            metrics.define(1, "version=.=v1;.;model=.=chat;.;pending"),
            Ok(gauge),
            "defining twice is the same stat"
        );
        metrics.increment(gauge, -1).unwrap();
        assert_eq!(metrics.prometheus()[r#"pending{model="chat",version="v1"}"#], u64::MAX);

        let counter = metrics.define(0, "total").unwrap();
        assert_eq!(metrics.increment(counter, 0), Err(Status::BadArgument));
        assert_eq!(metrics.increment(counter, -3), Err(Status::BadArgument));
        metrics.increment(counter, 4).unwrap();
        assert_eq!(metrics.get(counter), Ok(4));

        let histogram = metrics.define(2, "ms").unwrap();
        metrics.record(histogram, 7).unwrap();
        metrics.record(histogram, 5).unwrap();
        assert_eq!(metrics.histogram("ms"), Some(&[7, 5][..]));
        assert_eq!(metrics.prometheus()["ms_sum"], 12);
        assert_eq!(metrics.record(999 << 2, 1), Err(Status::NotFound));
        assert_eq!(metrics.define(3, "x"), Err(Status::BadArgument));
    }
}
