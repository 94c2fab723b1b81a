"""Every alert has a unit test in which it fires and one in which it does not: alerts.py ROOT"""
import pathlib
import sys

import yaml

directory = pathlib.Path(sys.argv[1]) / "deploy/prometheus"
rules = yaml.safe_load((directory / "alerts.yaml").read_text())
tests = yaml.safe_load((directory / "alerts_test.yaml").read_text())
alerts = {rule["alert"] for group in rules["groups"] for rule in group["rules"]}
cases = [case for test in tests["tests"] for case in test["alert_rule_test"]]
firing = {case["alertname"] for case in cases if case["exp_alerts"]}
quiet = {case["alertname"] for case in cases if not case["exp_alerts"]}
print(f"{len(alerts)} alerts")
if alerts != firing or alerts != quiet:
    sys.exit(f"never fire: {alerts - firing}; never quiet: {alerts - quiet}; unknown: {(firing | quiet) - alerts}")
