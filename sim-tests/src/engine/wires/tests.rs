//! Two hosts and what lies between them, step by step.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;

const SLOWEST: Duration = LATENCY.1;

/// Two hosts with a connection from `a` to port 1 of `b`.
struct Pair {
    wires: Wires,
    a: End,
    b: End,
}

fn pair() -> Pair {
    let mut wires = Wires::new(7);
    let (a, b): (Host, Host) = ("a".into(), "b".into());
    let id = wires.listen(&b, 1).unwrap();
    let opened = wires.connect(&a, "b", 1).unwrap();
    let Poll::Ready(accepted) = wires.poll_accept(&b, 1, id, &cx()) else { panic!("it waits in the backlog") };
    Pair { wires, a: opened, b: accepted }
}

fn cx() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

impl Pair {
    fn write(&mut self, end: End, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.wires.write(end, bytes, &cx())
    }

    /// All that can be read now; an error or the end of the stream as text.
    fn read(&mut self, end: End) -> String {
        let mut text = String::new();
        loop {
            let mut space = [0; 4];
            let mut buf = ReadBuf::new(&mut space);
            match self.wires.read(end, &mut buf, &cx()) {
                Err(error) => return format!("{text}<{:?}>", error.kind()),
                Ok(Got::Something) if buf.filled().is_empty() => return text + "<end>",
                Ok(Got::Something) => text += std::str::from_utf8(buf.filled()).unwrap(),
                Ok(Got::Nothing | Got::After(_)) => return text,
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        self.wires.now += time;
    }
}

#[test]
fn bytes_arrive_in_order_after_the_link_took_its_time() {
    let mut pair = pair();
    assert!(matches!(pair.write(pair.a, b"hello, "), Poll::Ready(Ok(7))));
    assert_eq!(pair.read(pair.b), "", "not before the fastest way");
    pair.pass(Duration::from_micros(10));
    assert!(matches!(pair.write(pair.a, b"b"), Poll::Ready(Ok(1))));
    pair.pass(SLOWEST * 2);
    assert_eq!(pair.read(pair.b), "hello, b");
    pair.wires.close(pair.a);
    pair.pass(SLOWEST * 2);
    assert_eq!(pair.read(pair.b), "<end>");
    assert_eq!(pair.read(pair.b), "<end>", "for whoever asks again");
    assert!(matches!(pair.write(pair.b, b"x"), Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe));
    pair.wires.close(pair.b);
    assert!(pair.wires.live.is_empty());
}

#[test]
fn half_of_a_connection_closes_alone() {
    let mut pair = pair();
    pair.wires.shut(pair.a);
    pair.pass(SLOWEST);
    assert_eq!(pair.read(pair.b), "<end>");
    assert!(matches!(pair.write(pair.a, b"x"), Poll::Ready(Err(_))));
    assert!(matches!(pair.write(pair.b, b"still"), Poll::Ready(Ok(5))));
    pair.pass(SLOWEST);
    assert_eq!(pair.read(pair.a), "still");
}

#[test]
fn a_reader_that_does_not_read_stops_the_writer() {
    let mut pair = pair();
    assert!(matches!(pair.write(pair.a, &[b'x'; WINDOW + 1]), Poll::Ready(Ok(WINDOW))));
    assert!(pair.write(pair.a, b"y").is_pending());
    pair.pass(SLOWEST);
    assert_eq!(pair.read(pair.b).len(), WINDOW);
    assert!(matches!(pair.write(pair.a, b"y"), Poll::Ready(Ok(1))));
    // Whoever waits for room learns that nobody will read.
    assert!(matches!(pair.write(pair.a, &[b'x'; WINDOW]), Poll::Ready(Ok(_))));
    pair.wires.close(pair.b);
    assert!(matches!(pair.write(pair.a, b"y"), Poll::Ready(Ok(1))));
}

#[test]
fn a_held_link_keeps_what_is_on_its_way() {
    let mut pair = pair();
    assert!(pair.write(pair.a, b"before ").is_ready());
    pair.wires.hold("b", "a");
    assert!(pair.write(pair.a, b"meanwhile").is_ready());
    pair.pass(SLOWEST * 100);
    assert_eq!(pair.read(pair.b), "");
    assert!(!pair.wires.carries("a", "b") && !pair.wires.carries("b", "a"));
    pair.wires.release("a", "b");
    pair.pass(SLOWEST);
    assert_eq!(pair.read(pair.b), "before meanwhile");
}

#[test]
fn a_cut_link_loses_it_and_the_connection_is_dead_one_way() {
    let mut pair = pair();
    assert!(pair.write(pair.a, b"arrived").is_ready());
    pair.pass(SLOWEST);
    assert!(pair.write(pair.a, b"on its way").is_ready());
    pair.wires.cut("a", "b");
    assert!(pair.write(pair.b, b"other way").is_ready());
    pair.pass(SLOWEST);
    assert_eq!(pair.read(pair.b), "arrived");
    assert_eq!(pair.read(pair.a), "other way", "only one way is cut");
    pair.wires.repair("a", "b");
    assert!(pair.write(pair.a, b"later").is_ready());
    pair.pass(SLOWEST);
    assert_eq!(pair.read(pair.b), "");
}

#[test]
fn the_end_of_a_process_closes_what_it_had() {
    let mut pair = pair();
    let waits = pair.wires.connect(&"c".into(), "b", 1).unwrap();
    pair.wires.down("b");
    pair.pass(SLOWEST);
    assert_eq!(pair.read(pair.a), "<end>");
    assert_eq!(pair.read(waits), "<end>", "nobody had taken it yet");
    assert_eq!(pair.wires.connect(&"c".into(), "b", 1), None);
    // The next process binds the same port, and what is left of the old one does not disturb it.
    let next = pair.wires.listen(&"b".into(), 1).unwrap();
    assert!(pair.wires.listen(&"b".into(), 1).is_err());
    pair.wires.unlisten(&"b".into(), 1, next - 1);
    assert!(pair.wires.connect(&"c".into(), "b", 1).is_some());
    pair.wires.unlisten(&"b".into(), 1, next);
    assert_eq!(pair.wires.connect(&"c".into(), "b", 1), None);
}

#[test]
fn a_syn_waits_for_a_link_that_carries_it() {
    let mut wires = Wires::new(7);
    wires.cut("a", "b");
    assert!(wires.poll_way("a", "b", &cx()).is_pending());
    assert!(wires.poll_way("b", "a", &cx()).is_ready());
    wires.repair("a", "b");
    let Poll::Ready(takes) = wires.poll_way("a", "b", &cx()) else { panic!("it carries again") };
    assert!((LATENCY.0..=LATENCY.1).contains(&takes), "{takes:?}");
    // The same time on the same link takes as long, whatever happened in between.
    let elsewhere = Wires::new(7).poll_way("a", "b", &cx());
    assert_eq!(elsewhere, Poll::Ready(takes));
}

#[test]
fn who_waits_is_woken() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    struct Count(AtomicUsize);
    impl std::task::Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let count = Arc::new(Count(AtomicUsize::new(0)));
    let waker = Waker::from(count.clone());
    let cx = Context::from_waker(&waker);
    let woken = || count.0.swap(0, Ordering::Relaxed);
    let mut pair = pair();
    let mut buf = [0; 8];
    let mut waits = |pair: &mut Pair| pair.wires.read(pair.b, &mut ReadBuf::new(&mut buf), &cx).unwrap();

    assert_eq!(waits(&mut pair), Got::Nothing);
    pair.wires.hold("a", "b");
    assert!(pair.write(pair.a, b"x").is_ready());
    assert_eq!(woken(), 1, "a segment was sent");
    assert_eq!(waits(&mut pair), Got::Nothing);
    pair.wires.release("a", "b");
    assert_eq!(woken(), 1, "the link was released");
    assert!(matches!(waits(&mut pair), Got::After(_)));

    let mut wires = Wires::new(7);
    let host: Host = "b".into();
    let id = wires.listen(&host, 1).unwrap();
    assert!(wires.poll_accept(&host, 1, id, &cx).is_pending());
    assert!(wires.connect(&"a".into(), "b", 1).is_some());
    assert_eq!(woken(), 1, "a connection came");
}

#[test]
fn a_slow_link_takes_longer_and_ends_know_each_other() {
    let mut pair = pair();
    assert_eq!(
        (pair.a.flow(), pair.wires.far(pair.a), pair.wires.far(pair.b)),
        (pair.b.flow(), "b".into(), "a".into())
    );
    let by = Duration::from_millis(40);
    pair.wires.delay("b", "a", by);
    assert!(pair.write(pair.a, b"slow").is_ready());
    pair.pass(SLOWEST);
    assert_eq!(pair.read(pair.b), "");
    pair.pass(by);
    assert_eq!(pair.read(pair.b), "slow");
    pair.wires.delay("a", "b", Duration::ZERO);
    assert!(pair.write(pair.a, b"as usual").is_ready());
    pair.pass(SLOWEST);
    assert_eq!(pair.read(pair.b), "as usual");
}
