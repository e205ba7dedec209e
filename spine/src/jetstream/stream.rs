//! Streams: create or verify, and the purge that always names a position.

use proto::{StreamName, Subject};

use voltron_core::mutant;

use super::wire::{Nothing, PurgeAnswer, PurgeRequest, RepublishConfig, StreamAnswer, StreamConfig};
use super::{JetStream, Transport, refusal};
use crate::{EnsureError, PurgeError, ReadError, Storage, StreamSeq, StreamSpec};

const STREAM_NOT_FOUND: u32 = 10_059;
const NAME_IN_USE: u32 = 10_058;

impl<T: Transport> JetStream<'_, T> {
    /// See [`Spine::purge_below`](crate::Spine::purge_below).
    pub async fn purge_below(&self, of: &Subject, keep: StreamSeq) -> Result<(), PurgeError> {
        let stream = self.stream_of(of)?;
        // Nothing lies below 1; and a purge with position 0 would mean "everything" to the server.
        if keep <= StreamSeq(1) {
            return Ok(());
        }
        let seq = if mutant!(PurgeWithoutSeq) { 0 } else { keep.0 };
        let request = PurgeRequest { filter: of.as_str(), seq };
        match self.api::<PurgeAnswer>(&format!("STREAM.PURGE.{stream}"), &request).await? {
            Ok(PurgeAnswer { success: true }) => Ok(()),
            Ok(_) => Err(ReadError::Refused { code: 0, text: "not purged, without a reason".into() }.into()),
            Err(error) => Err(ReadError::from(error).into()),
        }
    }

    /// See [`Spine::ensure`](crate::Spine::ensure).
    pub async fn ensure(&self, spec: &StreamSpec) -> Result<(), EnsureError> {
        let expected = config(spec);
        if let Some(found) = self.info(&spec.name).await? {
            return verify(&found, &expected);
        }
        match self.api::<StreamAnswer>(&format!("STREAM.CREATE.{}", spec.name), &expected).await? {
            Ok(answer) => verify(&answer.config, &expected),
            // Somebody else was faster, with another specification.
            Err(error) if error.err_code == NAME_IN_USE => match self.info(&spec.name).await? {
                Some(found) => verify(&found, &expected),
                None => Err(ReadError::NoStream.into()),
            },
            Err(error) => Err(refusal::of_ensure(spec, error.number(), error.description)),
        }
    }

    async fn info(&self, stream: &StreamName) -> Result<Option<StreamConfig>, ReadError> {
        match self.api::<StreamAnswer>(&format!("STREAM.INFO.{stream}"), &Nothing {}).await? {
            Ok(answer) => Ok(Some(answer.config)),
            Err(error) if error.err_code == STREAM_NOT_FOUND => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

fn config(spec: &StreamSpec) -> StreamConfig {
    let limit = |n: u64| if n == 0 { -1 } else { i64::try_from(n).unwrap_or(i64::MAX) };
    StreamConfig {
        name: spec.name.to_string(),
        subjects: spec.subjects.clone(),
        retention: "limits".into(),
        storage: match spec.storage {
            Storage::File => "file".into(),
            Storage::Memory => "memory".into(),
        },
        discard: "new".into(),
        discard_new_per_subject: spec.max_msgs_per_subject > 0 && !spec.rollover,
        num_replicas: spec.replicas,
        max_age: 0,
        max_msgs: -1,
        max_msgs_per_subject: limit(spec.max_msgs_per_subject),
        max_bytes: limit(spec.max_bytes),
        deny_delete: spec.deny_delete,
        allow_direct: true,
        sealed: false,
        republish: spec
            .republish
            .as_ref()
            .map(|r| RepublishConfig { src: r.source.clone(), dest: r.destination.clone() }),
    }
}

/// Names the first property that differs.
fn verify(found: &StreamConfig, expected: &StreamConfig) -> Result<(), EnsureError> {
    macro_rules! same {
        ($found:ident $expected:ident: $($field:ident)*) => {
            $(if $found.$field != $expected.$field {
                return Err(EnsureError::Differs {
                    stream: $expected.name.clone(),
                    what: stringify!($field).into(),
                    found: format!("{:?}", $found.$field),
                    expected: format!("{:?}", $expected.$field),
                });
            })*
        };
    }
    let sorted = |config: &StreamConfig| {
        let mut config = config.clone();
        config.subjects.sort_unstable();
        config
    };
    let (found, expected) = (sorted(found), sorted(expected));
    same! {
        found expected: name subjects retention storage discard discard_new_per_subject num_replicas max_age max_msgs
        max_msgs_per_subject max_bytes deny_delete allow_direct sealed republish
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_named() {
        let spec = StreamSpec::log(0, 8, 1, 1 << 30);
        let expected = config(&spec);
        let mut found = expected.clone();
        found.subjects.reverse();
        verify(&found, &expected).unwrap();
        found.num_replicas = 3;
        let error = verify(&found, &expected).unwrap_err().to_string();
        assert!(error.contains("LOG_0 exists with another num_replicas: 3, expected 1"), "{error}");
    }

    #[test]
    fn rollover_decides_which_message_goes() {
        assert!(!config(&StreamSpec::snapshots(1)).discard_new_per_subject);
        assert!(config(&StreamSpec { rollover: false, ..StreamSpec::snapshots(1) }).discard_new_per_subject);
        assert!(!config(&StreamSpec::log(0, 1, 1, 0)).discard_new_per_subject);
    }
}
