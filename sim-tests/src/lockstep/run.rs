//! Histories, one after the other, on the model and on what is driven beside it; and the way from a difference to the
//! smallest history that shows it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use proptest::strategy::{BoxedStrategy, Strategy as _, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use prost::Message as _;
use proto::lockstep::{Batch, BatchReply, StepReply};
use sha2::{Digest as _, Sha256};

use super::coverage::Coverage;
use super::link::{Driven, Link, LinkError};
use super::ops::{self, History, Op};
use super::report;
use super::world::{Script, Watch, play};

/// A batch is sent once it has this many steps, or bytes: enough that the way costs little, little enough that both
/// sides work at once.
const BATCH_STEPS: usize = 1500;
const BATCH_BYTES: usize = 1 << 20;
/// The most histories tried on the way to the smallest.
const TRIES_MAX: usize = 4000;

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Beside the model.
    pub driven: Driven,
    /// How many histories.
    pub histories: u64,
    /// The seed of the first; the others count on from it.
    pub seed: u64,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Ran {
    /// Histories compared, the one that differs included.
    pub histories: u64,
    /// Steps given.
    pub steps: u64,
    /// Bytes given and taken.
    pub bytes: u64,
    /// Processor time of the driven process, without its start.
    pub driven: Option<Duration>,
    /// What was reached.
    pub coverage: Coverage,
    /// The first difference, in its smallest history.
    pub difference: Option<Difference>,
}

/// A difference.
#[derive(Debug)]
pub struct Difference {
    /// The history's.
    pub seed: u64,
    /// The smallest history found.
    pub history: History,
    /// How many steps it has up to the difference.
    pub steps: usize,
    /// How many histories were tried to find it.
    pub tries: usize,
    /// For people.
    pub text: String,
}

/// Histories on their way.
#[derive(Default)]
struct Sending {
    batch: Batch,
    expected: BatchReply,
    /// Up to which step each seed's history goes.
    ends: Vec<(u64, usize)>,
    bytes: usize,
}

impl Sending {
    fn add(&mut self, seed: u64, script: Script) {
        self.bytes += script.steps.iter().map(prost::Message::encoded_len).sum::<usize>();
        self.batch.steps.extend(script.steps);
        self.expected.replies.extend(script.replies);
        self.ends.push((seed, self.batch.steps.len()));
    }

    /// What is sent, and what must come back.
    fn encoded(&self) -> (Vec<u8>, Vec<u8>) {
        (self.batch.encode_to_vec(), self.expected.encode_to_vec())
    }

    fn full(&self) -> bool {
        self.batch.steps.len() >= BATCH_STEPS || self.bytes >= BATCH_BYTES
    }
}

/// A run in progress.
pub struct Run {
    link: Link,
    /// Processor time of the driven process when it was ready.
    began: Option<Duration>,
    strategy: BoxedStrategy<History>,
    pending: Option<(Vec<u8>, Sending)>,
    ran: Ran,
}

/// Runs until all histories are compared or one differs; `progress` hears how many were.
///
/// # Errors
/// If the driven process cannot be started, or ends.
pub fn run(options: &Options, mut progress: impl FnMut(u64)) -> Result<Ran, LinkError> {
    let mut run = Run::start(&options.driven)?;
    let mut sending = Sending::default();
    for n in 0..options.histories {
        let seed = options.seed.wrapping_add(n);
        match run.model(seed) {
            Ok(script) => sending.add(seed, script),
            Err(_) => return run.finish(Some(seed)),
        }
        if sending.full() {
            if let Some(seed) = run.exchange(std::mem::take(&mut sending))? {
                return run.finish(Some(seed));
            }
            progress(run.ran.histories);
        }
    }
    let differs = match run.exchange(sending)? {
        None => run.exchange(Sending::default())?,
        found => found,
    };
    progress(run.ran.histories);
    run.finish(differs)
}

impl Run {
    fn start(driven: &Driven) -> Result<Self, LinkError> {
        let link = Link::start(driven)?;
        Ok(Self {
            began: link.processor_time(),
            link,
            strategy: ops::history().boxed(),
            pending: None,
            ran: Ran::default(),
        })
    }

    fn model(&mut self, seed: u64) -> Result<Script, String> {
        let history = tree(&self.strategy, seed).current();
        let watch = Watch { digest_every: 0, state_at: None };
        caught(&history, watch, &mut self.ran.coverage)
    }

    /// Takes the answers to what was sent last, then sends this: both sides work at the same time. The seed of the first
    /// history that differs.
    fn exchange(&mut self, sending: Sending) -> Result<Option<u64>, LinkError> {
        // Made before the answer is waited for: the driven side is idle from its answer to the next frame.
        let next = (!sending.ends.is_empty()).then(|| sending.encoded());
        let differs = match self.pending.take() {
            Some((expected, sent)) => {
                let frame = self.link.receive()?;
                self.ran.bytes += frame.len() as u64;
                let differs = if frame == expected { None } else { Some(first_difference(frame, &sent)) };
                self.ran.histories += match differs {
                    Some(seed) => sent.ends.iter().take_while(|(of, _)| *of != seed).count() as u64 + 1,
                    None => sent.ends.len() as u64,
                };
                differs
            }
            None => None,
        };
        if let (None, Some((body, expected))) = (differs, next) {
            self.ran.steps += sending.batch.steps.len() as u64;
            self.ran.bytes += body.len() as u64;
            self.link.send(&body)?;
            self.pending = Some((expected, sending));
        }
        Ok(differs)
    }

    fn finish(mut self, differs: Option<u64>) -> Result<Ran, LinkError> {
        // What is still on its way is of no interest; its answer must not be taken for another's.
        if self.pending.take().is_some() {
            self.link.receive()?;
        }
        let took = |now: Duration| self.began.map(|began| now.saturating_sub(began));
        self.ran.driven = self.link.processor_time().and_then(took);
        if let Some(seed) = differs {
            let hook = std::panic::take_hook();
            std::panic::set_hook(Box::new(|_| {}));
            let found = self.smallest(seed);
            std::panic::set_hook(hook);
            self.ran.difference = Some(found?);
        }
        Ok(self.ran)
    }

    /// From the history of this seed to the smallest that differs.
    fn smallest(&mut self, seed: u64) -> Result<Difference, LinkError> {
        let mut tree = tree(&self.strategy, seed);
        let mut best = tree.current();
        let mut tries = 1;
        if self.differs(&best)?.is_none() {
            let text = "the difference did not show again: one side is not a function of its inputs".into();
            return Ok(Difference { seed, history: best, steps: 0, tries, text });
        }
        let mut more = tree.simplify();
        while more && tries < TRIES_MAX {
            tries += 1;
            let tried = tree.current();
            more = if self.differs(&tried)?.is_some() {
                best = tried;
                tree.simplify()
            } else {
                tree.complicate()
            };
        }
        // What became needless only after something behind it was gone.
        let mut at = 0;
        while at < best.ops.len() && tries < TRIES_MAX {
            tries += 1;
            let mut tried = best.clone();
            tried.ops.remove(at);
            if self.differs(&tried)?.is_some() {
                best = tried;
                at = 0;
            } else {
                at += 1;
            }
        }
        let (steps, text) = self.tell(seed, &best)?;
        Ok(Difference { seed, history: best, steps, tries, text })
    }

    /// The first step at which this history differs, with every digest compared.
    fn differs(&mut self, history: &History) -> Result<Option<usize>, LinkError> {
        let watch = Watch { digest_every: 1, state_at: None };
        let Ok(script) = caught(history, watch, &mut Coverage::default()) else { return Ok(Some(usize::MAX)) };
        let replies = self.replay(&script)?;
        Ok(script.replies.iter().zip(&replies).position(|(model, driven)| model != driven))
    }

    fn replay(&mut self, script: &Script) -> Result<Vec<StepReply>, LinkError> {
        self.link.send(&Batch { steps: script.steps.clone() }.encode_to_vec())?;
        let frame = self.link.receive()?;
        Ok(BatchReply::decode(frame).unwrap_or_default().replies)
    }

    fn tell(&mut self, seed: u64, history: &History) -> Result<(usize, String), LinkError> {
        let Some(step) = self.differs(history)? else { return Ok((0, "gone".into())) };
        let watch = Watch { digest_every: 1, state_at: Some(step) };
        let script = match caught(history, watch, &mut Coverage::default()) {
            Ok(script) => script,
            Err(panic) => return Ok((0, report::panicked(seed, history, &panic))),
        };
        let replies = self.replay(&script)?;
        let driven = replies.get(step).cloned().unwrap_or_default();
        Ok((step + 1, report::difference(seed, history, &script, step, &driven)))
    }
}

/// The history of a seed, and every smaller one.
fn tree(strategy: &BoxedStrategy<History>, seed: u64) -> Box<dyn ValueTree<Value = History>> {
    let mut hash = Sha256::new();
    hash.update(b"arqon.lockstep/history\0");
    hash.update(seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &hash.finalize());
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    strategy.new_tree(&mut runner).expect("no strategy here refuses what it drew")
}

/// Plays a history; what the model says if it panics.
fn caught(history: &History, watch: Watch, cover: &mut Coverage) -> Result<Script, String> {
    catch_unwind(AssertUnwindSafe(|| play(history, watch, cover))).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without words").to_owned()
    })
}

/// Whose history holds the first answer that is not the model's.
fn first_difference(frame: &[u8], sent: &Sending) -> u64 {
    let replies = BatchReply::decode(frame).unwrap_or_default().replies;
    let same = sent.expected.replies.iter().zip(&replies).take_while(|(model, driven)| model == driven).count();
    let of = sent.ends.iter().find(|(_, end)| same < *end).or(sent.ends.last());
    of.map_or(0, |(seed, _)| *seed)
}

/// How many operations a history has.
pub fn size(history: &History) -> usize {
    history.ops.iter().filter(|op| !matches!(op, Op::Settle)).count()
}
