"""A foreign client for tests: says one thing that carries a W3C trace context, in the binary protocol, with Python's
`websockets` and no code of ours.

usage: traced.py URL TOKEN ROOM TEXT TRACEPARENT

Repeats the same bytes while the answer is that nobody served the room yet or that nobody knows, then subscribes, and prints
each message of the server as one line of JSON: texts as they are, binary messages as {"binary": hex}. Ends when its standard
input ends.
"""

import asyncio
import json
import os
import sys
import time

import websockets

PUB, ACK = b"\x01", b"\x09"
# proto/errors.toml: not applied, unknown, lost with its owner. The same bytes are sent again.
AGAIN = {6000, 6001, 6002}
PAUSE_S = 0.2


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes(out) + bytes([number])


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def code(ack: bytes) -> int:
    """Field 2 of an Ack, 0 where it is left out; fields come in ascending order, message_id 1 before it."""
    at, read, shift = (2 + ack[1] if ack[:1] == b"\x0a" else 0), 0, 0
    if ack[at : at + 1] != b"\x10":
        return 0
    for byte in ack[at + 1 :]:
        read |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    return read


def block(field: int, value: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(value)) + value


def envelope(room: str, text: str, trace: str) -> bytes:
    """proto/src/envelope.proto: trace_id 1, room_id 3, timestamp 4, message_id 5, ack_requested 6, cmd 20 {say 10}."""
    say = block(1, text.encode()) + block(2, b"text")
    head = block(1, trace.encode()) + block(3, room.encode()) + number(4, int(time.time() * 1000))
    return head + block(5, os.urandom(16)) + number(6, 1) + block(20, block(10, say))


async def main(url: str, token: str, room: str, text: str, trace: str) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    async with websockets.connect(url, subprotocols=["arqon.v1"], additional_headers=headers) as socket:
        publish = PUB + envelope(room, text, trace)
        await socket.send(publish)
        reading = asyncio.create_task(read(socket, room, publish))
        ended = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
        await asyncio.wait({reading, ended}, return_when=asyncio.FIRST_COMPLETED)
        reading.cancel()


async def read(socket, room: str, publish: bytes) -> None:
    async for message in socket:
        if isinstance(message, bytes):
            print(json.dumps({"binary": message.hex()}), flush=True)
            if message.startswith(ACK) and code(message[1:]) in AGAIN:
                await asyncio.sleep(PAUSE_S)
                await socket.send(publish)
            elif message.startswith(ACK):
                await socket.send(json.dumps({"op": "sub", "id": 1, "room": room, "history": 256, "format": "binary"}))
        else:
            print(message.lstrip("\x04"), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:6]))
