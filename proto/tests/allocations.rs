//! The hot path of a PUB allocates nothing: decode the frame, check and view the envelope, append the sender, verify.
//! A binary of its own, because a process has one global allocator. It counts per thread: the test runner's own thread
//! allocates whenever it likes.
#![allow(unsafe_code, reason = "a global allocator is unsafe by its trait; it only counts and passes on")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;

use bytes::BytesMut;
use prost::Message as _;
use proto::frame::ClientFrame;
use proto::sender::{SenderRef, append};
use proto::signature::{SigningKey, Transcript};
use proto::view::EnvelopeView;
use proto::{Rights, v1};

struct Counting;

thread_local! {
    /// Constant and without a destructor, so that reading it never allocates.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call is passed on to `System` unchanged, so its guarantees are ours.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps `alloc`'s contract.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps `dealloc`'s contract, and `at` came from `System`.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn counted<T>(work: impl FnOnce() -> T) -> u64 {
    let before = ALLOCATIONS.get();
    black_box(work());
    ALLOCATIONS.get() - before
}

#[test]
fn the_hot_path_of_a_pub_allocates_nothing() {
    let key = SigningKey::from_bytes(&[7; 32]);
    let command = v1::Command {
        op: Some(v1::command::Op::Set(v1::Set {
            key: "k".into(),
            value: vec![1; 200].into(),
            ttl_ms: 0,
            expect: None,
        })),
        ..Default::default()
    };
    let payload = command.encode_to_vec();
    let transcript =
        Transcript { tenant: "acme", room: "lobby", message_id: &[5; 16], timestamp: 9, field: 20, payload: &payload };
    let envelope = v1::Envelope {
        trace_id: "0".repeat(55),
        room_id: "lobby".into(),
        timestamp: 9,
        message_id: vec![5; 16].into(),
        ack_requested: true,
        signature: transcript.sign(&key).expect("short parts").to_vec().into(),
        payload: Some(v1::envelope::Payload::Cmd(command)),
        ..Default::default()
    };
    let message = proto::frame::publish(&envelope.encode_to_vec());
    let sender = SenderRef { user: "ann", conn: "c1", rights: Rights(3), received_at: 10, ..Default::default() };
    let verifying = key.verifying_key();
    let mut scratch = Vec::with_capacity(1024);
    let mut out = BytesMut::with_capacity(2048);
    let refused = &message[..message.len() - 1];

    assert_ne!(counted(|| vec![1_u8; 10]), 0, "the counter counts");
    for round in 0..3 {
        let allocations = counted(|| {
            let Ok(ClientFrame::Pub(body)) = ClientFrame::binary(&message) else { panic!("a PUB") };
            let view = EnvelopeView::client(body).expect("canonical");
            Transcript::of(&view, "acme").verify(&verifying, view.signature, &mut scratch).expect("signed");
            out.clear();
            out.extend_from_slice(body);
            append(&mut out, &sender);
            EnvelopeView::forwarded(&out).expect("canonical again").timestamp
        });
        assert_eq!(allocations, 0, "an accepted message, round {round}");
        let allocations = counted(|| {
            let Ok(ClientFrame::Pub(body)) = ClientFrame::binary(refused) else { panic!("a PUB") };
            EnvelopeView::client(body).expect_err("cut short").code
        });
        assert_eq!(allocations, 0, "a refused one, round {round}");
    }
}
