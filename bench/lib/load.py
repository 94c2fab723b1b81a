"""The cases: how each one loads a subject, and what a cell of the measurement returns."""

import re
import socket
import subprocess
import time
from dataclasses import dataclass, replace

import tools
from processes import (OTHER_CORE, SUBJECT_CORE, WORK, fail, pin, resident_bytes, run_time,
                       run_time_since)
from subjects import (CLIENT_HEADERS, H2, HANDSHAKE, PLAIN, TLS, WS, answer_status,
                      request_bytes)

POST_BYTES = 10 * 1024
RATE_CONNECTIONS = 32
SETTLE_SECONDS = 0.05

# Cores at more than FAR times the shortest distance seen are far apart. A cell is tried that often,
# and a case waits or repeats for that long, to have them near.
FAR = 2.0
TRIES = 5
PATIENCE_SECONDS = 45


@dataclass(frozen=True)
class Case:
    name: str
    title: str
    path: str = "/small"
    connections: int = 32
    post: bool = False
    close: bool = False
    rate: int = 0
    setup: str = PLAIN
    streams: int = 1  # at once on one connection, with HTTP/2


CASES = {case.name: case for case in (
    Case("get1", "small GET, 1 connection", connections=1),
    Case("get32", "small GET, 32 connections"),
    Case("get256", "small GET, 256 connections", connections=256),
    Case("post", "10 KiB POST, 32 connections", post=True),
    Case("body64k", "64 KiB answer, 32 connections", path="/files/64k"),
    Case("body1m", "1 MiB answer, 8 connections", path="/files/1m", connections=8),
    Case("newconn", "new connection per request, 32 at once", close=True),
    Case("rate1k", "1,000 requests/s, 32 connections", rate=1000),
    Case("rate5k", "5,000 requests/s, 32 connections", rate=5000),
    Case("rate10k", "10,000 requests/s, 32 connections", rate=10000),
    Case("h2", "HTTP/2 small GET, 8 connections of 8 streams", connections=8, streams=8, setup=H2),
    Case("tls", "TLS to the origin, small GET, 32 connections", setup=TLS),
    Case("tls1m", "TLS to the origin, 1 MiB answer, 8 connections", path="/files/1m",
         connections=8, setup=TLS),
    Case("ws", "WebSocket message and its echo, 32 tunnels", setup=WS),
)}


@dataclass(frozen=True)
class Cell:
    """One subject under one case in one round."""

    cpu_us: float        # CPU time per answered request
    per_second: float    # answers per second
    waited: float        # time spent waiting for the core, as a share of the time on it
    p50_us: float        # latency; only at a fixed rate
    p99_us: float
    distance_ns: int     # between the two cores: the longer of before and after the cell


class Distances:
    """The distance of the two cores, and the shortest one that this run has seen.

    On a virtual machine whose host moves the cores about, two neighbouring seconds can differ by a
    factor of two in every subject. Cells taken near and far must not be compared.
    """

    def __init__(self):
        self.shortest = None
        self.patience = 0.0
        for _ in range(5):
            self.look()
            time.sleep(0.1)

    def look(self):
        cores = [str(SUBJECT_CORE), str(OTHER_CORE)]
        done = subprocess.run([tools.compiled("distance"), *cores], capture_output=True, timeout=30)
        distance = int(done.stdout)
        self.shortest = min(self.shortest or distance, distance)
        return distance

    def near(self, distance):
        return distance <= FAR * self.shortest

    def wait(self):
        """Waits for the cores to be near each other, as long as this case has patience left."""
        while not self.near(distance := self.look()) and self.patience > 0:
            time.sleep(0.25)
            self.patience -= 0.25
        return distance

    def steady_cell(self, subject, case, seconds):
        """A cell during which the cores stayed near each other, if that can be had."""
        for _ in range(TRIES):
            before = self.wait()
            cell = measure(subject, case, seconds)
            cell = replace(cell, distance_ns=max(before, self.look()))
            if self.near(cell.distance_ns) or self.patience <= 0:
                break
            self.patience -= seconds
        return cell


def measure(subject, case, seconds):
    before = run_time(subject.process.pid)
    answered, per_second, p50, p99 = generator(case)(subject, case, seconds)
    time.sleep(SETTLE_SECONDS)  # closing the connections belongs to the bill
    ran, waited = run_time_since(subject.process.pid, before)
    if not answered or not ran:
        fail(f"{subject.name} answered nothing in {case.name}")
    return Cell(ran / 1e3 / answered, per_second, waited / ran, p50, p99, 0)


def generator(case):
    if case.rate:
        return pace
    return {H2: h2load, WS: talk}.get(case.setup, wrk)


def wrk(subject, case, seconds):
    command = [tools.debian("wrk"), "-t1", f"-c{case.connections}", f"-d{seconds}s",
               *client_headers()]
    if case.close:
        command += ["-H", "Connection: close"]
    if case.post:
        script = WORK / "post.lua"
        script.write_text('wrk.method = "POST"\n'
                          f'wrk.body = string.rep("x", {POST_BYTES})\n'
                          'wrk.headers["Content-Type"] = "application/octet-stream"\n')
        command += ["-s", str(script)]
    command.append(f"http://127.0.0.1:{subject.port}{case.path}")
    output = run_generator(command, seconds)
    total = re.search(r"(\d+) requests in", output)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    if not total or not rate:
        fail(f"wrk said nothing of use about {subject.name}:\n{output}")
    if wrong := re.search(r"Non-2xx or 3xx responses: \d+", output):
        fail(f"{subject.name} in {case.name}: {wrong[0]}")
    if wrong := re.search(r"Socket errors: (.*)", output):
        counts = [int(n) for n in re.findall(r"\d+", wrong[1])]
        if sum(counts) > int(total[1]) // 1000:
            fail(f"{subject.name} in {case.name}: {wrong[0]}")
    return int(total[1]), float(rate[1]), 0.0, 0.0


def client_headers():
    return [part for name, value in CLIENT_HEADERS.items() for part in ("-H", f"{name}: {value}")]


def h2load(subject, case, seconds):
    command = [tools.h2load(), "-t1", f"-c{case.connections}", f"-m{case.streams}", f"-D{seconds}",
               *client_headers(), f"http://127.0.0.1:{subject.port}{case.path}"]
    output = run_generator(command, seconds)
    rate = re.search(r"finished in [^,]+, ([\d.]+) req/s", output)
    failed = re.search(r"(\d+) failed, (\d+) errored, (\d+) timeout", output)
    good = re.search(r"status codes: (\d+) 2xx", output)
    if not (rate and failed and good):
        fail(f"h2load said nothing of use about {subject.name}:\n{output}")
    if sum(map(int, failed.groups())):
        fail(f"{subject.name} in {case.name}: {failed[0]}")
    return int(good[1]), float(rate[1]), 0.0, 0.0


def talk(subject, case, seconds):
    command = [tools.compiled("talk"), str(subject.port), str(seconds), str(case.connections)]
    handshake = request_bytes("GET", case.path, subject.port, more=HANDSHAKE)
    output = run_generator(command, seconds, handshake)
    values = dict(part.split("=") for part in output.split())
    answered = int(values["answered"])
    if int(values["errors"]):
        fail(f"{subject.name} in {case.name}: {values['errors']} tunnels failed")
    return answered, answered / float(values["seconds"]), 0.0, 0.0


def pace(subject, case, seconds):
    command = [tools.compiled("pace"), str(subject.port), str(case.rate), str(seconds),
               str(RATE_CONNECTIONS)]
    output = run_generator(command, seconds, request_bytes("GET", case.path, subject.port))
    values = dict(part.split("=") for part in output.split())
    answered, errors = int(values["answered"]), int(values["errors"])
    if errors:
        fail(f"{subject.name} in {case.name}: {errors} of {answered + errors} requests failed")
    return answered, answered / seconds, float(values["p50_us"]), float(values["p99_us"])


def run_generator(command, seconds, stdin=b""):
    pin(OTHER_CORE)
    try:
        done = subprocess.run(command, input=stdin, capture_output=True, timeout=seconds + 30)
    except subprocess.TimeoutExpired:
        fail(f"{command[0].rpartition('/')[2]} did not end")
    if done.returncode:
        fail(f"{command[0].rpartition('/')[2]} failed: {done.stderr.decode().strip()}")
    return done.stdout.decode()


def first_answer_ms(subject, origin_port):
    """From exec to the first 200, asked for as fast as the client can."""
    begun = time.perf_counter()
    subject.start(origin_port, wait=False)
    try:
        while answer_status(subject.port) != 200:
            if subject.process.poll() is not None or time.perf_counter() - begun > 15:
                fail(f"{subject.name} did not start, see bench/.work/{subject.name}.out")
            time.sleep(0.0002)
        return (time.perf_counter() - begun) * 1e3
    finally:
        subject.stop()


def memory_mib(subject, origin_port):
    """Resident MiB of a fresh process: idle, with 1,000 idle connections, under 256 streams."""
    mib = 1 << 20
    subject.start(origin_port)
    try:
        time.sleep(0.5)
        idle = resident_bytes(subject.process.pid) / mib

        request = request_bytes("GET", "/small", subject.port)
        held = []
        try:
            for _ in range(1000):
                connection = socket.create_connection(("127.0.0.1", subject.port), 10)
                held.append(connection)
                connection.sendall(request)
                if not connection.recv(4096).startswith(b"HTTP/1.1 200"):
                    fail(f"{subject.name} refused one of 1,000 connections")
            time.sleep(1)
            connected = resident_bytes(subject.process.pid) / mib
        finally:
            for connection in held:
                connection.close()
    finally:
        subject.stop()

    subject.start(origin_port)
    try:
        command = [tools.debian("wrk"), "-t1", "-c256", "-d2s",
                   f"http://127.0.0.1:{subject.port}/files/64k"]
        pin(OTHER_CORE)
        generator = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        streaming = 0.0
        while generator.poll() is None:
            streaming = max(streaming, resident_bytes(subject.process.pid) / mib)
            time.sleep(0.05)
    finally:
        subject.stop()
    return idle, connected, streaming
