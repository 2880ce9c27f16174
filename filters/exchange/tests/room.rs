//! Tables of fixed size that are full: strangers share what is left, nobody with a name is harmed, and the log says so once.

mod sim;

use penstock_bucket::bucket::Bucket;
use penstock_bucket::lease::{self, Lease};
use penstock_bucket::permit::{self, Holder};
use penstock_bucket::{Rate, page};
use penstock_exchange::{Call, CallAnswer, CallMessage, Effect, Event, Level};
use penstock_units::{Fingerprint, MilliTokens, Nanos, Tokens};
use sim::{Flight, Proxy, SECOND};

const YEAR: Nanos = Nanos(365 * 86_400 * SECOND);
const CHAT: &str = r#"{"model":"chat","max_tokens":10,"messages":[{"role":"user","content":"Hello, world"}]}"#;

fn proxy(limit: &str) -> Proxy {
    Proxy::new(&format!(
        r#"{{"tenant":{{"from":[{{"header":"x-tenant","trusted":true}},{{"header":"x-plain"}}],"anonymous":"allow"}},
        "models":[{{"name":"chat"}}],"tenants":{{"acme":{{}}}},"mesh":{{"service":"rls","domain":"d"}},"limits":[{limit}]}}"#
    ))
}

/// Every page that strangers may fill holds this.
fn fill(proxy: &mut Proxy, kind: &str, full: &[u8]) {
    for number in 0..4096 {
        proxy.store.values.insert(format!("penstock/{kind}/{number}"), full.to_vec());
    }
}

fn buckets(now: Nanos) -> Vec<u8> {
    let rate = Rate::new(Tokens(1000), YEAR, Tokens(1000)).unwrap();
    let used = Bucket::full(now).admit(rate, now, MilliTokens(900_000)).unwrap();
    let keys = (0..page::ENTRIES_MAX as u64).map(Fingerprint);
    keys.fold(Vec::new(), |full, key| page::set(&full, key, used, now).unwrap())
}

fn permits(now: Nanos) -> Vec<u8> {
    let holder = Holder { owner: 1, now, silence_max: YEAR };
    let keys = (0..permit::ENTRIES_MAX as u64).map(Fingerprint);
    keys.fold(Vec::new(), |full, key| permit::set(&full, key, holder, 1).unwrap())
}

fn leases(now: Nanos) -> Vec<u8> {
    let held = Lease::default().granted(now, Tokens(100), Some(YEAR), YEAR, Tokens(100));
    let keys = (0..lease::ENTRIES_MAX as u64).map(Fingerprint);
    keys.fold(Vec::new(), |full, key| lease::set(&full, key, held, now).unwrap())
}

/// What the log says of full tables in three ticks.
fn told(proxy: &mut Proxy) -> Vec<String> {
    let effects = (0..3).flat_map(|_| {
        proxy.now += SECOND;
        proxy.tick()
    });
    let warnings = effects.filter_map(|effect| match effect {
        Effect::Log(Level::Warn, text) => Some(text),
        _ => None,
    });
    warnings.collect()
}

fn assert_told_once(proxy: &mut Proxy, what: &str) {
    let told = told(proxy);
    assert!(matches!(&told[..], [one] if one.contains(what)), "{told:?}");
}

#[test]
fn strangers_without_a_bucket_share_one() {
    let limits = r#"{"name":"tpm","per":["tenant","model"],"tokens":1000,"every":"365d"},
        {"name":"team","per":["tenant",{"header":"x-team"}],"tokens":1000,"every":"365d"},
        {"name":"all","per":["model"],"tokens":100000,"every":"365d"}"#;
    let mut proxy = proxy(limits);
    let full = buckets(Nanos(proxy.now));
    fill(&mut proxy, "rate", &full);
    assert_eq!(told(&mut proxy), [""; 0]);
    let went = (0..100).filter(|i| proxy.chat(&[("x-plain", &format!("new-{i}"))], CHAT).went()).count();
    assert!((40..60).contains(&went), "{went}");
    for team in ["a", "b", "c"] {
        let flight = proxy.chat(&[("x-tenant", "acme"), ("x-team", team)], CHAT);
        assert!(flight.went() && flight.facts().tenant == "acme");
    }
    assert_told_once(&mut proxy, "64 buckets of limits are in use in one page");
}

#[test]
fn strangers_without_a_permit_share_those_of_one() {
    let mut proxy = proxy(r#"{"name":"streams","per":["tenant",{"header":"x-session"}],"concurrent":3}"#);
    let full = permits(Nanos(proxy.now));
    fill(&mut proxy, "permit", &full);
    let ask = |proxy: &mut Proxy, i: u32| proxy.chat(&[("x-session", &i.to_string())], CHAT);
    let mut held: Vec<Flight> = (0..20).map(|i| ask(&mut proxy, i)).collect();
    assert_eq!(held.iter().filter(|flight| flight.went()).count(), 3);
    let refused = held.iter().find_map(Flight::reply).unwrap();
    assert_eq!((refused.0, refused.1["x-penstock-limit"].as_str()), (429, "streams"));
    // One that ends makes room for one more.
    proxy.close(&mut held[0]);
    assert_eq!((20..30).map(|i| ask(&mut proxy, i)).filter(Flight::went).count(), 1);
    let named = (0..9).map(|i| proxy.chat(&[("x-tenant", "acme"), ("x-session", &i.to_string())], CHAT));
    assert_eq!(named.filter(Flight::went).count(), 9, "each session has three of its own");
    assert_told_once(&mut proxy, "320 permits are in use in one page");
}

#[test]
fn strangers_without_a_lease_share_one_in_the_service_too() {
    let mut proxy = proxy(r#"{"name":"all","per":["tenant"],"tokens":1000,"every":"1h","scope":"mesh"}"#);
    let full = leases(Nanos(proxy.now));
    fill(&mut proxy, "mesh-lease", &full);
    let mut asked = Vec::new();
    // The service grants whatever it is asked for.
    let granted = |proxy: &mut Proxy, flight: &mut Flight, asked: &mut Vec<Vec<u8>>| {
        let calls: Vec<_> = flight
            .seen
            .iter()
            .filter_map(|effect| match effect {
                Effect::Call(call) => Some(call.clone()),
                _ => None,
            })
            .collect();
        for call in calls {
            let Call { id, message: CallMessage::Grpc { message, .. }, .. } = &*call else { panic!("{call:?}") };
            let key = message.windows(16).find(|part| part.iter().all(u8::is_ascii_hexdigit)).unwrap();
            asked.push(key.to_vec());
            proxy.tell(flight, Event::CallDone { id: *id, answer: Some(CallAnswer::Grpc(&[8, 1])) });
        }
        flight.went()
    };
    for i in 0..8 {
        let mut flight = proxy.chat(&[("x-plain", &format!("new-{i}"))], CHAT);
        assert!(granted(&mut proxy, &mut flight, &mut asked), "{i}");
    }
    let strangers = asked.len();
    asked.dedup();
    assert_eq!(asked.len(), 1, "all of them by one key");
    assert!(strangers < 8, "what was granted to one serves the next: {strangers}");
    let mut flight = proxy.chat(&[("x-tenant", "acme")], CHAT);
    assert!(granted(&mut proxy, &mut flight, &mut asked));
    assert_ne!(asked[0], asked[1]);
    assert_told_once(&mut proxy, "64 leases are in use in one page");
}

/// A model with a ceiling, and many tenants.
fn crowd(ceiling: u64) -> Proxy {
    let tenants: Vec<String> = (0..1200).map(|i| format!(r#""t{i}":{{}}"#)).collect();
    Proxy::new(&format!(
        r#"{{"tenant":{{"from":[{{"header":"x-tenant","trusted":true}}]}},"tenants":{{{}}},
        "models":[{{"name":"chat","pending":{{"ceiling":{ceiling}}}}}]}}"#,
        tenants.join(",")
    ))
}

fn ask_each(proxy: &mut Proxy, tenants: std::ops::Range<u32>, body: &str) -> Vec<Flight> {
    tenants.map(|i| proxy.chat(&[("x-tenant", &format!("t{i}"))], body)).collect()
}

#[test]
fn tenants_that_wait_beyond_what_is_listed_wait_as_one() {
    let mut proxy = crowd(300);
    let big = CHAT.replace(":10,", ":200,");
    assert!(ask_each(&mut proxy, 0..1, &big).iter().all(Flight::went));
    assert!(!ask_each(&mut proxy, 1..257, &big).iter().any(Flight::went));
    assert_eq!(told(&mut proxy), [""; 0]);
    assert!(!ask_each(&mut proxy, 1..300, &big).iter().any(Flight::went));
    assert_told_once(&mut proxy, "more than 256 tenants wait");
}

#[test]
fn tenants_beyond_the_rows_of_a_slot_are_told() {
    let mut proxy = crowd(10_000_000);
    let _held = ask_each(&mut proxy, 0..1024, CHAT);
    assert_eq!(told(&mut proxy), [""; 0]);
    let _more = ask_each(&mut proxy, 1024..1025, CHAT);
    assert_told_once(&mut proxy, "more than 1024 rows of what is in flight");
}
