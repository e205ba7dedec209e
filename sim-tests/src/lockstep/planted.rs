//! Ten planted differences, some in the model, some in the Elixir cores, each of which a run must find. Those in Elixir
//! are made here: the source of a shipped module with one piece of text replaced, loaded over it when the driven process
//! starts, so that nothing of a test is in what ships.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where a difference is planted.
#[derive(Clone, Copy, Debug)]
pub enum Side {
    /// A planted bug of the model, by its name.
    Model(&'static str),
    /// A module of the Elixir cores.
    Elixir {
        /// Its file below `brain/lib/brain/`.
        file: &'static str,
        /// What stands there, once.
        text: &'static str,
        /// What takes its place.
        by: &'static str,
    },
}

/// A planted difference.
#[derive(Clone, Copy, Debug)]
pub struct Planted {
    /// Its name on the command line.
    pub name: &'static str,
    /// Where it is.
    pub side: Side,
}

const fn elixir(name: &'static str, file: &'static str, text: &'static str, by: &'static str) -> Planted {
    Planted { name, side: Side::Elixir { file, text, by } }
}

const fn model(name: &'static str) -> Planted {
    Planted { name, side: Side::Model(name) }
}

/// All of them.
pub const ALL: &[Planted] = &[
    model("ack-before-append"),
    model("fence-conflict-is-success"),
    model("absence-is-failure"),
    model("duplicate-applied"),
    elixir("window-three-seconds-longer", "room/dedupe.ex", "@window_ms 120_000", "@window_ms 123_000"),
    elixir("proof-lasts-half-a-second-longer", "room/core.ex", "@proof_ms 2000", "@proof_ms 2500"),
    elixir(
        "lock-not-renewed",
        "room/state.ex",
        "do: %{lock | until: after_ttl(at, ttl_ms)}",
        "do: %{lock | until: max(lock.until, after_ttl(0, min(ttl_ms, at)))}",
    ),
    elixir(
        "snapshot-one-entry-late",
        "room/core/snapshot.ex",
        "snap.entries >= rules.snapshot_entries or",
        "snap.entries > rules.snapshot_entries or",
    ),
    elixir(
        "rendezvous-turned-round",
        "mesh/peers.ex",
        "{&1.incarnation != last_writer, -weight.(&1.node)}",
        "{&1.incarnation != last_writer, weight.(&1.node)}",
    ),
    elixir("unknown-fields-to-1001", "codec/canonical.ex", "@unknown_last 999", "@unknown_last 1001"),
];

/// The one of this name.
pub fn find(name: &str) -> Option<&'static Planted> {
    ALL.iter().find(|planted| planted.name == name)
}

/// Writes the altered source of `file` into `folder`.
///
/// # Errors
/// If it cannot be read or written, or the text does not stand in it exactly once: the plant is out of date.
pub fn patch(root: &Path, folder: &Path, file: &str, text: &str, by: &str) -> io::Result<PathBuf> {
    let path = root.join("brain/lib/brain").join(file);
    let source = fs::read_to_string(&path)?;
    if source.matches(text).count() != 1 {
        return Err(io::Error::other(format!("{text:?} does not stand once in {}", path.display())));
    }
    let altered = folder.join("planted.ex");
    fs::write(&altered, source.replace(text, by))?;
    Ok(altered)
}
