//! The command line as a library: the WebSocket [`client`] that `arq sub`, `arq pub`, the simulator and the kill
//! tests share, [`token`]s, and frames as readable JSON ([`inspect`]).

pub mod cli;
pub mod client;
pub mod dev;
pub mod failure;
pub mod inspect;
pub mod release;
pub mod token;
