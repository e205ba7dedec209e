//! Tasks of a process, in the one form that compiles under tokio and under madsim: started so that a simulator can end
//! those of one process, or ending with their owner; and a deadline as an instant.

use std::future::Future;
use std::sync::OnceLock;

use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::Instant;

static WATCHER: OnceLock<fn(AbortHandle)> = OnceLock::new();

/// Starts a task of this process, as `tokio::spawn` does. Product code starts all of its tasks here: a simulator keeps
/// several processes in one runtime, and when one dies every task of it must.
#[track_caller]
pub fn spawn<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    let running = tokio::spawn(task);
    if let Some(watcher) = WATCHER.get() {
        watcher(running.abort_handle());
    }
    running
}

/// Has `watcher` told of every task that [`spawn`] starts, for the rest of the program: the first one asked for. A process
/// that is a program of its own has none.
pub fn watch(watcher: fn(AbortHandle)) {
    WATCHER.get_or_init(|| watcher);
}

/// Tasks that are cut off when this value is dropped. Those that ended by themselves are forgotten whenever the list
/// has doubled since the last look, so it holds at most twice as many handles as tasks ever ran at once, and 64.
#[derive(Debug)]
pub struct Tasks {
    running: Vec<JoinHandle<()>>,
    look_at: usize,
}

const LOOK_AT_MIN: usize = 64;

impl Default for Tasks {
    fn default() -> Self {
        Self { running: Vec::new(), look_at: LOOK_AT_MIN }
    }
}

impl Tasks {
    /// Starts one.
    pub fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        if self.running.len() >= self.look_at {
            self.running.retain(|running| !running.is_finished());
            self.look_at = LOOK_AT_MIN.max(2 * self.running.len());
        }
        self.running.push(spawn(task));
    }

    /// Cuts all off and waits until they are gone.
    pub async fn shutdown(&mut self) {
        for task in &self.running {
            task.abort();
        }
        for task in self.running.drain(..) {
            // An error says only that the task was cut off, which is what was asked for.
            let _ended = task.await;
        }
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        for task in &self.running {
            task.abort();
        }
    }
}

/// The deadline came first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Late;

/// What `future` yields, or [`Late`] if `deadline` comes first. A future that is ready is never late.
pub async fn timeout_at<F: Future>(deadline: Instant, future: F) -> Result<F::Output, Late> {
    let left = deadline.saturating_duration_since(Instant::now());
    tokio::time::timeout(left, future).await.map_err(|_| Late)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    struct Alive(Arc<AtomicUsize>);
    impl Drop for Alive {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }

    fn stay(alive: &Arc<AtomicUsize>) -> impl Future<Output = ()> + Send + use<> {
        alive.fetch_add(1, Ordering::SeqCst);
        let guard = Alive(alive.clone());
        async move {
            std::future::pending::<()>().await;
            drop(guard);
        }
    }

    #[tokio::test]
    async fn shutdown_cuts_off_and_waits() {
        let alive = Arc::new(AtomicUsize::new(0));
        let mut tasks = Tasks::default();
        (0..3).for_each(|_| tasks.spawn(stay(&alive)));
        tasks.shutdown().await;
        assert_eq!(alive.load(Ordering::SeqCst), 0);
    }

    #[tokio::test]
    async fn what_ended_is_forgotten() {
        let mut tasks = Tasks::default();
        for _ in 0..10 * LOOK_AT_MIN {
            tasks.spawn(async {});
            tokio::task::yield_now().await;
        }
        assert!(tasks.running.len() <= LOOK_AT_MIN + 1, "{}", tasks.running.len());
    }

    #[tokio::test]
    async fn a_deadline_that_has_passed_still_polls_once() {
        let past = Instant::now();
        assert_eq!(timeout_at(past, async { 7 }).await, Ok(7));
        assert_eq!(timeout_at(past, std::future::pending::<()>()).await, Err(Late));
    }
}
