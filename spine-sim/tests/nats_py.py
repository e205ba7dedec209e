"""nats-py, unchanged, against the simulated broker: core, requests, streams, the fence, reading back."""

import asyncio
import sys

import nats
from nats.errors import NoRespondersError
from nats.js.api import RePublish, StreamConfig
from nats.js.errors import APIError


async def main(url: str) -> None:
    nc = await nats.connect(url, connect_timeout=5)

    sub = await nc.subscribe("a.*")
    await nc.publish("a.b", b"hello", headers={"K": "v"})
    message = await sub.next_msg(timeout=5)
    assert (message.subject, message.data, message.headers) == ("a.b", b"hello", {"K": "v"}), message

    async def answer(asked):
        await asked.respond(asked.data[::-1])

    await nc.subscribe("reverse", queue="g", cb=answer)
    assert (await nc.request("reverse", b"abc", timeout=5)).data == b"cba"
    try:
        await nc.request("nobody", b"", timeout=5)
        raise AssertionError("a request that nobody heard was answered")
    except NoRespondersError:
        pass

    js = nc.jetstream()
    assert (await js.account_info()).streams == 0
    out = await nc.subscribe("out.>")
    info = await js.add_stream(
        StreamConfig(
            name="LOG_0",
            subjects=["log.*.t.*.r.*"],
            allow_direct=True,
            republish=RePublish(src="log.*.t.*.r.*", dest="out.t.{{wildcard(2)}}.r.{{wildcard(3)}}"),
        )
    )
    assert info.config.name == "LOG_0"
    subject, fence = "log.3.t.acme.r.lobby", "Nats-Expected-Last-Subject-Sequence"
    for expect in range(3):
        ack = await js.publish(subject, b"m%d" % expect, headers={fence: str(expect)})
        assert ack.seq == expect + 1
        again = await out.next_msg(timeout=5)
        assert again.subject == "out.t.acme.r.lobby" and again.headers["Nats-Sequence"] == str(ack.seq)
    try:
        await js.publish(subject, b"stale", headers={fence: "1"})
        raise AssertionError("a stale write was stored")
    except APIError as error:
        assert error.err_code == 10071, error
    assert (await js.get_last_msg("LOG_0", subject)).data == b"m2"
    assert (await js.get_last_msg("LOG_0", subject, direct=True)).data == b"m2"
    assert (await js.get_msg("LOG_0", 1)).data == b"m0"
    assert await js.purge_stream("LOG_0", seq=3, subject=subject)
    assert (await js.stream_info("LOG_0")).state.messages == 1
    assert await js.delete_stream("LOG_0")

    # Over max_payload the client itself refuses; a large message within it arrives whole.
    large = b"x" * 1_000_000
    await nc.publish("a.large", large)
    assert (await sub.next_msg(timeout=5)).data == large
    await nc.drain()
    print("nats-py: ok")


asyncio.run(asyncio.wait_for(main(sys.argv[1]), 15))
