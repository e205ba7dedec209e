//! The page of a run in a real browser: it opens from disk, asks nobody for anything, shows the violation, a click shows
//! the causal past, and a crowded run can be filtered down to one room or one client.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn numbers(list: &Value) -> Vec<u64> {
    list.as_array().unwrap().iter().map(|number| number.as_u64().unwrap()).collect()
}

fn words(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect()
}

fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn page(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// What a person sees who opens `page` and clicks on `record`.
fn open(page: &Path, record: &str) -> Value {
    let browser = Command::new("node")
        .env("NODE_PATH", folder().join("../.local/npm/node_modules"))
        .arg(folder().join("tests/browser/timeline.cjs"))
        .arg(page)
        .arg(record)
        .output()
        .unwrap_or_else(|error| panic!("node: {error}; run `cargo xtask setup`"));
    let said = String::from_utf8_lossy(&browser.stdout);
    let wrong = String::from_utf8_lossy(&browser.stderr);
    assert!(browser.status.success(), "{wrong}\nif Chromium or playwright-core is missing: run `cargo xtask setup`");
    let saw: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(saw["errors"], Value::Array(Vec::new()));
    let asked = words(&saw["asked"]);
    assert!(asked.iter().all(|url| url.starts_with("file://")), "the page asked for {asked:?}");
    saw
}

#[test]
fn a_click_shows_the_causal_past() {
    let page = page("timeline.html");
    let trace = folder().join("tests/traces/timeline.jsonl");
    let check = Command::new(env!("CARGO_BIN_EXE_sim")).arg("check").arg(&trace).arg("--html").arg(&page).output();
    assert_eq!(check.unwrap().status.code(), Some(1), "the trace breaks a promise");

    // Record 12 is the ack; 6 to 11 are its way there.
    let saw = open(&page, "12");
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

#[test]
fn sixty_seconds_of_fifty_clients_can_be_read() {
    let page = page("crowd.html");
    let plan = folder().join("tests/plans/crowd.toml");
    let replay = Command::new(env!("CARGO_BIN_EXE_sim")).arg("replay").arg(&plan).arg("--html").arg(&page).output();
    let replay = replay.unwrap();
    assert_eq!(replay.status.code(), Some(0), "{}", String::from_utf8_lossy(&replay.stdout));

    let saw = open(&page, "ack");
    let (records, end_us) = (saw["facts"]["records"].as_u64().unwrap(), saw["facts"]["end_us"].as_u64().unwrap());
    assert!(records > 10_000 && end_us > 55_000_000, "{records} records, {end_us} us");
    let all = words(&saw["whole"]["rows"]);
    assert_eq!(all.iter().filter(|row| row.starts_with("client-")).count(), 50);
    // One dot a pixel and row, so that the whole run is drawn at once however much is in it.
    let dots = saw["whole"]["dots"].as_u64().unwrap();
    assert!(dots < records * 3 / 4, "{dots} dots for {records} records");
    assert!(saw["clicked"]["chosen"].as_str().unwrap().contains(r#""k": "ack""#), "{}", saw["clicked"]);
    assert!(numbers(&saw["clicked"]["past"]).len() > 5, "{}", saw["clicked"]);

    let client = &saw["filters"]["client"];
    let rows = words(&client["rows"]);
    let clients: Vec<_> = rows.iter().filter(|row| row.starts_with("client-")).collect();
    assert_eq!(clients, [&client["value"].as_str().unwrap()], "the others made room");
    assert!(rows.contains(&"broker") && rows.contains(&"shield-1"), "{rows:?}");
    let room = &saw["filters"]["room"];
    // Two tenants: half of the clients know nothing of this room.
    assert_eq!(words(&room["rows"]).iter().filter(|row| row.starts_with("client-")).count(), 25, "{}", room["value"]);
    for filter in [client, room] {
        assert!(filter["dots"].as_u64().unwrap() < dots, "{filter}");
    }
    // How many dots share a pixel depends on the width that is left; nothing may be missing.
    assert_eq!(saw["again"]["rows"], saw["whole"]["rows"], "without a filter everything is back");
    assert!(saw["again"]["dots"].as_u64().unwrap() >= dots, "without a filter everything is back");

    let kind = |fault: &Value| fault["kind"].as_str().unwrap().to_owned();
    let faults: Vec<_> = saw["facts"]["faults"].as_array().unwrap().iter().collect();
    for wanted in ["hold", "crash", "lose-republish"] {
        assert!(faults.iter().any(|fault| kind(fault) == wanted), "no {wanted}: {faults:?}");
    }
    assert!(faults.iter().all(|fault| !fault["lanes"].as_array().unwrap().is_empty()), "each shades a row: {faults:?}");
}
