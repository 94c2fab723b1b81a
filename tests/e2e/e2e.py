"""The end-to-end test of bearerd against real identity providers. Started by `run`.

What there is, by the names that E2E_ONLY takes; a name stands for all that begin with it:
  steady, cold, outage     oidc.py      oidc-provider and django-oauth-toolkit, a route for each way to ask
  educates, educates-..    educates.py  a training portal (django-oauth-toolkit), by deploy/examples/educates.yaml
  caepe-..                 caepe.py     Keycloak, by deploy/examples/caepe-user.yaml and caepe-service.yaml
"""

import os
import shutil
import signal
import sys

import caepe
import educates
import harness
import oidc
from harness import RUN, SECONDS, Bearerd, act, note

GROUPS = {
    "oidc": (oidc, ["steady", "cold", "outage"]),
    "educates": (educates, list(educates.SCENES)),
    "caepe": (caepe, list(caepe.SCENES)),
}


def chosen():
    """The scenes to run, by group."""
    only = [name for name in os.environ.get("E2E_ONLY", "").split(",") if name]
    every = [scene for _, scenes in GROUPS.values() for scene in scenes]
    unknown = [name for name in only if not any(means(name, scene) for scene in every)]
    if unknown:
        raise SystemExit(f"E2E_ONLY: there is no {', '.join(unknown)}; there are {', '.join(every)}")
    return {
        group: [scene for scene in scenes if not only or any(means(name, scene) for name in only)]
        for group, (_, scenes) in GROUPS.items()
    }


def means(name, scene):
    return scene == name or scene.startswith(f"{name}-")


def main():
    shutil.rmtree(RUN, ignore_errors=True)
    RUN.mkdir(mode=0o700)
    skipped = []
    for group, scenes in chosen().items():
        why = scenes and group == "caepe" and os.environ.get("E2E_NO_KEYCLOAK")
        if why:
            skipped = [f"skipped: {scene} ({why})" for scene in scenes]
        elif scenes:
            act(group, GROUPS[group][0].run, scenes)
    for line in skipped:
        note(line)


def tells(name):
    """Whether this bearerd's log may tell why something failed."""
    others = {process.name for process in harness.processes if isinstance(process, Bearerd)}
    return name in harness.at_fault or not harness.at_fault <= others


def give_up(number, _frame):
    raise SystemExit("not ok - within the time allowed" if number == signal.SIGALRM else 128 + number)


if __name__ == "__main__":
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
        signal.signal(number, give_up)
    signal.alarm(int(900 + 3 * SECONDS))
    try:
        main()
    finally:
        for process in harness.processes:
            process.kill()
        wrong = harness.failed or not harness.passed or sys.exc_info()[0]
        for process in harness.processes if wrong else []:
            broken = process.child.returncode not in (0, -signal.SIGKILL)
            if broken or isinstance(process, Bearerd) and tells(process.name):
                note(f"the end of {process.name}'s log:\n{process.tail()}")
        print(f"{harness.passed} passed, {harness.failed} failed", flush=True)
    sys.exit(1 if wrong else 0)
