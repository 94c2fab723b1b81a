"""grpcio as client and server, directly and through the program: the usual interoperability cases
come out the same, and the server sees the injected credential."""

import json
import sys
import threading
import time
from concurrent import futures

import grpc

from harness import CREDENTIAL, Program, finish

SERVICE = "/interop.Test/"
SPECIAL = "\t\ntest with whitespace\r\nand Unicode BMP \u263a and non-BMP \U0001f608\t\n"
OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


class Service(grpc.GenericRpcHandler):
    """Whatever a case asks for; messages are bytes."""

    def __init__(self):
        self.credentials = []
        self.cancelled = threading.Event()

    def service(self, details):
        fields = dict(details.invocation_metadata)
        self.credentials.append(fields.get("authorization"))
        name = details.method.removeprefix(SERVICE)
        kinds = {
            "Unary": (grpc.unary_unary_rpc_method_handler, self.unary),
            "Upload": (grpc.stream_unary_rpc_method_handler, self.upload),
            "Download": (grpc.unary_stream_rpc_method_handler, self.download),
            "Duplex": (grpc.stream_stream_rpc_method_handler, self.duplex),
        }
        if not details.method.startswith(SERVICE) or name not in kinds:
            return None
        kind, method = kinds[name]
        return kind(method)

    def echo_metadata(self, context):
        fields = context.invocation_metadata()
        initial = [(k, v) for k, v in fields if k == "x-initial"]
        trailing = [(k, v) for k, v in fields if k in ("x-trailing-bin", "x-trailing")]
        if initial:
            context.send_initial_metadata(initial)
        if trailing:
            context.set_trailing_metadata(trailing)

    def unary(self, request, context):
        self.echo_metadata(context)
        if request == b"":
            return b""
        asked = json.loads(request.rstrip(b"\0"))
        if "code" in asked:
            context.abort(getattr(grpc.StatusCode, asked["code"]), asked["message"])
        time.sleep(asked.get("sleep", 0))
        return b"\1" * asked.get("size", 0)

    def upload(self, requests, context):
        context.add_callback(self.cancelled.set)
        return str(sum(len(request) for request in requests)).encode()

    def download(self, request, context):
        for size in json.loads(request):
            yield b"\2" * size

    def duplex(self, requests, context):
        self.echo_metadata(context)
        for request in requests:
            asked = json.loads(request.rstrip(b"\0"))
            if "code" in asked:
                context.abort(getattr(grpc.StatusCode, asked["code"]), asked["message"])
            time.sleep(asked.get("sleep", 0))
            yield b"\3" * asked.get("size", 0)


def ask(padding=0, **what):
    return json.dumps(what).encode() + b"\0" * padding


def failure(call):
    """The status that a call ends with."""
    try:
        result = call()
        list(result) if hasattr(result, "__iter__") and not isinstance(result, bytes) else None
    except grpc.RpcError as error:
        return [str(error.code()), error.details()]
    return ["no error"]


class Cases:
    def __init__(self, channel, service):
        self.service = service
        self.unary = channel.unary_unary(SERVICE + "Unary")
        self.up = channel.stream_unary(SERVICE + "Upload")
        self.down = channel.unary_stream(SERVICE + "Download")
        self.both = channel.stream_stream(SERVICE + "Duplex")
        self.channel = channel

    def empty_unary(self):
        return [self.unary(b"", timeout=10).hex()]

    def large_unary(self):
        return [len(self.unary(ask(271_828, size=314_159), timeout=20))]

    def very_large_unary(self):
        return [len(self.unary(ask(8_000_000, size=8_000_000), timeout=30))]

    def client_streaming(self):
        sizes = [27_182, 8, 1_828, 45_904]
        return [self.up(iter(b"x" * size for size in sizes), timeout=10).decode()]

    def server_streaming(self):
        sizes = [31_415, 9, 2_653, 58_979, 0]
        return [len(part) for part in self.down(json.dumps(sizes).encode(), timeout=10)]

    def ping_pong(self):
        seen = []
        turn = threading.Semaphore(1)

        def requests():
            for size in (31_415, 9, 2_653, 58_979):
                turn.acquire()
                yield ask(size // 2, size=size)

        for answer in self.both(requests(), timeout=10):
            seen.append(len(answer))
            turn.release()
        return seen

    def many_at_once(self):
        calls = [self.unary.future(ask(100, size=1000 + i), timeout=30) for i in range(200)]
        return [len(call.result()) for call in calls]

    def empty_stream(self):
        return [len(part) for part in self.both(iter([]), timeout=10)]

    def status_code_and_message(self):
        broken = ask(code="UNKNOWN", message="test status message")
        return [
            failure(lambda: self.unary(broken, timeout=10)),
            failure(lambda: self.both(iter([broken]), timeout=10)),
        ]

    def special_status_message(self):
        return failure(lambda: self.unary(ask(code="UNKNOWN", message=SPECIAL), timeout=10))

    def every_status(self):
        names = [code.name for code in grpc.StatusCode if code is not grpc.StatusCode.OK]
        return [failure(lambda name=name: self.unary(ask(code=name, message=name), timeout=10)) for name in names]

    def unimplemented_method(self):
        return failure(lambda: self.channel.unary_unary(SERVICE + "Nothing")(b"", timeout=10))

    def unimplemented_service(self):
        return failure(lambda: self.channel.unary_unary("/interop.None/Unary")(b"", timeout=10))

    def cancel_after_begin(self):
        self.service.cancelled.clear()
        waiting = threading.Event()

        def never():
            yield b"x"
            waiting.wait(10)

        call = self.up.future(never(), timeout=20)
        time.sleep(0.3)
        call.cancel()
        heard = self.service.cancelled.wait(5)
        waiting.set()
        return [str(call.code()), heard]

    def cancel_after_first_response(self):
        waiting = threading.Event()

        def one():
            yield ask(size=31_415)
            waiting.wait(10)

        call = self.both(one(), timeout=20)
        first = len(next(call))
        call.cancel()
        outcome = failure(lambda: call)
        waiting.set()
        return [first, outcome[0]]

    def timeout_on_sleeping_server(self):
        outcome = failure(lambda: self.both(iter([ask(sleep=2, size=1)]), timeout=0.3))
        return outcome[:1]

    def custom_metadata(self):
        sent = (("x-initial", "initial value"), ("x-trailing-bin", b"\xab\xab\xab\0\r\n"), ("x-trailing", "t"))
        out = []
        reply, call = self.unary.with_call(ask(size=5), metadata=sent, timeout=10)
        stream = self.both(iter([ask(size=5)]), metadata=sent, timeout=10)
        out.append(len(reply) + sum(len(part) for part in stream))
        for one in (call, stream):
            for found in (one.initial_metadata(), one.trailing_metadata()):
                out.append(sorted((k, v.hex() if isinstance(v, bytes) else v) for k, v in found if k.startswith("x-")))
        return out

    def the_clients_own_credential(self):
        return [len(self.unary(ask(size=1), metadata=(("authorization", "Bearer own"),), timeout=10))]


def outcomes(port, service):
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=OPTIONS) as channel:
        cases = Cases(channel, service)
        names = [name for name in vars(Cases) if not name.startswith("_")]
        found = {}
        for name in names:
            service.credentials.clear()
            try:
                found[name] = getattr(cases, name)()
            except grpc.RpcError as error:
                found[name] = ["failed", str(error.code()), error.details()]
            found[name] = (found[name], list(service.credentials))
        return found


def main():
    service = Service()
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=64), options=OPTIONS)
    server.add_generic_rpc_handlers((service,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    configuration = (
        f"routes:\n  - upstream: {{url: http://127.0.0.1:{port}, protocol: http2}}\n"
        f"    inject: {{Authorization: {CREDENTIAL}}}\n"
    )
    wrong = []
    with Program(configuration) as program:
        direct = outcomes(port, service)
        proxied = outcomes(program.port, service)
        for name, (expected, _) in direct.items():
            found, credentials = proxied[name]
            if "failed" in expected or expected != found:
                wrong.append(f"{name}: {str(expected)[:400]} and {str(found)[:400]}")
            elif not credentials or any(value != CREDENTIAL for value in credentials):
                wrong.append(f"{name}: not our credential: {credentials[:5]}")
        if wrong:
            print("".join(program.log[-20:]), file=sys.stderr)
    server.stop(None)
    finish("grpc", len(direct), wrong)


if __name__ == "__main__":
    main()
