"""The programs under test and the servers around them."""

import json
import re
import socket
import subprocess
import sys
import time

import tools
from processes import (BENCH, OTHER_CORE, SUBJECT_CORE, WORK, end, fail, free_port, spawn,
                       wait_for_port)
from servers import TOKEN

# How subjects are set up for a case: what the client speaks, what the origin speaks. A subject is
# one process per setup, so that none carries what another setup needs.
SIDECAR = "sidecar"  # as PLAIN, but configured as beside a program: several routes, no tuning
PLAIN = "plain"  # HTTP/1.1 on both sides
H2 = "h2"        # HTTP/2 by prior knowledge from the client
TLS = "tls"      # TLS to the origin, its certificate verified
WS = "ws"        # WebSocket tunnels to lib/echo.c

# What the client sends; none of it may reach the origin.
CLIENT_HEADERS = {
    "Authorization": "Bearer client",
    "Proxy-Authorization": "Basic Y2xpZW50",
    "Cookie": "a=b",
    "Organization": "evil",
}
HANDSHAKE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",  # of RFC 6455, section 1.3
}


def configured(template, to, setup=PLAIN, **values):
    """Fills in a template of bench/conf; the result lies in the work directory.

    A line that begins with `@setup,setup@` stands in these setups only.
    """
    lines = []
    for line in (BENCH / "conf" / template).read_text().splitlines():
        only = re.match(r"@([a-z0-9,]+)@", line)
        if not only:
            lines.append(line)
        elif setup in only[1].split(","):
            lines.append(line[only.end():])
    text = "\n".join([*lines, ""])
    for name, value in {"work": WORK, "token": TOKEN, **values}.items():
        text = text.replace(f"@{name.upper()}@", str(value))
    path = WORK / to
    path.write_text(text)
    return path


class Subject:
    """One program under test: where to get it, how to start it towards an origin."""

    injects = True
    setups = (PLAIN, H2, TLS, WS)
    wrapper = ()

    def __init__(self, name):
        self.name = name
        self.binary = None
        self.process = None
        self.port = None
        self.setup = PLAIN

    def found(self):
        """Finds or gets the program; false when it cannot be had."""
        self.binary = self.find()
        return self.binary is not None

    def start(self, origin_port, wait=True, setup=PLAIN):
        self.port, self.setup = free_port(), setup
        command, env = self.command(origin_port)
        self.process = spawn(self.name, [*self.wrapper, *command], SUBJECT_CORE, env)
        if wait:
            patience = 120 if self.wrapper else 15
            if not wait_for_port(self.port, self.process, patience):
                fail(f"{self.name} did not start, see bench/.work/{self.name}.out")
            self.wait_for_answer(patience)

    def wait_for_answer(self, seconds):
        deadline = time.monotonic() + seconds
        while answer_status(self.port, self.setup) != 200:
            if time.monotonic() > deadline:
                fail(f"{self.name} does not answer, see bench/.work/{self.name}.out")
            time.sleep(0.02)

    def stop(self):
        if self.process:
            end(self.process, 60 if self.wrapper else 5)
            self.process = None


class Bearerd(Subject):
    def __init__(self, name, issuer_port, binary=None):
        super().__init__(name)
        self.issuer_port = issuer_port
        self.given = binary

    def find(self):
        return self.given or tools.bearerd()

    def version(self):
        return tools.version([self.binary, "--version"])

    def command(self, origin_port):
        config = configured("bearerd.yaml", f"{self.name}.yaml", self.setup, port=self.port,
                            admin=free_port(), issuer=self.issuer_port, origin=origin_port)
        if self.setup == SIDECAR:
            return [self.binary, "run", "--config", config, "--listen", f"127.0.0.1:{self.port}"], {}
        return [self.binary, "run", "--config", config], {"BEARERD_WORKERS": "1"}


class Nginx(Subject):
    # Its large buffer comes and goes with each request. Left alone, glibc sometimes hands that memory
    # back to the kernel every time, by the luck of the heap's layout: up to 1.7 times the CPU time.
    environment = {"MALLOC_TRIM_THRESHOLD_": str(64 << 20), "MALLOC_MMAP_THRESHOLD_": str(32 << 20)}

    def find(self):
        return tools.debian("nginx")

    def version(self):
        return tools.version([self.binary, "-v"]).removeprefix("nginx version: ")

    def command(self, origin_port):
        config = configured("nginx.conf", "nginx.conf", self.setup, port=self.port,
                            origin=origin_port)
        directives = ["-g", "master_process off;"] if self.wrapper else []
        return [self.binary, "-p", WORK, "-e", WORK / "nginx.log", "-c", config,
                *directives], self.environment


class Haproxy(Subject):
    def find(self):
        return tools.debian("haproxy")

    def version(self):
        return tools.version([self.binary, "-v"]).partition(" - ")[0]

    def command(self, origin_port):
        config = configured("haproxy.cfg", "haproxy.cfg", self.setup, port=self.port,
                            origin=origin_port)
        return [self.binary, "-db", "-q", "-f", config], None


class Envoy(Subject):
    def find(self):
        return tools.envoy()

    def version(self):
        found = re.search(r"/(\d+\.\d+\.\d+)/", tools.version([self.binary, "--version"]))
        return f"envoy {found[1]}" if found else "envoy"

    def command(self, origin_port):
        config = configured("envoy.yaml", "envoy.yaml", self.setup, port=self.port,
                            origin=origin_port)
        return [self.binary, "-c", config, "--concurrency", "1", "--disable-hot-restart",
                "--log-level", "error"], None


class Floor(Subject):
    """Knows no HTTP: the client's headers pass, no pooling. What any proxy of the kind must pay."""

    injects = False
    setups = (PLAIN, WS)

    def find(self):
        return tools.compiled("relay")

    def version(self):
        return "bench/lib/relay.c"

    def command(self, origin_port):
        return [self.binary, self.port, origin_port], None


PEERS = {"nginx": Nginx, "haproxy": Haproxy, "envoy": Envoy, "floor": Floor}


def start_issuer():
    return start_server("issuer")


def start_witness(setup, certificate="origin"):
    tls = [WORK / f"{certificate}.pem", WORK / f"{certificate}.key"] if setup == TLS else []
    return start_server("witness", *tls)


def start_server(kind, *more):
    port = free_port()
    process = spawn(kind, [sys.executable, BENCH / "lib" / "servers.py", kind, port, *more],
                    OTHER_CORE)
    if not wait_for_port(port, process):
        fail(f"the {kind} did not start")
    return process, port


def start_origin(setups):
    """The port of the origin that belongs to each of these setups."""
    binary = tools.debian("nginx")
    if not binary:
        fail("nginx is needed as the origin: install it")
    port, tls_port = free_port(), free_port()
    config = configured("origin.conf", "origin.conf", TLS if TLS in setups else PLAIN, port=port,
                        tls_port=tls_port)
    process = spawn("origin", [binary, "-p", WORK, "-e", WORK / "origin.log", "-c", config],
                    OTHER_CORE)
    if not wait_for_port(port, process):
        fail("the origin did not start, see bench/.work/origin.log")
    ports = {PLAIN: port, SIDECAR: port, H2: port, TLS: tls_port}
    return {**ports, WS: start_echo()} if WS in setups else ports


def start_echo():
    port = free_port()
    if not wait_for_port(port, spawn("echo", [tools.compiled("echo"), port], OTHER_CORE)):
        fail("the WebSocket origin did not start")
    return port


def prepare_work():
    for folder in ("temp", "files"):
        (WORK / folder).mkdir(parents=True, exist_ok=True)
    for name, size in (("64k", 64 * 1024), ("1m", 1024 * 1024)):
        (WORK / "files" / name).write_bytes(bytes(32 + i % 95 for i in range(1024)) * (size // 1024))
    secret = WORK / "client-secret"
    secret.touch(mode=0o600)
    secret.write_text("bench-secret")


def request_bytes(method, path, port, body=b"", close=False, more=None):
    lines = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{port}"]
    lines += [f"{name}: {value}" for name, value in {**CLIENT_HEADERS, **(more or {})}.items()]
    if body:
        lines += ["Content-Type: application/octet-stream", f"Content-Length: {len(body)}"]
    if close:
        lines.append("Connection: close")
    return "\r\n".join([*lines, "", ""]).encode() + body


def exchange(port, method, path, body=b"", seconds=10, setup=PLAIN):
    """(status, body) of one request on a connection of its own."""
    if setup == H2:
        return exchange_h2(port, method, path, body, seconds)
    with socket.create_connection(("127.0.0.1", port), seconds) as connection:
        asked = request_bytes(method, path, port, body, close=setup != WS,
                              more=HANDSHAKE if setup == WS else None)
        connection.sendall(asked)
        received = bytearray()
        while chunk := connection.recv(1 << 20):
            received += chunk
    head, _, rest = bytes(received).partition(b"\r\n\r\n")
    if b"transfer-encoding: chunked" in head.lower():
        plain = b""
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            plain += rest[:int(size, 16)]
            rest = rest[int(size, 16) + 2:]
        rest = plain
    return int(head.split(b" ", 2)[1]) if head else 0, rest


def exchange_h2(port, method, path, body, seconds):
    command = [tools.debian("curl"), "-s", "--http2-prior-knowledge", "-m", str(seconds),
               "-X", method, "-w", "\n%{http_code}", f"http://127.0.0.1:{port}{path}"]
    for name, value in CLIENT_HEADERS.items():
        command += ["-H", f"{name}: {value}"]
    if body:
        command += ["-H", "Content-Type: application/octet-stream", "--data-binary", "@-"]
    answer = subprocess.run(command, input=body, capture_output=True).stdout
    received, _, status = answer.rpartition(b"\n")
    return int(status or 0), received


def answer_status(port, setup=PLAIN):
    try:
        return exchange(port, "GET", "/small", seconds=5, setup=setup if setup == H2 else PLAIN)[0]
    except (OSError, ValueError, IndexError):
        return 0


def check_injection(subject, witness_port, setup):
    """Every subject must do the same work before it is measured: says what is wrong, or None."""
    subject.start(witness_port, setup=setup)
    try:
        requests = (("GET", "/small?a=1", b""), ("POST", "/small", b"x" * 10240))
        for method, path, body in requests[:1] if setup == WS else requests:
            status, answer = exchange(subject.port, method, path, body, setup=setup)
            if status != (101 if setup == WS else 200):
                return f"{method} answered {status}"
            seen = json.loads(answer)
            if (seen["method"], seen["target"], seen["body_bytes"]) != (method, path, len(body)):
                return f"{method} arrived changed"
            if not subject.injects:
                continue
            values = {}
            for name, value in seen["headers"]:
                values.setdefault(name, []).append(value)
            if values.get("authorization") != [f"Bearer {TOKEN}"]:
                return "the origin did not get exactly one injected Authorization"
            if values.get("organization") != ["acme"]:
                return "the origin did not get exactly one injected Organization"
            for name in ("cookie", "proxy-authorization"):
                if name in values:
                    return f"the client's {name} reached the origin"
        return None
    finally:
        subject.stop()


def check_verification(subject, stranger_port):
    """A subject that answers from an origin whose certificate the authority did not sign does less
    than the others: says so, or None."""
    subject.start(stranger_port, wait=False, setup=TLS)
    try:
        if not wait_for_port(subject.port, subject.process):
            return "it did not start"
        time.sleep(0.2)
        status, _ = exchange(subject.port, "GET", "/small")
        return None if status >= 500 else f"it took a stranger's certificate, and answered {status}"
    finally:
        subject.stop()


def check_answers(subject, origin_port):
    """Through the subject every answer must be the origin's, byte for byte.

    Of WebSocket messages, lib/talk.c compares every one.
    """
    if subject.setup == WS:
        return None
    for method, path, body in (("GET", "/small", b""), ("POST", "/small", b"x" * 10240),
                               ("GET", "/files/64k", b""), ("GET", "/files/1m", b"")):
        if (exchange(subject.port, method, path, body, setup=subject.setup)
                != exchange(origin_port, method, path, body)):
            return f"{method} {path} answers otherwise than the origin"
    return None
