use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout};
use voltron_core::{Listener as _, Net as _};

use super::{Fabric, FabricNet, FabricStream, WINDOWS};
use crate::engine::cables::{Cables, SimNet, SimStream};

/// A world of two hosts in which things arrive for as long as `act` runs.
async fn world<T>(act: impl AsyncFnOnce(Fabric, FabricNet, FabricNet) -> T) -> T {
    let fabric = Fabric::new(7);
    fabric.host("a");
    fabric.host("b");
    let courier = fabric.clone();
    let nets = (FabricNet::new("a", &fabric), FabricNet::new("b", &fabric));
    tokio::select! {
        biased;
        done = act(fabric, nets.0, nets.1) => done,
        () = async {
            loop {
                let due = courier.due().unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
                tokio::select! {
                    biased;
                    () = courier.sooner() => {}
                    () = tokio::time::sleep_until(due) => {}
                }
                courier.deliver();
            }
        } => unreachable!("a loop"),
    }
}

async fn pair(a: &FabricNet, b: &FabricNet) -> (FabricStream, FabricStream) {
    let mut listener = b.bind("0.0.0.0:1").await.unwrap();
    let (here, there) = tokio::join!(a.connect("b:1"), listener.accept());
    (here.unwrap(), there.unwrap().0)
}

async fn read(stream: &mut FabricStream, most: usize) -> Vec<u8> {
    let mut buf = vec![0; most];
    let n = stream.read(&mut buf).await.unwrap();
    buf.truncate(n);
    buf
}

#[tokio::test(start_paused = true)]
async fn bytes_come_in_order_after_a_latency_and_then_the_end() {
    world(async |_, a, b| {
        let (mut here, mut there) = pair(&a, &b).await;
        let begun = Instant::now();
        for n in 0..100_u8 {
            here.write_all(&[n]).await.unwrap();
        }
        drop(here);
        let mut all = Vec::new();
        there.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, (0..100).collect::<Vec<u8>>());
        let took = begun.elapsed();
        assert!((1..=7).contains(&took.as_millis()), "{took:?}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_stopped_link_keeps_what_is_sent_until_it_opens_as_often_as_it_was_stopped() {
    world(async |fabric, a, b| {
        let (mut here, mut there) = pair(&a, &b).await;
        here.write_all(b"one").await.unwrap();
        fabric.stop("a", "b");
        fabric.stop("a", "b");
        here.write_all(b"two").await.unwrap();
        // The other way is open.
        there.write_all(b"back").await.unwrap();
        assert_eq!(read(&mut here, 10).await, b"back");
        fabric.open("a", "b");
        assert!(timeout(Duration::from_secs(60), read(&mut there, 10)).await.is_err(), "one of two stops is left");
        fabric.open("a", "b");
        let mut all = [0; 6];
        there.read_exact(&mut all).await.unwrap();
        assert_eq!(&all, b"onetwo");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn where_nobody_listens_a_connection_is_refused_and_a_port_has_one_listener() {
    world(async |_, a, b| {
        assert_eq!(a.connect("b:1").await.err().unwrap().kind(), std::io::ErrorKind::ConnectionRefused);
        assert_eq!(a.connect("c:1").await.err().unwrap().kind(), std::io::ErrorKind::InvalidInput);
        let listener = b.bind("0.0.0.0:1").await.unwrap();
        assert_eq!(b.bind("0.0.0.0:1").await.err().unwrap().kind(), std::io::ErrorKind::AddrInUse);
        // Connected, never accepted: the end of the listener is its end.
        let mut here = a.connect("b:1").await.unwrap();
        drop(listener);
        assert_eq!(here.read(&mut [0; 1]).await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
        assert!(b.bind("0.0.0.0:1").await.is_ok());
    })
    .await;
}

/// Two ends under the layer of what may be wrong with a connection by itself.
async fn troubled(cables: &Cables, a: FabricNet, b: FabricNet) -> [SimStream<FabricStream>; 2] {
    let (a, b) = (SimNet::new(a, "a", cables).of("client-1"), SimNet::new(b, "b", cables));
    let mut listener = b.bind("0.0.0.0:1").await.unwrap();
    let here = a.connect("b:1").await.unwrap();
    [here, listener.accept().await.unwrap().0]
}

fn names(name: &str) -> Vec<String> {
    vec![name.to_owned()]
}

#[tokio::test(start_paused = true)]
async fn a_reset_is_seen_at_both_ends_at_once_and_only_across_the_sides() {
    world(async |_, a, b| {
        let cables = Cables::default();
        let [mut here, mut there] = troubled(&cables, a, b).await;
        here.write_all(b"never").await.unwrap();
        cables.reset(&names("a"), &names("a"));
        assert_eq!(there.read_u8().await.unwrap(), b'n', "this one does not cross");
        cables.reset(&names("b"), &names("client-1"));
        for end in [&mut here, &mut there] {
            assert_eq!(end.read(&mut [0; 1]).await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
            assert!(end.write_all(b"x").await.is_err());
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_deaf_the_paused_and_the_silent_hear_nothing() {
    world(async |_, a, b| {
        let cables = Cables::default();
        let [mut here, mut there] = troubled(&cables, a, b).await;
        let second = Duration::from_secs(1);
        cables.set_deaf("client-1", true);
        there.write_all(b"dp").await.unwrap();
        assert!(timeout(second, here.read_u8()).await.is_err(), "deaf");
        cables.set_deaf("client-1", false);
        assert_eq!(here.read_u8().await.unwrap(), b'd', "it waited");
        cables.set_paused("a", true);
        assert!(timeout(second, here.read_u8()).await.is_err(), "paused");
        assert!(timeout(second, here.write_all(b"w")).await.is_err(), "paused");
        cables.set_paused("a", false);
        assert_eq!(here.read_u8().await.unwrap(), b'p', "it waited");
        cables.silence(&names("a"), &names("b"));
        there.write_all(b"lost").await.unwrap();
        assert!(timeout(second, here.read_u8()).await.is_err(), "silent");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_writer_waits_for_a_stalled_reader_and_a_reader_that_left_resets_it() {
    world(async |_, a, b| {
        let (mut here, mut there) = pair(&a, &b).await;
        let more = vec![1; WINDOWS.iter().max().unwrap() + 1];
        assert!(timeout(Duration::from_secs(60), here.write_all(&more)).await.is_err(), "the window is full");
        assert_eq!(read(&mut there, 10).await.len(), 10);
        here.write_all(b"0123456789").await.unwrap();
        drop(there);
        assert_eq!(here.read(&mut [0; 1]).await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    })
    .await;
}

/// What a connection's latencies are depends on the seed and on itself, not on what else is sent.
#[tokio::test(start_paused = true)]
async fn traffic_elsewhere_shifts_no_latency() {
    async fn arrival(others: usize) -> Duration {
        world(async |_, a, b| {
            let (mut here, mut there) = pair(&a, &b).await;
            let mut second = b.bind("0.0.0.0:2").await.unwrap();
            let (noise, heard) = tokio::join!(a.connect("b:2"), second.accept());
            let (mut noise, _heard) = (noise.unwrap(), heard.unwrap());
            tokio::time::sleep(Duration::from_millis(20)).await;
            let begun = Instant::now();
            for _ in 0..others {
                noise.write_all(b"noise").await.unwrap();
            }
            for _ in 0..20 {
                here.write_all(b"x").await.unwrap();
                read(&mut there, 10).await;
            }
            begun.elapsed()
        })
        .await
    }
    assert_eq!(arrival(0).await, arrival(50).await);
}
