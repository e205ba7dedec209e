//! What the command line shares with the simulator and the tests: the WebSocket [`client`] of `arq sub` and `arq pub`,
//! [`token`]s, frames as readable JSON ([`inspect`]) and the Elixir [`release`]. It knows no Shield, broker or Brain: what
//! runs them, `arq dev`, lies in the binary.

pub mod client;
pub mod inspect;
#[cfg(not(madsim))]
pub mod release;
pub mod token;
