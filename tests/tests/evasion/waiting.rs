//! A version without a server: who may wait for one.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;

use super::stage::Stage;

/// Whoever sends request after request gets four fifths of the places at most; others still wait.
#[tokio::test(flavor = "multi_thread")]
async fn all_places_in_front_of_a_cold_version() {
    let config = json!({
        "tick": "100ms",
        "tenant": {"from": [{"header": "x-tenant", "trusted": true}]},
        "tenants": {"acme": {}, "globex": {}},
        "models": [{"name": "chat", "coldStart": {"cluster": "stable", "hold": "60s", "maxHeld": 40}}],
    });
    // Nobody listens there.
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
    let Some(stage) = Stage::start_as(&config, |gateway| gateway.cluster("stable", nowhere)).await else { return };
    let body = json!({"model": "chat", "max_tokens": 9, "messages": [{"role": "user", "content": "hello"}]});
    let waits = async |tenant: &str, count: usize| {
        let tenant = [("x-tenant", tenant)];
        let ask = || tokio::time::timeout(Duration::from_secs(3), stage.chat(&tenant, &body));
        let answers = join_all((0..count).map(|_| ask())).await;
        for answer in answers.iter().flatten() {
            assert_eq!(answer.status(), 503);
        }
        answers.iter().filter(|answer| answer.is_err()).count()
    };
    // The first ones come before it is known that there is nobody.
    assert_eq!(waits("acme", 1).await, 1);
    let both = tokio::join!(waits("acme", 200), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        waits("globex", 3).await
    });
    // Two workers that decide at the same instant do not see each other.
    assert!((24..=34).contains(&both.0), "{both:?}");
    assert!(both.1 >= 2, "{both:?}");
}
