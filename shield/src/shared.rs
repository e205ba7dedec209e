//! What all connections and rooms of one Shield share.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use proto::{Code, NodeId};
use spine::Spine;
use voltron_core::config::{Config, Limits};
use voltron_core::trace::{self, Record};
use voltron_core::{Ids, Overseer, WallClock};

use crate::auth::Keys;
use crate::health::Health;
use crate::meters::Meters;
use crate::outbox::{Frame, Outbox, Pool};
use crate::replies::Replies;
use crate::rooms::{Absent, Rooms};

pub(crate) struct Shared<S, C, I> {
    pub(crate) node: NodeId,
    pub(crate) spine: S,
    pub(crate) clock: C,
    pub(crate) ids: I,
    pub(crate) overseer: Arc<dyn Overseer>,
    pub(crate) config: Arc<Config>,
    /// `[limits]`, swapped by a reload.
    pub(crate) limits: Arc<ArcSwap<Limits>>,
    pub(crate) keys: Arc<ArcSwap<Keys>>,
    pub(crate) replies: Arc<Replies<S>>,
    pub(crate) rooms: Rooms,
    pub(crate) absent: Arc<Absent>,
    pub(crate) health: Arc<Health>,
    pub(crate) meters: Meters,
    pub(crate) connections: Connections,
}

impl<S: Spine, C: WallClock, I: Ids> Shared<S, C, I> {
    /// A random number below `bound`, for jitter.
    pub(crate) fn below(&self, purpose: &'static str, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.ids.u64(purpose) % bound }
    }
}

/// Tells the trace that a table is full, so that somebody is refused.
pub(crate) fn full(name: &str, size: usize) {
    let size = u64::try_from(size).unwrap_or(u64::MAX);
    trace::emit(|| Record::Queue { name: name.into(), len: size, cap: size });
}

/// Every connection past its handshake.
#[derive(Default)]
pub(crate) struct Connections {
    open: Mutex<(u64, BTreeMap<u64, Arc<Outbox>>)>,
    closed: AtomicBool,
    /// Replays, snapshots and answers to `get` that wait for any of them.
    pub(crate) pool: Arc<Pool>,
}

impl Connections {
    pub(crate) fn add(&self, outbox: Arc<Outbox>) -> u64 {
        let mut open = self.open.lock().expect("no code panics while it holds this lock");
        open.0 += 1;
        let n = open.0;
        open.1.insert(n, outbox);
        n
    }

    pub(crate) fn remove(&self, n: u64) {
        self.open.lock().expect("no code panics while it holds this lock").1.remove(&n);
    }

    /// Who comes after this must go at once. Set before [`Connections::all`] is read, looked at after
    /// [`Connections::add`]: so nobody falls between.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    pub(crate) fn closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    pub(crate) fn len(&self) -> usize {
        self.open.lock().expect("no code panics while it holds this lock").1.len()
    }

    /// Their queues, in the order of their arrival.
    pub(crate) fn all(&self) -> Vec<Arc<Outbox>> {
        self.open.lock().expect("no code panics while it holds this lock").1.values().cloned().collect()
    }

    /// Bytes that wait for all of them, bulk included.
    pub(crate) fn queued_bytes(&self) -> usize {
        let open = self.open.lock().expect("no code panics while it holds this lock");
        open.1.values().map(|outbox| outbox.depth().0).sum::<usize>() + self.pool.bytes()
    }

    /// ERR to everybody.
    pub(crate) fn tell(&self, code: Code, text: &str) {
        let frame = Frame::Binary(proto::frame::err(code, text));
        for outbox in self.all() {
            outbox.push(frame.clone());
        }
    }
}
