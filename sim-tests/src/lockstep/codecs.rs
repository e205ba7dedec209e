//! Every message of the wire by its full name, as prost and the canonical rule read it.

use prost::Message;
use proto::canonical::{self, table};
use proto::lockstep::Coded;
use proto::{internal, v1};

/// One message of the schemas.
pub struct Codec {
    /// Its full name.
    pub name: &'static str,
    again: fn(&[u8]) -> Option<Vec<u8>>,
    /// `None`: the canonical rule is not for it.
    rule: Option<&'static canonical::Message>,
}

fn again<M: Message + Default>(bytes: &[u8]) -> Option<Vec<u8>> {
    M::decode(bytes).ok().map(|message| message.encode_to_vec())
}

macro_rules! codecs {
    (v1: $($message:ident $table:ident),*; internal: $($inner:ident),* $(,)?) => {
        /// Every message of `envelope.proto` and `internal.proto`.
        pub static ALL: &[Codec] = &[
            $(Codec {
                name: concat!("arqon.v1.", stringify!($message)),
                again: again::<v1::$message>,
                rule: Some(&table::$table),
            },)*
            $(Codec {
                name: concat!("arqon.internal.v1.", stringify!($inner)),
                again: again::<internal::$inner>,
                rule: None,
            },)*
        ];
    };
}

codecs! {
    v1: Envelope ENVELOPE, Sender SENDER, Head HEAD, Command COMMAND, Say SAY, Set SET, Delete DELETE, Lock LOCK,
        Unlock UNLOCK, PlaylistItem PLAYLIST_ITEM, PlaylistInsert PLAYLIST_INSERT, PlaylistRemove PLAYLIST_REMOVE,
        PlaylistMove PLAYLIST_MOVE, PlaylistClear PLAYLIST_CLEAR, PlaylistSelect PLAYLIST_SELECT, Play PLAY,
        Pause PAUSE, Seek SEEK, Kick KICK, Ban BAN, Unban UNBAN, Mute MUTE, Unmute UNMUTE, RoomOptions ROOM_OPTIONS,
        Configure CONFIGURE, Close CLOSE, Event EVENT, Said SAID, KeySet KEY_SET, KeyDeleted KEY_DELETED,
        Locked LOCKED, Unlocked UNLOCKED, PlaylistChanged PLAYLIST_CHANGED, Playback PLAYBACK, Kicked KICKED,
        Banned BANNED, Unbanned UNBANNED, Muted MUTED, Unmuted UNMUTED, Configured CONFIGURED, Closed CLOSED,
        Snapshot SNAPSHOT, Member MEMBER, PresenceSnapshot PRESENCE_SNAPSHOT, PresenceDiff PRESENCE_DIFF, Ack ACK,
        SystemSignal SYSTEM_SIGNAL, Cursor CURSOR, Sync SYNC, Get GET;
    internal: LogEntry, Owned, Deleted, Open, Opened, Live, SyncReply, DedupeEntry, DedupeRange, DedupeUser, RoomState,
        Ttl, RoomSnapshot, TrimPoint, PresenceEntry, PresenceDelta, Clock, Tail, Heartbeat,
}

/// The message of that name.
pub fn find(name: &str) -> Option<&'static Codec> {
    ALL.iter().find(|codec| codec.name == name)
}

impl Codec {
    /// What becomes of these bytes.
    pub fn coded(&self, bytes: &[u8]) -> Coded {
        let again = (self.again)(bytes);
        let coded = Coded { decoded: again.is_some(), encoded: again.unwrap_or_default().into(), ..Coded::default() };
        match self.rule.map(|rule| canonical::check(rule, bytes)) {
            None => coded,
            Some(Ok(())) => Coded { canonical: true, ..coded },
            Some(Err(fault)) => Coded {
                code: fault.code.as_u16().into(),
                detail: fault.detail.into(),
                field: fault.field,
                at: fault.at as u64,
                ..coded
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_of_both_schemas_is_here() {
        let set = prost_types::FileDescriptorSet::decode(proto::DESCRIPTOR_SET).expect("our own");
        let mut named: Vec<String> = set
            .file
            .iter()
            .filter(|file| file.package() != "arqon.lockstep.v1")
            .flat_map(|file| file.message_type.iter().map(|message| format!("{}.{}", file.package(), message.name())))
            .collect();
        let mut known: Vec<String> = ALL.iter().map(|codec| codec.name.to_owned()).collect();
        named.sort();
        known.sort();
        assert_eq!(known, named);
    }
}
