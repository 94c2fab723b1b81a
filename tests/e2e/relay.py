"""Stands between bearerd and a token endpoint: writes down what passes, and can lose an answer."""

import base64
import http.client
import json
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from harness import now


class Relay:
    """`log` holds a record of each exchange; `lose` says how the answers to the next refreshes get lost."""

    def __init__(self, authority):
        self.authority = authority
        self.log = []
        self.lose = []
        relay = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                relay.exchange(self)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.base = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def exchange(self, handler):
        arrived = now()
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        status, fields, answer = self.forward(handler, body)
        form = dict(urllib.parse.parse_qsl(body.decode()))
        told = json.loads(answer) if answer.startswith(b"{") else {}
        authorization = handler.headers.get("Authorization", "")
        basic = base64.b64decode(authorization[6:]).decode() if authorization.startswith("Basic ") else None
        lost = self.lose.pop(0) if self.lose and form.get("grant_type") == "refresh_token" else None
        self.log.append(
            {
                "arrived": arrived,
                "answered": now(),
                "endpoint": handler.path.rsplit("/", 1)[1],
                "client": urllib.parse.unquote_plus(basic.partition(":")[0]) if basic else form.get("client_id"),
                "auth": "basic" if basic else "body" if "client_secret" in form else "none",
                "grant": form.get("grant_type"),
                "status": status,
                "error": told.get("error"),
                "expires_in": told.get("expires_in"),
                "access": told.get("access_token"),
                "used_refresh": form.get("refresh_token"),
                "new_refresh": told.get("refresh_token"),
                "withdrawn": form.get("token"),
                "lost": lost,
            }
        )
        handler.close_connection = True
        if lost == "all":
            return
        if lost == "gateway":
            status, answer = 504, b"upstream request timeout"
        handler.send_response(status)
        for name, value in fields:
            if name.lower() not in ("content-length", "transfer-encoding", "connection", "date", "server"):
                handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(answer)))
        handler.end_headers()
        handler.wfile.write(answer[: len(answer) // 2] if lost == "half" else answer)

    def forward(self, handler, body):
        fields = {name: value for name, value in handler.headers.items() if name.lower() not in ("host", "connection")}
        connection = http.client.HTTPConnection(self.authority, timeout=20)
        try:
            connection.request("POST", handler.path, body, fields)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()

    def tokens(self):
        """What the token endpoint was asked."""
        return [it for it in self.log if it["endpoint"] == "token"]

    def withdrawals(self):
        """What the revocation endpoint was asked."""
        return [it for it in self.log if it["endpoint"] == "revoke"]
