//! The store directory of a real run (`-sd`): one append-only journal of file streams, replayed and compacted at the
//! start. A record is `u32 length ‖ u32 checksum ‖ payload` (little-endian; checksum = first four bytes of the
//! payload's SHA-256); a torn or damaged tail ends the replay. Inside the simulator there is no journal: what a power
//! cut loses is decided by the stream itself.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::config::Config;
use super::stream::{Entry, Stream};

/// An open journal.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    file: File,
}

/// No record is longer: a message at the largest `max_payload` nats-server accepts, and its names.
const RECORD_MAX: usize = 65 * 1024 * 1024;

#[derive(Serialize, Deserialize)]
#[serde(tag = "k", rename_all = "snake_case")]
enum Meta {
    Created {
        config: Box<Config>,
        at: i64,
    },
    Deleted {
        stream: String,
    },
    Removed {
        stream: String,
        seqs: Vec<u64>,
    },
    /// The last position handed out, when its message is gone.
    Last {
        stream: String,
        seq: u64,
    },
    /// The message itself follows the JSON: subject, header, body.
    Message {
        stream: String,
        seq: u64,
        at: i64,
        subject: usize,
        header: usize,
    },
}

impl Journal {
    /// Opens `dir/journal`, replays it and rewrites it without what is gone.
    pub(crate) fn open(dir: &Path) -> io::Result<(Self, BTreeMap<String, Stream>)> {
        std::fs::create_dir_all(dir)?;
        let path = dir.join("journal");
        let mut bytes = Vec::new();
        match File::open(&path) {
            Ok(mut file) => {
                file.read_to_end(&mut bytes)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let streams = replay(&bytes);
        let file = write_all(&path, &streams)?;
        Ok((Self { path, file }, streams))
    }

    pub(super) fn created(&mut self, stream: &Stream) {
        if !stream.config.is_memory() {
            self.put(&Meta::Created { config: Box::new(stream.config.clone()), at: stream.created_ms }, &[]);
        }
    }

    pub(super) fn deleted(&mut self, stream: &str) {
        self.put(&Meta::Deleted { stream: stream.into() }, &[]);
    }

    pub(super) fn removed(&mut self, stream: &str, seqs: &[u64]) {
        if !seqs.is_empty() {
            self.put(&Meta::Removed { stream: stream.into(), seqs: seqs.into() }, &[]);
        }
    }

    pub(super) fn last(&mut self, stream: &str, seq: u64) {
        self.put(&Meta::Last { stream: stream.into(), seq }, &[]);
    }

    /// False if it could not be written.
    pub(super) fn appended(&mut self, name: &str, stream: &Stream, seq: u64) -> bool {
        match stream.get(seq) {
            Some(entry) if !stream.config.is_memory() => {
                let meta = message(name, seq, entry);
                self.put(&meta, &[&entry.subject, &entry.header, &entry.body])
            }
            _ => true,
        }
    }

    pub(super) fn rewrite(&mut self, streams: &BTreeMap<String, Stream>) {
        match write_all(&self.path, streams) {
            Ok(file) => self.file = file,
            Err(error) => tracing::error!(%error, path = %self.path.display(), "cannot rewrite the journal"),
        }
    }

    pub(super) fn sync(&mut self) {
        if let Err(error) = self.file.sync_data() {
            tracing::error!(%error, "cannot sync the journal");
        }
    }

    fn put(&mut self, meta: &Meta, parts: &[&[u8]]) -> bool {
        let written = self.file.write_all(&record(meta, parts));
        if let Err(error) = &written {
            tracing::error!(%error, path = %self.path.display(), "cannot write the journal");
        }
        written.is_ok()
    }
}

fn message(name: &str, seq: u64, entry: &Entry) -> Meta {
    let (subject, header) = (entry.subject.len(), entry.header.len());
    Meta::Message { stream: name.into(), seq, at: entry.at_ms, subject, header }
}

fn checksum(payload: &[u8]) -> [u8; 4] {
    let digest = Sha256::digest(payload);
    [digest[0], digest[1], digest[2], digest[3]]
}

fn record(meta: &Meta, parts: &[&[u8]]) -> Vec<u8> {
    let mut payload = serde_json::to_vec(meta).expect("plain fields");
    payload.push(b'\n');
    for part in parts {
        payload.extend_from_slice(part);
    }
    let mut out = Vec::with_capacity(payload.len() + 8);
    out.extend_from_slice(&u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(&checksum(&payload));
    out.extend_from_slice(&payload);
    out
}

fn write_all(path: &Path, streams: &BTreeMap<String, Stream>) -> io::Result<File> {
    let fresh = path.with_extension("new");
    let mut file = io::BufWriter::new(File::create(&fresh)?);
    for (name, stream) in streams.iter().filter(|(_, stream)| !stream.config.is_memory()) {
        file.write_all(&record(
            &Meta::Created { config: Box::new(stream.config.clone()), at: stream.created_ms },
            &[],
        ))?;
        let mut from = 1;
        while let Some((seq, entry)) = stream.next(b"", from) {
            file.write_all(&record(&message(name, seq, entry), &[&entry.subject, &entry.header, &entry.body]))?;
            from = seq + 1;
        }
        file.write_all(&record(&Meta::Last { stream: name.clone(), seq: stream.last_seq() }, &[]))?;
    }
    file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    std::fs::rename(&fresh, path)?;
    OpenOptions::new().append(true).open(path)
}

fn replay(mut bytes: &[u8]) -> BTreeMap<String, Stream> {
    let mut streams = BTreeMap::new();
    while let Some((payload, rest)) = next_record(bytes) {
        if apply(&mut streams, payload).is_none() {
            tracing::warn!("the journal holds a record that makes no sense; what follows it is left out");
            break;
        }
        bytes = rest;
    }
    streams
}

fn next_record(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let len = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    if len > RECORD_MAX {
        return None;
    }
    let payload = bytes.get(8..8 + len)?;
    (checksum(payload) == bytes[4..8]).then_some((payload, &bytes[8 + len..]))
}

fn apply(streams: &mut BTreeMap<String, Stream>, payload: &[u8]) -> Option<()> {
    let end = payload.iter().position(|byte| *byte == b'\n')?;
    let content = &payload[end + 1..];
    match serde_json::from_slice(&payload[..end]).ok()? {
        Meta::Created { config, at } => match streams.get_mut(&config.name) {
            Some(stream) => stream.reconfigure(*config),
            None => {
                streams.insert(config.name.clone(), Stream::new(*config, at));
            }
        },
        Meta::Deleted { stream } => {
            streams.remove(&stream);
        }
        Meta::Removed { stream, seqs } => {
            let stream = streams.get_mut(&stream)?;
            for seq in seqs {
                stream.remove(seq);
            }
        }
        Meta::Last { stream, seq } => streams.get_mut(&stream)?.replay_last(seq),
        Meta::Message { stream, seq, at, subject, header } => {
            let stream = streams.get_mut(&stream)?;
            if seq <= stream.last_seq() {
                return None;
            }
            let entry = Entry {
                subject: Bytes::copy_from_slice(content.get(..subject)?),
                header: Bytes::copy_from_slice(content.get(subject..subject + header)?),
                body: Bytes::copy_from_slice(content.get(subject + header..)?),
                at_ms: at,
            };
            stream.replay(seq, entry);
        }
    }
    Some(())
}
