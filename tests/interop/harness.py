"""Starts the program, and says what did not hold."""

import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

CREDENTIAL = "Bearer interop-credential"


class Program:
    """The program with this configuration, at free ports."""

    def __init__(self, configuration, *flags):
        self.directory = tempfile.TemporaryDirectory()
        path = Path(self.directory.name) / "bearerd.yaml"
        path.write_text(configuration)
        self.child = subprocess.Popen(
            [os.environ["BEARERD"], "run", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--config", path, *flags],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        self.log = []
        self.port = None
        threading.Thread(target=self.read, daemon=True).start()
        deadline = time.monotonic() + 20
        while self.port is None:
            if time.monotonic() > deadline or self.child.poll() is not None:
                raise SystemExit("bearerd does not start:\n" + "".join(self.log))
            time.sleep(0.01)

    def read(self):
        for line in self.child.stderr:
            self.log.append(line)
            if found := re.search(r"listening proxy=\S*?:(\d+)", line):
                self.port = int(found[1])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.child.terminate()
        try:
            self.child.wait(10)
        except subprocess.TimeoutExpired:
            self.child.kill()
        self.directory.cleanup()


def plain(port, further=""):
    return (
        f"routes:\n  - upstream: http://127.0.0.1:{port}\n"
        f"    inject: {{Authorization: {CREDENTIAL}}}\n{further}"
    )


def finish(suite, count, wrong):
    for what in wrong:
        print(f"{suite}: {what}", file=sys.stderr)
    print(f"{suite}: {count - len(wrong)} of {count} equal")
    sys.exit(1 if wrong else 0)
