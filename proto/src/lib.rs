//! The contract in bytes. From here on these files *are* the contract: schemas (`envelope.proto`, `internal.proto`,
//! `lockstep.proto`), the strict zero-copy [`view`], [`frame`]s, [`id`]s and [`subject`]s as newtypes, the [`signature`]
//! transcript and the registry of [`error`] codes. Nothing here does I/O, reads a clock or draws a random number.

// Nested as the packages are, because the generated code refers from one to the other by that path.
#[allow(clippy::all, clippy::pedantic, unreachable_pub)]
mod arqon {
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/arqon.v1.rs"));
    }
    pub mod internal {
        pub mod v1 {
            include!(concat!(env!("OUT_DIR"), "/arqon.internal.v1.rs"));
        }
    }
    pub mod lockstep {
        pub mod v1 {
            include!(concat!(env!("OUT_DIR"), "/arqon.lockstep.v1.rs"));
        }
    }
}

/// Messages of `internal.proto` (package `arqon.internal.v1`): what our processes and the log hold.
pub use arqon::internal::v1 as internal;
/// Messages of `lockstep.proto` (package `arqon.lockstep.v1`): how the real cores are driven beside the model.
pub use arqon::lockstep::v1 as lockstep;
/// Messages of `envelope.proto` (package `arqon.v1`): what clients see.
pub use arqon::v1;

/// The serialised `FileDescriptorSet` of all schemas.
pub static DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptor.bin"));

pub mod canonical;
pub mod error;
pub mod frame;
pub mod id;
pub mod json;
pub mod rights;
pub mod sender;
pub mod signature;
pub mod subject;
pub mod view;

pub use error::Code;
pub use id::{MessageId, NodeId, RoomId, RoomKey, TenantId, UserId};
pub use rights::Rights;
pub use subject::{Pattern, StreamName, Subject};
