"""A pycrdt-websocket client that a scenario drives: a JSON command a line in, its state a line out after each change.

Usage: client.py URL. Commands: {"line": TEXT, "at": FRACTION} types a line, {"online": false} leaves, {"online": true}
comes back. Like any program on this library it connects again by itself, since the library does not.
"""

import asyncio
import json
import sys

from httpx_ws import aconnect_ws
from pycrdt import Doc, Provider, Text
from pycrdt.websocket.websocket import HttpxWebsocket

doc = Doc()
text = doc.get("content", type=Text)
is_synced = False
online = asyncio.Event()
online.set()
offline = asyncio.Event()


def tell(*_):
    print(json.dumps({"text": str(text), "synced": is_synced}), flush=True)


class Socket(HttpxWebsocket):
    """The library's own channel, which also says when it has ended."""

    def __init__(self, websocket, path):
        super().__init__(websocket, path)
        self.ended = asyncio.Event()

    async def __anext__(self):
        try:
            return await super().__anext__()
        except StopAsyncIteration:
            self.ended.set()
            raise


async def connect(url):
    global is_synced
    while True:
        await online.wait()
        try:
            async with aconnect_ws(url) as websocket:
                channel = Socket(websocket, url)
                async with Provider(doc, channel) as provider:
                    await asyncio.wait_for(provider.synced.wait(), 10)
                    is_synced = True
                    tell()
                    ends = [asyncio.create_task(event.wait()) for event in (channel.ended, offline)]
                    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        except Exception as error:
            print(f"pycrdt client: {error!r}", file=sys.stderr)
        is_synced = False
        tell()
        await asyncio.sleep(0.2)


async def main(url):
    text.observe(tell)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    connection = asyncio.create_task(connect(url))
    while line := await reader.readline():
        command = json.loads(line)
        if "line" in command:
            starts = [0] + [at + 1 for at, letter in enumerate(str(text)) if letter == "\n"]
            text.insert(starts[int(command["at"] * len(starts))], command["line"] + "\n")
        elif command["online"]:
            offline.clear()
            online.set()
        else:
            online.clear()
            offline.set()
    connection.cancel()


asyncio.run(main(sys.argv[1]))
