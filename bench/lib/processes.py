"""Starting, pinning, accounting for and ending the processes of a run."""

import atexit
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

BENCH = Path(__file__).resolve().parent.parent
WORK = BENCH / ".work"

SUBJECT_CORE = 0
OTHER_CORE = 1

_started = []


def fail(message):
    sys.exit(f"bench: {message}")


def say(message):
    print(f"bench: {message}", file=sys.stderr, flush=True)


def pin(core):
    """Pins this process, and with it every child that it starts from now on."""
    if core < (os.cpu_count() or 1):
        os.sched_setaffinity(0, {core})


def spawn(name, command, core, env=None):
    """Starts a program on one core with its output in a log file of the work directory."""
    log = open(WORK / f"{name}.out", "ab")
    pin(core)
    try:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, **(env or {})},
        )
    finally:
        pin(OTHER_CORE)
        log.close()
    _started.append(process)
    return process


def end(process, patience=5):
    """Asks a process to end, by its own pid, and insists when it does not."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            for pid in reversed(tree(process.pid)):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            process.wait()
    if process in _started:
        _started.remove(process)


@atexit.register
def end_all():
    for process in reversed(list(_started)):
        end(process)


def end_all_on_signals():
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda n, _: sys.exit(128 + n))


def free_port(_given=set()):
    """A port below the ephemeral range, so that no outgoing connection can take it meanwhile."""
    for port in range(21000, 31000):
        if port in _given:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port
    fail("no free port")


def wait_for_port(port, process, seconds=15):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            return False
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return True
        except OSError:
            time.sleep(0.02)
    return False


def tree(pid):
    """The process and all its descendants."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = Path(f"/proc/{entry}/stat").read_text()
            except OSError:
                continue
            parents[int(entry)] = int(stat.rpartition(")")[2].split()[1])
    found = [pid]
    for parent in found:
        found += [child for child, its_parent in parents.items() if its_parent == parent]
    return found


def run_time(pid):
    """{thread: (ns on a core, ns waiting for one)} over the whole process tree.

    The scheduler's own clock where the kernel offers it, else user and system time in ticks.
    """
    times = {}
    for member in tree(pid):
        try:
            threads = os.listdir(f"/proc/{member}/task")
        except OSError:
            continue
        for thread in threads:
            base = f"/proc/{member}/task/{thread}"
            try:
                ran, waited, _ = Path(f"{base}/schedstat").read_text().split()
            except FileNotFoundError:
                fields = Path(f"{base}/stat").read_text().rpartition(")")[2].split()
                ticks = int(fields[11]) + int(fields[12])
                ran, waited = ticks * 10**9 // os.sysconf("SC_CLK_TCK"), 0
            except OSError:
                continue
            times[(member, thread)] = (int(ran), int(waited))
    return times


def run_time_since(pid, before):
    """(ns on a core, ns waiting for one) of the process tree since an earlier `run_time`."""
    ran = waited = 0
    for thread, (now_ran, now_waited) in run_time(pid).items():
        then_ran, then_waited = before.get(thread, (0, 0))
        ran += now_ran - then_ran
        waited += now_waited - then_waited
    return ran, waited


def resident_bytes(pid):
    """Resident set of the whole process tree; a page shared by two members counts twice."""
    page = os.sysconf("SC_PAGE_SIZE")
    total = 0
    for member in tree(pid):
        try:
            total += int(Path(f"/proc/{member}/statm").read_text().split()[1]) * page
        except OSError:
            pass
    return total
