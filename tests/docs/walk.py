"""Does what README.md and docs/ say, command by command: walk.py ROOT

Runs in namespaces of its own, made by tests/docs/run. What is fenced as `sh` or `console` is run by
a shell as it stands; a `yaml` block of the README becomes the `bearerd.yaml` of the commands below
it. Every command must succeed, for curl with a status below 400; what a `console` block shows must
come out. Commands within sentences are classified by mentioned.py.
"""
import asyncio
import os
import pathlib
import re
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile

import trustme
from mentioned import Mentioned, is_command, spans

root = pathlib.Path(sys.argv[1])
sys.path[:0] = [str(root / "tests/deploy")]
import containers  # noqa: E402
from doubles import Api, Client, Failed, Issuer, Lost, raise_interfaces, until  # noqa: E402

# Where the hosts of the documentation are: reached from this network and from containers.
IDP, API = "192.0.2.1", "192.0.2.2"
# What a command wants that a machine may lack. Without it, it is only read, and SKIPPED says so.
WANTS = {
    r"docker ": "containers",
    r"bench/run\b": "nginx",
    r"bench/(instructions|order)\b": "valgrind",
}
# Goes on until it is told to stop; it is up when this path of the admin listener answers 200.
SERVERS = {r"cargo run --release -- demo$": "/readyz", r"bearerd run ": "/readyz", r"docker run ": "/readyz"}
# Run as written but for this: what else runs in CI anyway, or would take minutes for nothing.
INSTEAD = {
    r"^cargo test$": "cargo test --no-run",
    r"^cargo run --release ": "cargo run ",
    # One round of a second, on a copy whose README it may rewrite, and with the binary at hand.
    r"^(bench/run.*)$": r"cd bench-copy && \1 --rounds 1 --seconds 1 --patience 1 --cases get32 --peers nginx",
    r"--against OLD_BUILD": '--against "$BEARERD_BIN"',
    # What it counts is compared in .ci/run, in a release build; another build costs more.
    r"^(bench/instructions) --check": r"cd bench-copy && \1",
    r"^(bench/instructions --top)": r"cd bench-copy && \1 3",
    r"^(bench/instructions --case newconn)": r"cd bench-copy && \1",
    r"^bench/order$": "cd bench-copy && mkdir -p deploy && bench/order",
    r"^cargo install --locked --path \.$": 'cargo install --locked --path . --debug --root "$SANDBOX/installed"',
}

sandbox = pathlib.Path(tempfile.mkdtemp(prefix="bearerd-docs-"))
used, server, counts, lacking = set(), None, {"run": 0, "read": 0}, {}


def blocks(path):
    """Each fenced block: its language, its text and the line it begins at."""
    found, language, text = [], None, []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        fence = re.match(r"\s*```(\S*)", line)
        if fence and language is None:
            language, text, begin = fence[1] or "none", [], number + 1
        elif fence:
            found.append((language, "\n".join(text), begin))
            language = None
        elif language is not None:
            text.append(line)
    return found


def commands(language, text):
    """Each command with the output that is shown for it."""
    if language == "console":
        for part in re.split(r"^\$ ", text, flags=re.M)[1:]:
            command, _, shown = part.partition("\n")
            yield command, shown
        return
    for command in re.sub(r"\\\n\s*", " ", text).splitlines():
        if command.strip() and not command.lstrip().startswith("#"):
            yield re.sub(r"\s+# .*", "", command).strip(), ""


def listed(table, command):
    for pattern in table:
        if re.search(pattern, command):
            used.add(pattern)
            return table[pattern]
    return None


def pattern(shown):
    """What is shown, with room for what differs from run to run."""
    lines = []
    for line in shown.strip().splitlines():
        if line.strip() == "...":
            lines.append(r"(?:.*\n)*?.*")
            continue
        line = re.escape(line.rstrip())
        line = re.sub(r"[0-9a-f]{8}(?=\\\.\\\.)|\d+", lambda m: r"[0-9a-f]+" if len(m[0]) == 8 else r"\d+", line)
        lines.append(line)
    return "\n".join(lines)


async def answers(path):
    client = Client(9090)
    try:
        return (await client.get(path))[0] == 200
    except (OSError, Lost):
        return False
    finally:
        client.close()


async def stop():
    global server
    if server is not None:
        os.killpg(server.pid, signal.SIGTERM)
        code = await asyncio.wait_for(server.wait(), 40)
        if code not in (0, -signal.SIGTERM):
            raise Failed(f"the server ended with {code}")
        server = None


async def shell(command, environment):
    """Starts it as a process group of its own, so that all of it can be ended."""
    return await asyncio.create_subprocess_exec(
        "bash", "-euo", "pipefail", "-c", command, cwd=sandbox / "here", env=environment, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=open(sandbox / "out", "wb"), stderr=open(sandbox / "err", "wb"))


async def perform(where, command, shown, environment):
    """One command. Servers go on until the next one starts."""
    global server
    wanted = listed(WANTS, command)
    if wanted in lacking:
        if subprocess.run(["bash", "-n", "-c", command]).returncode:
            raise Failed(f"{where}: the shell cannot read {command}")
        counts["read"] += 1
        print(f"SKIPPED {command} ({lacking[wanted]})")
        return
    ready, told = listed(SERVERS, command), command
    for written, instead in INSTEAD.items():
        if re.search(written, command):
            command = re.sub(written, instead, command)
    counts["run"] += 1
    if ready:
        await stop()
        server = await shell(command, environment)
        for _ in range(3000):
            if await answers(ready):
                break
            if server.returncode is not None:
                raise Failed(f"{where}: {told}: {(sandbox / 'err').read_text()}")
            await asyncio.sleep(0.1)
        else:
            raise Failed(f"{where}: {told} is not ready")
        print(f"{where}: runs: {told}")
        return
    process = await shell(command, environment)
    code = await asyncio.wait_for(process.wait(), 900)
    output, errors = (sandbox / "out").read_text(), (sandbox / "err").read_text()
    if code != 0:
        raise Failed(f"{where}: {told} exits {code}: {(output + errors)[-3000:]}")
    if shown and not re.search(pattern(shown), output):
        raise Failed(f"{where}: {told} should print\n{shown}\nbut prints\n{output}")
    print(f"{where}: holds: {told}")


async def doubles():
    """The hosts that the documentation speaks of, with an authority of their own."""
    issuer = Issuer()
    issuer.secrets = {"your-secret"}
    api = Api(issuer)
    authority = trustme.CA()
    authority.cert_pem.write_to_path(sandbox / "authority.pem")
    for server_, name, address in ((issuer, "idp.example.com", IDP), (api, "api.example.com", API)):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(name).configure_cert(context)
        await server_.listen(context, 443, address)
    (sandbox / "hosts").write_text(
        f"127.0.0.1 localhost\n{IDP} idp.example.com\n{API} api.example.com\n")
    subprocess.run(["mount", "--bind", sandbox / "hosts", "/etc/hosts"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", "/run"], check=True)
    secrets = pathlib.Path("/run/secrets/idp")
    secrets.mkdir(parents=True)
    (secrets / "client-secret").write_text("your-secret\n")
    (secrets / "client-secret").chmod(0o600)
    return issuer, api


def programs():
    """`bearerd` is the one under test; `cargo` works in the repository, without a network."""
    directory = sandbox / "bin"
    directory.mkdir()
    (directory / "bearerd").symlink_to(os.environ["BEARERD_BIN"])
    (directory / "cargo").write_text(f'#!/bin/sh\ncd "{root}" && exec "{shutil.which("cargo")}" --offline --quiet "$@"\n')
    (directory / "cargo").chmod(0o755)
    (sandbox / ".curlrc").write_text("fail-with-body\n")
    shutil.copytree(root / "bench", sandbox / "here/bench-copy/bench", ignore=shutil.ignore_patterns("__pycache__"))
    environment = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    return environment | {
        "SANDBOX": str(sandbox), "CARGO_TARGET_DIR": os.environ.get("CARGO_TARGET_DIR", f"{root}/target"),
        "PATH": f"{directory}:{os.environ['PATH']}", "SSL_CERT_FILE": str(sandbox / "authority.pem"),
        "CURL_HOME": str(sandbox), "CURL_CA_BUNDLE": str(sandbox / "authority.pem"),
    }


def tools():
    """What some commands want, or why it is not to be had; the environment of the former."""
    for program in ("nginx", "valgrind"):
        if not shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin"):
            lacking[program] = f"{program} is not here"
    static = {a: os.environ[f"STATIC_{a}"] for a in containers.TRIPLES if os.environ.get(f"STATIC_{a}")}
    if why := containers.unavailable(static):
        lacking["containers"] = why
        return {}
    return containers.prepare(root, sandbox, pathlib.Path(os.environ["WORK"]), static)


async def injected(issuer, api):
    """The end of the walk: a request through the program that the README has started."""
    status, _ = await Client(8080).get("/anything", {"authorization": "Bearer my-own"})
    token = api.last.get("authorization", "").removeprefix("Bearer ")
    if status != 200 or token not in issuer.issued or api.last.get("organization") != "acme":
        raise Failed(f"README: the request through one's own provider got {status}, the API saw {api.last}")
    print("README.md: a request to one's own provider carries its token")


async def main():
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    raise_interfaces(IDP, API)
    (sandbox / "here").mkdir()
    issuer, api = await doubles()
    environment = programs()
    environment |= tools()
    mentioned = Mentioned(root)
    readme = root / "README.md"
    own = [p for p in (*root.glob("*.md"), *sorted((root / "docs").rglob("*.md")), root / "bench/README.md") if p != readme]
    for path in (readme, *own):
        name = path.relative_to(root)
        found = blocks(path)
        if path == readme:
            # The first thing that it shows is the demo's answer, before it says how to start it.
            start = next(c for l, t, _ in found for c, _ in commands(l, t) if re.search(r"-- demo$", c))
            await perform("README.md", start, "", environment)
        for language, text, line in found:
            if language == "yaml" and path == readme:
                (sandbox / "here/bearerd.yaml").write_text(text + "\n")
            if language in ("sh", "console"):
                for command, shown in commands(language, text):
                    if not (path == readme and command == start):
                        await perform(f"{name}:{line}", command, shown, environment)
            elif language in ("bash", "shell", "none"):
                raise Failed(f"{name}:{line}: a block of `{language}`; say `sh`, `console` or what it is")
        if path == readme:
            await injected(issuer, api)
        await stop()
        for line, text in spans(path.read_text()):
            if is_command(text) and mentioned.to_run(f"{name}:{line}", text):
                await perform(f"{name}:{line}", text, "", environment)
    if stale := set(WANTS) - used:
        raise Failed(f"no document has these any more: {stale}")
    for command, reason in sorted(mentioned.by_hand):
        print(f"SKIPPED {command} ({reason})")
    print(f"{counts['run']} commands run, {counts['read']} only read; of those in sentences {mentioned.elsewhere} run "
          f"in other tests, {len(mentioned.by_hand)} by hand")


async def guarded():
    try:
        await main()
    finally:
        if server is not None and server.returncode is None:
            os.killpg(server.pid, signal.SIGKILL)
            await server.wait()
        if "containers" not in lacking and (sandbox / "containers").exists():
            containers.end(sandbox / "containers")


try:
    asyncio.run(guarded())
except (Failed, LookupError) as failed:
    sys.exit(f"FAILED {failed}")
finally:
    shutil.rmtree(sandbox, ignore_errors=True)
