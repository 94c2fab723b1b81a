"""As much of a kubelet as a Pod with bearerd can tell from a real one.

It takes Pods from the manifests as they are: environment, volumes, probes and their periods, the
order of start and stop, the user. What is put in place of the cluster: the addresses of issuer and
API in the ConfigMap, paths below a scratch directory for the mounts, and the application, which is
a coroutine of the test.
"""
import asyncio
import os
import pathlib
import shutil
import signal
import time
import urllib.parse

import yaml

from doubles import Client, Failed, Lost

POD_ADDRESS = "10.244.0.7"
GRACE = 30  # terminationGracePeriodSeconds unless the Pod says otherwise


class Volume:
    """A directory as the kubelet writes it: NAME -> ..data/NAME, ..data -> a directory with a date."""

    def __init__(self, path, files):
        self.path, self.version = path, 0
        path.mkdir(parents=True)
        self.update(files)

    def update(self, files):
        """Every file changes at once, by one rename."""
        self.version += 1
        directory = self.path / f"..2026_01_01_00_00_00.{self.version}"
        directory.mkdir()
        for name, text in files.items():
            (directory / name).write_text(text)
            if not (self.path / name).is_symlink():
                (self.path / name).symlink_to(f"..data/{name}")
        old = os.readlink(self.path / "..data") if (self.path / "..data").is_symlink() else None
        (self.path / "..data_tmp").symlink_to(directory.name)
        (self.path / "..data_tmp").rename(self.path / "..data")
        if old:
            shutil.rmtree(self.path / old)


class Pod:
    """The first workload of a manifest. `rewrite` is applied to the text of every ConfigMap."""

    def __init__(self, manifest, binary, scratch, rewrite, log):
        documents = [d for d in yaml.safe_load_all(pathlib.Path(manifest).read_text()) if d]
        by_name = {(d["kind"], d["metadata"]["name"]): d for d in documents}
        workload = next(d for d in documents if d["kind"] in ("Deployment", "Job"))
        self.spec = workload["spec"]["template"]["spec"]
        self.binary, self.log, self.probed = binary, log, {}
        sidecars = [c for c in self.spec.get("initContainers", []) if c["name"] == "bearerd"]
        self.native = bool(sidecars)
        if self.native and sidecars[0].get("restartPolicy") != "Always":
            raise Failed(f"{manifest}: an init container that never ends is no sidecar")
        self.bearerd = next(c for c in sidecars + self.spec["containers"] if c["name"] == "bearerd")
        self.application = next(c for c in self.spec["containers"] if c["name"] != "bearerd")
        self.grace = self.spec.get("terminationGracePeriodSeconds", GRACE)
        self.volumes, places = {}, {}
        for mount in self.bearerd["volumeMounts"]:
            volume = next(v for v in self.spec["volumes"] if v["name"] == mount["name"])
            places[mount["mountPath"]] = path = scratch / mount["mountPath"].strip("/")
            if "configMap" in volume:
                self.files = by_name["ConfigMap", volume["configMap"]["name"]]["data"]
                own = path
            else:
                files = by_name["Secret", volume["secret"]["secretName"]]["stringData"]
                self.volumes["secret"] = Volume(path, {name: "first" for name in files})
        # Only now are all places known.
        self.rewrite = lambda text: rewrite(self.placed(text, places))
        self.volumes["config"] = Volume(own, {n: self.rewrite(t) for n, t in self.files.items()})
        self.env = {e["name"]: self.placed(e["value"], places) for e in self.bearerd.get("env", [])}
        self.api_port = self.api_url().port

    @staticmethod
    def placed(text, places):
        for path, place in places.items():
            text = text.replace(path, str(place))
        return text

    def api_url(self):
        env = {e["name"]: e["value"] for e in self.application["env"]}
        return urllib.parse.urlsplit(env["API_URL"])

    def command(self, *arguments):
        """bearerd as the container's securityContext has it, as far as this user may."""
        context = self.bearerd["securityContext"]
        drop = ["--no-new-privs", "--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all"]
        user = [f"--reuid={context['runAsUser']}", f"--regid={context['runAsGroup']}", "--clear-groups"]
        if os.environ.get("POD_USERS") == "1":
            return ["setpriv", *user, *drop, str(self.binary), *arguments]
        return [str(self.binary), *arguments]

    async def probe(self, kind):
        """Whether a probe succeeds once, by its own definition."""
        probe = self.bearerd[kind]
        seconds = probe.get("timeoutSeconds", 1)
        if "exec" in probe:
            program, *arguments = probe["exec"]["command"]
            assert program == "/bearerd", "the image has no other program"
            process = await asyncio.create_subprocess_exec(
                *self.command(*arguments), env=self.env, stdout=self.log, stderr=self.log)
            try:
                return await asyncio.wait_for(process.wait(), seconds) == 0
            except asyncio.TimeoutError:
                process.kill()
                await process.wait()
                return False
        get = probe["httpGet"]
        ports = {p["name"]: p["containerPort"] for p in self.bearerd.get("ports", [])}
        client = Client(ports.get(get["port"], get["port"]), POD_ADDRESS)
        try:
            status, _ = await asyncio.wait_for(client.get(get["path"], {"user-agent": "kube-probe/1.31"}), seconds)
            return 200 <= status < 400
        except (OSError, Lost, asyncio.TimeoutError):
            return False
        finally:
            client.close()

    async def watch(self, kind):
        """Probes on and on; `probed` has the last outcome."""
        while True:
            self.probed[kind] = await self.probe(kind)
            await asyncio.sleep(self.bearerd[kind]["periodSeconds"])

    async def gate(self):
        """Returns when the start-up probe has succeeded; fails the Pod where the kubelet would restart it."""
        probe = self.bearerd["startupProbe"]
        for _ in range(probe.get("failureThreshold", 3)):
            if self.process.returncode is not None:
                raise Failed("bearerd ended at its start")
            if await self.probe("startupProbe"):
                break
            await asyncio.sleep(probe["periodSeconds"])
        else:
            raise Failed("the start-up probe failed too often")
        self.watches = [asyncio.create_task(self.watch(k)) for k in ("readinessProbe", "livenessProbe")]

    async def start(self, application):
        """Starts bearerd, then `application(pod, told_to_stop)` when its turn has come."""
        self.process = await asyncio.create_subprocess_exec(
            *self.command("run"), env=self.env, stdout=self.log, stderr=self.log)
        self.began, self.watches, self.told = time.monotonic(), [], asyncio.Event()
        self.app_began = None

        async def run():
            if self.native:
                await self.gate()
            self.app_began = time.monotonic()
            return await application(self, self.told)

        self.app = asyncio.create_task(run())
        self.gating = None if self.native else asyncio.create_task(self.gate())

    async def terminate(self):
        """SIGTERM to bearerd. Returns its exit code and the seconds that it took to end."""
        begin = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        left = self.grace - (begin - self.stopping)
        try:
            code = await asyncio.wait_for(self.process.wait(), left)
        except asyncio.TimeoutError:
            self.process.kill()
            raise Failed(f"bearerd had to be killed after {self.grace} s of grace") from None
        for watch in self.watches:
            watch.cancel()
        return code, time.monotonic() - begin

    async def stop(self):
        """A native sidecar is told when the application has ended, an ordinary container with it."""
        self.stopping = time.monotonic()
        self.told.set()
        if self.native:
            self.outcome = await asyncio.wait_for(self.app, self.grace)
            return await self.terminate()
        end, self.outcome = await asyncio.gather(self.terminate(), self.app)
        return end

    async def completed(self):
        """The application ends by itself, as a Job's does; then the sidecar is told."""
        self.outcome = await self.app
        self.stopping = time.monotonic()
        return await self.terminate()
