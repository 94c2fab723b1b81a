"""The programs under test and the servers around them."""

import json
import re
import socket
import sys
import time

import tools
from processes import (BENCH, OTHER_CORE, SUBJECT_CORE, WORK, end, fail, free_port, spawn,
                       wait_for_port)
from servers import TOKEN

# What the client sends; none of it may reach the origin.
CLIENT_HEADERS = {
    "Authorization": "Bearer client",
    "Proxy-Authorization": "Basic Y2xpZW50",
    "Cookie": "a=b",
    "Organization": "evil",
}


def configured(template, to, **values):
    """Fills in a template of bench/conf; the result lies in the work directory."""
    text = (BENCH / "conf" / template).read_text()
    for name, value in {"work": WORK, "token": TOKEN, **values}.items():
        text = text.replace(f"@{name.upper()}@", str(value))
    path = WORK / to
    path.write_text(text)
    return path


class Subject:
    """One program under test: where to get it, how to start it towards an origin."""

    injects = True
    wrapper = ()

    def __init__(self, name):
        self.name = name
        self.binary = None
        self.process = None
        self.port = None

    def found(self):
        """Finds or gets the program; false when it cannot be had."""
        self.binary = self.find()
        return self.binary is not None

    def start(self, origin_port, wait=True):
        self.port = free_port()
        command, env = self.command(origin_port)
        self.process = spawn(self.name, [*self.wrapper, *command], SUBJECT_CORE, env)
        if wait:
            patience = 120 if self.wrapper else 15
            if not wait_for_port(self.port, self.process, patience):
                fail(f"{self.name} did not start, see bench/.work/{self.name}.out")
            self.wait_for_answer(patience)

    def wait_for_answer(self, seconds):
        deadline = time.monotonic() + seconds
        while answer_status(self.port) != 200:
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
        config = configured("bearerd.yaml", f"{self.name}.yaml", port=self.port,
                            admin=free_port(), issuer=self.issuer_port, origin=origin_port)
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
        config = configured("nginx.conf", "nginx.conf", port=self.port, origin=origin_port)
        directives = ["-g", "master_process off;"] if self.wrapper else []
        return [self.binary, "-p", WORK, "-e", WORK / "nginx.log", "-c", config,
                *directives], self.environment


class Haproxy(Subject):
    def find(self):
        return tools.debian("haproxy")

    def version(self):
        return tools.version([self.binary, "-v"]).partition(" - ")[0]

    def command(self, origin_port):
        config = configured("haproxy.cfg", "haproxy.cfg", port=self.port, origin=origin_port)
        return [self.binary, "-db", "-q", "-f", config], None


class Envoy(Subject):
    def find(self):
        return tools.envoy()

    def version(self):
        found = re.search(r"/(\d+\.\d+\.\d+)/", tools.version([self.binary, "--version"]))
        return f"envoy {found[1]}" if found else "envoy"

    def command(self, origin_port):
        config = configured("envoy.yaml", "envoy.yaml", port=self.port, origin=origin_port)
        return [self.binary, "-c", config, "--concurrency", "1", "--disable-hot-restart",
                "--log-level", "error"], None


class Floor(Subject):
    """Knows no HTTP: the client's headers pass, no pooling. What any proxy of the kind must pay."""

    injects = False

    def find(self):
        return tools.compiled("relay")

    def version(self):
        return "bench/lib/relay.c"

    def command(self, origin_port):
        return [self.binary, self.port, origin_port], None


PEERS = {"nginx": Nginx, "haproxy": Haproxy, "envoy": Envoy, "floor": Floor}


def start_issuer():
    return start_server("issuer")


def start_witness():
    return start_server("witness")


def start_server(kind):
    port = free_port()
    process = spawn(kind, [sys.executable, BENCH / "lib" / "servers.py", kind, port], OTHER_CORE)
    if not wait_for_port(port, process):
        fail(f"the {kind} did not start")
    return process, port


def start_origin():
    binary = tools.debian("nginx")
    if not binary:
        fail("nginx is needed as the origin: install it")
    port = free_port()
    config = configured("origin.conf", "origin.conf", port=port)
    process = spawn("origin", [binary, "-p", WORK, "-e", WORK / "origin.log", "-c", config],
                    OTHER_CORE)
    if not wait_for_port(port, process):
        fail("the origin did not start, see bench/.work/origin.log")
    return process, port


def prepare_work():
    for folder in ("temp", "files"):
        (WORK / folder).mkdir(parents=True, exist_ok=True)
    for name, size in (("64k", 64 * 1024), ("1m", 1024 * 1024)):
        (WORK / "files" / name).write_bytes(bytes(32 + i % 95 for i in range(1024)) * (size // 1024))
    secret = WORK / "client-secret"
    secret.touch(mode=0o600)
    secret.write_text("bench-secret")


def request_bytes(method, path, port, body=b"", close=False):
    lines = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{port}"]
    lines += [f"{name}: {value}" for name, value in CLIENT_HEADERS.items()]
    if body:
        lines += ["Content-Type: application/octet-stream", f"Content-Length: {len(body)}"]
    if close:
        lines.append("Connection: close")
    return "\r\n".join([*lines, "", ""]).encode() + body


def exchange(port, method, path, body=b"", seconds=10):
    """(status, body) of one request on a connection of its own."""
    with socket.create_connection(("127.0.0.1", port), seconds) as connection:
        connection.sendall(request_bytes(method, path, port, body, close=True))
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


def answer_status(port):
    try:
        return exchange(port, "GET", "/small", seconds=5)[0]
    except (OSError, ValueError, IndexError):
        return 0


def check_injection(subject, witness_port):
    """Every subject must do the same work before it is measured: says what is wrong, or None."""
    subject.start(witness_port)
    try:
        for method, path, body in (("GET", "/small?a=1", b""), ("POST", "/small", b"x" * 10240)):
            status, answer = exchange(subject.port, method, path, body)
            if status != 200:
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


def check_answers(subject, origin_port):
    """Through the subject every answer must be the origin's, byte for byte."""
    for method, path, body in (("GET", "/small", b""), ("POST", "/small", b"x" * 10240),
                               ("GET", "/files/64k", b""), ("GET", "/files/1m", b"")):
        if exchange(subject.port, method, path, body) != exchange(origin_port, method, path, body):
            return f"{method} {path} answers otherwise than the origin"
    return None
