//! What every Rust part shares: the seams to the world ([`net`], [`clock`], [`ids`]), the [`overseer`] that judges
//! messages, the [`config`] schema, the [`console`], [`trace`] records, [`metrics`], [`marks`] and planted bugs ([`mutants`]).

pub mod clock;
pub mod config;
pub mod console;
pub mod ids;
pub mod marks;
pub mod metrics;
pub mod mutants;
pub mod net;
pub mod overseer;
pub mod tasks;
pub mod telemetry;
pub mod trace;

pub use clock::{SystemClock, WallClock};
pub use ids::{Ids, OsIds};
pub use net::{Listener, Net, TcpNet};
pub use overseer::{AllowAll, Judged, Overseer, Verdict};
