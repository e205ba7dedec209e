//! Marks: odd branches that a test wants to see reached. `mark!("resume.other-shield")` leaves a `mark` record in the
//! trace; a name that is not in [`ALL`] does not compile, and a simulation lists the ones that it never reached.

/// Every mark, with why it is interesting. Sorted.
pub const ALL: &[(&str, &str)] = &[
    (
        "brain.anchor-overtaken",
        "another owner stored a snapshot while this one wrote the one that its epoch begins with",
    ),
    ("brain.answer-after-commit", "answers wait for the commit they were judged on"),
    ("brain.clock-behind", "an owner whose clock is far behind the room's refused it"),
    ("brain.commit-resolved-mine", "an unknown commit turned out to be stored"),
    ("brain.commit-resolved-other", "an unknown commit lost to another owner"),
    ("brain.commit-retried", "an undecided commit was sent again, same bytes"),
    ("brain.dedupe-full", "a room's window of repeats had no room left"),
    ("brain.dedupe-hit", "a repeat was answered from the folded window"),
    ("brain.fenced", "another owner's entry was found after ours"),
    ("brain.generation-changed", "the log's generation is another one than before"),
    ("brain.group-commit", "several commands shared one entry"),
    ("brain.head-lost", "what an owner had stored is no longer where it was"),
    ("brain.log-full", "the log refused an entry at its first attempt"),
    ("brain.new-epoch", "continuity was lost or could not be proven"),
    ("brain.outcome-expired", "a repeat was too old to judge"),
    ("brain.reply-refused", "a command asked for its answer at a forbidden subject"),
    ("brain.snapshot-repeated", "SNAP's head was read again after a snapshot's append had failed"),
    ("brain.take-over", "a room that had an owner got a new one"),
    ("brain.trimmed", "the log was trimmed to an earlier snapshot's place"),
    ("brain.void-in-the-way", "void messages took the place of an unresolved entry"),
    ("shield.gap", "an entry was missing between the cursor and a delivery"),
    ("shield.gap-repaired", "the missing entries were read from the log"),
    ("shield.heartbeat-missed", "a Brain's heartbeat did not follow the last one"),
    ("shield.open-room", "nobody served the room, so the Shield asked for it"),
    ("shield.outcome-unknown", "no answer came in time"),
    ("shield.resume", "a client came back with a cursor and got a replay"),
    ("shield.slow-consumer", "a connection was closed because it read too slowly"),
    ("shield.unrecoverable", "a gap could not be closed, so every subscriber of the room was sent away"),
    ("spine.delivery-lost", "a full subscription lost messages"),
    ("spine.reconnect", "the connection to the broker was made again"),
];

/// True if `name` is a known mark. Usable in constants.
pub const fn known(name: &str) -> bool {
    let mut i = 0;
    while i < ALL.len() {
        if same(ALL[i].0.as_bytes(), name.as_bytes()) {
            return true;
        }
        i += 1;
    }
    false
}

const fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let mut i = 0;
    while i < a.len() {
        if a[i] != b[i] {
            return false;
        }
        i += 1;
    }
    true
}

/// Says that this branch was reached. The name must stand in [`ALL`].
#[macro_export]
macro_rules! mark {
    ($name:literal) => {{
        const _: () = assert!($crate::marks::known($name), "add the mark to voltron_core::marks::ALL");
        $crate::trace::emit(|| $crate::trace::Record::Mark { name: $name.into() });
    }};
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_sorted_unique_and_explained() {
        assert!(ALL.is_sorted_by(|a, b| a.0 < b.0), "sorted, and each once");
        for (name, why) in ALL {
            let (part, what) = name.split_once('.').expect("part.what");
            let word = |text: &str| {
                !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
            };
            assert!(word(part) && word(what), "{name}");
            assert!(why.len() > 10, "{name} needs a reason");
            assert!(known(name));
        }
        assert!(!known("shield.ga") && !known("shield.gapp") && !known(""));
    }
}
