//! The Elixir Brain's release, as `cargo xtask setup` builds it: where it is, whether it is as new as its source, and the
//! command that starts a node of it. For `arq dev --brain elixir` and for the tests on real processes.

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use proto::NodeId;
use tokio::process::Command;

/// From the workspace's root.
const FOLDER: &str = "brain/_build/prod/rel/brain";
/// What the release is made of, from the workspace's root; files or folders.
const SOURCES: [&str; 4] = ["brain/lib", "brain/mix.exs", "brain/rel", "brain/config"];
/// Written anew by every build, within the release.
const STAMP: &str = "releases/start_erl.data";
/// How deep folders of sources lie in each other at most.
const DEPTH_MAX: u8 = 8;

/// Why no node can be started.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// Nobody built it.
    #[error("the Elixir Brain is not built: there is no {}", .0.display())]
    Missing(PathBuf),
    /// What would run is not what the source says.
    #[error("the Elixir Brain's release is older than {}", .0.display())]
    Stale(PathBuf),
    /// A folder cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// A release that may be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    binary: PathBuf,
}

impl Release {
    /// The release below this workspace, if it is there and as new as its source.
    pub fn find(workspace: &Path) -> Result<Self, ReleaseError> {
        let folder = workspace.join(FOLDER);
        let (binary, stamp) = (folder.join("bin/brain-node"), folder.join(STAMP));
        if !binary.is_file() || !stamp.is_file() {
            return Err(ReleaseError::Missing(binary));
        }
        let built = changed(&stamp)?;
        for source in SOURCES {
            if let Some(newer) = newer(&workspace.join(source), built, DEPTH_MAX)? {
                return Err(ReleaseError::Stale(newer));
            }
        }
        let binary = std::path::absolute(&binary).map_err(|source| ReleaseError::Io { path: binary, source })?;
        Ok(Self { binary })
    }

    /// Starts a node with the terms that `arq config render brain` writes. The process becomes the Erlang machine itself: its
    /// id is the one to signal. When it takes rooms it prints one line of JSON; it logs to standard error.
    pub fn command(&self, terms: &Path, node: &NodeId) -> Command {
        let mut command = Command::new(&self.binary);
        command.arg("--config").arg(terms).args(["--node", node.as_str(), "--json"]);
        command
    }
}

/// A file at or below `path` that changed after `built`. What is not there is not newer.
fn newer(path: &Path, built: SystemTime, depth: u8) -> Result<Option<PathBuf>, ReleaseError> {
    if !path.exists() {
        return Ok(None);
    }
    // A folder changes when a file in it comes or goes.
    if changed(path)? > built {
        return Ok(Some(path.to_owned()));
    }
    if path.is_dir() && depth > 0 {
        let failed = |source| ReleaseError::Io { path: path.to_owned(), source };
        for entry in std::fs::read_dir(path).map_err(failed)? {
            let found = newer(&entry.map_err(failed)?.path(), built, depth - 1)?;
            if found.is_some() {
                return Ok(found);
            }
        }
    }
    Ok(None)
}

fn changed(path: &Path) -> Result<SystemTime, ReleaseError> {
    let modified = std::fs::metadata(path).and_then(|metadata| metadata.modified());
    modified.map_err(|source| ReleaseError::Io { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail")]

    use std::fs::{File, create_dir_all};
    use std::time::Duration;

    use super::*;

    /// Makes a file that changed so many seconds after 1970.
    fn touch(root: &Path, path: &str, at: u64) {
        let path = root.join(path);
        create_dir_all(path.parent().unwrap()).unwrap();
        let time = |path: &Path| {
            File::open(path).unwrap().set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(at)).unwrap();
        };
        File::create(&path).unwrap();
        time(&path);
        path.ancestors().skip(1).take_while(|folder| folder.starts_with(root)).for_each(time);
    }

    #[test]
    fn only_a_release_as_new_as_its_source_is_started() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        assert!(matches!(Release::find(root), Err(ReleaseError::Missing(path)) if path.ends_with("bin/brain-node")));
        touch(root, "brain/mix.exs", 10);
        touch(root, "brain/lib/brain/room/core.ex", 11);
        touch(root, "brain/_build/prod/rel/brain/bin/brain-node", 5);
        touch(root, "brain/_build/prod/rel/brain/releases/start_erl.data", 20);
        let command = Release::find(root).unwrap().command(Path::new("terms"), &"brain-1".parse().unwrap());
        assert!(Path::new(command.as_std().get_program()).is_absolute());
        touch(root, "brain/lib/brain/room/core.ex", 21);
        assert!(matches!(Release::find(root), Err(ReleaseError::Stale(_))));
        touch(root, "brain/lib/brain/room/core.ex", 11);
        assert!(Release::find(root).is_ok());
        touch(root, "brain/lib/brain/room/gone.ex", 21);
        std::fs::remove_file(root.join("brain/lib/brain/room/gone.ex")).unwrap();
        assert!(matches!(Release::find(root), Err(ReleaseError::Stale(_))), "a file went");
    }
}
