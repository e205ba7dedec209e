"""A foreign client for tests: joins a room with Python's `websockets`, says one thing, prints what it hears.

usage: room.py URL TOKEN ROOM TEXT

Speaks the text dialect of arqon.v1 ([server] text_dialect). Prints each message of the server as one line; its HELLO
arrives with the opcode 0x04 before the JSON, which is left out. Ends when its standard input ends.
"""

import asyncio
import json
import sys

import websockets


async def main(url: str, token: str, room: str, text: str) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    async with websockets.connect(url, subprotocols=["arqon.v1"], additional_headers=headers) as socket:
        await socket.send(json.dumps({"op": "sub", "id": 1, "room": room, "history": 256, "format": "json"}))
        await socket.send(json.dumps({"op": "pub", "room": room, "type": "text", "data": text, "ack": True}))
        reading = asyncio.create_task(read(socket))
        ended = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
        await asyncio.wait({reading, ended}, return_when=asyncio.FIRST_COMPLETED)
        reading.cancel()


async def read(socket) -> None:
    async for message in socket:
        if isinstance(message, bytes):
            print(json.dumps({"binary": message.hex()}), flush=True)
        else:
            print(message.lstrip("\x04"), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:5]))
