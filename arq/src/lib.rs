//! The command line as a library: the WebSocket [`client`] that `arq sub`, `arq pub`, the simulator and the kill
//! tests share.

pub mod client;
