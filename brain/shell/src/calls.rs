//! The model's effects as Spine calls. Every call ends: the Spine has its own deadlines.

use brain_model::{Effect, Found, Input, Outcome, StoredMessage};
use bytes::Bytes;
use proto::subject::{partition, stream_index};
use proto::{Pattern, RoomKey, Subject};
use spine::{AppendError, ReadError, Refusal, Spine, StreamSeq, StreamSpec, Unresolved, Via};
use voltron_core::mutant;

/// The most messages that wait between a room's subscription and its core.
const ROOM_BUFFER: usize = 1024;
/// The most log entries of one read. The leader is asked for one at a time, within one deadline: over a slow link fewer
/// come, and the core goes on behind them.
const READ_MAX: u32 = 32;
/// How many snapshots of a room are kept.
const SNAPSHOTS_MAX: usize = 2;

/// A room's subjects, made once.
#[derive(Clone, Debug)]
pub(crate) struct Subjects {
    input: Subject,
    pub(crate) output: Subject,
    log: Subject,
    snapshot: Subject,
    generation: Subject,
    generation_spec: StreamSpec,
}

impl Subjects {
    pub(crate) fn new(room: &RoomKey, logs: u32, replicas: usize) -> Self {
        let index = stream_index(partition(room), logs);
        Self {
            input: Subject::input(room),
            output: Subject::output(room),
            log: Subject::log(room),
            snapshot: Subject::snapshot(room),
            generation: Subject::generation(index),
            generation_spec: StreamSpec::generation(index, replicas),
        }
    }
}

/// How a call ended.
pub(crate) enum Done<Sub> {
    /// With this to tell the core.
    Input(Input),
    /// With a subscription, and that to tell.
    Subscribed(Sub, Input),
    /// With nothing to tell.
    Nothing,
}

/// Performs one call. `draw` is a fresh random number, in case a generation must be written.
pub(crate) async fn perform<S: Spine>(
    writer: S,
    speaker: S,
    subjects: Subjects,
    draw: u64,
    call: Effect,
) -> Done<S::Sub> {
    match call {
        Effect::Read { token, gen_id, snapshots, log_from } => {
            let found = read(&writer, &subjects, gen_id, snapshots, log_from).await;
            let found = found.inspect_err(|error| tracing::debug!(%error, log = %subjects.log, "read failed")).ok();
            Done::Input(Input::Read { token, draw, found })
        }
        Effect::WriteGen { token, value } => {
            let body = Bytes::copy_from_slice(&value.to_le_bytes());
            match writer.append(&subjects.generation, StreamSeq::NONE, body.clone()).await {
                // Most likely the stream went with the memory of a restarted broker.
                Err(AppendError::Refused { .. }) => drop(writer.ensure(&subjects.generation_spec).await),
                Err(AppendError::Unresolved(Unresolved::WrongLast)) => {
                    replace_unreadable(&writer, &subjects, body).await
                }
                Ok(_) | Err(_) => {}
            }
            Done::Input(Input::GenWritten { token })
        }
        Effect::Append { token, expect, body } => {
            let outcome = outcome(writer.append(&subjects.log, StreamSeq(expect), body).await);
            Done::Input(Input::Appended { token, outcome })
        }
        Effect::WriteSnapshot { token, expect, body } => {
            let outcome = outcome(writer.append(&subjects.snapshot, StreamSeq(expect), body).await);
            Done::Input(Input::SnapshotWritten { token, outcome })
        }
        Effect::Trim { keep } => {
            if let Err(error) = writer.purge_below(&subjects.log, StreamSeq(keep)).await {
                tracing::debug!(%error, log = %subjects.log, "trim failed; the next snapshot tries again");
            }
            Done::Nothing
        }
        Effect::Subscribe { token } => {
            match speaker.subscribe(&Pattern::exact(&subjects.input), None, ROOM_BUFFER).await {
                Ok(sub) => Done::Subscribed(sub, Input::Subscribed { token, ok: true }),
                Err(error) => {
                    tracing::debug!(%error, input = %subjects.input, "subscribe failed");
                    Done::Input(Input::Subscribed { token, ok: false })
                }
            }
        }
        Effect::Reply { .. } | Effect::Live { .. } | Effect::StepDown(_) | Effect::Note(_) => Done::Nothing,
    }
}

/// Puts `body` in the place of a generation that is no number: it would keep every room of its log shut.
async fn replace_unreadable<S: Spine>(writer: &S, subjects: &Subjects, body: Bytes) {
    let Ok(Some(stored)) = writer.last(&subjects.generation, Via::Leader).await else { return };
    if stored.body.len() != size_of::<u64>() {
        let replaced = writer.append(&subjects.generation, stored.seq, body).await;
        tracing::warn!(replaced = replaced.is_ok(), generation = %subjects.generation, "the generation was no number");
    }
}

fn outcome(result: Result<StreamSeq, AppendError>) -> Outcome {
    match result {
        Ok(seq) => Outcome::Stored(seq.0),
        Err(AppendError::Unresolved(Unresolved::WrongLast)) => Outcome::WrongLast,
        Err(AppendError::Unresolved(Unresolved::Undecided)) if mutant!(UndecidedIsConflict) => Outcome::Full,
        Err(AppendError::Unresolved(why)) => {
            if let Unresolved::Failed(code) = why {
                tracing::warn!(code, "an append failed, and nobody can tell yet whether it was stored");
            }
            Outcome::Unresolved
        }
        Err(AppendError::Refused { why, code, text }) => {
            tracing::warn!(%why, code, text, "an append was refused");
            match why {
                Refusal::Full => Outcome::Full,
                Refusal::TooBig => Outcome::TooBig,
                Refusal::Unavailable | Refusal::NoStream | Refusal::Closed => Outcome::Unavailable,
            }
        }
    }
}

async fn read<S: Spine>(
    writer: &S,
    subjects: &Subjects,
    gen_id: bool,
    snapshots: bool,
    log_from: Option<u64>,
) -> Result<Found, ReadError> {
    let mut found = Found::default();
    if gen_id {
        found.gen_id = match writer.last(&subjects.generation, Via::Leader).await {
            Ok(stored) => stored.and_then(|stored| Some(u64::from_le_bytes(stored.body.as_ref().try_into().ok()?))),
            // Gone with the memory of a restarted broker: made again, so that a generation can be written.
            Err(ReadError::NoStream) => {
                let _ = writer.ensure(&subjects.generation_spec).await;
                None
            }
            Err(error) => return Err(error),
        };
    }
    if snapshots {
        found.snapshots = all_snapshots(writer, &subjects.snapshot).await?;
    }
    if let Some(from) = log_from {
        let batch = writer.read(&subjects.log, StreamSeq(from.max(1)), READ_MAX, Via::Leader).await?;
        found.log = messages(batch.entries);
        found.more = batch.more;
    }
    Ok(found)
}

/// All of them, in as many reads as it takes: the older one alone would be taken for the newest.
async fn all_snapshots<S: Spine>(writer: &S, of: &Subject) -> Result<Vec<StoredMessage>, ReadError> {
    let mut found: Vec<StoredMessage> = Vec::new();
    loop {
        let from = StreamSeq(found.last().map_or(1, |last| last.pos + 1));
        let left = u32::try_from(SNAPSHOTS_MAX.saturating_sub(found.len())).unwrap_or(0);
        let batch = writer.read(of, from, left, Via::Leader).await?;
        let goes_on = batch.more && !batch.entries.is_empty();
        found.extend(messages(batch.entries));
        if !goes_on || found.len() >= SNAPSHOTS_MAX {
            return Ok(found);
        }
    }
}

fn messages(stored: Vec<spine::Stored>) -> Vec<StoredMessage> {
    stored.into_iter().map(|stored| StoredMessage { pos: stored.seq.0, body: stored.body }).collect()
}
