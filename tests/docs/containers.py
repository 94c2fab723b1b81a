"""A `docker` command without an engine: Podman, which takes the same words, in a store of its own.

No registry is asked. The image that the Dockerfile builds in is made here under its name: a shell,
the sandbox's certificate authority, and a `cargo` that hands over the static binaries that were
compiled before. (That the real one compiles them is shown by tests/deploy/image.)
"""
import os
import pathlib
import re
import shutil
import subprocess

TRIPLES = {"amd64": "x86_64-unknown-linux-musl", "arm64": "aarch64-unknown-linux-musl"}
PODMAN = """\
[containers]
cgroups = "disabled"
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
lock_type = "file"
pull_policy = "never"
"""
CARGO = """\
#!/bin/bash
while [ "$1" != --target ]; do shift; done
mkdir -p "target/$2/release"
cp "/opt/binaries/$2" "target/$2/release/bearerd"
"""


def unavailable(static):
    """Why no container can be made here; none if one can."""
    if why := os.environ.get("CONTAINERS_LACK"):
        return why
    for program in ("podman", "crun", "iptables"):
        if not shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin"):
            return f"{program} is not here"
    if not static:
        return "no static binary; deploy/build-static makes one"
    return None


def settings(place):
    """The environment by which Podman finds its store, and needs no kernel feature that may lack."""
    return {
        "CONTAINERS_CONF": str(place / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(place / "storage.conf"),
        "BUILDAH_ISOLATION": "chroot",
    }


def prepare(root, sandbox, tools, static):
    """Puts a `docker` into the sandbox and makes the base image; returns its environment."""
    place = sandbox / "containers"
    place.mkdir()
    (place / "containers.conf").write_text(PODMAN)
    (place / "storage.conf").write_text(
        f'[storage]\ndriver = "vfs"\ngraphroot = "{place}/store"\nrunroot = "/run/containers"\n')
    # Of control groups crun takes those of one version only, and none are needed.
    subprocess.run(["umount", "-R", "/sys/fs/cgroup"], stderr=subprocess.DEVNULL)
    for over in ("/sys/fs/cgroup", "/var/lib/cni"):
        pathlib.Path(over).mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "none", over], check=True)
    shim = sandbox / "bin/docker"
    shim.write_text(f'#!/bin/sh\ncase $1 in build|buildx) cd "{root}" ;; esac\nexec podman "$@"\n')
    shim.chmod(0o755)
    environment = settings(place)
    base = place / "base"
    for directory in ("bin", "usr/bin", "opt/binaries", "opt/tools/zig/bin", "etc/ssl/certs", "tmp", "src"):
        (base / directory).mkdir(parents=True)
    shutil.copy(tools / "busybox", base / "bin/busybox")
    shutil.copy(tools / "bash-static", base / "bin/bash")
    for name in subprocess.check_output([tools / "busybox", "--list"], text=True).split():
        if name not in ("busybox", "bash"):
            (base / "bin" / name).symlink_to("busybox")
    (base / "usr/bin/env").symlink_to("/bin/busybox")
    for path, text in (("bin/cargo", CARGO), ("bin/apt-get", "#!/bin/sh\n"),
                       ("opt/tools/zig/bin/python-zig", "#!/bin/sh\n")):
        (base / path).write_text(text)
        (base / path).chmod(0o755)
    for architecture, binary in static.items():
        shutil.copy(binary, base / "opt/binaries" / TRIPLES[architecture])
    shutil.copy(sandbox / "authority.pem", base / "etc/ssl/certs/ca-certificates.crt")
    version = re.search(r"^ARG RUST=(.+)$", (root / "Dockerfile").read_text(), re.M)[1]
    (base / "Dockerfile").write_text('FROM scratch\nCOPY . /\nENV PATH=/bin:/usr/bin HOME=/tmp CARGO_HOME=/tmp/cargo\n')
    subprocess.run(
        ["podman", "build", "--quiet", "-t", f"docker.io/library/rust:{version}-slim-bookworm", base],
        env=os.environ | environment, stdout=subprocess.DEVNULL, check=True)
    return environment


def end(place):
    """Nothing goes on after a failure."""
    subprocess.run(["podman", "rm", "--all", "--force", "--time", "0"], env=os.environ | settings(place),
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
