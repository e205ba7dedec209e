//! A dashboard or an alert names only metrics that some part registers: a renamed metric must not leave a dead alert.

use std::collections::BTreeSet;

use super::{File, Finding};

/// What our metrics' names begin with.
const PREFIXES: &[&str] = &["shield_", "brain_", "spine_", "policy_", "consistency_", "build_"];
/// What Prometheus adds to a registered name.
const SUFFIXES: &[&str] = &["_total", "_bucket", "_count", "_sum", "_created"];

pub(super) fn check(files: &[File]) -> Vec<Finding> {
    let registered = registered(files);
    let mut found = Vec::new();
    for file in files.iter().filter(|file| is_watcher(&file.path)) {
        if file.path.ends_with(".json") && serde_json::from_str::<serde_json::Value>(&file.text).is_err() {
            found.push(Finding::error(&file.path, "is no JSON"));
        }
        found.extend(alerts(file));
        for (n, line) in (1..).zip(file.text.lines()) {
            for name in expressions(line).flat_map(names) {
                if !registered.contains(base(name)) && !registered.contains(name) {
                    found.push(Finding::error(
                        format!("{}:{n}", file.path),
                        format!("nobody registers the metric {name}"),
                    ));
                }
            }
        }
    }
    found
}

/// Every alert says what to look at first.
fn alerts(file: &File) -> Vec<Finding> {
    let mut found = Vec::new();
    let rules = file.text.split("- alert: ").skip(1);
    for rule in rules.filter(|rule| !rule.lines().any(|line| line.trim_start().starts_with("look: "))) {
        let name = rule.lines().next().unwrap_or_default();
        found.push(Finding::error(&file.path, format!("the alert {name} does not say where to look first")));
    }
    found
}

fn is_watcher(path: &str) -> bool {
    path.starts_with("ops/prometheus/") || path.starts_with("ops/grafana/")
}

/// What follows `expr:` in a rule or `"expr":` on a dashboard; names are found only there, so titles may say what they like.
fn expressions(line: &str) -> impl Iterator<Item = &str> {
    let line = line.trim_start();
    let rest = line.strip_prefix("expr:").or_else(|| line.split_once("\"expr\":").map(|(_, rest)| rest));
    rest.into_iter()
}

/// Words that look like metrics of ours.
fn names(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| PREFIXES.iter().any(|prefix| word.starts_with(prefix)))
}

fn base(name: &str) -> &str {
    SUFFIXES.iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name)
}

/// Every string in Rust code that could be a metric's name.
fn registered(files: &[File]) -> BTreeSet<&str> {
    let code = files.iter().filter(|file| file.path.ends_with(".rs") && !file.path.starts_with("xtask/"));
    // Every other piece lies outside of quotes, but none of those begins with a name of ours.
    let strings = code.flat_map(|file| file.text.split('"'));
    strings.filter(|text| PREFIXES.iter().any(|prefix| text.starts_with(prefix))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_metric_is_found() {
        let file = |path: &str, text: &str| File { path: path.into(), text: text.into() };
        let code = file("shield/src/metrics.rs", "metrics.counter(\"shield_ingress_ops\", \"Messages\")");
        let rule =
            "      - alert: A\n        expr: rate(shield_ingress_ops_total[5m]) > shield_gone\n          look: \"x\"\n";
        let board = "{\"expr\": \"shield_ingress_ops_total\",\n\"title\": \"shield_title\"}";
        let files = [code, file("ops/prometheus/alerts.yml", rule), file("ops/grafana/a.json", board)];
        let found: Vec<String> = check(&files).into_iter().map(|finding| finding.place + " " + &finding.what).collect();
        assert_eq!(found, ["ops/prometheus/alerts.yml:2 nobody registers the metric shield_gone"]);
        let silent =
            file("ops/prometheus/alerts.yml", "- alert: A\n  expr: up\n- alert: B\n  expr: up\n  look: \"x\"\n");
        assert_eq!(
            check(&[silent]),
            [Finding::error("ops/prometheus/alerts.yml", "the alert A does not say where to look first")]
        );
        assert_eq!(check(&[file("ops/grafana/a.json", "{")]), [Finding::error("ops/grafana/a.json", "is no JSON")]);
    }
}
