"""What every scene of the end-to-end test uses: claims, processes, logs."""

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
WORK = HERE / ".work"
RUN = WORK / "run"
BEARERD = os.environ["BEARERD_BIN"]
SECONDS = float(os.environ.get("E2E_SECONDS", "30"))
FORBIDDEN = ["CANARY", "evil"]
PYTHON = WORK / "venv/bin/python"

passed = failed = 0
at_fault = set()  # The names of scenes of which a claim did not hold.
processes = []
saying = threading.Lock()


def check(holds, claim, detail=""):
    global passed, failed
    with saying:
        if holds:
            passed += 1
            print(f"ok - {claim}", flush=True)
        else:
            failed += 1
            at_fault.add(claim.partition(":")[0].removesuffix("-load"))
            print(f"not ok - {claim}" + (f": {detail}" if detail else ""), flush=True)
    return holds


def note(text):
    with saying:
        print(f"# {text}", flush=True)


def act(scene, function, *arguments):
    """Runs one scene; its fault does not hide the others'."""
    try:
        function(*arguments)
    except Exception as error:
        check(False, f"{scene}: the scene ran to its end", f"{type(error).__name__}: {error}")


def together(scenes, *arguments):
    """Runs scenes, by name, at the same time: most of what they do is wait."""
    threads = [
        threading.Thread(target=act, args=(name, function, *arguments), daemon=True)
        for name, function in scenes.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def now():
    return time.time() * 1000


def until(condition, seconds):
    """Waits for a truthy answer, for so many seconds; gives the last answer."""
    end = time.monotonic() + seconds
    while True:
        answer = condition()
        if answer or time.monotonic() > end:
            return answer
        time.sleep(0.02)


def records(path):
    """The JSON lines of a log that may still be growing."""
    with contextlib.suppress(FileNotFoundError):
        return [json.loads(line) for line in path.read_text().split("\n")[:-1]]
    return []


class Process:
    def __init__(self, name, command, env=None, stdin=None):
        self.name = name
        self.log = RUN / f"{name}.log"
        with open(self.log, "ab") as log:
            self.child = subprocess.Popen(
                command, stdin=stdin or subprocess.DEVNULL, stdout=log, stderr=log, env=env, start_new_session=True
            )
        processes.append(self)

    def wait_for(self, pattern, seconds):
        """The match of `pattern` in what the process has written."""

        def found():
            match = re.search(pattern, self.log.read_text(errors="replace"))
            return match or self.child.poll() is not None

        match = until(found, seconds)
        if not isinstance(match, re.Match):
            why = f"exited with {self.child.returncode}" if match else f"wrote no {pattern!r} within {seconds} s"
            raise RuntimeError(f"{self.name} {why}\n{self.tail()}")
        return match

    def tail(self, lines=40):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def kill(self):
        """Ends the process and what it has started."""
        if self.child.poll() is None:
            os.killpg(self.child.pid, signal.SIGKILL)
        return self.child.wait(10)

    def terminate(self, seconds):
        """Asks the process to end; gives its exit code, or None if it did not end in time."""
        self.child.terminate()
        try:
            return self.child.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            return None


class Load(Process):
    def __init__(self, name, settings):
        self.out = RUN / f"{name}.jsonl"
        super().__init__(name, ["node", HERE / "load.mjs"], stdin=subprocess.PIPE)
        self.settings = {**settings, "out": str(self.out)}

    def start(self, base):
        self.child.stdin.write(json.dumps({**self.settings, "base": base}).encode() + b"\n")
        self.child.stdin.flush()

    def stop(self):
        self.child.stdin.close()

    def finish(self, seconds):
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.child.wait(seconds)
        if not check(self.child.poll() == 0, f"{self.name}: the load client ran to its end", self.tail(5)):
            self.kill()
        return records(self.out)


class Bearerd(Process):
    """A bearerd with the configuration in `config`: a text, or a file that is taken as it is."""

    def __init__(self, name, config, env=None):
        if not isinstance(config, Path):
            text, config = config, RUN / f"{name}.yaml"
            config.write_text(text)
        command = [BEARERD, "run", "--config", config, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
        super().__init__(name, command, env={"PATH": os.environ["PATH"], **(env or {})})
        match = self.wait_for(r"proxy=(127\.0\.0\.1:\d+) admin=(127\.0\.0\.1:\d+)", 10)
        self.base, self.admin = f"http://{match[1]}", match[2]
        self.proxy = match[1]

    def status(self, path):
        return get(self.admin, path)[0]

    def ready(self, seconds):
        return until(lambda: self.status("/readyz") == 200, seconds)

    def close(self):
        code = self.terminate(20)
        check(code == 0, f"{self.name}: ends with 0 when asked to", f"exit {code}")


def get(authority, path, headers=None, method="GET", body=None):
    """Status, headers and body of one answer; status 0 if there was none."""
    connection = http.client.HTTPConnection(authority, timeout=20)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    except OSError:
        return 0, {}, b""
    finally:
        connection.close()


def start(name, command, settings, seconds=20):
    """Starts one of the servers beside this file; gives it and its port."""
    file = RUN / f"{name}.json"
    file.write_text(json.dumps(settings))
    process = Process(name, [*command, file])
    return process, int(process.wait_for(r"(?m)^listening (\d+)$", seconds)[1])
