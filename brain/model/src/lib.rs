//! The Rust reference model of a room, as a pure core: no I/O, no clock, no randomness, no task. A [`Room`] takes
//! [`Input`]s and returns [`Effect`]s; a shell, a property test or a simulator does the rest.
//!
//! - [`fold`]: state is a pure fold over the room's log; [`state`] and [`dedupe`] are what it makes.
//! - [`chain`]: which entry may follow which.
//! - [`decide`]: one command against one state.
//! - [`room`]: opening, committing, answering, and the rules that keep a deposed owner harmless.
//! - [`placement`]: which node should serve a room.
//!
//! ```
//! use brain_model::{Effect, Identity, Input, Now, Room, Rules};
//! use proto::{NodeId, RoomKey, Subject};
//!
//! let key = RoomKey::new("acme".parse().unwrap(), "lobby".parse().unwrap());
//! let node: NodeId = "brain-1".parse().unwrap();
//! let mut room = Room::new(key, Identity { node, incarnation: 7, session: 1 }, Rules::default());
//! let reply = Subject::reply_slot(&"shield-1".parse().unwrap(), 0);
//! let effects = room.step(Now { wall_ms: 1_760_000_000_000, mono_ms: 0 }, Input::Open { reply, create: true });
//! // A room begins by reading: the generation of its log, and its snapshots.
//! assert!(matches!(effects[..], [Effect::Read { gen_id: true, snapshots: true, .. }]));
//! ```

pub mod answers;
pub mod chain;
pub mod decide;
pub mod dedupe;
#[cfg(feature = "fake")]
pub mod fake;
pub mod fold;
pub mod incoming;
pub mod io;
pub mod placement;
mod ring;
pub mod room;
pub mod state;

pub use io::{Effect, Found, Input, Note, Now, Outcome, StoredMessage, Token, Why};
pub use room::{Identity, Room, Rules};
