//! The page of a run in a real browser: it opens from disk, asks nobody for anything, shows the violation, and a click
//! shows the causal past.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;
use std::process::Command;

use serde_json::Value;

fn numbers(list: &Value) -> Vec<u64> {
    list.as_array().unwrap().iter().map(|number| number.as_u64().unwrap()).collect()
}

#[test]
fn a_click_shows_the_causal_past() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = Path::new(env!("CARGO_TARGET_TMPDIR")).join("timeline.html");
    let trace = folder.join("tests/traces/timeline.jsonl");
    let check = Command::new(env!("CARGO_BIN_EXE_sim")).arg("check").arg(&trace).arg("--html").arg(&page).output();
    assert_eq!(check.unwrap().status.code(), Some(1), "the trace breaks a promise");

    // Record 12 is the ack; 6 to 11 are its way there.
    let modules = folder.join("../.local/npm/node_modules");
    let browser = Command::new("node")
        .env("NODE_PATH", &modules)
        .arg(folder.join("tests/browser/timeline.cjs"))
        .arg(&page)
        .arg("12")
        .output()
        .unwrap_or_else(|error| panic!("node: {error}; run `cargo xtask setup`"));
    let said = String::from_utf8_lossy(&browser.stdout);
    let wrong = String::from_utf8_lossy(&browser.stderr);
    assert!(browser.status.success(), "{wrong}\nif Chromium or playwright-core is missing: run `cargo xtask setup`");
    let saw: Value = serde_json::from_str(&said).unwrap();

    assert_eq!(saw["errors"], Value::Array(Vec::new()));
    let asked: Vec<_> = saw["asked"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(asked.iter().all(|url| url.starts_with("file://")), "the page asked for {asked:?}");
    assert!(saw["first"]["chosen"].as_str().unwrap().contains("A5: "), "it opens at the violation: {saw}");
    assert!(saw["clicked"]["chosen"].as_str().unwrap().contains(r#""k": "ack""#), "{saw}");
    let past = numbers(&saw["clicked"]["past"]);
    for cause in [6, 7, 8, 9, 10, 11] {
        assert!(past.contains(&cause), "the ack follows from {cause}: {past:?}");
    }
    assert!(!past.contains(&13), "what came later is no cause: {past:?}");
    assert!(saw["clicked"]["rooms"].as_str().unwrap().contains("owner brain-1, term 1"), "{saw}");
    assert!(saw["followed"]["chosen"].as_str().unwrap().contains(r#""n": 11"#), "a cause can be chosen: {saw}");
}
