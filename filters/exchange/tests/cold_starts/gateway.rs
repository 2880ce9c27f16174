//! A simulated proxy whose requests wait: probes are answered by the test, and exchanges are woken as the shell wakes them.

use std::collections::BTreeMap;

use penstock_exchange::{Call, CallAnswer, CallId, Effect, Event, Headers, Labels, Metric};

use crate::sim::{Flight, Proxy, SECOND};

/// 8 prompt tokens, and 92 that are expected.
pub const CHAT: &str = r#"{"model":"chat","max_tokens":92,"messages":[{"role":"user","content":"Hello"}]}"#;
pub const USAGE: &str =
    r#"{"choices":[{"message":{"content":"Hi"}}],"usage":{"prompt_tokens":8,"completion_tokens":92}}"#;
pub const NO_HOST: &str = "no_healthy_upstream";

/// What is answered to a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Status(u16),
    Nothing,
    NoCluster,
}

/// A proxy, the requests in it by their number, and the order in which they went on.
pub struct Gateway {
    pub proxy: Proxy,
    pub flights: BTreeMap<u32, Flight>,
    /// Those that are over, whose calls may still be answered.
    pub over: BTreeMap<u32, Flight>,
    /// Whose they are, since when, and what they are.
    pub probes: Vec<(u32, CallId, Call, u64)>,
    pub went: Vec<u32>,
    pub next: u32,
}

impl Gateway {
    pub fn new(config: &str) -> Self {
        Self::of(Proxy::new(config))
    }

    pub fn of(proxy: Proxy) -> Self {
        Self { proxy, flights: BTreeMap::new(), over: BTreeMap::new(), probes: Vec::new(), went: Vec::new(), next: 0 }
    }

    /// A request comes; answers its number.
    pub fn send(&mut self, headers: &[(&str, &str)], body: &str) -> u32 {
        self.next += 1;
        let mut flight = self.proxy.open();
        let number = self.next;
        self.proxy.send_with(&mut flight, headers, body);
        let seen = flight.seen.clone();
        self.flights.insert(number, flight);
        self.follow(number, &seen);
        number
    }

    pub fn chat(&mut self) -> u32 {
        self.send(&[], CHAT)
    }

    pub fn tell(&mut self, number: u32, event: Event<'_>) {
        let flight = self.flights.get_mut(&number).or(self.over.get_mut(&number)).expect("it has come");
        let out = self.proxy.tell(flight, event);
        self.follow(number, &out);
    }

    /// What the shell does with effects.
    pub fn follow(&mut self, number: u32, out: &[Effect]) {
        for effect in out {
            match effect {
                Effect::Call(call) => {
                    let now = self.proxy.now;
                    let is_under_way = |known: &Call, at: u64| known.cluster == call.cluster && now - at < 2 * SECOND;
                    assert!(!self.probes.iter().any(|(.., known, at)| is_under_way(known, *at)), "one at a time");
                    self.probes.push((number, call.id, (**call).clone(), now));
                }
                Effect::Resume => self.went.push(number),
                _ => {}
            }
        }
        for effect in out {
            let Effect::Wake(woken) = effect else { continue };
            for id in woken {
                // The shell knows exchanges by the ids that the simulated proxy gave them, in the order of the requests.
                if self.flights.contains_key(id) {
                    self.tell(*id, Event::Tick);
                }
            }
        }
    }

    /// Every probe that is under way is answered.
    pub fn answer(&mut self, answer: Answer) {
        for (number, id, ..) in std::mem::take(&mut self.probes) {
            let headers: Headers = match answer {
                Answer::Status(status) => vec![(":status".into(), status.to_string().into_bytes())],
                _ => Headers::new(),
            };
            let answer = match answer {
                Answer::Status(_) => Some(CallAnswer::Http { headers: &headers, body: b"" }),
                Answer::Nothing => None,
                Answer::NoCluster => Some(CallAnswer::NoCluster),
            };
            self.tell(number, Event::CallDone { id, answer });
        }
    }

    /// So much time passes, in ticks of half a second, of which each exchange that wants them is told.
    pub fn pass(&mut self, halves: u64) {
        for _ in 0..halves {
            self.proxy.now += SECOND / 2;
            self.proxy.tick();
            // In no particular order.
            let numbers: Vec<u32> = self.flights.keys().rev().copied().collect();
            for number in numbers {
                if self.flights.get(&number).is_some_and(wants_ticks) {
                    self.tell(number, Event::Tick);
                }
            }
        }
    }

    pub fn flight(&self, number: u32) -> &Flight {
        self.flights.get(&number).unwrap_or_else(|| &self.over[&number])
    }

    pub fn status(&self, number: u32) -> Option<u32> {
        self.flight(number).reply().map(|(status, ..)| status)
    }

    /// It is over.
    pub fn close(&mut self, number: u32) {
        self.tell(number, Event::Closed);
        self.over.extend(self.flights.remove_entry(&number));
    }

    /// It is answered, and over.
    pub fn answer_with(&mut self, number: u32, status: u16, details: &str, body: &str) {
        let mut flight = self.flights.remove(&number).expect("it is open");
        flight.props.0.insert("response.code_details".into(), details.into());
        self.proxy.answer(&mut flight, status, body);
        self.over.insert(number, flight);
    }

    /// It is answered by a server.
    pub fn finish(&mut self, number: u32) {
        self.answer_with(number, 200, "via_upstream", USAGE);
    }

    /// The proxy itself answers that it has no host.
    pub fn has_no_host(&mut self, number: u32) {
        self.answer_with(number, 503, NO_HOST, "no healthy upstream");
    }

    pub fn gauge(&mut self, metric: Metric, labels: &str) -> u64 {
        let labels: Labels = labels.split(' ').map(str::to_owned).collect();
        self.proxy.gauges()[&(metric, labels)]
    }

    /// What is in use of the permits of all in this process.
    pub fn permits(&self) -> usize {
        let pages = self.proxy.store.values.iter().filter(|(key, _)| key.starts_with("penstock/permit/"));
        pages.map(|(_, page)| page.len()).sum()
    }
}

pub fn wants_ticks(flight: &Flight) -> bool {
    let said = flight.seen.iter().rev().find_map(|effect| match effect {
        Effect::Ticks(wanted) => Some(*wanted),
        _ => None,
    });
    said.unwrap_or(false)
}

/// Whether other plugins are told that it has not gone on.
pub fn waits(flight: &Flight) -> bool {
    flight.facts().held.is_some_and(|held| held.waits)
}

pub fn demand(flight: &Flight) -> Vec<(String, u64)> {
    let counted = flight.counted(Metric::RefusedDemand).into_iter();
    counted.map(|(labels, tokens)| (labels.join(" "), tokens)).collect()
}

pub fn config(cold: &str, more: &str) -> String {
    format!(
        r#"{{"waitForBody":true,"models":[{{"name":"chat","coldStart":{{"cluster":"outbound|8000||chat.llm.svc.cluster.local"{cold}}}}}],
        "limits":[{{"name":"tpm","tokens":100000,"every":"4000h"}}{more}]}}"#
    )
}

/// A budget from which it can be read what was charged.
pub fn left(gateway: &mut Gateway) -> u64 {
    let number = gateway.chat();
    gateway.answer(Answer::Status(200));
    gateway.finish(number);
    let flight = gateway.flight(number);
    flight.response_header("x-ratelimit-remaining-tokens").unwrap().parse().unwrap()
}
