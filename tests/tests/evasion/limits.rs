//! What happens to limits and ceilings while many ask at once, and what is seen before it is enforced.

use penstock_tests::until_metrics;
use serde_json::json;

use super::stage::Stage;

/// What is only observed goes on, is told, and is not charged to the limit that would have refused it.
#[tokio::test(flavor = "multi_thread")]
async fn a_limit_is_seen_before_it_is_enforced() {
    let config = json!({
        "models": [{"name": "chat", "output": {"max": 10}}],
        "limits": [
            {"name": "tight", "tokens": 20, "every": "1h", "mode": "observe"},
            {"name": "wide", "tokens": 60, "every": "1h"},
        ],
    });
    let Some(stage) = Stage::start(&config).await else { return };
    let body = json!({"model": "chat", "max_tokens": 10, "messages": [{"role": "user", "content": "hello"}]});
    let mut would = Vec::new();
    for _ in 0..3 {
        let answer = stage.chat(&[], &body).await;
        assert_eq!(answer.status(), 200);
        would.push(answer.headers().get("x-penstock-would").map(|would| would.to_str().unwrap().to_owned()));
    }
    assert_eq!(would, [None, Some("limited; limit=tight".to_owned()), Some("limited; limit=tight".to_owned())]);
    let answer = stage.chat(&[], &body).await;
    assert_eq!((answer.status().as_u16(), answer.headers()["x-penstock-limit"].to_str().unwrap()), (429, "wide"));
    until_metrics(&stage.envoy, |metrics| {
        let tight = [("reason", "limited"), ("limit", "tight")];
        let wide = [("reason", "limited"), ("limit", "wide"), ("model", "chat"), ("tenant", "other")];
        metrics.sum("penstock_observed_total", &tight) >= 2.0 && metrics.sum("penstock_refused_total", &wide) == 1.0
    })
    .await;
}
