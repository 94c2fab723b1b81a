"""An issuer, an API and a client of asyncio, for tests that look at one process from outside."""
import asyncio
import base64
import fcntl
import json
import socket
import struct
import time
import urllib.parse


class Failed(Exception):
    """What should hold does not."""


class Lost(Exception):
    """A connection ended before the whole answer was there; `begun` tells if a part was."""

    def __init__(self, begun):
        super().__init__("cut off" if begun else "closed before an answer")
        self.begun = begun


async def read_message(reader):
    """First line, fields and body of a message, or None at the end of the connection."""
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    fields = {}
    for line in lines:
        if line:
            name, _, value = line.partition(":")
            fields.setdefault(name.lower(), value.strip())
    length = int(fields.get("content-length", 0))
    return first, fields, await reader.readexactly(length)


class Server:
    """HTTP/1.1 on a free port of loopback; `answer(method, target, fields, body)` is awaited."""

    async def listen(self, tls=None, port=0, address="127.0.0.1"):
        self.server = await asyncio.start_server(self.serve, address, port, ssl=tls, backlog=1024)
        self.port = self.server.sockets[0].getsockname()[1]
        self.url = f"http://{address}:{self.port}"

    async def serve(self, reader, writer):
        try:
            while True:
                first, fields, body = await read_message(reader)
                method, target, _ = first.split(" ")
                status, more, content = await self.answer(method, target, fields, body)
                head = f"HTTP/1.1 {status} -\r\ncontent-length: {len(content)}\r\n"
                head += "".join(f"{name}: {value}\r\n" for name, value in more.items())
                writer.write(head.encode() + b"\r\n" + content)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


class Issuer(Server):
    """Client credentials with a secret that can be rotated, and an outage at the flick of `up`."""

    def __init__(self):
        self.up, self.secrets, self.lifetime = True, {"first"}, 3600
        self.issued, self.seen, self.refused = set(), [], 0

    async def answer(self, method, target, fields, body):
        if not self.up:
            return 503, {}, b""
        form = urllib.parse.parse_qs(body.decode())
        secret = form.get("client_secret", [""])[0]
        if fields.get("authorization", "").startswith("Basic "):
            pair = base64.b64decode(fields["authorization"][6:]).decode()
            secret = urllib.parse.unquote_plus(pair.partition(":")[2])
        if secret not in self.secrets:
            self.refused += 1
            return 401, {"content-type": "application/json"}, b'{"error":"invalid_client"}'
        token = f"token-{len(self.issued)}"
        self.issued.add(token)
        self.seen.append(secret)
        content = {"access_token": token, "token_type": "Bearer", "expires_in": self.lifetime}
        return 200, {"content-type": "application/json"}, json.dumps(content).encode()


class Api(Server):
    """Takes what the issuer gave; `/slow/SECONDS` takes its time. `last` are the fields it saw."""

    def __init__(self, issuer):
        self.issuer, self.under_way, self.last = issuer, 0, {}

    async def answer(self, method, target, fields, body):
        self.under_way += 1
        try:
            await asyncio.sleep(float(target[6:]) if target.startswith("/slow/") else 0.02)
        finally:
            self.under_way -= 1
        self.last = fields
        token = fields.get("authorization", "").removeprefix("Bearer ")
        return (200 if token in self.issuer.issued else 401), {}, b"content of the API" * 10


class Client:
    """One connection, kept alive."""

    def __init__(self, port, host="127.0.0.1"):
        self.port, self.host, self.writer = port, host, None

    async def get(self, target, fields=None):
        """Status and fields of the answer; ConnectionRefusedError if nobody listens."""
        if self.writer is None:
            self.reader, self.writer = await asyncio.open_connection(self.host, self.port)
        lines = {"host": f"{self.host}:{self.port}"} | (fields or {})
        text = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        try:
            self.writer.write(f"GET {target} HTTP/1.1\r\n{text}\r\n".encode())
            first, answer, _ = await read_message(self.reader)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            self.close()
            raise Lost(bool(getattr(error, "partial", b""))) from error
        if answer.get("connection") == "close":
            self.close()
        return int(first.split(" ")[1]), answer

    def close(self):
        if self.writer is not None:
            self.writer.close()
            self.writer = None


async def until(condition, seconds, what):
    """Waits for `condition` and returns how long it took."""
    begin = time.monotonic()
    while not condition():
        if time.monotonic() - begin > seconds:
            raise Failed(f"not within {seconds} s: {what}")
        await asyncio.sleep(0.02)
    return time.monotonic() - begin


def raise_interfaces(*further):
    """In a new network namespace: loopback, with `further` addresses on it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        def request(code, name, content):
            fcntl.ioctl(s, code, struct.pack("16s16s", name, content).ljust(40, b"\0"))

        request(0x8914, b"lo", struct.pack("H", 0x49))  # SIOCSIFFLAGS: up, loopback, running
        for number, name in enumerate(further, 1):
            address = struct.pack("HH4s8x", socket.AF_INET, 0, socket.inet_aton(name))
            request(0x8916, b"lo:%d" % number, address)  # SIOCSIFADDR
