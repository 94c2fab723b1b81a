"""An origin of plain sockets: records each request as it came and answers by its path."""

import gzip
import socket
import threading
import time

LARGE = bytes(range(256)) * (4 * 1024 * 5)
TEXT = b"".join(b"line %d of a text\n" % i for i in range(100))


class Origin:
    def __init__(self, tls=None):
        self.tls = tls
        self.requests = []
        self.lock = threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            connection, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def take(self):
        with self.lock:
            taken, self.requests = self.requests, []
        return taken

    def serve(self, connection):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            stream = connection.makefile("rb")
            while self.exchange(connection, stream):
                pass
        except (OSError, ValueError):
            pass
        finally:
            connection.close()

    def exchange(self, connection, stream):
        """Serves one request; whether there may be another."""
        line = stream.readline()
        if not line:
            return False
        method, target, version = line.split(b"\r\n")[0].decode("latin-1").split(" ")
        fields = []
        while (field := stream.readline().rstrip(b"\r\n")) != b"":
            name, value = field.decode("latin-1").split(":", 1)
            fields.append((name.lower(), value.strip()))
        seen = {"start": f"{method} {target}", "fields": fields, "body": b"", "trailers": []}
        with self.lock:
            self.requests.append(seen)
        path = target.split("?")[0]
        has = dict(fields)
        if path == "/early":
            connection.sendall(b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 6\r\n\r\nenough")
            time.sleep(0.2)
            return False
        if has.get("expect", "").lower() == "100-continue":
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        if has.get("transfer-encoding") == "chunked":
            while (size := int(stream.readline().split(b";")[0], 16)) > 0:
                seen["body"] += stream.read(size)
                stream.readline()
            while (trailer := stream.readline().rstrip(b"\r\n")) != b"":
                seen["trailers"].append(trailer)
        else:
            seen["body"] = stream.read(int(has.get("content-length", 0)))
        return self.answer(connection, method, path, has, seen["body"]) and version == "HTTP/1.1"

    def answer(self, connection, method, path, has, body):
        """Answers; whether the connection goes on."""

        def send(status, fields, content=b"", length=True):
            lines = [f"HTTP/1.1 {status}", "Date: Thu, 01 Jan 1970 00:00:00 GMT", *fields]
            if length:
                lines.append(f"Content-Length: {len(content)}")
            head = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
            connection.sendall(head if method == "HEAD" else head + content)

        def chunks(*parts, trailers=b"", pause=0.0):
            for part in parts:
                connection.sendall(b"%x\r\n%s\r\n" % (len(part), part))
                time.sleep(pause)
            connection.sendall(b"0\r\n" + trailers + b"\r\n")

        kind = "Content-Type: text/plain"
        if path == "/large":
            send("200 OK", [kind], LARGE)
        elif path == "/chunked":
            send("200 OK", [kind, "Transfer-Encoding: chunked"], length=False)
            chunks(b"one ", b"two ", b"three", pause=0.02)
        elif path == "/trailers":
            send("200 OK", ["Trailer: X-Sum", "Transfer-Encoding: chunked"], length=False)
            chunks(b"body", trailers=b"X-Sum: 42\r\n" if "te" in has else b"")
        elif path == "/close":
            send("200 OK", ["Connection: close"], b"until the end", length=False)
            return False
        elif path == "/old":
            connection.sendall(b"HTTP/1.0 200 OK\r\nX-Old: yes\r\n\r\nold bytes")
            return False
        elif path == "/gzip":
            packed = gzip.compress(TEXT, mtime=0)
            if "gzip" in has.get("accept-encoding", ""):
                send("200 OK", ["Content-Encoding: gzip", "Vary: Accept-Encoding", kind], packed)
            else:
                send("200 OK", ["Vary: Accept-Encoding", kind], TEXT)
        elif path == "/range":
            self.ranged(send, has)
        elif path == "/cookies":
            send("200 OK", ["Set-Cookie: a=1; Path=/", "Set-Cookie: b=2, c", "Set-Cookie: d"], b"ok")
        elif path == "/redirect":
            send("302 Found", ["Location: /plain"])
        elif path == "/redirect307":
            send("307 Temporary Redirect", ["Location: /echo"])
        elif path == "/empty":
            send("204 No Content", [], length=False)
        elif path == "/cached":
            if has.get("if-none-match") == '"v1"' or "if-modified-since" in has:
                send("304 Not Modified", ['ETag: "v1"'], length=False)
            else:
                send("200 OK", ['ETag: "v1"', "Last-Modified: Thu, 01 Jan 1970 00:00:00 GMT"], b"fresh")
        elif path == "/hints":
            connection.sendall(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
            send("200 OK", [], b"after hints")
        elif path == "/cut":
            send("200 OK", ["Content-Length: 1000"], b"only this", length=False)
            return False
        elif path == "/cut-chunks":
            send("200 OK", ["Transfer-Encoding: chunked"], b"5\r\nhello\r\n", length=False)
            return False
        elif path == "/endless":
            send("200 OK", [kind, "Transfer-Encoding: chunked"], length=False)
            while True:
                connection.sendall(b"4\r\ntick\r\n")
                time.sleep(0.05)
        elif path == "/auth":
            send("401 Unauthorized", ['WWW-Authenticate: Basic realm="r"'], b"who are you")
        elif path == "/reason":
            send("299 A \"reason\" of its own", ["X-A: 1", "x-a: 2", "X-Obs: \xe9\xff"], b"ok")
        elif path == "/teapot":
            send("418 I'm a teapot", [], b"short and stout")
        elif path == "/down":
            send("503 Service Unavailable", ["Retry-After: 7"], b"later")
        elif path == "/echo":
            send("200 OK", ["Content-Type: application/octet-stream"], body)
        else:
            send("200 OK", [kind, "Server: origin/1", "Cache-Control: no-store"], b"plain answer")
        return True

    @staticmethod
    def ranged(send, has):
        size = len(TEXT)
        wanted = has.get("range")
        if wanted is None:
            send("200 OK", ["Accept-Ranges: bytes"], TEXT)
            return
        parts = []
        for spec in wanted.removeprefix("bytes=").split(","):
            first, last = spec.strip().split("-")
            if first == "":
                first, last = size - int(last), size - 1
            else:
                first, last = int(first), min(int(last or size - 1), size - 1)
            parts.append((first, last))
        if any(first >= size for first, _ in parts):
            send("416 Range Not Satisfiable", [f"Content-Range: bytes */{size}"])
        elif len(parts) == 1:
            first, last = parts[0]
            span = f"Content-Range: bytes {first}-{last}/{size}"
            send("206 Partial Content", [span], TEXT[first : last + 1])
        else:
            body = b"".join(
                b"--B\r\nContent-Range: bytes %d-%d/%d\r\n\r\n%s\r\n" % (f, l, size, TEXT[f : l + 1])
                for f, l in parts
            )
            send("206 Partial Content", ["Content-Type: multipart/byteranges; boundary=B"], body + b"--B--\r\n")
