"""npm's ws and PyPI's websockets, each as client and server, directly and through the program: what
a client sees is the same."""

import json
import os
import subprocess
import sys
from pathlib import Path

from harness import CREDENTIAL, Program, finish, plain

HERE = Path(__file__).parent
SERVERS = {"ws": ["node", HERE / "ws_server.cjs"], "websockets": [sys.executable, HERE / "ws_python.py", "serve"]}
CLIENTS = {"ws": ["node", HERE / "ws_client.cjs"], "websockets": [sys.executable, HERE / "ws_python.py"]}
COMMON = [
    "text", "unicode", "empty", "binary", "many", "large", "deflate", "chat", "fragments",
    "fragments to the server", "ping", "first", "close", "close 1000", "close 1001", "close 3000", "close 4999",
]
SCENARIOS = {
    "ws": [*COMMON, "close without a code", "terminate", "http inside"],
    "websockets": [*COMMON, "half-close"],
}
FURTHER = {("ws", "ws"): ["ping from the server", "kill", "refuse"], ("websockets", "websockets"): ["ping from the server"]}


def run(client, port, scenario):
    command = [*CLIENTS[client], f"ws://127.0.0.1:{port}", scenario]
    done = subprocess.run(command, capture_output=True, timeout=60, text=True)
    try:
        return json.loads(done.stdout)
    except ValueError:
        return [["failed", done.stdout[-200:], done.stderr[-600:]]]


def main():
    wrong = []
    count = 0
    for name, command in SERVERS.items():
        environment = {**os.environ, "EXPECT_CREDENTIAL": ""}
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        port = int(server.stdout.readline())
        try:
            with Program(plain(port)) as program:
                for client in CLIENTS:
                    for scenario in SCENARIOS[client] + FURTHER.get((client, name), []):
                        count += 1
                        direct = run(client, port, scenario)
                        proxied = run(client, program.port, scenario)
                        failed = any(what[0] in ("failed", "nothing more") for what in direct)
                        if failed or direct != proxied:
                            wrong.append(f"{client} to {name}, {scenario}: {str(direct)[:700]} and {str(proxied)[:700]}")
        finally:
            server.terminate()
            server.wait()
    finish("websocket", count, wrong)


if __name__ == "__main__":
    main()
