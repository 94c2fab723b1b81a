"""The program under attack with its default settings: a probe client goes on asking meanwhile. Its
99th percentile and the growth of the program's memory must stay within bounds."""

import argparse
import multiprocessing
import pathlib
import re
import resource
import socket
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
MOST_P99 = 0.100
MOST_GROWTH = 64 * 1024  # KiB


def upstream(ready):
    """Answers /large with 32 MiB, everything else with two bytes, as fast as it can."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    large = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (32 << 20)
    block = b"x" * (64 << 10)

    def serve(stream):
        held = b""
        try:
            while True:
                while b"\r\n\r\n" not in held:
                    chunk = stream.recv(65536)
                    if not chunk:
                        return
                    held += chunk
                head, held = held.split(b"\r\n\r\n", 1)
                if head.startswith(b"POST"):
                    while stream.recv(65536):
                        pass
                    return
                if b"/large" in head.split(b"\r\n", 1)[0]:
                    stream.sendall(large)
                    for _ in range(512):
                        stream.sendall(block)
                else:
                    stream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        except OSError:
            pass
        finally:
            stream.close()

    def accept():
        while True:
            stream, _ = listener.accept()
            threading.Thread(target=serve, args=(stream,), daemon=True).start()

    ready.put(listener.getsockname()[1])
    accept()


def rss(pid):
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", text).group(1))


def probe(port, stop, report):
    """Asks every ten milliseconds, from a process of its own: the attackers' threads must not hold it
    up."""
    times, failures = [], []
    while not stop.is_set():
        started = time.monotonic()
        try:
            with socket.create_connection(("127.0.0.1", port), 5) as stream:
                stream.sendall(b"GET /probe HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                answer = b""
                while chunk := stream.recv(4096):
                    answer += chunk
            if not answer.startswith(b"HTTP/1.1 200"):
                failures.append(answer[:80])
        except OSError as error:
            failures.append(repr(error))
        times.append(time.monotonic() - started)
        time.sleep(0.01)
    report.put((times, failures))


def start(binary, place):
    """The program with one route, and its port."""
    ports = []
    # The probe has an upstream of its own, which the attacks do not keep busy.
    for _ in range(2):
        ready = multiprocessing.Queue()
        multiprocessing.Process(target=upstream, args=(ready,), daemon=True).start()
        ports.append(ready.get())
    configuration = pathlib.Path(place) / "bearerd.yaml"
    configuration.write_text(
        f"routes:\n  - {{upstream: 'http://127.0.0.1:{ports[0]}', inject: {{X-A: b}}}}\n"
        f"  - {{upstream: 'http://127.0.0.1:{ports[1]}', match: {{path: /probe}}}}\n"
    )
    child = subprocess.Popen(
        [binary, "run", "--config", str(configuration), "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"],
        stderr=subprocess.PIPE, text=True,
    )
    for line in child.stderr:
        if found := re.search(r"listening proxy=\S*:(\d+)", line):
            port = int(found.group(1))
            break
    threading.Thread(target=lambda: [None for _ in child.stderr], daemon=True).start()
    return child, port


def measure(child, port, kind, attack):
    """Runs one attack; True if all stayed within bounds."""
    before = rss(child.pid)
    stop, report = multiprocessing.Event(), multiprocessing.Queue()
    prober = multiprocessing.Process(target=probe, args=(port, stop, report))
    prober.start()
    most = before
    told = []
    worker = threading.Thread(target=lambda: told.append(attack(port)))
    worker.start()
    while worker.is_alive():
        most = max(most, rss(child.pid))
        time.sleep(0.1)
    stop.set()
    times, failures = report.get()
    prober.join()
    times.sort()
    p99 = times[int(len(times) * 0.99)]
    growth = most - before
    wrong = p99 > MOST_P99 or growth > MOST_GROWTH or failures or child.poll() is not None
    print(
        f"{kind:16} probe p99 {p99 * 1000:6.1f} ms of {len(times)}, memory +{growth / 1024:.1f} MiB,"
        f" {told[0] if told else 'the attacker failed'}{'  WRONG ' + str(failures[:2]) if wrong else ''}",
        flush=True,
    )
    time.sleep(1)
    return not wrong


def main(description, attacks, connections):
    """Runs all attacks, of which each is called with port, connections and seconds."""
    arguments = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--binary", default=str(HERE.parents[1] / "target/release/bearerd"))
    arguments.add_argument("--connections", type=int, default=connections)
    arguments.add_argument("--seconds", type=float, default=20)
    arguments.add_argument("--only", help="run the attacks whose names hold this")
    arguments = arguments.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 16384), hard))
    good = True
    with tempfile.TemporaryDirectory() as place:
        child, port = start(arguments.binary, place)
        try:
            for kind, attack in attacks.items():
                if arguments.only and arguments.only not in kind:
                    continue
                run = lambda port: attack(port, arguments.connections, arguments.seconds)
                good = measure(child, port, kind, run) and good
        finally:
            child.kill()
            child.wait()
    sys.exit(0 if good else 1)
