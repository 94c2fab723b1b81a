"""bearerd in a Pod: pod.py ROOT

The manifests of deploy/kubernetes on the kubelet of kubelet.py, in a network namespace of their
own, each with the real program: both gatings, a Job, the ordinary container, an end under load, and
rotated Secrets and ConfigMaps. Where no namespace may be made, the host's network is used if the
Pod's ports are free there. Takes about a minute.
"""
import asyncio
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time

from doubles import Api, Client, Failed, Issuer, Lost, raise_interfaces, until
from kubelet import POD_ADDRESS, Pod

root, binary = pathlib.Path(sys.argv[1]), pathlib.Path(os.environ["BEARERD_BIN"])
manifests = root / "deploy/kubernetes"
FOREIGN = {"authorization": "Bearer the-client's-own"}


def enter_namespace():
    """Starts this program again with a network of its own, or says why that is not so."""
    if os.environ.get("POD_NETWORK"):
        return
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    enter = ["unshare", "--net", *user]
    own = not subprocess.run([*enter, "true"], capture_output=True).returncode
    users = os.geteuid() == 0 and not subprocess.run(
        ["setpriv", "--reuid=65532", "--clear-groups", "--bounding-set=-all", "true"], capture_output=True).returncode
    env = {**os.environ, "POD_NETWORK": "own" if own else "host", "POD_USERS": str(int(users))}
    if not own:
        print("SKIPPED the Pod's own network namespace (unshare is not permitted)", flush=True)
    if not users:
        print("SKIPPED user 65532 without capabilities (setpriv is not permitted)", flush=True)
    os.execvpe(enter[0] if own else sys.executable, [*(enter if own else []), sys.executable, *sys.argv], env)


class Scene:
    """A Pod with its surroundings."""

    async def prepare(self, name, manifest, more=""):
        self.issuer, directory = Issuer(), scratch / name.replace(" ", "-").replace(",", "")
        self.api = Api(self.issuer)
        await self.issuer.listen()
        await self.api.listen()
        directory.mkdir()
        self.log = open(directory / "log", "wb")

        def rewrite(text):
            for away, here in (("https://idp.example.com", self.issuer.url), ("https://api.example.com", self.api.url)):
                assert away in text
                text = text.replace(away, here)
            return more + text

        self.pod = Pod(manifests / manifest, program, directory, rewrite, self.log)
        return self

    async def ready(self, seconds=10):
        return await until(lambda: self.pod.probed.get("readinessProbe"), seconds, "readiness")


def hold(condition, what):
    if not condition:
        raise Failed(what)


async def idle(pod, told):
    await told.wait()


async def start_anyway():
    scene = await Scene().prepare("start-anyway", "sidecar.yaml")
    pod, scene.issuer.up = scene.pod, False
    await pod.start(idle)
    await until(lambda: pod.app_began, 10, "the application starts though the issuer is down")
    waited = time.monotonic()
    status, fields = await Client(pod.api_port).get("/", FOREIGN)
    waited = time.monotonic() - waited
    hold(status == 503 and "retry-after" in fields and not scene.api.last, "503, Retry-After, nothing upstream")
    hold(waited < 6, f"the answer took {waited:.1f} s, token_wait is 5 s")
    hold(pod.probed == {"readinessProbe": False, "livenessProbe": True}, "alive and not ready without an issuer")
    scene.issuer.up = True
    back = await scene.ready(25)
    status, _ = await Client(pod.api_port).get("/", FOREIGN)
    hold(status == 200 and scene.api.last["authorization"] == "Bearer token-0", "ours goes upstream, not the client's")
    code, seconds = await pod.stop()
    hold(code == 0 and seconds < 1, f"code {code} after {seconds:.1f} s with nothing under way")
    print(f"start anyway: application up with the issuer down, ready {back:.1f} s after its return, gone in {seconds:.2f} s")


async def gated():
    scene = await Scene().prepare("gated", "sidecar-gated.yaml")
    pod, scene.issuer.up, first = scene.pod, False, []

    async def application(pod, told):
        first.append(await Client(pod.api_port).get("/", FOREIGN))
        await told.wait()

    await pod.start(application)
    await asyncio.sleep(4)
    hold(pod.app_began is None, "the application started without a token")
    hold(await pod.probe("livenessProbe"), "the outage of the issuer makes bearerd look dead")
    scene.issuer.up = True
    back = await until(lambda: first, 25, "the application starts once the token is there")
    hold(first[0][0] == 200, f"its first request got {first[0]}")
    code, seconds = await pod.stop()
    hold(code == 0 and seconds < 1, f"code {code} after {seconds:.1f} s")
    print(f"gated: application held back for 4 s, first answer 200 {back:.1f} s after the issuer's return")


async def job():
    scene = await Scene().prepare("job", "job.yaml")
    pod = scene.pod

    async def application(pod, told):
        client = Client(pod.api_port)
        return [(await client.get("/", FOREIGN))[0] for _ in range(20)]

    await pod.start(application)
    code, seconds = await asyncio.wait_for(pod.completed(), 40)
    hold(pod.outcome == [200] * 20, f"the batch got {pod.outcome}")
    hold(code == 0 and seconds < 1, f"the Job hangs on bearerd: code {code} after {seconds:.1f} s")
    print(f"job: 20 calls answered, complete {seconds:.2f} s after the batch ended")


async def ordinary():
    """Both are told to stop at once; the application goes on to call for three seconds."""
    scene = await Scene().prepare("ordinary", "container.yaml")
    pod, refused, late = scene.pod, [], []

    async def application(pod, told):
        while True:  # nothing orders the start
            try:
                await Client(pod.api_port).get("/")
                break
            except ConnectionRefusedError as error:
                refused.append(error)
                await asyncio.sleep(0.02)
        await told.wait()
        end = time.monotonic() + 3
        while time.monotonic() < end:
            late.append((await Client(pod.api_port).get("/"))[0])
            await asyncio.sleep(0.01)

    await pod.start(application)
    await scene.ready()
    code, seconds = await pod.stop()
    hold(len(late) > 50 and set(late) == {200}, f"calls during drain_delay got {set(late)}")
    hold(code == 0 and 5 <= seconds < 6, f"drain_delay is 5 s, but code {code} after {seconds:.1f} s")
    print(f"ordinary container: {len(late)} calls after SIGTERM answered, gone after {seconds:.2f} s of drain_delay 5")


class Load:
    """So many requests a second on kept connections, whatever becomes of them."""

    def __init__(self, port, rate, connections=50):
        self.port, self.rate, self.connections = port, rate, connections
        self.fates = []

    async def one(self, number, stop):
        client, pause = Client(self.port), self.connections / self.rate
        due = time.monotonic() + number / self.rate
        while not stop.is_set():
            await asyncio.sleep(max(0, due - time.monotonic()))
            due += pause
            begin = time.monotonic()
            try:
                fate = (await client.get("/", FOREIGN))[0]
            except ConnectionRefusedError:
                fate = "refused"
            except Lost as lost:
                fate = "cut off" if lost.begun else "closed"
            self.fates.append((begin, time.monotonic(), fate))
        client.close()

    async def run(self, stop):
        await asyncio.gather(*(self.one(number, stop) for number in range(self.connections)))


async def end_under_load(name, more, slow, expected, bound):
    """SIGTERM while 500 requests a second arrive and `slow` ones are under way."""
    scene = await Scene().prepare(name, "sidecar.yaml", more)
    pod, stop = scene.pod, asyncio.Event()
    await pod.start(idle)
    await scene.ready()
    load = Load(pod.api_port, 500)
    running = asyncio.create_task(load.run(stop))
    await asyncio.sleep(3)
    before = len(load.fates)
    long = [asyncio.create_task(Client(pod.api_port).get(f"/slow/{slow}")) for _ in range(20)]
    await until(lambda: scene.api.under_way >= 20, 5, "the slow requests are under way")
    told = time.monotonic()
    code, seconds = await pod.stop()
    stop.set()
    await running
    outcomes = await asyncio.gather(*long, return_exceptions=True)
    slow_fates = [str(o) if isinstance(o, Lost) else o[0] for o in outcomes]
    under_way = [fate for begin, end, fate in load.fates if begin < told <= end]
    lost = [fate for begin, _, fate in load.fates if begin < told and fate != 200]
    after = [fate for begin, _, fate in load.fates if begin >= told]
    hold(before > 1000, f"only {before} requests in three seconds: this machine is too slow for the test")
    hold(not lost, f"lost of those sent before SIGTERM: {lost}")
    hold(not set(after) - {200, "refused", "closed"}, f"cut off after SIGTERM: {set(after)}")
    hold(set(slow_fates) == {expected}, f"the slow ones got {set(slow_fates)}")
    hold(code == 0 and seconds < bound, f"code {code} after {seconds:.1f} s")
    print(f"{name}: {before / 3:.0f} requests/s, {len(under_way)} + 20 slow ones under way at SIGTERM, none lost that "
          f"could end, {after.count(200)} answered after it, gone in {seconds:.2f} s")


async def rotation():
    scene = await Scene().prepare("rotation", "sidecar.yaml")
    pod, issuer, stop = scene.pod, scene.issuer, asyncio.Event()
    issuer.lifetime = 6
    await pod.start(idle)
    await scene.ready()
    load = Load(pod.api_port, 50, 5)
    running = asyncio.create_task(load.run(stop))
    # The usual way: both hold for a while.
    issuer.secrets.add("second")
    pod.volumes["secret"].update({"client-secret": "second\n"})
    took = await until(lambda: "second" in issuer.seen, 10, "the new secret is used")
    # The wrong way round: the issuer forgets the old one first.
    issuer.secrets = {"third"}
    await until(lambda: issuer.refused, 10, "the old secret is refused")
    begin = time.monotonic()
    pod.volumes["secret"].update({"client-secret": "third\n"})
    await until(lambda: "third" in issuer.seen, 10, "the new secret is tried at once")
    again = time.monotonic() - begin
    config = pod.files["bearerd.yaml"].replace("inject: {", "inject: {X-Rotated: now, ")
    pod.volumes["config"].update({"bearerd.yaml": pod.rewrite(config)})
    reloaded = await until(lambda: scene.api.last.get("x-rotated") == "now", 10, "the new ConfigMap is taken over")
    stop.set()
    await running
    fates = {fate for _, _, fate in load.fates}
    hold(fates == {200}, f"requests meanwhile got {fates}")
    hold(pod.process.returncode is None, "bearerd has ended")
    await pod.stop()
    print(f"rotation: new secret used at the next renewal ({took:.1f} s), after a refusal {again:.1f} s; ConfigMap in "
          f"{reloaded:.1f} s; {len(load.fates)} requests, all answered")


async def main():
    # Servers that are cancelled in the middle of an answer are no news.
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    await start_anyway()
    await gated()
    await job()
    await ordinary()
    await end_under_load("SIGTERM under load", "", 3, 200, 4)
    # The last ones cannot end: they are given up when `drain` is over.
    await end_under_load("SIGTERM, drain 2 s", "drain: 2s\n", 30, "closed before an answer", 3)
    await rotation()


if __name__ == "__main__":
    enter_namespace()
    if os.environ["POD_NETWORK"] == "own":
        raise_interfaces(POD_ADDRESS)
    else:
        for port in (8080, 9090):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    print(f"SKIPPED the Pod (port {port} is in use, and a network of its own is not permitted)")
                    sys.exit(0)
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="bearerd-pod-"))
    scratch.chmod(0o755)
    program = scratch / "bearerd"
    shutil.copy(binary, program)
    program.chmod(0o755)
    try:
        asyncio.run(main())
    except Failed as failed:
        for log in sorted(scratch.glob("*/log"), key=os.path.getmtime)[-1:]:
            print(f"-- {log.parent.name}\n{log.read_text()[-3000:]}", file=sys.stderr)
        sys.exit(str(failed))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
