//! Who subscribed to what: a trie over tokens, so that a message costs its number of tokens and not the number of
//! subscriptions. Holds ids only, in order of creation, so that the same history gives the same deliveries.

use std::collections::BTreeMap;

use super::{has_empty_token, tokens};

/// A subscription's number, given in order of creation.
pub(crate) type SubId = u64;

/// Subscriptions by pattern.
#[derive(Debug, Default)]
pub(crate) struct Trie {
    root: Node,
}

#[derive(Debug, Default)]
struct Node {
    children: BTreeMap<Box<[u8]>, Node>,
    ids: Vec<SubId>,
}

impl Trie {
    /// Adds a subscription to a valid pattern.
    pub(crate) fn insert(&mut self, pattern: &[u8], id: SubId) {
        let mut node = &mut self.root;
        for token in tokens(pattern) {
            if !node.children.contains_key(token) {
                node.children.insert(token.into(), Node::default());
            }
            node = node.children.get_mut(token).expect("inserted above");
        }
        if let Err(at) = node.ids.binary_search(&id) {
            node.ids.insert(at, id);
        }
    }

    /// Removes a subscription from its pattern.
    pub(crate) fn remove(&mut self, pattern: &[u8], id: SubId) {
        fn walk<'a>(node: &mut Node, mut rest: impl Iterator<Item = &'a [u8]>, id: SubId) {
            let Some(token) = rest.next() else {
                node.ids.retain(|other| *other != id);
                return;
            };
            let Some(child) = node.children.get_mut(token) else { return };
            walk_boxed(child, &mut rest, id);
            if child.ids.is_empty() && child.children.is_empty() {
                node.children.remove(token);
            }
        }
        // One concrete iterator type, or the recursion would have endless types.
        fn walk_boxed(node: &mut Node, rest: &mut dyn Iterator<Item = &[u8]>, id: SubId) {
            walk(node, rest, id);
        }
        walk_boxed(&mut self.root, &mut tokens(pattern), id);
    }

    /// Appends the ids whose pattern covers this literal subject, ascending.
    pub(crate) fn matches(&self, subject: &[u8], out: &mut Vec<SubId>) {
        if has_empty_token(subject) {
            return;
        }
        let from = out.len();
        walk(&self.root, subject, out);
        out[from..].sort_unstable();
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.root.children.is_empty()
    }
}

fn walk(node: &Node, rest: &[u8], out: &mut Vec<SubId>) {
    let (token, rest) = match rest.iter().position(|byte| *byte == b'.') {
        Some(dot) => (&rest[..dot], Some(&rest[dot + 1..])),
        None => (rest, None),
    };
    if let Some(tail) = node.children.get(&b">"[..]) {
        out.extend_from_slice(&tail.ids);
    }
    let mut step = |key: &[u8]| {
        if let Some(child) = node.children.get(key) {
            match rest {
                Some(rest) => walk(child, rest, out),
                None => out.extend_from_slice(&child.ids),
            }
        }
    };
    step(b"*");
    if token != b"*" && token != b">" {
        step(token);
    }
}

#[cfg(test)]
mod tests {
    use super::super::covers;
    use super::*;
    use proptest::prelude::*;

    fn pattern() -> impl Strategy<Value = String> {
        (prop::collection::vec(prop::sample::select(vec!["a", "b", "*"]), 1..4), any::<bool>())
            .prop_map(|(tokens, tail)| tokens.join(".") + if tail { ".>" } else { "" })
    }

    proptest! {
        #[test]
        fn the_trie_agrees_with_the_definition(
            patterns in prop::collection::vec(pattern(), 0..12),
            removed in prop::collection::vec(any::<bool>(), 12),
            subject in prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 1..5),
        ) {
            let subject = subject.join(".");
            let mut trie = Trie::default();
            for (id, pattern) in patterns.iter().enumerate() {
                trie.insert(pattern.as_bytes(), id as u64);
            }
            for (id, pattern) in patterns.iter().enumerate().filter(|(id, _)| removed[*id]) {
                trie.remove(pattern.as_bytes(), id as u64);
            }
            let mut found = Vec::new();
            trie.matches(subject.as_bytes(), &mut found);
            let expected: Vec<u64> = patterns.iter().enumerate()
                .filter(|(id, pattern)| !removed[*id] && covers(pattern.as_bytes(), subject.as_bytes()))
                .map(|(id, _)| id as u64).collect();
            prop_assert_eq!(found, expected);
            for (id, pattern) in patterns.iter().enumerate() {
                trie.remove(pattern.as_bytes(), id as u64);
            }
            prop_assert!(trie.is_empty(), "removing everything leaves no node behind");
        }
    }
}
