//! Whether a node can serve rooms: what `/readyz` of a Brain says.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use spine::Link;
use tokio::sync::watch;

/// What a running node tells its page. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// Of the writer and the speaker, once there are such.
    links: Vec<(&'static str, watch::Receiver<Link>)>,
    streams: Streams,
    serving: bool,
    draining: bool,
}

#[derive(Debug, Default)]
enum Streams {
    #[default]
    Unknown,
    Right,
    Wrong(String),
}

impl Readiness {
    /// Why this node should get no rooms now; `None`: it should.
    pub fn unready(&self) -> Option<String> {
        let state = self.lock();
        if state.draining {
            return Some("draining: this Brain is going away".into());
        }
        if state.links.is_empty() {
            return Some("starting: no connection to NATS yet".into());
        }
        if let Some((role, _)) = state.links.iter().find(|(_, link)| !link.borrow().is_up()) {
            return Some(format!("the Spine is away: no connection to NATS of the {role}"));
        }
        match &state.streams {
            Streams::Unknown => return Some("the streams are not right: they are being verified".into()),
            Streams::Wrong(why) => return Some(format!("the streams are not right: {why}")),
            Streams::Right => {}
        }
        (!state.serving).then(|| "starting: this Brain has not heard its own heartbeats yet".into())
    }

    /// True while both connections are up.
    pub(crate) fn linked(&self) -> bool {
        let state = self.lock();
        !state.links.is_empty() && state.links.iter().all(|(_, link)| link.borrow().is_up())
    }

    pub(crate) fn connected(&self, writer: watch::Receiver<Link>, speaker: watch::Receiver<Link>) {
        self.lock().links = vec![("writer", writer), ("speaker", speaker)];
    }

    pub(crate) fn verifying(&self) {
        self.lock().streams = Streams::Unknown;
    }

    pub(crate) fn streams(&self, right: Result<(), String>) {
        self.lock().streams = match right {
            Ok(()) => Streams::Right,
            Err(why) => Streams::Wrong(why),
        };
    }

    pub(crate) fn serves(&self) {
        self.lock().serving = true;
    }

    pub(crate) fn drains(&self) {
        self.lock().draining = true;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
