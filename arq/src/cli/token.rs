//! `arq token`: makes and inspects the tokens that clients present.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use data_encoding::BASE64URL_NOPAD;
use proto::json::{Claims, Grant, Jwk};
use proto::signature::SigningKey;
use proto::{TenantId, UserId};
use serde_json::json;
use voltron_core::{Ids as _, OsIds, SystemClock, WallClock as _};

use super::input;
use crate::failure::{Exit, Failure};
use arq::token::{self, Issuer, TokenError, Wish};

/// Makes and inspects tokens (JWT).
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Makes a token and prints it.
    New(NewArgs),
    /// Shows what a token claims, and what a server would say to its times. Checks no signature.
    Inspect {
        /// The token; `-` reads it from standard input.
        token: String,
    },
    /// Prints the public half of an issuer's key as a JWK set, for `[auth] jwks_file`.
    Jwks {
        /// File with the Ed25519 private key.
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// The key's name, as in `arq token new --kid`.
        #[arg(long)]
        kid: Option<String>,
    },
}

#[derive(Debug, Args)]
pub(super) struct NewArgs {
    /// Whose rooms: `tid`.
    #[arg(long, default_value = "dev")]
    tenant: TenantId,
    /// Who: `sub`.
    #[arg(long, default_value = "dev")]
    user: UserId,
    /// What is granted where: a room, a prefix and `*`, or `*`; then sub, pub, state, presence, mod, create, owner, or
    /// all. May be given several times.
    #[arg(long = "room", value_name = "PATTERN:ACTIONS", value_parser = grant, default_value = "*:sub,pub,state,presence,create")]
    rooms: Vec<Grant>,
    /// How long it is good: 90s, 15m, 12h, 30d.
    #[arg(long, default_value = "1h", value_parser = input::duration)]
    ttl: Duration,
    /// `aud`, as in the server's `[auth] audience`.
    #[arg(long, default_value = token::AUDIENCE)]
    audience: String,
    /// `iss`, if the server demands one.
    #[arg(long)]
    issuer: Option<String>,
    #[command(flatten)]
    key: KeyArgs,
    /// The key's name in the server's JWK set.
    #[arg(long, requires = "key")]
    kid: Option<String>,
    /// File with the Ed25519 private key that signs this user's messages: the token names its public half (`cnf`), and
    /// the server refuses messages that are not signed with it. See `arq pub --sign-key`.
    #[arg(long, value_name = "FILE")]
    cnf: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct KeyArgs {
    /// File with the issuer's Ed25519 private key: PEM, or its 32 bytes in hex or base64 (EdDSA).
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// File with a shared secret of at least 32 bytes (HS256); for development.
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
}

fn grant(text: &str) -> Result<Grant, String> {
    token::grant(text).map_err(|error| error.to_string())
}

impl From<TokenError> for Failure {
    fn from(error: TokenError) -> Self {
        Self::bad_use(error.to_string())
    }
}

pub(super) fn run(command: Command) -> Result<Exit, Failure> {
    match command {
        Command::New(args) => new(args),
        Command::Inspect { token } if token == "-" => {
            let text = String::from_utf8(input::stdin()?).map_err(|_| TokenError::Malformed("it is not UTF-8"))?;
            inspect(&text)
        }
        Command::Inspect { token } => inspect(&token),
        Command::Jwks { key, kid } => jwks(&key, kid.as_deref()),
    }
}

/// The Ed25519 private key in a file.
pub(super) fn private_key(path: &Path) -> Result<SigningKey, Failure> {
    token::private_key(&input::text_file(path)?)
        .map_err(|error| Failure::bad_use(format!("{}: {error}", path.display())))
}

fn new(args: NewArgs) -> Result<Exit, Failure> {
    let issuer = match (&args.key.key, &args.key.secret_file) {
        (Some(path), _) => Issuer::EdDsa { key: Box::new(private_key(path)?), kid: args.kid },
        (None, Some(path)) => Issuer::secret(&input::file(path)?)?,
        (None, None) => return Err(Failure::bad_use("give --key or --secret-file")),
    };
    let mut id = [0; 12];
    OsIds.fill("jti", &mut id);
    let wish = Wish {
        tenant: args.tenant,
        user: args.user,
        grants: args.rooms,
        ttl_s: i64::try_from(args.ttl.as_secs()).unwrap_or(i64::MAX),
        audience: args.audience,
        issuer: args.issuer,
        signs_with: args.cnf.as_deref().map(private_key).transpose()?,
        id: BASE64URL_NOPAD.encode(&id),
    };
    input::line(&issuer.sign(&wish.claims(SystemClock.now_ms().div_euclid(1000)))?)?;
    Ok(Exit::Good)
}

fn inspect(text: &str) -> Result<Exit, Failure> {
    let failed = |text: String| Failure::new(Exit::CheckFailed, text);
    let parts = token::parts(text).map_err(|error| failed(error.to_string()))?;
    let shown = json!({ "header": parts.header, "claims": parts.claims });
    input::line(&serde_json::to_string_pretty(&shown).unwrap_or_default())?;
    let claims = parts.read.map_err(|why| failed(format!("a server cannot read these claims: {why}")))?;
    match faults(&claims, SystemClock.now_ms().div_euclid(1000)) {
        faults if faults.is_empty() => Ok(Exit::Good),
        faults => Err(failed(faults.join("; "))
            .help("`arq token new` makes a token; servers demand aud, exp, tid, sub, and grants in arq.rooms.")),
    }
}

/// What a server would refuse, apart from the signature, its own audience and issuer.
fn faults(claims: &Claims, now_s: i64) -> Vec<String> {
    let mut faults = Vec::new();
    if claims.exp <= now_s {
        faults.push(format!("it expired {} s ago", now_s.saturating_sub(claims.exp)));
    }
    if let Some(nbf) = claims.nbf.filter(|nbf| *nbf > now_s) {
        faults.push(format!("it is not good before {} s from now", nbf.saturating_sub(now_s)));
    }
    if claims.aud.is_none() {
        faults.push("it names no audience (aud)".into());
    }
    if let Err(error) = TenantId::parse(&claims.tid) {
        faults.push(format!("tid: {error}"));
    }
    if let Err(error) = UserId::parse(&claims.sub) {
        faults.push(format!("sub: {error}"));
    }
    if claims.cnf.as_ref().is_some_and(|cnf| cnf.jwk.ed25519().is_none()) {
        faults.push("cnf.jwk is no OKP/Ed25519 key".into());
    }
    if claims.arq.rooms.is_empty() {
        faults.push("it grants nothing (arq.rooms)".into());
    }
    for grant in &claims.arq.rooms {
        if let Err(error) = token::grant(&format!("{}:{}", grant.m, grant.a.join(","))) {
            faults.push(format!("arq.rooms: {error}"));
        }
    }
    faults
}

fn jwks(path: &Path, kid: Option<&str>) -> Result<Exit, Failure> {
    let jwk = Jwk::new(&private_key(path)?.verifying_key().to_bytes());
    let mut key = json!({ "kty": jwk.kty, "crv": jwk.crv, "x": jwk.x, "use": "sig", "alg": "EdDSA" });
    if let (Some(kid), Some(object)) = (kid, key.as_object_mut()) {
        object.insert("kid".into(), kid.into());
    }
    input::line(&json!({ "keys": [key] }).to_string())?;
    Ok(Exit::Good)
}
