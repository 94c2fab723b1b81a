"""curl against an origin, directly and through the program: equal but for `Via`, the forwarding
fields, the credential, and what is about one connection."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from harness import CREDENTIAL, Program, finish, plain
from origin import Origin

BIG = "big.bin"

# URL stands for the server; further arguments as a user would write them.
CASES = [
    ["URL/plain"],
    ["URL/"],
    ["URL/plain?a=1&b=%20&&c"],
    ["URL/plain?"],
    ["--path-as-is", "URL/a/../b/./c//d"],
    ["-g", "URL/a[1]{2}|~%7E%2f"],
    ["-I", "URL/plain"],
    ["-I", "URL/large"],
    ["-I", "URL/chunked"],
    ["-X", "HEAD", "-I", "URL/empty"],
    ["-X", "DELETE", "URL/plain"],
    ["-X", "PATCH", "-d", "{}", "-H", "Content-Type: application/json", "URL/echo"],
    ["-X", "PROPFIND", "-d", "<x/>", "URL/echo"],
    ["-X", "OPTIONS", "URL/plain"],
    ["-X", "OPTIONS", "--request-target", "*", "URL"],
    ["-X", "POST", "URL/plain"],
    ["-d", "a=1", "-d", "b=2", "URL/echo"],
    ["-d", "", "URL/echo"],
    ["--data-urlencode", "q=a b&c", "URL/echo"],
    ["-G", "--data-urlencode", "q=a b&c", "URL/plain"],
    ["--data-binary", f"@{BIG}", "URL/echo"],
    ["-H", "Expect:", "--data-binary", f"@{BIG}", "URL/echo"],
    ["-H", "Expect: 100-continue", "-d", "small", "URL/echo"],
    ["-T", BIG, "URL/echo"],
    ["-T", BIG, "-H", "Transfer-Encoding: chunked", "URL/echo"],
    ["-T", BIG, "-X", "POST", "-H", "Transfer-Encoding: chunked", "-H", "Expect:", "URL/echo"],
    ["-X", "GET", "-d", "a body", "URL/echo"],
    ["-X", "DELETE", "-d", "a body", "URL/echo"],
    ["-F", "a=1", "-F", f"file=@{BIG};type=x/y", "URL/echo"],
    ["-F", "a=1", "-H", "Transfer-Encoding: chunked", "URL/echo"],
    ["--form-string", "a=@b;c", "URL/echo"],
    ["-r", "0-9", "URL/range"],
    ["-r", "-5", "URL/range"],
    ["-r", "100-", "URL/range"],
    ["-r", "0-0,3-4,10-19", "URL/range"],
    ["-r", "999999-", "URL/range"],
    ["-C", "100", "URL/range"],
    ["-z", "Thu, 01 Jan 1970 00:00:00 GMT", "URL/cached"],
    ["-H", 'If-None-Match: "v1"', "URL/cached"],
    ["URL/cached"],
    ["-b", "a=1; b=2", "URL/cookies"],
    ["-c", "jar", "-b", "jar", "URL/cookies", "URL/plain"],
    ["--compressed", "URL/gzip"],
    ["-H", "Accept-Encoding: gzip", "URL/gzip"],
    ["--tr-encoding", "URL/plain"],
    ["-0", "URL/plain"],
    ["-0", "URL/chunked"],
    ["-0", "-d", "x", "URL/echo"],
    ["URL/chunked"],
    ["-H", "TE: trailers", "-H", "Connection: TE", "URL/trailers"],
    ["URL/trailers"],
    ["URL/close"],
    ["URL/old"],
    ["URL/large"],
    ["--limit-rate", "20M", "URL/large"],
    ["URL/plain", "URL/plain", "URL/chunked", "URL/plain"],
    ["-Z", "URL/plain", "URL/plain", "URL/plain", "URL/plain"],
    ["URL/plain", "--next", "-d", "x", "URL/echo", "--next", "-I", "URL/plain"],
    ["-L", "URL/redirect"],
    ["-L", "-d", "again", "URL/redirect307"],
    ["URL/hints"],
    ["URL/empty"],
    ["URL/reason"],
    ["URL/teapot"],
    ["-f", "URL/down"],
    ["URL/auth"],
    ["URL/cut"],
    ["URL/cut-chunks"],
    ["-m", "0.7", "-N", "URL/endless"],
    ["-H", "Expect:", "-T", BIG, "URL/early"],
    ["-A", "agent/1 (x)", "-H", "X-A: 1", "-H", "x-a: 2", "-H", "X-Empty;", "URL/plain"],
    ["-H", "X-Obs: \u00e9", "-H", "X-Tab: a\tb", "URL/plain"],
    ["-H", "Accept:", "-H", "User-Agent:", "URL/plain"],
    ["-H", "Connection: close", "URL/plain"],
    ["-H", "Connection: X-Hop", "-H", "X-Hop: 1", "URL/plain"],
    ["-H", "Keep-Alive: 300", "-H", "Proxy-Connection: keep-alive", "URL/plain"],
    ["--http2", "URL/plain"],
    ["-H", "Authorization: Bearer the-clients-own", "URL/plain"],
    ["-u", "name:password", "URL/plain"],
    ["--oauth2-bearer", "token", "URL/plain"],
    ["--max-filesize", "10", "URL/large"],
    ["--ignore-content-length", "URL/close"],
]

# What the program may change.
FOREIGN = {"via", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "authorization"}
HOP = {"connection", "keep-alive", "proxy-connection", "upgrade", "http2-settings", "te", "transfer-encoding", "x-hop"}


def curl(arguments, server, flags):
    with tempfile.TemporaryDirectory() as directory:
        at = Path(directory)
        (at / BIG).write_bytes(bytes(range(256)) * 6000)
        command = ["curl", "-s", "-D", "heads", *flags]
        for number, argument in enumerate(arguments):
            if argument.startswith("URL"):
                command += [server + argument[3:], "-o", f"body-{number}"]
                command += ["-D", f"heads-{number}"] if "--next" in arguments[:number] else []
            elif argument == "--next":
                command += ["--next", "-s", *flags]
            else:
                command.append(argument)
        done = subprocess.run(command, cwd=at, capture_output=True, timeout=60)
        bodies = {path.name: path.read_bytes() for path in at.glob("body-*")}
        heads = [path.read_text("latin-1") for path in sorted(at.glob("heads*"))]
    return {"code": done.returncode, "bodies": bodies, "heads": heads}


def answers(heads, parallel):
    """Each answer's status and its fields, less what is about one connection."""
    out = []
    for text in heads:
        for head in text.replace("\r\n", "\n").split("\n\n"):
            lines = head.strip("\n").split("\n")
            words = lines[0].split(" ", 2)
            # Informational answers end here.
            if len(words) < 2 or words[1].startswith("1"):
                continue
            fields = [line.split(":", 1) for line in lines[1:] if ":" in line]
            fields = [(name.lower(), value.strip()) for name, value in fields]
            # The order of different names means nothing.
            kept = sorted((f for f in fields if f[0] not in HOP), key=lambda f: f[0])
            out.append((words[1], kept))
    return sorted(out) if parallel else out


def seen(requests, parallel):
    out = []
    for request in requests:
        fields = sorted(
            (f for f in request["fields"] if f[0] not in HOP | FOREIGN | {"expect"}), key=lambda f: f[0]
        )
        kind = dict(fields).get("content-type", "")
        body = request["body"]
        if "boundary=" in kind:
            # Each run of curl has its own.
            boundary = kind.split("boundary=")[1]
            fields = [(name, value.replace(boundary, "B")) for name, value in fields]
            body = body.replace(boundary.encode(), b"B")
        out.append((request["start"], fields, body, request["trailers"]))
    return sorted(out) if parallel else out


def differs(case, direct, proxied, version=False):
    if direct["code"] != proxied["code"]:
        # A body that is cut off is told by its framing: too short, or a stream that was reset.
        cut = version and {direct["code"], proxied["code"]} <= {18, 56, 92}
        if not cut:
            return f"curl ends with {direct['code']} and {proxied['code']}"
    parallel = "-Z" in case
    bodies = [result["bodies"] for result in (direct, proxied)]
    if case[0] in ("-m",):
        bodies = [{name: body[:8] for name, body in of.items()} for of in bodies]
    if "-F" in case or "--form-string" in case:
        bodies = [{name: len(body) for name, body in of.items()} for of in bodies]
    if version and (direct["code"] != 0 or proxied["code"] != 0):
        # A reset may overtake what was sent before it, even the head.
        direct, proxied = ({**result, "bodies": {}, "heads": []} for result in (direct, proxied))
        bodies = [{}, {}]
    # What `-I` writes is the head.
    if "-I" not in case and bodies[0] != bodies[1]:
        return f"other bodies: {str(bodies[0])[:200]} and {str(bodies[1])[:200]}"
    heads = [answers(result["heads"], parallel) for result in (direct, proxied)]
    if heads[0] != heads[1]:
        return f"other answers: {heads[0]} and {heads[1]}"
    requests = [seen(result["seen"], parallel) for result in (direct, proxied)]
    if "URL/early" in case:
        requests = [[(r[0], r[1]) for r in all] for all in requests]
    if requests[0] != requests[1]:
        return f"other requests: {str(requests[0])[:600]} and {str(requests[1])[:600]}"
    for request in proxied["seen"]:
        fields = request["fields"]
        if [value for name, value in fields if name == "authorization"] != [CREDENTIAL]:
            return f"not our credential: {fields}"
    return None


def is_about_1(case):
    """Cases of HTTP/1 itself."""
    options = {"-0", "--http2", "--tr-encoding", "--request-target", "URL/hints"}
    fields = any("Connection" in argument or "Transfer-Encoding" in argument for argument in case)
    return fields or bool(options & set(case))


def asks_twice(case):
    """With prior knowledge curl 7.88 fails at a second request on one connection, whatever the server."""
    return sum(argument.startswith("URL") for argument in case) > 1 or "-L" in case


def certificate(directory):
    """A certificate for localhost that vouches for itself; its file and its key's."""
    files = [str(Path(directory) / name) for name in ("cert.pem", "key.pem")]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost", "-out", files[0], "-keyout", files[1]]
    subprocess.run(command, check=True, capture_output=True)
    os.chmod(files[1], 0o600)
    return files


def main():
    origin = Origin()
    wrong = []
    count = 0
    directory = tempfile.TemporaryDirectory()
    cert, key = certificate(directory.name)
    tls = f"tls: {{cert_file: {cert}, key: {{file: {key}}}}}\n"
    with Program(plain(origin.port)) as clear, Program(tls + plain(origin.port)) as sealed:
        here, there = f"http://127.0.0.1:{clear.port}", f"https://localhost:{sealed.port}"
        for name, server, flags in [
            ("HTTP/1.1", here, []),
            ("HTTP/2", here, ["--http2-prior-knowledge"]),
            ("HTTP/1.1 over TLS", there, ["--http1.1", "--cacert", cert]),
            ("HTTP/2 over TLS", there, ["--http2", "--cacert", cert]),
        ]:
            http2 = "2" in name
            for case in CASES:
                if http2 and is_about_1(case) or name == "HTTP/2" and asks_twice(case) or flags and "-0" in case:
                    continue
                count += 1
                results = []
                for base, options in ((f"http://127.0.0.1:{origin.port}", []), (server, flags)):
                    origin.take()
                    result = curl(case, base, options)
                    result["seen"] = origin.take()
                    results.append(result)
                if what := differs(case, *results, version=bool(flags)):
                    wrong.append(f"{name} {' '.join(case)}: {what}")
    directory.cleanup()
    finish("curl", count, wrong)


if __name__ == "__main__":
    sys.exit(main())
