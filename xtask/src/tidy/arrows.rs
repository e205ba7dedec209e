//! Rules on dependencies: the table of who may use whom, and what may never be reachable from the Shield.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::Finding;

/// Each crate with those of ours that it may use in what it ships (dev-dependencies are free). Every arrow ends at proto.
const MAY_USE: &[(&str, &[&str])] = &[
    ("arqon-proto", &[]),
    ("voltron-core", &["arqon-proto"]),
    ("spine", &["arqon-proto", "voltron-core"]),
    ("spine-sim", &["arqon-proto", "voltron-core", "spine"]),
    ("brain-model", &["arqon-proto", "voltron-core"]),
    ("brain-shell", &["arqon-proto", "voltron-core", "spine", "brain-model"]),
    ("shield", &["arqon-proto", "voltron-core", "spine"]),
    ("arq", &["arqon-proto", "voltron-core", "spine", "spine-sim", "brain-model", "brain-shell", "shield"]),
    (
        "sim-tests",
        &["arqon-proto", "voltron-core", "spine", "spine-sim", "brain-model", "brain-shell", "shield", "arq"],
    ),
    ("xtask", &["arqon-proto"]),
];

/// Never reachable from a shipped Shield or Brain shell.
const SIMULATORS: &[&str] = &["spine-sim", "sim-tests", "turmoil", "turmoil-net", "madsim", "madsim-tokio"];
const SHIPPED: &[&str] = &["shield", "brain-shell"];

/// Checks what `cargo metadata` says.
pub(super) fn check(metadata: &Value) -> Vec<Finding> {
    let graph = Graph::new(metadata);
    let mut found = Vec::new();
    for (name, uses) in &graph.ours {
        let Some((_, may)) = MAY_USE.iter().find(|(known, _)| known == name) else {
            found.push(Finding::error(*name, "is not in the table of xtask/src/tidy/arrows.rs: who may it use?"));
            continue;
        };
        for used in uses.iter().filter(|used| graph.ours.contains_key(*used) && !may.contains(used)) {
            found.push(Finding::error(*name, format!("may not use {used} (ARCHITECTURE: every arrow ends at proto)")));
        }
    }
    for shipped in SHIPPED.iter().filter(|shipped| graph.ours.contains_key(*shipped)) {
        let reached = graph.reached(shipped);
        for simulator in SIMULATORS.iter().filter(|simulator| reached.contains(*simulator)) {
            found.push(Finding::error(*shipped, format!("reaches {simulator}: no simulator is part of what ships")));
        }
    }
    found
}

/// Which package uses which in what it ships, by name. Two versions of one package count as one.
struct Graph<'m> {
    /// Our own crates with all that they use.
    ours: BTreeMap<&'m str, BTreeSet<&'m str>>,
    all: BTreeMap<&'m str, BTreeSet<&'m str>>,
}

impl<'m> Graph<'m> {
    fn new(metadata: &'m Value) -> Self {
        let list = |value: &'m Value| value.as_array().map(Vec::as_slice).unwrap_or_default();
        let text = |value: &'m Value| value.as_str().unwrap_or_default();
        let names: BTreeMap<&str, &str> =
            list(&metadata["packages"]).iter().map(|package| (text(&package["id"]), text(&package["name"]))).collect();
        let name = |id: &Value| names.get(id.as_str().unwrap_or_default()).copied().unwrap_or_default();
        let mut all: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for node in list(&metadata["resolve"]["nodes"]) {
            let shipped = list(&node["deps"]).iter().filter(|dep| list(&dep["dep_kinds"]).iter().any(is_shipped));
            all.entry(name(&node["id"])).or_default().extend(shipped.map(|dep| name(&dep["pkg"])));
        }
        let ours = list(&metadata["workspace_members"]).iter().map(name);
        let ours = ours.map(|name| (name, all.get(name).cloned().unwrap_or_default())).collect();
        Self { ours, all }
    }

    /// Everything that `from` leads to.
    fn reached(&self, from: &'m str) -> BTreeSet<&'m str> {
        let mut reached = BTreeSet::new();
        let mut next = vec![from];
        while let Some(name) = next.pop() {
            if reached.insert(name) {
                next.extend(self.all.get(name).into_iter().flatten());
            }
        }
        reached
    }
}

/// A dependency that ends up in the binary: neither for tests, nor for a build script, nor under `cfg(madsim)` alone, which
/// is a world of its own.
fn is_shipped(kind: &Value) -> bool {
    kind["kind"].is_null() && kind["target"].as_str() != Some("cfg(madsim)")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Packages by name, edges as (from, to, kind, target); all but `turmoil` are ours.
    fn world(names: &[&str], edges: &[(&str, &str, Option<&str>, Option<&str>)]) -> Value {
        let packages: Vec<Value> = names.iter().map(|name| json!({"id": format!("#{name}"), "name": name})).collect();
        let nodes: Vec<Value> = names
            .iter()
            .map(|name| {
                let deps = edges.iter().filter(|edge| edge.0 == *name);
                let deps: Vec<Value> = deps
                    .map(|(_, to, kind, target)| {
                        json!({"pkg": format!("#{to}"), "dep_kinds": [{"kind": kind, "target": target}]})
                    })
                    .collect();
                json!({"id": format!("#{name}"), "deps": deps})
            })
            .collect();
        let ours = names.iter().filter(|name| **name != "turmoil").map(|name| format!("#{name}")).collect::<Vec<_>>();
        json!({"packages": packages, "resolve": {"nodes": nodes}, "workspace_members": ours})
    }

    fn found(names: &[&str], edges: &[(&str, &str, Option<&str>, Option<&str>)]) -> Vec<String> {
        check(&world(names, edges)).into_iter().map(|finding| finding.place + " " + &finding.what).collect()
    }

    #[test]
    fn arrows_point_at_proto_only() {
        assert_eq!(found(&["shield", "spine"], &[("shield", "spine", None, None)]), [""; 0]);
        let back = found(&["shield", "spine"], &[("spine", "shield", None, None)]);
        assert!(back.len() == 1 && back[0].starts_with("spine may not use shield"), "{back:?}");
        let stranger = found(&["stranger"], &[]);
        assert!(stranger.len() == 1 && stranger[0].contains("who may it use"), "{stranger:?}");
    }

    #[test]
    fn no_simulator_is_reachable_from_what_ships() {
        let names = ["shield", "spine", "turmoil"];
        let path = [("shield", "spine", None, None), ("spine", "turmoil", None, None)];
        let bad = found(&names, &path);
        assert!(bad.len() == 1 && bad[0].starts_with("shield reaches turmoil"), "{bad:?}");
        for edge in [("spine", "turmoil", Some("dev"), None), ("spine", "turmoil", None, Some("cfg(madsim)"))] {
            assert_eq!(found(&names, &[("shield", "spine", None, None), edge]), [""; 0]);
        }
    }
}
