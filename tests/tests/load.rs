//! The benchmark under load works: `cargo xtask bench load`. Its figures are another matter, and nothing here depends on them.

use penstock_benches::load::{Filter, Plan, measure};
use penstock_tests::{find_envoy, module, need};

#[test]
fn every_filter_is_measured() {
    need!(find_envoy());
    module("penstock");
    let plan = Plan::quick();
    let report = match measure(&plan, |what| println!("{what}")) {
        Ok(report) => report,
        // What comes from the distribution is not what is tested here.
        Err(reason) if reason.contains("is not installed") => penstock_tests::skip!("{reason}"),
        Err(error) => panic!("{error}"),
    };
    let (text, json, picture) = (report.text(), report.json(), report.svg());
    assert_eq!(json["under_load"].as_array().map(Vec::len), Some(plan.rows.len()), "{json:#}");
    for row in json["under_load"].as_array().into_iter().flatten() {
        let filters = row["filters"].as_object().expect("filters");
        assert_eq!(filters.len(), Filter::ALL.len(), "{row:#}");
        for (name, figures) in filters {
            for figure in ["requests_per_second", "of_noop", "cpu_us", "cpu_of_floor", "p50_ms", "p99_ms"] {
                assert!(
                    figures[figure]["median"].as_f64().is_some_and(|value| value > 0.0),
                    "{name}, {figure}: {row:#}"
                );
            }
        }
    }
    for latencies in json["evenly_spaced"].as_array().into_iter().flatten() {
        let bare = &latencies["filters"]["bare"];
        assert!(bare["p99_ms"]["median"].as_f64() >= bare["p50_ms"]["median"].as_f64(), "{latencies:#}");
        assert_eq!(bare["p50_beyond_bare_ms"]["median"], 0.0, "{latencies:#}");
    }
    // Whatever else a machine does: a VM that counts has a table, and no other VM has one.
    let beyond = &json["memory"]["beyond_noop_mb"];
    assert!(beyond["first_worker"].as_f64().is_some_and(|mb| mb > 5.0 && mb < 130.0), "{json:#}");
    assert!(text.contains("Penstock") && picture.contains("Penstock"), "{text}\n{picture}");
}
