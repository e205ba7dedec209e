//! `shrink`: runs the search of [`sim_tests::shrink`] on real runs, each in its own process, and writes what is left.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use futures_util::stream::{self, StreamExt as _};
use indicatif::{ProgressBar, ProgressStyle};
use sim_tests::oracles;
use sim_tests::plan::Plan;
use sim_tests::scenario::Span;
use sim_tests::shrink::{self, Jury, Known, Size};
use sim_tests::trace;
use sim_tests::verdict::Verdict;
use tokio::time::Instant;

use crate::args::ShrinkArgs;
use crate::engine::Engine;
use crate::files;
use crate::one::say;
use crate::sweep::{jobs, ordinary, replay};

/// Promises about what must be reached in the end; a run that ends too early breaks them for no reason.
const IN_THE_END: [&str; 2] = ["D1", "P6"];

/// Shrinks; true if what was written fails as the whole plan did.
pub(crate) async fn run(args: &ShrinkArgs) -> Result<bool, String> {
    let (scenario, mutant) = (&args.one.scenario, args.mutant.as_deref());
    let whole = files::load(scenario)?.plan(scenario, args.one.seed).map_err(|error| format!("{scenario}: {error}"))?;
    let folder = tempfile::tempdir().map_err(|error| format!("no folder for plans: {error}"))?;
    let begun = Instant::now();
    let trace = folder.path().join("whole.jsonl");
    let first = one(scenario, whole.seed, mutant, Some(&trace)).await?;
    let (Some(oracle), false) = (first.oracle.clone(), first.ok) else {
        return Err(format!("{} holds: there is nothing to shrink", replay(scenario, whole.seed, mutant)));
    };
    let fault = Failure::of(&first).ok_or_else(|| {
        format!("{oracle} never looked, in {}: a smaller plan shows even less", replay(scenario, whole.seed, mutant))
    })?;
    let at = first.n.and_then(|n| time_of(&trace, n));
    let known = Known { at, in_the_end: IN_THE_END.contains(&oracle.as_str()) || oracle == "run" };

    let bar = (!args.json && std::io::stderr().is_terminal()).then(spinner);
    let mut runs = Runs {
        failure: fault,
        mutant: mutant.map(str::to_owned),
        folder: folder.path().to_owned(),
        jobs: jobs(args.jobs),
        begun,
        limit: args.limit,
        count: 0,
        bar,
        quiet: args.json,
    };
    runs.tell(&format!("{oracle} at the whole: {}", Size::of(&whole)));
    let mut small = shrink::shrink(whole.clone(), known, &mut runs).await?;
    let count = runs.count;
    if let Some(bar) = runs.bar.take() {
        bar.finish_and_clear();
    }

    let path = args
        .out
        .clone()
        .unwrap_or_else(|| files::found(&name(scenario, whole.seed, &oracle, mutant), mutant.is_some()));
    let shown = shown(&path);
    let again = replay(&shown, small.seed, mutant).replace(&format!(" --seed {}", small.seed), "");
    small.about = about(&first, scenario, &Size::of(&whole), &again, mutant);
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(|error| format!("{}: {error}", parent.display()))?;
    }
    std::fs::write(&path, small.to_toml()).map_err(|error| format!("{}: {error}", path.display()))?;

    // The proof: the file by itself, in a process that knows nothing of this search.
    let last = one(&path.display().to_string(), small.seed, mutant, None).await?;
    let same = runs.failure.is_in(&last);
    let control = match mutant {
        Some(_) => Some(one(&path.display().to_string(), small.seed, None, None).await?),
        None => None,
    };
    let (from, to) = (Size::of(&whole), Size::of(&small));
    let wall_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    if args.json {
        let json = serde_json::json!({
            "file": shown, "oracle": oracle, "same": same, "from": from, "to": to, "runs": count, "wall_ms": wall_ms,
            "without_bug_ok": control.as_ref().map(|verdict| verdict.ok), "replay": again,
        });
        say(&json.to_string());
        return Ok(same);
    }
    say(&format!("{from}\n  became {to}, in {count} runs and {:.1} s", wall_ms as f64 / 1e3));
    say(&format!("wrote {shown}"));
    if same {
        say(&format!("a fresh process fails for the same oracle, {oracle}: {}", last.what.as_deref().unwrap_or("-")));
    } else {
        say(&format!("a fresh process does NOT fail for {oracle}: {}", last.text(&files::commit())));
    }
    match &control {
        Some(verdict) if verdict.ok => say("without the planted bug it holds"),
        Some(verdict) => say(&format!("without the planted bug it fails, too: {}", verdict.text(&files::commit()))),
        None => {}
    }
    say(&format!("       {again}"));
    Ok(same)
}

/// One run of the whole plan or the written file.
async fn one(scenario: &str, seed: u64, mutant: Option<&str>, trace: Option<&Path>) -> Result<Verdict, String> {
    ordinary(Engine::Leap, scenario, seed, mutant, trace).await
}

/// The way in which a run fails.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Failure {
    oracle: String,
    /// Of a run that came to no end: what it died of, without its figures.
    died: Option<String>,
}

impl Failure {
    /// `None` if an oracle never looked: that is no failure that could be made smaller.
    fn of(verdict: &Verdict) -> Option<Self> {
        let oracle = verdict.oracle.clone().filter(|_| !verdict.ok)?;
        let died = (oracle == "run").then(|| {
            let what = verdict.what.as_deref().unwrap_or_default();
            what.chars().filter(|c| !c.is_ascii_digit()).take(200).collect()
        });
        (died.is_some() || verdict.n.is_some()).then_some(Self { oracle, died })
    }

    /// True if this run fails in the same way, and would not fail for want of anything to look at without the bug.
    fn is_in(&self, verdict: &Verdict) -> bool {
        let looked = |name: &&str| verdict.checks.get(*name).is_some_and(|checks| *checks > 0);
        Self::of(verdict).as_ref() == Some(self) && (self.died.is_some() || oracles::ALWAYS.iter().all(looked))
    }
}

/// Candidates as processes.
struct Runs {
    failure: Failure,
    mutant: Option<String>,
    folder: PathBuf,
    jobs: usize,
    begun: Instant,
    limit: Span,
    count: u64,
    bar: Option<ProgressBar>,
    quiet: bool,
}

impl Jury for Runs {
    async fn first(
        &mut self,
        candidates: &mut (dyn Iterator<Item = Plan> + Send),
    ) -> Result<Option<(usize, Plan)>, String> {
        if self.spent() {
            return Ok(None);
        }
        let (folder, mutant) = (self.folder.clone(), self.mutant.clone());
        let first = self.count;
        let work = candidates.enumerate().map(|(number, plan)| {
            let path = folder.join(format!("{}.toml", first + number as u64));
            let mutant = mutant.clone();
            async move {
                std::fs::write(&path, plan.to_toml()).map_err(|error| format!("{}: {error}", path.display()))?;
                let verdict = one(&path.display().to_string(), plan.seed, mutant.as_deref(), None).await;
                let _ = std::fs::remove_file(&path);
                verdict.map(|verdict| (number, plan, verdict))
            }
        });
        let mut verdicts = stream::iter(work).buffered(self.jobs);
        let over = tokio::time::sleep_until(self.begun + self.limit.0);
        tokio::pin!(over);
        loop {
            // What is still running when one is found, or when time is over, is killed with the stream.
            let verdict = tokio::select! {
                biased;
                () = &mut over => return Ok(None),
                verdict = verdicts.next() => verdict,
            };
            let Some(verdict) = verdict else { return Ok(None) };
            let (number, plan, verdict) = verdict?;
            self.count += 1;
            if let Some(bar) = &self.bar {
                bar.inc(1);
            }
            if self.failure.is_in(&verdict) {
                return Ok(Some((number, plan)));
            }
        }
    }

    fn spent(&self) -> bool {
        self.begun.elapsed() >= self.limit.0
    }

    fn smaller(&mut self, pass: &str, size: &Size) {
        self.tell(&format!("{pass}: {size}"));
    }
}

impl Runs {
    fn tell(&self, what: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(what.to_owned()),
            None if self.quiet => {}
            None => say(&format!("{:5.1} s  {:4} runs  {what}", self.begun.elapsed().as_secs_f64(), self.count)),
        }
    }
}

fn spinner() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {elapsed}  {pos} runs  {msg}");
    let bar = ProgressBar::new_spinner().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    bar.enable_steady_tick(std::time::Duration::from_millis(200));
    bar
}

/// When a record was written; `None` if it was read from the log when all was over.
fn time_of(trace: &Path, n: u64) -> Option<Span> {
    let lines = trace::read(trace).ok()?;
    let line = lines.iter().find(|line| line.n == n).filter(|line| line.host != oracles::LOG_HOST)?;
    Some(Span::ms(line.t.div_ceil(1000)))
}

fn name(scenario: &str, seed: u64, oracle: &str, mutant: Option<&str>) -> String {
    let stem = Path::new(scenario).file_stem().and_then(|stem| stem.to_str()).unwrap_or("plan");
    let stem = stem.strip_prefix("planted-").unwrap_or(stem);
    let bug = mutant.map_or_else(String::new, |mutant| format!("-{mutant}"));
    format!("{stem}-{seed}-{}{bug}", oracle.to_lowercase())
}

/// As a person would type it.
fn shown(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(&here).unwrap_or(path).display().to_string()
}

fn about(first: &Verdict, scenario: &str, from: &Size, again: &str, mutant: Option<&str>) -> String {
    let found = replay(scenario, first.seed, mutant);
    let bug = mutant.map_or_else(String::new, |mutant| {
        format!("\nIt needs the planted bug {mutant}: without it every promise holds.")
    });
    format!(
        "Breaks {}: {}{bug}\nFound by `{found}` at commit {}, shrunk from {from}.\nReplay: {again}\n",
        first.oracle.as_deref().unwrap_or("-"),
        first.what.as_deref().unwrap_or("-"),
        files::commit(),
    )
}
