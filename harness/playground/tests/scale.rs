//! What the page says of replicas is what `penstock_simulate` says; and what a page carries of a vocabulary is all of it.

use penstock_playground::{answer, vocabulary};
use penstock_token_tables::Vocabulary;
use penstock_token_tables::layout::Pattern;
use serde_json::{Value, json};

fn ask(trace: &str, utilization: f64) -> Value {
    let question =
        json!({"ask": "scale", "trace": trace, "times": 1, "coldStart": 60, "ttft": 2, "utilization": utilization});
    serde_json::from_slice(&answer(question.to_string().as_bytes())).unwrap()
}

#[test]
fn a_smaller_share_takes_more_replicas() {
    let [half, most] = [0.5, 0.9].map(|share| ask("", share));
    let ours = |answer: &Value| answer["signals"][0]["replicaSeconds"].as_f64().unwrap();
    assert_eq!(half["signals"][0]["name"], "penstock");
    assert!(ours(&half) > ours(&most) * 1.2, "{} and {}", ours(&half), ours(&most));
    assert_eq!(half["signals"].as_array().unwrap().len(), 4);
}

#[test]
fn what_is_no_trace_is_told() {
    for (trace, why) in [("a,b\n1,2", "TIMESTAMP"), ("TIMESTAMP,ContextTokens,GeneratedTokens\n", "no request")] {
        let error = ask(trace, 0.7)["error"].as_str().unwrap().to_owned();
        assert!(error.contains(why), "{error}");
    }
    assert!(ask("", 0.0)["error"].as_str().unwrap().contains("utilization"));
}

#[test]
fn a_vocabulary_is_packed_and_unpacked() {
    let tokens = vec![b"a".to_vec(), vec![0xff, 0], vec![7; 255]];
    let packed =
        vocabulary::packed(&Vocabulary { tokens: tokens.clone(), pattern: Pattern::O200K, whole_pieces: true });
    let packed = packed.unwrap();
    let unpacked = vocabulary::unpacked(&packed).unwrap();
    assert_eq!((unpacked.tokens, unpacked.pattern), (tokens, Pattern::O200K));
    assert!(vocabulary::unpacked(&packed[..packed.len() - 1]).is_err_and(|error| error.contains("cut short")));
    let long = Vocabulary { tokens: vec![vec![0; 256]], pattern: Pattern::O200K, whole_pieces: true };
    assert!(vocabulary::packed(&long).is_err());
}
