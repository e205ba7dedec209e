//! `arq error`: a row of the registry of codes.

use proto::Code;
use proto::error::{Info, REGISTRY, Retry, Scope};
use serde_json::json;

use super::input;
use crate::failure::{Exit, Failure};
use arq::inspect::nearest;

/// Explains a stable code: what it means, whether to retry, what to do.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Its number or name, e.g. 5010 or outcome_expired. Left out: all of them.
    code: Option<String>,
    /// Print JSON, one object a line.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<Exit, Failure> {
    let Some(word) = &args.code else {
        for info in REGISTRY {
            let line = if args.json { json(info) } else { row(info) };
            if !input::line(&line)? {
                break;
            }
        }
        return Ok(Exit::Good);
    };
    let code = match word.parse::<u16>() {
        Ok(number) => Code::from_u16(number),
        Err(_) => REGISTRY.iter().find(|info| info.name == word.to_lowercase()).map(|info| info.code),
    };
    let Some(code) = code else { return Err(unknown(word)) };
    let text = if args.json { json(code.info()) } else { explained(code.info()) };
    input::line(&text)?;
    Ok(Exit::Good)
}

fn row(info: &Info) -> String {
    format!("{:4}  {:26}{}", info.code.as_u16(), info.name, info.message)
}

fn explained(info: &Info) -> String {
    format!(
        "{}\n  {}\n  {}\n\n  retry: {}\n  seen in: {}",
        info.code,
        info.message,
        info.help,
        retry(info.retry).1,
        scope(info.scope).1
    )
}

fn json(info: &Info) -> String {
    json!({
        "code": info.code.as_u16(), "name": info.name, "retry": retry(info.retry).0, "scope": scope(info.scope).0,
        "message": info.message, "help": info.help,
    })
    .to_string()
}

const fn retry(retry: Retry) -> (&'static str, &'static str) {
    match retry {
        Retry::Never => ("never", "never: repeating changes nothing"),
        Retry::Same => ("same", "the same bytes again, with the same message_id"),
        Retry::Later => ("later", "later: after retry_after_ms, or with back-off"),
        Retry::Reconnect => ("reconnect", "on a new connection"),
        Retry::NewToken => ("new_token", "with a new token"),
    }
}

const fn scope(scope: Scope) -> (&'static str, &'static str) {
    match scope {
        Scope::Frame => ("frame", "an ERR frame; the connection lives on"),
        Scope::Command => ("command", "the ACK of a command"),
        Scope::Room => ("room", "the result of SUB, or an UNSUB from the server"),
        Scope::Close => ("close", "the close of the WebSocket"),
        Scope::Http => ("http", "a refused handshake"),
    }
}

/// The nearest by number or by name.
fn unknown(word: &str) -> Failure {
    let near = match word.parse::<u32>() {
        Ok(number) => REGISTRY.iter().min_by_key(|info| u32::from(info.code.as_u16()).abs_diff(number)),
        Err(_) => {
            let name = nearest(&word.to_lowercase(), REGISTRY.iter().map(|info| info.name));
            REGISTRY.iter().find(|info| Some(info.name) == name)
        }
    };
    let failure = Failure::bad_use(format!("there is no code {word:?}"));
    match near {
        Some(info) => failure.help(format!("The nearest is {}. `arq error` lists all.", info.code)),
        None => failure.help("`arq error` lists all."),
    }
}
