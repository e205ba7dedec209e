//! A difference as a person reads it: the smallest history, the steps that lead there, both answers and both states
//! line by line.

use std::fmt::{Debug, Write as _};

use prost::Message;
use proto::internal::{LogEntry, Opened, RoomSnapshot, SyncReply};
use proto::lockstep::{self as ls, effect::Effect as Said, step::Input as Given};
use proto::v1;

use super::ops::History;
use super::world::Script;

/// The longest value shown whole, in characters.
const SHOWN_MAX: usize = 4000;

/// The model itself gave up.
pub(super) fn panicked(seed: u64, history: &History, panic: &str) -> String {
    let mut text = format!("seed {seed}: the model panicked: {panic}\n");
    told(&mut text, history);
    replay(&mut text, seed);
    text
}

/// Two answers to one step.
pub(super) fn difference(seed: u64, history: &History, script: &Script, step: usize, driven: &ls::StepReply) -> String {
    let mut text = format!(
        "seed {seed}: the driven core and the model differ at step {} of operation {}\n",
        step + 1,
        script.ops.get(step).map_or(0, |op| op + 1)
    );
    told(&mut text, history);
    text.push_str("steps:\n");
    for (n, given) in script.steps.iter().take(step + 1).enumerate() {
        let _ = writeln!(text, "  {:>3}. {}", n + 1, brief(given));
    }
    let Some(model) = script.replies.get(step) else { return text };
    answers(&mut text, model, driven);
    replay(&mut text, seed);
    text
}

/// Two answers to one step of a simulated Brain.
pub(super) fn of_step(step: &ls::Step, model: &ls::StepReply, driven: &ls::StepReply) -> String {
    let mut text = format!("the driven core and the model differ\n  {}\n", brief(step));
    answers(&mut text, model, driven);
    text
}

fn answers(text: &mut String, model: &ls::StepReply, driven: &ls::StepReply) {
    if !driven.error.is_empty() {
        let _ = writeln!(text, "the driven core raised:\n{}", driven.error);
    }
    let plain = |reply: &ls::StepReply| ls::StepReply {
        digest: Vec::new().into(),
        state: Vec::new().into(),
        effects: Vec::new(),
        error: String::new(),
        ..reply.clone()
    };
    let effects = |reply: &ls::StepReply| reply.effects.iter().map(effect).collect::<String>();
    part(text, "effects", &effects(model), &effects(driven));
    part(text, "flags", &format!("{:#?}\n", plain(model)), &format!("{:#?}\n", plain(driven)));
    part(text, "state", &state(&model.state), &state(&driven.state));
}

fn told(text: &mut String, history: &History) {
    let _ = writeln!(text, "smallest history: {:?}", history.setup);
    for (n, op) in history.ops.iter().enumerate() {
        let _ = writeln!(text, "  {:>3}. {op:?}", n + 1);
    }
}

fn replay(text: &mut String, seed: u64) {
    let _ = writeln!(text, "replay: cargo sim lockstep --seed {seed} --histories 1");
}

fn part(text: &mut String, name: &str, model: &str, driven: &str) {
    if model == driven {
        let _ = writeln!(text, "{name}: the same");
    } else {
        let _ = writeln!(text, "{name}: - model, + driven\n{}", diff(model, driven));
    }
}

fn cut(text: &str) -> &str {
    match text.char_indices().nth(SHOWN_MAX) {
        Some((at, _)) => &text[..at],
        None => text,
    }
}

/// One line of a step.
fn brief(step: &ls::Step) -> String {
    let what = match (&step.reset, &step.input) {
        (Some(reset), None) => format!("reset {reset:?}"),
        (_, Some(Given::Message(message))) => match v1::Envelope::decode(message.body.clone()) {
            Ok(envelope) => format!("message to {:?}: {}", message.reply, cut(&format!("{envelope:?}"))),
            Err(_) => format!("message to {:?}: {}", message.reply, cut(&format!("{:?}", message.body))),
        },
        (_, Some(input)) => cut(&format!("{input:?}")).to_owned(),
        (None, None) => "a look at the state".into(),
    };
    format!("node {} {:?} at {}/{}: {what}", step.node, step.key, step.wall_ms, step.mono_ms)
}

fn shown<M: Message + Default + Debug>(bytes: &bytes::Bytes) -> Option<String> {
    let message = M::decode(bytes.clone()).ok()?;
    (message.encode_to_vec() == bytes.as_ref()).then(|| format!("{message:#?}\n"))
}

/// An effect with what its bytes say.
fn effect(effect: &ls::Effect) -> String {
    let Some(said) = &effect.effect else { return "an effect without a kind\n".into() };
    match said {
        Said::Append(append) => {
            let mut text = format!("append token {} expect {}\n", append.token, append.expect);
            text += &shown::<LogEntry>(&append.body).unwrap_or_else(|| format!("{:?}\n", append.body));
            if let Ok(entry) = LogEntry::decode(append.body.clone()) {
                text.extend(entry.envelopes.iter().filter_map(shown::<v1::Envelope>));
            }
            text
        }
        Said::WriteSnapshot(write) => {
            let body = shown::<RoomSnapshot>(&write.body).unwrap_or_else(|| format!("{:?}\n", write.body));
            format!("write_snapshot token {} expect {}\n{body}", write.token, write.expect)
        }
        Said::Reply(reply) => {
            // Bytes alone do not say which of the three it is: the one that is written alike.
            let body = shown::<v1::Ack>(&reply.body)
                .or_else(|| shown::<SyncReply>(&reply.body))
                .or_else(|| shown::<Opened>(&reply.body))
                .unwrap_or_else(|| format!("{:?}\n", reply.body));
            format!("reply to {}\n{body}", reply.to)
        }
        other => format!("{other:#?}\n"),
    }
}

fn state(bytes: &bytes::Bytes) -> String {
    shown::<ls::RoomDigest>(bytes).unwrap_or_else(|| format!("{bytes:?}\n"))
}

/// Lines that only one has, with what is around them: the longest common subsequence, quadratic, so bounded.
fn diff(model: &str, driven: &str) -> String {
    const LINES_MAX: usize = 1500;
    let a: Vec<&str> = model.lines().take(LINES_MAX).collect();
    let b: Vec<&str> = driven.lines().take(LINES_MAX).collect();
    let mut common = vec![vec![0_u16; b.len() + 1]; a.len() + 1];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            common[i][j] = if a[i] == b[j] { common[i + 1][j + 1] + 1 } else { common[i + 1][j].max(common[i][j + 1]) };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut lines: Vec<(char, &str)> = Vec::new();
    while i < a.len() || j < b.len() {
        if i < a.len() && j < b.len() && a[i] == b[j] {
            lines.push((' ', a[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == b.len() || (i < a.len() && common[i + 1][j] >= common[i][j + 1]) {
            lines.push(('-', a[i]));
            i += 1;
        } else {
            lines.push(('+', b[j]));
            j += 1;
        }
    }
    let near = |n: usize| lines[n.saturating_sub(4)..lines.len().min(n + 5)].iter().any(|(mark, _)| *mark != ' ');
    let mut text = String::new();
    let mut gap = false;
    for (n, (mark, line)) in lines.iter().enumerate() {
        if near(n) {
            let _ = writeln!(text, "  {mark} {}", cut(line));
            gap = false;
        } else if !std::mem::replace(&mut gap, true) {
            text.push_str("    …\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::diff;

    #[test]
    fn a_diff_shows_what_only_one_has() {
        let text = diff("a\nb\nc\n", "a\nx\nc\n");
        assert_eq!(text, "    a\n  - b\n  + x\n    c\n");
        assert!(diff("same\n", "same\n").contains('…'));
    }
}
