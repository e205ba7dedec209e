//! The bodies of events as JSON, one arm each.

use serde_json::{Map, Value, json};

use super::put_bytes;
use crate::v1::{self, LockMode, event::Body};

/// Puts `event` (the body's name) and the body's own keys.
pub fn event_body(out: &mut Map<String, Value>, body: Option<&Body>) {
    let Some(body) = body else {
        out.insert("event".into(), "none".into());
        return;
    };
    let (name, keys) = match body {
        Body::Said(it) => {
            let mut keys = json!({ "type": it.r#type });
            put_bytes(object(&mut keys), "data", &it.data);
            ("said", keys)
        }
        Body::KeySet(it) => ("key_set", key_set(it)),
        Body::KeyDeleted(it) => ("key_deleted", json!({ "key": it.key, "expired": it.expired })),
        Body::Locked(it) => ("locked", locked(it)),
        Body::Unlocked(it) => ("unlocked", json!({ "expired": it.expired })),
        Body::Playlist(it) => ("playlist", playlist(it)),
        // Below a key of its own: its `at` is not the event's.
        Body::Playback(it) => ("playback", json!({ "playback": playback(it) })),
        Body::Kicked(it) => ("kicked", json!({ "target": it.user, "reason": it.reason })),
        Body::Banned(it) => ("banned", json!({ "target": it.user, "until": it.until, "reason": it.reason })),
        Body::Unbanned(it) => ("unbanned", json!({ "target": it.user })),
        Body::Muted(it) => ("muted", json!({ "target": it.user, "until": it.until, "reason": it.reason })),
        Body::Unmuted(it) => ("unmuted", json!({ "target": it.user })),
        Body::Configured(it) => ("configured", json!({ "options": it.options.as_ref().map(options) })),
        Body::Closed(it) => ("closed", json!({ "reason": it.reason })),
        Body::Snapshot(it) => ("snapshot", snapshot(it)),
        Body::Members(it) => {
            ("members", json!({ "n": it.n, "count": it.count, "last": it.last, "members": members(&it.members) }))
        }
        Body::Diff(it) => (
            "presence",
            json!({
                "n": it.n, "count": it.count, "joined": members(&it.joined), "updated": members(&it.updated),
                "left": members(&it.left),
            }),
        ),
    };
    out.insert("event".into(), name.into());
    if let Value::Object(keys) = keys {
        out.extend(keys);
    }
}

/// One part of a room's state.
pub fn snapshot(it: &v1::Snapshot) -> Value {
    json!({
        "part": it.part,
        "last": it.last,
        "entries": it.entries.iter().map(key_set).collect::<Vec<_>>(),
        "lock": it.lock.as_ref().map(locked),
        "options": it.options.as_ref().map(options),
        "playlist": it.playlist.iter().map(item).collect::<Vec<_>>(),
        "playlist_ver": it.playlist_ver,
        "playback": it.playback.as_ref().map(playback),
        "bans": it.bans.iter().map(|ban| json!({ "user": ban.user, "until": ban.until })).collect::<Vec<_>>(),
        "mutes": it.mutes.iter().map(|mute| json!({ "user": mute.user, "until": mute.until })).collect::<Vec<_>>(),
    })
}

fn key_set(it: &v1::KeySet) -> Value {
    let mut keys = json!({ "key": it.key, "ver": it.ver, "expires_at": it.expires_at });
    put_bytes(object(&mut keys), "value", &it.value);
    keys
}

fn locked(it: &v1::Locked) -> Value {
    let mode = match it.mode() {
        LockMode::None => "none",
        LockMode::Join => "join",
        LockMode::Write => "write",
        LockMode::All => "all",
    };
    json!({ "mode": mode, "reason": it.reason, "until": it.until, "by": it.user })
}

fn options(it: &v1::RoomOptions) -> Value {
    json!({ "slow_mode_ms": it.slow_mode_ms, "presence": it.presence })
}

fn item(it: &v1::PlaylistItem) -> Value {
    let mut keys = json!({ "id": it.id });
    put_bytes(object(&mut keys), "data", &it.data);
    keys
}

fn playback(it: &v1::Playback) -> Value {
    json!({ "current": it.current, "playing": it.playing, "pos_ms": it.pos_ms, "at": it.at })
}

fn playlist(it: &v1::PlaylistChanged) -> Value {
    use v1::command::Op;
    let change = match it.op.as_ref().and_then(|op| op.op.as_ref()) {
        Some(Op::PlInsert(op)) => {
            json!({ "insert": op.items.iter().map(item).collect::<Vec<_>>(), "after": op.after })
        }
        Some(Op::PlRemove(op)) => json!({ "remove": op.id }),
        Some(Op::PlMove(op)) => json!({ "move": op.id, "after": op.after }),
        Some(Op::PlClear(_)) => json!("clear"),
        Some(Op::PlSelect(op)) => json!({ "select": op.id }),
        _ => Value::Null,
    };
    json!({ "change": change, "ver": it.ver })
}

fn members(list: &[v1::Member]) -> Vec<Value> {
    let meta = |bytes: &bytes::Bytes| serde_json::from_slice(bytes).unwrap_or(Value::Null);
    let one = |it: &v1::Member| json!({ "user": it.user, "count": it.count, "metas": it.metas.iter().map(meta).collect::<Vec<Value>>() });
    list.iter().map(one).collect()
}

fn object(value: &mut Value) -> &mut Map<String, Value> {
    value.as_object_mut().expect("built as an object")
}
