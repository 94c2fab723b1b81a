"""PyPI's websockets as a server (`serve`) and as a client (URL, scenario)."""

import asyncio
import hashlib
import json
import sys

import websockets
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve


async def handler(socket):
    path = socket.request.path
    if path == "/close":
        await socket.close(4321, "of its own accord")
        return
    if path == "/first":
        await socket.send("the server speaks first")
    if path == "/pong":
        waiter = await socket.ping(b"are you there")
        await waiter
        await socket.send("the ping was answered")
    async for message in socket:
        if path == "/fragments":
            await socket.send(iter(["a", "bc", "", "def"]))
        else:
            await socket.send(message)


async def server():
    options = {"subprotocols": ["chat"], "max_size": 2**26, "ping_interval": None}
    async with serve(handler, "127.0.0.1", 0, **options) as running:
        print(running.sockets[0].getsockname()[1], flush=True)
        await asyncio.get_running_loop().create_future()


def shown(message):
    data = message.encode() if isinstance(message, str) else message
    short = data.decode("latin-1") if len(data) < 100 else hashlib.sha256(data).hexdigest()[:16]
    return ["message", isinstance(message, str), len(data), short]


async def talk(url, scenario):
    told = []
    paths = {"close": "/close", "first": "/first", "fragments": "/fragments", "ping from the server": "/pong"}
    options = {"max_size": 2**26, "ping_interval": None, "additional_headers": {"X-Test": "1"}}
    if scenario != "deflate":
        options["compression"] = None
    if scenario == "chat":
        options["subprotocols"] = ["other", "chat"]
    sends = {
        "text": ["hello"],
        "unicode": ["h\u00e9llo \U0001f600"],
        "empty": [""],
        "binary": [b"\0\r\n\xff"],
        "many": [f"message {i}" for i in range(300)],
        "large": [b"0123456789abcde" * (16 * 1024 * 1024 // 15)],
        "deflate": ["z" * n for n in (1, 1000, 1_000_000)],
        "chat": ["in a protocol"],
        "fragments": ["go"],
        "fragments to the server": [iter(["a", "", "bc", "d"])],
    }
    try:
        async with connect(url + paths.get(scenario, "/echo"), **options) as socket:
            told.append(["open", socket.subprotocol, [str(e) for e in socket.protocol.extensions]])
            if scenario == "ping":
                latency = await asyncio.wait_for(await socket.ping(b"payload"), 10)
                told.append(["pong", latency >= 0])
            if scenario in ("first", "ping from the server"):
                told.append(shown(await socket.recv()))
            for message in sends.get(scenario, []):
                await socket.send(message)
                if scenario != "many":
                    told.append(shown(await socket.recv()))
            if scenario == "many":
                for _ in range(300):
                    told.append(shown(await socket.recv()))
            if scenario == "half-close":
                # The end of one direction is not the end of the other.
                await socket.send("before")
                socket.transport.write_eof()
                told.append(shown(await socket.recv()))
            elif scenario == "close":
                await socket.wait_closed()
            elif scenario.startswith("close "):
                await socket.close(int(scenario[6:]), "why")
            else:
                await socket.close()
            told.append(["close", socket.close_code, socket.close_reason])
    except websockets.exceptions.WebSocketException as error:
        told.append([type(error).__name__, str(error)[:80]])
    print(json.dumps(told))


if __name__ == "__main__":
    asyncio.run(server() if sys.argv[1] == "serve" else talk(*sys.argv[1:]))
