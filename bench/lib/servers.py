"""The two small servers of a run, each a process of its own: a token issuer, and an origin that
says which headers reached it. Neither is part of what is measured.

usage: servers.py issuer PORT  |  servers.py witness PORT [CERTIFICATE KEY]
"""

import json
import ssl
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# 982 bytes: the size of a usual access token of an identity provider.
TOKEN = ("bench." + "abcdefghijklmnopqrstuvwxyz0123456789-_ABCDEFGHIJKLMNOPQRSTUVWXYZ" * 16)[:982]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def body(self):
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def answer(self, content):
        data = json.dumps(content).encode()
        if "Upgrade" in self.headers:  # through the tunnel then, to its end
            self.send_response(101)
            self.send_header("Upgrade", self.headers["Upgrade"])
            self.send_header("Connection", "Upgrade")
            self.send_header("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
            self.end_headers()
            self.wfile.write(data)
            self.close_connection = True
            return
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


class Issuer(Handler):
    def do_POST(self):
        self.body()
        self.answer({"access_token": TOKEN, "token_type": "Bearer", "expires_in": 3600})


class Witness(Handler):
    def report(self):
        body = self.body()
        self.answer({
            "method": self.command,
            "target": self.path,
            "headers": [[name.lower(), value] for name, value in self.headers.items()],
            "body_bytes": len(body),
        })

    do_GET = do_POST = report


if __name__ == "__main__":
    handler = {"issuer": Issuer, "witness": Witness}[sys.argv[1]]
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), handler)
    server.daemon_threads = True
    if len(sys.argv) > 3:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(*sys.argv[3:5])
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    server.serve_forever()
