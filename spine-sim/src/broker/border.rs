//! What crosses between the broker's two accounts, as nats-server exports and imports it: [`CROSSINGS`] of `spine::users`.
//! A broker without users has one account only, the one with the streams.
//!
//! A simplification: the server gives a request that crosses a reply subject of its own and sends the answer on from
//! there; here JetStream alone answers across the border, and a subscriber in LOG that overhears the request sees no
//! reply subject. And JetStream's API in APP, which no user of ours may reach, is answered 503 and not 10039.

use bytes::Bytes;
use spine::users::{CROSSINGS, Crossing};

use crate::jetstream::mapping::Mapping;
use crate::subject::covers;

/// The border between LOG and APP.
#[derive(Debug)]
pub(crate) struct Border {
    streams: Vec<&'static str>,
    services: Vec<Mapping>,
}

impl Border {
    pub(crate) fn new() -> Self {
        let mut border = Self { streams: Vec::new(), services: Vec::new() };
        for crossing in CROSSINGS {
            match crossing {
                Crossing::Stream(subjects) => border.streams.push(subjects),
                Crossing::Service { exported, imported, .. } => {
                    border.services.push(Mapping::parse(imported, exported).expect("both of the table's end in `>`"));
                }
            }
        }
        border
    }

    /// Is what is said in LOG on this subject heard in APP?
    pub(crate) fn lets_out(&self, subject: &[u8]) -> bool {
        self.streams.iter().any(|subjects| covers(subjects.as_bytes(), subject))
    }

    /// The subject in LOG on which what is asked in APP on this one is asked.
    pub(crate) fn lets_in(&self, subject: &Bytes) -> Option<Bytes> {
        self.services.iter().find_map(|service| service.apply(subject))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_reads_go_in_and_only_what_is_stored_or_signalled_comes_out() {
        let border = Border::new();
        let into = |subject: &'static str| {
            border.lets_in(&Bytes::from_static(subject.as_bytes())).map(|to| String::from_utf8(to.to_vec()).unwrap())
        };
        assert_eq!(into("store.DIRECT.GET.LOG_0").as_deref(), Some("$JS.API.DIRECT.GET.LOG_0"));
        assert_eq!(into("store.DIRECT.GET.BAN.ban.t.a.u.b").as_deref(), Some("$JS.API.DIRECT.GET.BAN.ban.t.a.u.b"));
        assert_eq!(into("store.STREAM.MSG.GET.LOG_0").as_deref(), Some("$JS.API.STREAM.MSG.GET.LOG_0"));
        for none in ["store.STREAM.DELETE.LOG_0", "store.DIRECT.GET", "$JS.API.DIRECT.GET.LOG_0", "log.1.t.a.r.b"] {
            assert_eq!(into(none), None, "{none}");
        }
        for (subject, out) in
            [("out.t.a.r.b", true), ("sys.t.a.ban", true), ("sys.n.pr.a", false), ("log.1.t.a.r.b", false)]
        {
            assert_eq!(border.lets_out(subject.as_bytes()), out, "{subject}");
        }
    }
}
