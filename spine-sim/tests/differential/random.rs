//! Random sequences from seeds.

use super::jetstream::log_config;
use super::*;

/// A generator whose draws a seed determines.
struct Draw(u64);

impl Draw {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }

    fn of<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> &'a T {
        choices[usize::try_from(self.below(choices.len() as u64)).expect("an index")]
    }
}

fn random_step(draw: &mut Draw, name: &str) -> Vec<u8> {
    let rooms = ["log.1.t.a.r.x", "log.1.t.a.r.y", "log.2.t.b.r.x", "log.2.t.b.r.zz"];
    let plain = ["a", "a.b", "a.b.c", "b", "out.t.a.r.x", "a.>", "a.*", "a..b", ".b", "a."];
    let no_object = ["null", "entry", "7", " ", "\"{}\""];
    // Not `>`: there the server also sends advisories, which ours does not.
    let patterns = ["a", "a.*", "a.>", "*.b", "out.t.*.r.*", "out.>", "log.*.t.a.r.*", "log.1.>"];
    let room = draw.of(&rooms);
    let n = draw.below(12);
    match draw.below(22) {
        0 => format!("SUB {} {}\r\n", draw.of(&patterns), draw.below(4) + 20).into_bytes(),
        // One group a pattern: which member gets it is each server's own choice.
        1 => format!("SUB log.2.> g 30\r\nUNSUB 30 {}\r\n", draw.below(6)).into_bytes(),
        2 => format!("UNSUB {}\r\n", draw.below(4) + 20).into_bytes(),
        3 => format!("UNSUB {} {}\r\n", draw.below(4) + 20, draw.below(8)).into_bytes(),
        4 => publish(draw.of(&plain), draw.of(&["", "_R.q"]), "plain"),
        5 | 6 => publish(room, "_R.p", &"b".repeat(usize::try_from(n).expect("small"))),
        7..=11 => hpub(room, "_R.p", &[(EXPECT, &n.to_string())], "fenced"),
        12 => api(
            &format!("DIRECT.GET.{name}"),
            &format!(r#"{{"seq":{n},"next_by_subj":"{room}","batch":{}}}"#, draw.below(6)),
        ),
        13 => api(&format!("DIRECT.GET.{name}"), &format!(r#"{{"last_by_subj":"{room}"}}"#)),
        14 => api(
            &format!("DIRECT.GET.{name}"),
            &format!(r#"{{"multi_last":["log.{}.>"],"up_to_seq":{n}}}"#, draw.below(3)),
        ),
        15 => api(
            &format!("STREAM.MSG.GET.{name}"),
            &format!(r#"{{"seq":{n},"next_by_subj":"{}"}}"#, draw.of(&[room, "log.*.t.*.r.x", "log.>"])),
        ),
        16 => api(&format!("STREAM.PURGE.{name}"), &format!(r#"{{"filter":"{room}","seq":{n}}}"#)),
        17 => api(&format!("STREAM.INFO.{name}"), r#"{"subjects_filter":">","deleted_details":true}"#),
        18 => {
            api(&format!("DIRECT.GET.{name}"), &format!(r#"{{"seq":{n},"batch":8,"max_bytes":{}}}"#, draw.below(400)))
        }
        19 => match draw.below(4) {
            0 => api(&format!("STREAM.PURGE.{name}"), draw.of(&no_object)),
            1 => api(&format!("STREAM.DELETE.{name}"), draw.of(&["null", "entry", "[]", "{\"a\":1}"])),
            2 => api(&format!("STREAM.MSG.DELETE.{name}"), draw.of(&no_object)),
            _ => api(&format!("STREAM.INFO.{name}"), draw.of(&no_object)),
        },
        20 => api(
            &format!("DIRECT.GET.{name}"),
            &format!(r#"{{"seq":{n},"batch":8,"max_bytes":-{}}}"#, draw.below(3) + 1),
        ),
        _ => hpub(room, "_R.p", &[("Nats-Msg-Id", &(n % 3).to_string())], "id"),
    }
}

#[tokio::test]
async fn random_sequences() {
    let (ours, _server, theirs) = both(|_| {}).await;
    keep(theirs).await;
    let (seeds, length) = (300, 80);
    let mut count = 0;
    for seed in 0..seeds {
        let mut draw = Draw(seed);
        // The server removes a deleted stream's files later: each sequence has a name of its own.
        let name = format!("LOG_{seed}");
        let storage = if seed % 2 == 0 { "file" } else { "memory" };
        let config = log_config(&name).replace("\"file\"", &format!("\"{storage}\""));
        let mut all =
            vec![[CONNECT, b"SUB _R.> 9\r\nSUB out.> 1\r\n"].concat(), api(&format!("STREAM.CREATE.{name}"), &config)];
        all.extend((0..length).map(|_| random_step(&mut draw, &name)));
        all.push(api(&format!("DIRECT.GET.{name}"), r#"{"seq":1,"batch":200}"#));
        all.push(api(&format!("STREAM.DELETE.{name}"), ""));
        count += compare(&format!("seed {seed}"), ours, theirs, &all).await;
    }
    println!("differential: {seeds} random sequences, {count} steps, equal");
}
