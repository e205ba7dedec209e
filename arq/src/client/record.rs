//! The client's lines in the trace (CONTRACT §6). A command appears as JSON whose values are hashes, so that a trace
//! can be shared without what people said.

use data_encoding::BASE64;
use proto::v1::{self, command::Op};
use serde_json::{Value, json};
use voltron_core::trace::Hash16;

/// A command as the trace shows it: `op`, its arguments, and `h` for every value.
pub fn command_json(command: &v1::Command) -> Value {
    let mut value = match &command.op {
        None => json!({"op": "none"}),
        Some(op) => op_json(op),
    };
    let object = value.as_object_mut().expect("every arm makes an object");
    if command.ephemeral {
        object.insert("ephemeral".into(), true.into());
    }
    if let Some(head) = &command.if_head {
        object.insert("if_head".into(), json!([head.epoch, head.seq]));
    }
    value
}

fn op_json(op: &Op) -> Value {
    let h = |bytes: &[u8]| Hash16::of(bytes);
    match op {
        Op::Say(say) => json!({"op": "say", "h": h(&say.data), "type": say.r#type}),
        Op::Set(set) => {
            json!({"op": "set", "key": set.key, "h": h(&set.value), "ttl_ms": set.ttl_ms, "expect": set.expect})
        }
        Op::Delete(delete) => json!({"op": "delete", "key": delete.key, "expect": delete.expect}),
        Op::Lock(lock) => json!({"op": "lock", "mode": lock.mode, "ttl_ms": lock.ttl_ms}),
        Op::Unlock(unlock) => json!({"op": "unlock", "force": unlock.force}),
        Op::PlInsert(insert) => {
            let ids: Vec<&str> = insert.items.iter().map(|item| item.id.as_str()).collect();
            json!({"op": "pl_insert", "after": insert.after, "ids": ids, "expect": insert.expect})
        }
        Op::PlRemove(remove) => json!({"op": "pl_remove", "id": remove.id, "expect": remove.expect}),
        Op::PlMove(to) => json!({"op": "pl_move", "id": to.id, "after": to.after, "expect": to.expect}),
        Op::PlClear(clear) => json!({"op": "pl_clear", "expect": clear.expect}),
        Op::PlSelect(select) => json!({"op": "pl_select", "id": select.id}),
        Op::Play(play) => json!({"op": "play", "pos_ms": play.pos_ms}),
        Op::Pause(pause) => json!({"op": "pause", "pos_ms": pause.pos_ms}),
        Op::Seek(seek) => json!({"op": "seek", "pos_ms": seek.pos_ms}),
        Op::Kick(kick) => json!({"op": "kick", "user": kick.user}),
        Op::Ban(ban) => json!({"op": "ban", "user": ban.user, "until": ban.until}),
        Op::Unban(unban) => json!({"op": "unban", "user": unban.user}),
        Op::Mute(mute) => json!({"op": "mute", "user": mute.user, "until": mute.until}),
        Op::Unmute(unmute) => json!({"op": "unmute", "user": unmute.user}),
        Op::Configure(configure) => {
            let options = configure.options.unwrap_or_default();
            json!({"op": "configure", "slow_mode_ms": options.slow_mode_ms, "presence": options.presence})
        }
        Op::Close(_) => json!({"op": "close"}),
    }
}

/// A room's state, as a `get` or a snapshot shows it, with its values as hashes.
pub(crate) fn state_json(state: &Value) -> Value {
    let entry = |entry: &Value| {
        let text = entry["value"].as_str().unwrap_or_default();
        let value = if entry["base64"] == true { BASE64.decode(text.as_bytes()) } else { Ok(text.into()) };
        let h = Hash16::of(&value.unwrap_or_default());
        json!({ "key": entry["key"], "ver": entry["ver"], "h": h, "expires_at": entry["expires_at"] })
    };
    let entries: Vec<Value> = state["entries"].as_array().into_iter().flatten().map(entry).collect();
    let lock = state["lock"].as_object().map(|lock| {
        let key = |name| lock.get(name);
        json!({ "mode": key("mode"), "by": key("by"), "reason": key("reason"), "until": key("until") })
    });
    json!({ "entries": entries, "lock": lock })
}
