//! Asking for a room to be opened. Of each kind of question about a room one is on its way at a time, whoever asks: a
//! thousand SUBs to a dormant room are one open. It runs in a task of its own, so that none who waits for it ends it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use prost::Message as _;
use proto::{Code, RoomKey, internal};
use spine::Spine;
use tokio::sync::watch;
use voltron_core::mark;

use super::Replies;
use crate::route::Route;

/// What became of an open.
#[derive(Clone, Debug)]
pub(crate) enum OpenOutcome {
    /// Somebody serves the room.
    Served,
    /// Refused for good, e.g. 5001.
    Refused(Code, String),
    /// Nobody could be asked, or it came to nothing.
    Unavailable,
}

/// A node that may be dead, and the term in which it owns the room.
pub(crate) type Suspect = (String, u64);

/// What distinguishes one open of a room from another: may it be created, and who is suspected.
type Kind = (RoomKey, bool, Option<Suspect>);

/// The opens on their way; as each is a call, never more than calls may be.
#[derive(Default)]
pub(super) struct Opens(Mutex<BTreeMap<Kind, watch::Receiver<Option<OpenOutcome>>>>);

impl Opens {
    pub(super) fn len(&self) -> usize {
        self.0.lock().expect("no code panics while it holds this lock").len()
    }
}

impl<S: Spine> Replies<S> {
    /// Asks for a room to be opened, or waits with those who asked already; at most for `limit`.
    pub(crate) async fn open(
        self: &Arc<Self>,
        route: &Route,
        create: bool,
        suspect: Option<Suspect>,
        limit: Duration,
    ) -> OpenOutcome {
        let kind = (route.key.clone(), create, suspect);
        let mut outcome = {
            let mut opens = self.opens.0.lock().expect("no code panics while it holds this lock");
            match opens.get(&kind) {
                Some(asked) => asked.clone(),
                None => {
                    let (tell, told) = watch::channel(None);
                    opens.insert(kind.clone(), told.clone());
                    let (this, to) = (self.clone(), route.open.clone());
                    voltron_core::tasks::spawn(async move {
                        let outcome = this.ask_open(&kind, &to).await;
                        this.opens.0.lock().expect("no code panics while it holds this lock").remove(&kind);
                        let _ = tell.send(Some(outcome));
                    });
                    told
                }
            }
        };
        let told = tokio::time::timeout(limit, outcome.wait_for(Option::is_some)).await;
        match told {
            Ok(Ok(outcome)) => outcome.clone().unwrap_or(OpenOutcome::Unavailable),
            _ => OpenOutcome::Unavailable,
        }
    }

    async fn ask_open(&self, (room, create, suspect): &Kind, to: &proto::Subject) -> OpenOutcome {
        mark!("shield.open-room");
        let (suspect_node, suspect_term) = suspect.clone().unwrap_or_default();
        let open = internal::Open {
            room: room.room.to_string(),
            create: *create,
            suspect_node,
            suspect_term,
            tenant: String::new(),
        };
        let Ok(body) = self.call(to, open.encode_to_vec().into(), self.answer_timeout).await else {
            return OpenOutcome::Unavailable;
        };
        match internal::Opened::decode(body) {
            Ok(opened) if opened.code == 0 => {
                self.absent.served(room);
                OpenOutcome::Served
            }
            Ok(opened) => match u16::try_from(opened.code).ok().and_then(Code::from_u16) {
                // Another node, or this one a moment later, may take it.
                None | Some(Code::Unavailable | Code::OutcomeUnknown | Code::NotApplied) => OpenOutcome::Unavailable,
                Some(code) => OpenOutcome::Refused(code, opened.message),
            },
            Err(_) => OpenOutcome::Unavailable,
        }
    }
}
