//! `arq frame`: the bytes on the wire as JSON, and back.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER, HEXLOWER_PERMISSIVE};
use serde_json::json;

use super::input;
use crate::failure::{Exit, Failure};
use arq::inspect;

/// Takes frames apart and builds them.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Shows a frame (one WebSocket message) as JSON. Exit code 1 if a server or client would refuse it: then the
    /// stable code and the offset of the fault, counted from the opcode, are shown beside what could be read.
    Decode(DecodeArgs),
    /// Builds the frame that JSON describes, in the form that `decode` prints.
    Encode(EncodeArgs),
}

#[derive(Debug, Args)]
pub(super) struct DecodeArgs {
    /// The frame in hex or base64; `-` reads it from standard input, as it is or in hex or base64.
    #[arg(required_unless_present = "file")]
    frame: Option<String>,
    /// Reads it from a file, as it is or in hex or base64.
    #[arg(long, value_name = "FILE", conflicts_with = "frame")]
    file: Option<PathBuf>,
    /// The bytes are an Envelope without the opcode before it.
    #[arg(long)]
    envelope: bool,
    /// Print JSON on one line.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct EncodeArgs {
    /// The JSON; `-` reads it from standard input.
    #[arg(required_unless_present = "file")]
    json: Option<String>,
    /// Reads it from a file.
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    file: Option<PathBuf>,
    /// How to print the bytes.
    #[arg(long, default_value = "hex")]
    form: Form,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Form {
    /// Two digits a byte.
    Hex,
    /// With padding.
    Base64,
    /// As they are.
    Raw,
}

pub(super) fn run(command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Decode(args) => decode(args),
        Command::Encode(args) => encode(args),
    }
}

fn decode(args: DecodeArgs) -> Result<Exit, Failure> {
    let mut bytes = match (args.frame.as_deref(), args.file) {
        (Some("-"), _) => as_it_is_or_text(input::stdin()?),
        (Some(text), _) => text_form(text).ok_or_else(|| {
            Failure::bad_use("this is neither hex nor base64").help("`--file F` and `-` take raw bytes.")
        })?,
        (None, Some(path)) => as_it_is_or_text(input::file(&path)?),
        (None, None) => return Err(Failure::bad_use("give a frame, or --file")),
    };
    if args.envelope {
        bytes.insert(0, proto::frame::PUB);
    }
    let decoded = inspect::decode(&bytes);
    let mut shown = decoded.json;
    let keys = shown.as_object_mut().expect("decode returns an object");
    keys.insert("ok".into(), decoded.violation.is_none().into());
    keys.insert("bytes".into(), bytes.len().into());
    if let Some(violation) = &decoded.violation {
        keys.insert("violation".into(), json!(violation));
    }
    let text = if args.json { shown.to_string() } else { serde_json::to_string_pretty(&shown).unwrap_or_default() };
    input::line(&text)?;
    match decoded.violation {
        None => Ok(Exit::Good),
        Some(violation) => {
            let place = format!("{} (field {}, byte {})", violation.detail, violation.field, violation.byte);
            Err(Failure::new(Exit::CheckFailed, place).code(proto::Code::from_u16(violation.code)))
        }
    }
}

fn encode(args: EncodeArgs) -> Result<Exit, Failure> {
    let text = match (args.json, args.file) {
        (Some(dash), _) if dash == "-" => {
            String::from_utf8(input::stdin()?).map_err(|_| Failure::bad_use("the JSON is not UTF-8"))?
        }
        (Some(text), _) => text,
        (None, Some(path)) => input::text_file(&path)?,
        (None, None) => return Err(Failure::bad_use("give JSON, or --file")),
    };
    let json = serde_json::from_str(&text).map_err(|error| Failure::bad_use(format!("this is no JSON: {error}")))?;
    let bytes = inspect::encode(&json).map_err(|error| {
        Failure::bad_use(error.to_string()).help("`arq frame decode` prints the form that is read.")
    })?;
    match args.form {
        Form::Hex => input::line(&HEXLOWER.encode(&bytes))?,
        Form::Base64 => input::line(&BASE64.encode(&bytes))?,
        Form::Raw => input::bytes(&bytes)?,
    };
    match inspect::decode(&bytes).violation {
        None => Ok(Exit::Good),
        Some(violation) => {
            Err(Failure::new(Exit::CheckFailed, format!("built, but it would be refused: {}", violation.detail))
                .code(proto::Code::from_u16(violation.code)))
        }
    }
}

/// A frame never reads as hex or base64: it begins with an opcode below 0x20, with 0x99 or with `{`. So bytes that do
/// read so are text about a frame.
fn as_it_is_or_text(bytes: Vec<u8>) -> Vec<u8> {
    std::str::from_utf8(&bytes).ok().and_then(text_form).unwrap_or(bytes)
}

fn text_form(text: &str) -> Option<Vec<u8>> {
    let text: String = text.split_whitespace().collect();
    if text.is_empty() {
        return None;
    }
    let bytes = text.as_bytes();
    let plain = HEXLOWER_PERMISSIVE.decode(bytes).or_else(|_| BASE64.decode(bytes));
    plain.or_else(|_| BASE64URL_NOPAD.decode(bytes)).ok()
}
