"""Checks rendered manifests: manifests.py RENDERED_DIR ROOT DEFINITIONS_DIR

Valid by the Kubernetes schemas, strictly, and by those of the custom resource definitions in
DEFINITIONS_DIR; Pod Security "restricted", and the container of bearerd everywhere
as the plain snippet has it.
"""
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import jsonschema
import kubernetes_validate
import yaml
from pip._vendor import certifi

rendered, root = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
faults, unknown, custom = [], set(), {}


def fault(where, what):
    faults.append(f"{where}: {what}")


def documents(path):
    return [d for d in yaml.safe_load_all(path.read_text()) if d]


def strict(schema):
    """What the definition does not know is a fault, where it does not say that it keeps it."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: strict(part) for key, part in schema.items()}
    known = isinstance(schema.get("properties"), dict) and schema.get("type") == "object"
    if known and not schema.get("x-kubernetes-preserve-unknown-fields"):
        schema.setdefault("additionalProperties", False)
    return schema


def define(path):
    """The schemas of a custom resource definition, by what a manifest says of itself."""
    definition = yaml.safe_load(path.read_text())["spec"]
    for version in definition["versions"]:
        said = f"{definition['group']}/{version['name']}", definition["names"]["kind"]
        custom[said] = jsonschema.Draft202012Validator(strict(version["schema"]["openAPIV3Schema"]))


def pods(resource):
    spec = resource.get("spec", {})
    if resource["kind"] == "Pod":
        yield spec
    elif "template" in spec and resource["kind"] in ("Deployment", "Job", "StatefulSet", "DaemonSet"):
        yield spec["template"]["spec"]


def restricted(where, pod):
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/, profile restricted."""
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(key):
            fault(where, f"{key} is set")
    allowed = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
    for volume in pod.get("volumes", []):
        kinds = set(volume) - {"name"}
        if not kinds <= allowed:
            fault(where, f"volume {volume['name']} is {kinds}")
    outer = pod.get("securityContext", {})
    for container in pod.get("initContainers", []) + pod["containers"]:
        name, own = f"{where} {container['name']}", container.get("securityContext", {})
        if own.get("privileged") or own.get("allowPrivilegeEscalation") is not False:
            fault(name, "may escalate privileges")
        if own.get("capabilities", {}).get("drop") != ["ALL"] or own["capabilities"].get("add"):
            fault(name, "keeps capabilities")
        if own.get("runAsNonRoot", outer.get("runAsNonRoot")) is not True:
            fault(name, "may run as root")
        if own.get("runAsUser", outer.get("runAsUser", 1)) == 0:
            fault(name, "runs as root")
        if own.get("seccompProfile", outer.get("seccompProfile", {})).get("type") != "RuntimeDefault":
            fault(name, "has no seccomp profile")
        for port in container.get("ports", []):
            if "hostPort" in port:
                fault(name, "takes a port of the node")


def bearerd_of(pod):
    return next((c for c in pod.get("initContainers", []) + pod["containers"] if c["name"] == "bearerd"), None)


snippet = bearerd_of(next(pods(documents(root / "deploy/kubernetes/sidecar.yaml")[0])))


def like_the_snippet(where, pod):
    own = bearerd_of(pod)
    if own is None:
        return fault(where, "has no container bearerd")
    if own["securityContext"] != snippet["securityContext"]:
        fault(where, "securityContext differs from the snippet's")
    if own["image"] != snippet["image"]:
        fault(where, f"image {own['image']} differs from the snippet's")
    native = any(c is own for c in pod.get("initContainers", []))
    if native and own.get("restartPolicy") != "Always":
        fault(where, "an init container that is no sidecar would block the start")
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        if probe not in own:
            fault(where, f"has no {probe}")
    live = own["livenessProbe"]
    if live.get("httpGet", {}).get("path", "/livez") != "/livez" or "--ready" in live.get("exec", {}).get("command", []):
        fault(where, "its liveness depends on the issuer")
    mounts = {m["name"]: m for m in own.get("volumeMounts", [])}
    for mount in mounts.values():
        if "subPath" in mount:
            fault(where, f"{mount['name']} is mounted by subPath, which is never updated")
        if not mount.get("readOnly"):
            fault(where, f"{mount['name']} is mounted writable")
    if missing := set(mounts) - {v["name"] for v in pod.get("volumes", [])}:
        fault(where, f"mounts {missing}, which are no volumes")
    env = {e["name"]: e.get("value") for e in own.get("env", [])}
    if "BEARERD_ADMIN" not in env:
        fault(where, "`bearerd health` would not know where to ask")
    http = any("httpGet" in own[p] for p in ("startupProbe", "readinessProbe", "livenessProbe"))
    if http and not env["BEARERD_ADMIN"].startswith("0.0.0.0:"):
        fault(where, "the kubelet cannot reach an admin listener on loopback")
    if "limits" not in own.get("resources", {}) or "cpu" in own["resources"]["limits"]:
        fault(where, "wants a limit of memory and none of CPU")


def selectors(where, resource, templates):
    """What selects Pods selects those of bearerd, and all that it asks for is on them."""
    spec = resource["spec"]
    selector = {
        "Service": lambda: spec.get("selector"),
        "PodDisruptionBudget": lambda: spec.get("selector", {}).get("matchLabels"),
        "NetworkPolicy": lambda: spec.get("podSelector", {}).get("matchLabels"),
        "Deployment": lambda: spec["selector"].get("matchLabels"),
    }[resource["kind"]]()
    if not selector:
        return fault(where, "selects every Pod or none")
    if not any(selector.items() <= labels.items() for labels in templates):
        fault(where, f"selects {selector}, which no Pod of the file carries")
    for rule in spec.get("ingress", []) if resource["kind"] == "NetworkPolicy" else []:
        if not rule.get("from"):
            fault(where, "lets everybody in")
        for peer in rule.get("from", []):
            labels = peer.get("podSelector", {}).get("matchLabels", {})
            if "app.kubernetes.io/name" in labels:
                fault(where, f"lets in only Pods of bearerd itself: {labels}")


def sound(where, text):
    """`bearerd check` takes the configuration, with its secrets at another place."""
    with tempfile.TemporaryDirectory() as directory:
        for name in re.findall(r"/run/secrets/\w+/([\w.-]+)", text):
            pathlib.Path(directory, name).write_text(pathlib.Path(certifi.where()).read_text() if name.endswith(".pem") else "x" * 32)
        for place in ("/run/secrets/bearerd", "/run/secrets/identity"):
            text = text.replace(place, directory)
        file = pathlib.Path(directory, "bearerd.yaml")
        file.write_text(text)
        command = [os.environ["BEARERD_BIN"], "check", "--config", file]
        if (outcome := subprocess.run(command, capture_output=True, text=True)).returncode:
            fault(where, outcome.stderr)


for path in pathlib.Path(sys.argv[3]).glob("*.yaml"):
    define(path)
count = 0
for path in sorted(rendered.glob("*.yaml")):
    resources = documents(path)
    names = {(r["kind"], r["metadata"]["name"]) for r in resources}
    templates = [
        r["spec"]["template"]["metadata"].get("labels", {}) for r in resources if "template" in r.get("spec", {})
    ]
    for resource in resources:
        where = f"{path.name} {resource['kind']} {resource['metadata']['name']}"
        count += 1
        try:
            kubernetes_validate.validate(resource, "1.31", strict=True)
        except kubernetes_validate.ValidationError as error:
            fault(where, error)
        except kubernetes_validate.SchemaNotFoundError:
            if validator := custom.get((resource["apiVersion"], resource["kind"])):
                for error in validator.iter_errors(resource):
                    fault(where, f"{error.json_path}: {error.message}")
            else:
                unknown.add(resource["kind"])
        for pod in pods(resource):
            restricted(where, pod)
            like_the_snippet(where, pod)
            for volume in pod.get("volumes", []):
                wanted = volume.get("configMap", {}).get("name")
                if wanted and ("ConfigMap", wanted) not in names and wanted != "other":
                    fault(where, f"wants the ConfigMap {wanted}, which is not in the file")
        if resource["kind"] in ("Service", "PodDisruptionBudget", "NetworkPolicy", "Deployment"):
            selectors(where, resource, templates)
        if resource["kind"] == "ConfigMap" and "bearerd.yaml" in resource["data"]:
            sound(where, resource["data"]["bearerd.yaml"])
        if resource["kind"] == "HorizontalPodAutoscaler":
            target = resource["spec"]["scaleTargetRef"]
            if (target["kind"], target["name"]) not in names:
                fault(where, "scales nothing")
        if resource["kind"] == "PrometheusRule":
            alerts = yaml.safe_load((root / "deploy/prometheus/alerts.yaml").read_text())
            if resource["spec"]["groups"] != alerts["groups"]:
                fault(where, "differs from deploy/prometheus/alerts.yaml")

print(f"{count} resources; {len(custom)} custom definitions; kinds without a schema: {', '.join(sorted(unknown)) or 'none'}")
if faults:
    sys.exit("\n".join(faults))
