//! The processes of the simulated world. All run in one tokio runtime whose clock jumps from one thing to do to the next;
//! each task belongs to the process that started it, so that a process can die with all of its tasks, and every trace record
//! can say who wrote it.
//!
//! tokio says which task starts which ([`hooks`]); the handles by which tasks are ended come from
//! [`voltron_core::tasks::spawn`]. A task that was started past it would outlive its process: [`Processes::bury`] notices
//! and fails the run.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;

use tokio::runtime::Builder;
use tokio::task::{AbortHandle, Id};

/// What a process does until it dies, and how it ends if by itself.
pub(super) type Life = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// Turns of the scheduler within which the tasks of a dead process must be gone.
const LAST_TURNS: usize = 1_000;

thread_local! {
    static TABLE: RefCell<Table> = RefCell::default();
}

#[derive(Default)]
struct Table {
    names: Vec<String>,
    /// Whose task each is, as long as it lives.
    tasks: BTreeMap<Id, usize>,
    handles: BTreeMap<Id, AbortHandle>,
    /// The next task is the first one of this process.
    begins: Option<usize>,
    /// Those whose tasks must end.
    dying: BTreeSet<usize>,
    failed: Option<String>,
}

fn table<R>(act: impl FnOnce(&mut Table) -> R) -> R {
    TABLE.with_borrow_mut(act)
}

/// Has a runtime tell whose its tasks are. One world at a time in a thread.
pub(super) fn hooks(builder: &mut Builder) -> &mut Builder {
    table(|table| *table = Table::default());
    voltron_core::tasks::watch(|handle| {
        let spare = table(|table| {
            // Not of this world, or over already.
            if table.tasks.contains_key(&handle.id()) {
                table.handles.insert(handle.id(), handle)
            } else {
                Some(handle)
            }
        });
        drop(spare);
    });
    builder
        .on_task_spawn(|task| {
            table(|table| {
                let parent = tokio::task::try_id().and_then(|id| table.tasks.get(&id).copied());
                if let Some(process) = table.begins.take().or(parent) {
                    table.tasks.insert(task.id(), process);
                }
            });
        })
        .on_task_terminate(|task| {
            let handle = table(|table| {
                table.tasks.remove(&task.id());
                table.handles.remove(&task.id())
            });
            // Outside of the table: it may be the last that holds the task.
            drop(handle);
        })
}

/// Calls `then` with the name of the process whose task runs now; `None` outside of all.
pub fn whose<R>(then: impl FnOnce(Option<&str>) -> R) -> R {
    let id = tokio::task::try_id();
    TABLE.with_borrow(|table| {
        let process = id.and_then(|id| table.tasks.get(&id));
        then(process.and_then(|process| table.names.get(*process)).map(String::as_str))
    })
}

/// Every process of a world, running or not.
#[derive(Default)]
pub(super) struct Processes {
    lives: Vec<Box<dyn Fn() -> Life>>,
    to_start: Vec<usize>,
}

impl Processes {
    /// Adds one and starts it. `life` is asked again for every new start.
    pub(super) fn add(&mut self, name: &str, life: impl Fn() -> Life + 'static) {
        table(|table| table.names.push(name.to_owned()));
        self.lives.push(Box::new(life));
        self.to_start.push(self.lives.len() - 1);
    }

    /// Ends all tasks of a process. Nothing of it runs any more once [`bury`](Self::bury) has returned.
    pub(super) fn kill(&mut self, name: &str) {
        if let Some(process) = Self::at(name) {
            self.to_start.retain(|other| *other != process);
            table(|table| table.dying.insert(process));
        }
    }

    /// Starts a process again.
    pub(super) fn start(&mut self, name: &str) {
        self.to_start.extend(Self::at(name));
    }

    /// Waits until the dying are gone, then starts what is to start. Takes no virtual time.
    pub(super) async fn bury(&mut self) -> Result<(), String> {
        let dying: Vec<usize> = table(|table| table.dying.iter().copied().collect());
        for process in dying {
            self.end(process).await?;
        }
        for process in std::mem::take(&mut self.to_start) {
            table(|table| table.begins = Some(process));
            let life = (self.lives[process])();
            let _runs_on = voltron_core::tasks::spawn(async move {
                if let Err(why) = life.await {
                    table(|table| {
                        let name = &table.names[process];
                        table.failed.get_or_insert_with(|| format!("{name}: {why}"));
                    });
                }
            });
        }
        Ok(())
    }

    async fn end(&self, process: usize) -> Result<(), String> {
        for _ in 0..LAST_TURNS {
            // Again each time: a task that is dropped may start another.
            let (left, handles) = table(|table| {
                let of = |id: &&Id| table.tasks.get(id) == Some(&process);
                let handles: Vec<AbortHandle> =
                    table.handles.keys().filter(of).filter_map(|id| table.handles.get(id)).cloned().collect();
                (table.tasks.values().filter(|owner| **owner == process).count(), handles)
            });
            if left == 0 {
                table(|table| table.dying.remove(&process));
                return Ok(());
            }
            handles.iter().for_each(AbortHandle::abort);
            drop(handles);
            tokio::task::yield_now().await;
        }
        let name = table(|table| table.names[process].clone());
        Err(format!("a task of {name} outlived it: start it with voltron_core::tasks::spawn"))
    }

    /// How many tasks of this process live.
    pub(super) fn tasks(name: &str) -> Option<usize> {
        let process = Self::at(name)?;
        Some(table(|table| table.tasks.values().filter(|owner| **owner == process).count()))
    }

    /// Why a process ended by itself, if one did.
    pub(super) fn failed(&self) -> Option<String> {
        table(|table| table.failed.take())
    }

    fn at(name: &str) -> Option<usize> {
        table(|table| table.names.iter().position(|known| known == name))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    fn world(act: impl AsyncFnOnce(Processes)) {
        let runtime = hooks(&mut Builder::new_current_thread()).enable_time().start_paused(true).build().unwrap();
        runtime.block_on(act(Processes::default()));
    }

    async fn tick(beats: Arc<AtomicUsize>) {
        loop {
            tokio::time::sleep(Duration::from_millis(1)).await;
            beats.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_process_dies_with_the_tasks_of_its_tasks_and_no_other() {
        world(async |mut processes| {
            let beats = [Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0))];
            for (name, beat) in ["doomed", "other"].into_iter().zip(beats.clone()) {
                processes.add(name, move || {
                    let beat = beat.clone();
                    Box::pin(async move {
                        let grandchild = || {
                            voltron_core::tasks::spawn(tick(beat));
                        };
                        let _detached = voltron_core::tasks::spawn(async move { grandchild() });
                        std::future::pending().await
                    })
                });
            }
            processes.bury().await.unwrap();
            tokio::time::sleep(Duration::from_millis(10)).await;
            processes.kill("doomed");
            processes.bury().await.unwrap();
            let seen = beats.each_ref().map(|beat| beat.load(Ordering::Relaxed));
            assert!(seen[0] > 5, "it lived");
            tokio::time::sleep(Duration::from_millis(10)).await;
            let after = beats.each_ref().map(|beat| beat.load(Ordering::Relaxed));
            assert_eq!(after[0], seen[0]);
            assert!(after[1] > seen[1] + 5);
            processes.start("doomed");
            processes.bury().await.unwrap();
            tokio::time::sleep(Duration::from_millis(10)).await;
            assert!(beats[0].load(Ordering::Relaxed) > after[0] + 5, "it lives again");
        });
    }

    #[test]
    fn a_task_that_outlives_its_process_is_noticed() {
        world(async |mut processes| {
            processes.add("leaky", || {
                Box::pin(async {
                    tokio::spawn(std::future::pending::<()>());
                    std::future::pending().await
                })
            });
            processes.bury().await.unwrap();
            tokio::task::yield_now().await;
            processes.kill("leaky");
            let why = processes.bury().await.unwrap_err();
            assert_eq!(why, "a task of leaky outlived it: start it with voltron_core::tasks::spawn");
        });
    }

    #[test]
    fn a_process_that_ends_by_itself_says_why_and_each_task_knows_whose_it_is() {
        world(async |mut processes| {
            processes.add("brief", || Box::pin(async { Err(whose(|name| name.unwrap_or("nobody's").to_owned())) }));
            processes.bury().await.unwrap();
            tokio::task::yield_now().await;
            assert_eq!(processes.failed().unwrap(), "brief: brief");
            assert_eq!(whose(|name| name.map(str::to_owned)), None);
        });
    }
}
