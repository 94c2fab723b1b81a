"""Every panel and every alert has data: observe.py ROOT

Two instances under load, scraped by a real Prometheus: the demo, in which all is well, and one
whose issuer and upstream are down. Takes about a minute.
"""
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request

import yaml

root = pathlib.Path(sys.argv[1])
binary = os.environ["BEARERD_BIN"]
SECONDS = 45
RATE = "15s"
# For questions by hand.
NOT_SHOWN = {"bearerd_config_last_reload_success_timestamp_seconds"}

directory = pathlib.Path(tempfile.mkdtemp(prefix="bearerd-observe-"))
processes, stop = [], threading.Event()


def free_port():
    import socket

    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def start(*command, **more):
    log = open(directory / f"{len(processes)}.log", "wb")
    process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, **more)
    processes.append(process)
    return process


def wait_for(url, what):
    for _ in range(300):
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            time.sleep(0.1)
    sys.exit(f"{what} does not answer at {url}")


def load(port, requests):
    """Goes on with `requests`, each a path and fields, until told to stop."""
    while not stop.is_set():
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        for path, fields in requests * 5:
            try:
                connection.request("GET", path, headers=fields)
                connection.getresponse().read()
            except (OSError, http.client.HTTPException):
                connection.close()
            if stop.wait(0.01):
                break
        connection.close()


def ask(what, **parameters):
    url = f"{prometheus}/api/v1/{what}?{urllib.parse.urlencode(parameters)}"
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)["data"]["result"]


def has_data(expression, begin, end):
    result = ask("query_range", query=expression, start=begin, end=end, step=1)
    return any(value != "NaN" for series in result for _, value in series["values"])


def main():
    global prometheus
    ports = [free_port() for _ in range(6)]
    well, well_admin, ill, ill_admin, nobody, prometheus_port = ports
    prometheus = f"http://127.0.0.1:{prometheus_port}"
    (directory / "ill.yaml").write_text(f"""
token_wait: 200ms
tokens:
  key: {{value: {{from: {{env: KEY}}}}}}
  gone: {{oauth2: {{token_url: "http://127.0.0.1:{nobody}/token", client_id: x, client_secret: {{env: KEY}},
    state: {{redis: {{url: "redis://127.0.0.1:{nobody}", key: {{env: KEY}}}}}}}}}}
routes:
  - {{name: down, match: {{path: /down/}}, upstream: "http://127.0.0.1:{nobody}", inject: {{Authorization: "Bearer ${{key}}"}}}}
  - {{name: without, match: {{path: /without/}}, upstream: "http://127.0.0.1:{nobody}", inject: {{Authorization: "Bearer ${{gone}}"}}}}
""")
    (directory / "prometheus.yaml").write_text(f"""
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [{root}/deploy/prometheus/alerts.yaml]
scrape_configs:
  - job_name: bearerd
    static_configs: [{{targets: ["127.0.0.1:{well_admin}", "127.0.0.1:{ill_admin}"]}}]
""")
    start(binary, "demo", "--listen", f"127.0.0.1:{well}", "--admin", f"127.0.0.1:{well_admin}")
    start(binary, "run", "--config", str(directory / "ill.yaml"), "--listen", f"127.0.0.1:{ill}",
          "--admin", f"127.0.0.1:{ill_admin}", env={**os.environ, "KEY": "k" * 32})
    start("prometheus", f"--config.file={directory}/prometheus.yaml", f"--storage.tsdb.path={directory}/data",
          f"--web.listen-address=127.0.0.1:{prometheus_port}", "--log.level=warn")
    wait_for(f"http://127.0.0.1:{well_admin}/livez", "the demo")
    wait_for(f"http://127.0.0.1:{ill_admin}/livez", "bearerd")
    wait_for(f"{prometheus}/-/ready", "Prometheus")
    begin = time.time()
    foreign = {"Host": "evil.example"}
    for port, requests in (
        (well, [("/a", {}), ("/b", {"Authorization": "Bearer mine"}), ("/", foreign)]),
        (ill, [("/down/a", {}), ("/without/a", {}), ("/nowhere", {})]),
    ):
        for _ in range(3):
            threading.Thread(target=load, args=(port, requests), daemon=True).start()
    time.sleep(SECONDS)
    stop.set()
    end = time.time()

    empty = []
    dashboard = json.loads((root / "deploy/grafana/dashboard.json").read_text())
    panels = [p for p in dashboard["panels"] if p.get("targets")]
    for panel in panels:
        for target in panel["targets"]:
            expression = target["expr"].replace("$__rate_interval", RATE)
            expression = re.sub(r"\$(job|instance|route)\b", ".*", expression)
            if not has_data(expression, begin, end):
                empty.append(f"panel {panel['title']}: {expression}")
    # What an alert compares must be there; whether it fires is told by its unit tests.
    rules = yaml.safe_load((root / "deploy/prometheus/alerts.yaml").read_text())["groups"][0]["rules"]
    selectors = 0
    for rule in rules:
        found = re.findall(r"\b(?:bearerd|process)_\w+(?:\{[^}]*\})?", rule["expr"])
        if not found:
            empty.append(f"alert {rule['alert']} asks for nothing")
        for selector in found:
            selectors += 1
            if not has_data(selector, begin, end):
                empty.append(f"alert {rule['alert']}: {selector}")
    # And those whose cause is there are on their way.
    with urllib.request.urlopen(f"{prometheus}/api/v1/rules?type=alert", timeout=10) as answer:
        states = {r["name"]: (r["state"], r["health"]) for g in json.load(answer)["data"]["groups"] for r in g["rules"]}
    for name in ("BearerdTokenUnusable", "BearerdTokenRefreshFailing", "BearerdErrors"):
        if states[name][0] == "inactive":
            empty.append(f"alert {name} is not even pending")
    empty += [f"alert {name}: {health}" for name, (_, health) in states.items() if health != "ok"]
    # Nothing is measured that nobody would look at.
    looked_at = json.dumps(dashboard) + (root / "deploy/prometheus/alerts.yaml").read_text()
    with urllib.request.urlopen(f"http://127.0.0.1:{well_admin}/metrics", timeout=10) as answer:
        families = re.findall(r"^# TYPE (bearerd_\w+)", answer.read().decode(), re.M)
    empty += [f"neither a panel nor an alert asks for {f}" for f in families if f not in looked_at and f not in NOT_SHOWN]
    series = ask("query", query="count({__name__=~'bearerd_.*'})")[0]["value"][1]
    print(f"{len(panels)} panels, {len(rules)} alerts with {selectors} selectors, {series} series")
    if empty:
        raise SystemExit("no data:\n" + "\n".join(empty))


try:
    main()
finally:
    stop.set()
    for process in processes:
        process.send_signal(signal.SIGTERM)
    for process in processes:
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
    shutil.rmtree(directory, ignore_errors=True)
