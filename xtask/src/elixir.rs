//! The Brain's other half of the tool chain: Elixir from Debian, the release that tests and `arq dev --brain elixir` start,
//! its tests and its checks. Nothing here goes online but apt: the Brain has no hex packages, so mix never asks for hex.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::run::{Done, output, program, root, run};
use crate::setup::{debian, local};

/// The oldest versions that the Brain is written for: Debian 12's.
const ELIXIR: (u32, u32) = (1, 14);
const OTP: u32 = 25;

/// What must be loadable, with the Debian package that brings it. Debian splits OTP: `:ssl` and `:inets` are not there
/// because `erl` is.
const MODULES: &[(&str, &str)] = &[
    ("crypto", "erlang-crypto"),
    ("public_key", "erlang-public-key"),
    ("ssl", "erlang-ssl"),
    ("httpd", "erlang-inets"),
    ("jiffy", "erlang-jiffy"),
    ("proper", "erlang-proper"),
    ("eunit", "erlang-eunit"),
    ("cover", "erlang-tools"),
    ("dialyzer", "erlang-dialyzer"),
];
/// Included by PropEr's users at compile time; in a package without modules.
const HEADERS: (&str, &str) = ("kernel/include/file.hrl", "erlang-dev");

/// What the Brain's code calls that is not its own: the applications in dialyzer's table.
const PLT_APPS: &[&str] =
    &["erts", "kernel", "stdlib", "compiler", "crypto", "public_key", "ssl", "inets", "jiffy", "elixir", "logger"];

/// Installs Elixir and what the Brain needs of OTP, if anything is missing.
pub(crate) fn installed() -> Done {
    let mut found = ask();
    let missing = found.as_ref().map_or_else(|_| everything(), |found| found.missing.clone());
    if !missing.is_empty() {
        debian(&missing)?;
        found = ask();
    }
    let found = found?;
    if !found.missing.is_empty() {
        return Err(format!("after installing them, these are still missing: {}", found.missing.join(", ")));
    }
    found.new_enough()?;
    println!("setup: Elixir {} on OTP {} is there, with what the Brain needs", found.elixir, found.otp);
    Ok(())
}

/// Compiles the Brain, without a warning, and assembles its release. Half a second if nothing changed, so it always runs and
/// nothing is ever tested that is older than its source.
pub(crate) fn release() -> Done {
    let build = ["do", "compile", "--warnings-as-errors", "+", "release", "--overwrite", "--quiet"];
    run(mix("prod").args(build))?;
    println!("setup: the Brain's release is at brain/_build/prod/rel/brain");
    Ok(())
}

/// The Brain's own tests, with the share of the rooms' lines that they reach; `mix.exs` says what is enough.
pub(crate) fn test() -> Done {
    tests_in(&["--cover"])
}

/// A script of the Brain's, on what its tests are made of. Schedulers that wait sleep: spinning would count as work.
pub(crate) fn script(arguments: &[&str]) -> Done {
    run(mix("test").env("ERL_FLAGS", "+sbwt none +sbwtdcpu none +sbwtdio none").arg("run").args(arguments))
}

/// Those without processes and sockets.
pub(crate) fn test_core() -> Done {
    tests_in(&["test/brain/room", "test/brain/codec"])
}

fn tests_in(arguments: &[&str]) -> Done {
    let both = ["do", "compile", "--warnings-as-errors", "+", "test", "--warnings-as-errors"];
    run(mix("test").args(both).args(arguments))
}

/// `mix format`, only looking.
pub(crate) fn formatted() -> Done {
    run(mix("test").args(["format", "--check-formatted"]))
}

/// Types, over what the release is made of. The table of OTP's and Elixir's types takes minutes to make and is kept, one for
/// each version.
pub(crate) fn dialyzer() -> Done {
    let found = ask()?;
    let table = local().join("plt").join(format!("otp-{}-{}-elixir-{}.plt", found.otp, found.erts, found.elixir));
    if table.is_file() {
        println!("dialyzer: its table is there");
    } else {
        println!(
            "dialyzer: making its table for OTP {} and Elixir {}; this takes minutes, once",
            found.otp, found.elixir
        );
        let folder = table.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        // Renamed when it is whole: an interrupted run leaves none.
        let beside = table.with_extension("new");
        run(dialyzer_with(&found).args(["--build_plt", "--output_plt"]).arg(&beside).arg("--apps").args(PLT_APPS))?;
        std::fs::rename(&beside, &table).map_err(|error| format!("{}: {error}", table.display()))?;
    }
    run(dialyzer_with(&found)
        .arg("--plt")
        .arg(&table)
        .args(["-Wunknown", "-Werror_handling", "-Wextra_return", "-Wmissing_return"])
        .arg("brain/_build/prod/lib/brain/ebin"))
}

fn dialyzer_with(found: &Found) -> Command {
    let mut command = program("dialyzer");
    // Debian keeps Elixir's applications outside of OTP's own folder.
    command.env("LANG", "C.UTF-8").env("ERL_LIBS", &found.elixir_libs);
    command
}

/// `mix` in the Brain's folder. A machine whose locale is not UTF-8 would make Elixir read files as Latin-1.
fn mix(environment: &str) -> Command {
    let mut command = program("mix");
    command.current_dir(root().join("brain")).env("LANG", "C.UTF-8").env("MIX_ENV", environment);
    command
}

fn everything() -> Vec<&'static str> {
    let modules = MODULES.iter().map(|(_, package)| *package);
    ["elixir", HEADERS.1].into_iter().chain(modules).collect()
}

/// What Elixir says about itself.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    elixir: String,
    otp: String,
    erts: String,
    /// Where Elixir's applications lie.
    elixir_libs: PathBuf,
    /// Debian packages.
    missing: Vec<&'static str>,
}

impl Found {
    /// From what [`QUESTION`] prints: four lines, then one for each thing that is missing.
    fn read(said: &str) -> Result<Self, String> {
        let strange = || format!("elixir said something strange: {said:?}");
        let mut lines = said.lines().map(str::to_owned);
        let mut line = || lines.next().ok_or_else(strange);
        let (elixir, otp, erts, libs) = (line()?, line()?, line()?, line()?);
        let package = |what: String| {
            let known = MODULES.iter().chain([&HEADERS]);
            known.clone().find(|(name, _)| *name == what).map(|(_, package)| *package).ok_or_else(strange)
        };
        let missing = lines.map(package).collect::<Result<_, _>>()?;
        Ok(Self { elixir, otp, erts, elixir_libs: libs.into(), missing })
    }

    fn new_enough(&self) -> Done {
        let number = |text: Option<&str>| text.and_then(|text| text.parse::<u32>().ok()).unwrap_or(0);
        let mut parts = self.elixir.split('.');
        let elixir = (number(parts.next()), number(parts.next()));
        if elixir < ELIXIR || number(Some(&self.otp)) < OTP {
            return Err(format!(
                "Elixir {} on OTP {} is too old: the Brain needs Elixir {}.{} on OTP {OTP} or later (Debian 12 has them)",
                self.elixir, self.otp, ELIXIR.0, ELIXIR.1
            ));
        }
        Ok(())
    }
}

/// Prints versions and folder, then everything of its arguments that is not there: modules, and last a header file.
const QUESTION: &str = r#"
{modules, [header]} = Enum.split(System.argv(), -1)
IO.puts(System.version())
IO.puts(System.otp_release())
IO.puts(:erlang.system_info(:version))
IO.puts(Path.expand(Path.join(:code.lib_dir(:elixir), "..")))
for module <- modules, :code.which(String.to_atom(module)) == :non_existing, do: IO.puts(module)
[application | file] = Path.split(header)
there = File.exists?(Path.join([:code.lib_dir(String.to_atom(application)) | file]))
unless there, do: IO.puts(header)
"#;

fn ask() -> Result<Found, String> {
    let mut command = program("elixir");
    command.env("LANG", "C.UTF-8").args(["-e", QUESTION]).args(MODULES.iter().map(|(module, _)| module)).arg(HEADERS.0);
    Found::read(&output(&mut command)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_elixir_says_is_read() {
        let found = Found::read("1.14.0\n25\n13.1.5\n/usr/lib/elixir/lib\n").expect("nothing is missing");
        assert_eq!((found.missing.len(), found.new_enough()), (0, Ok(())));
        let found = Found::read("1.13.4\n25\n13.1.5\n/lib\nssl\nkernel/include/file.hrl").expect("two are missing");
        assert_eq!(found.missing, ["erlang-ssl", "erlang-dev"]);
        assert!(found.new_enough().expect_err("too old").contains("Elixir 1.14 on OTP 25 or later"));
        let old = Found::read("1.18.1\n24\n12\n/lib").expect("nothing is missing");
        assert!(old.new_enough().is_err(), "OTP 24");
        assert!(Found::read("1.14.0\n25").is_err() && Found::read("1\n2\n3\n4\nwhat?").is_err());
    }

    #[test]
    fn the_question_is_understood() {
        let found = ask().expect("there is an Elixir: `cargo xtask setup` installs it");
        assert_eq!((found.missing.as_slice(), found.new_enough()), (&[] as &[&str], Ok(())));
        assert!(found.elixir_libs.join("elixir/ebin").is_dir(), "{found:?}");
    }
}
