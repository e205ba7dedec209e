//! What is signed, and how. Signing a payload alone would let it be replayed into another room or tenant, because the
//! routing headers are not part of it; so the transcript names them.
//!
//! `"arqon.v1/envelope\0" ‖ u8 len ‖ tenant ‖ u8 len ‖ room ‖ u8 len ‖ message_id ‖ i64 BE timestamp ‖ u8 payload
//! field number ‖ payload bytes as on the wire`, signed with Ed25519 (RFC 8032) and verified strictly: keys and
//! signatures of small order are refused.
//!
//! The tenant is the token's, also where the envelope leaves it empty.

use ed25519_dalek::{Signature, Signer as _};
pub use ed25519_dalek::{SigningKey, VerifyingKey};

use crate::view::EnvelopeView;

/// The first bytes of every transcript.
pub const DOMAIN: &[u8] = b"arqon.v1/envelope\0";

/// The signed parts of an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transcript<'a> {
    /// The token's tenant, at most 255 bytes.
    pub tenant: &'a str,
    /// At most 255 bytes.
    pub room: &'a str,
    /// 16 bytes.
    pub message_id: &'a [u8],
    /// ms since 1970.
    pub timestamp: i64,
    /// 20, 21 or 22.
    pub field: u32,
    /// The payload's bytes as on the wire.
    pub payload: &'a [u8],
}

/// Why a signature is refused. It does not say more: every reason means the same to the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not verify")]
pub struct SignatureError;

impl<'a> Transcript<'a> {
    /// Of an accepted envelope, for the tenant that the token names.
    pub const fn of(view: &EnvelopeView<'a>, tenant: &'a str) -> Self {
        Self {
            tenant,
            room: view.room_id,
            message_id: view.message_id,
            timestamp: view.timestamp,
            field: view.payload.field,
            payload: view.payload.bytes,
        }
    }

    /// Writes the transcript over what `out` held. A buffer kept by the caller makes this free of allocation.
    ///
    /// Refused if a part is longer than its length byte can say, or the field number beyond 255.
    pub fn write(&self, out: &mut Vec<u8>) -> Result<(), SignatureError> {
        out.clear();
        out.extend_from_slice(DOMAIN);
        for part in [self.tenant.as_bytes(), self.room.as_bytes(), self.message_id] {
            out.push(u8::try_from(part.len()).map_err(|_| SignatureError)?);
            out.extend_from_slice(part);
        }
        out.extend_from_slice(&self.timestamp.to_be_bytes());
        out.push(u8::try_from(self.field).map_err(|_| SignatureError)?);
        out.extend_from_slice(self.payload);
        Ok(())
    }

    /// Signs it.
    pub fn sign(&self, key: &SigningKey) -> Result<[u8; 64], SignatureError> {
        let mut message = Vec::new();
        self.write(&mut message)?;
        Ok(key.sign(&message).to_bytes())
    }

    /// Verifies `signature` strictly. `scratch` holds the transcript meanwhile; keep it for the next call.
    pub fn verify(&self, key: &VerifyingKey, signature: &[u8], scratch: &mut Vec<u8>) -> Result<(), SignatureError> {
        let signature = Signature::from_slice(signature).map_err(|_| SignatureError)?;
        self.write(scratch)?;
        key.verify_strict(scratch, &signature).map_err(|_| SignatureError)
    }
}

/// A public key from the 32 bytes of a token's `cnf.jwk.x`. Keys of small order are refused here already.
pub fn public_key(bytes: &[u8]) -> Result<VerifyingKey, SignatureError> {
    let bytes = bytes.try_into().map_err(|_| SignatureError)?;
    let key = VerifyingKey::from_bytes(bytes).map_err(|_| SignatureError)?;
    if key.is_weak() { Err(SignatureError) } else { Ok(key) }
}
