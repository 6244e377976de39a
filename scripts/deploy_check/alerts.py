"""Prometheus' and Alertmanager's files: by their own tools, and by what docs/operations.md must have of each alert."""

import json
import re
from concurrent.futures import ThreadPoolExecutor

import yaml

SEVERITIES = {"critical", "warning"}
# What a message may be filled with: small fixed sets, never a patient's data.
LABELS = {"type", "view", "job", "installation", "event", "server", "endpoint"}
LIMIT = 20


def config(place):
    code, said = place.tools.run("promtool", "check", "config", place.deploy / "prometheus/prometheus.yml")
    return [f"promtool check config: {line(said)}"] if code else []


def rule_tests(place):
    return sorted((place.deploy / "prometheus/rules/tests").glob("*.yml"))


def tested(place):
    """promtool's tests of the rules, a process for each file."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        outcomes = pool.map(lambda test: (test, *place.tools.run("promtool", "test", "rules", test)), rule_tests(place))
        return [f"promtool test rules: {test.name}: {line(said)}" for test, code, said in outcomes if code]


def line(text):
    return " ".join(text.split("FAILED:")[-1].split())[:400]


def written(place):
    """What an alert must have for the person who is woken."""
    tests = "".join(test.read_text() for test in rule_tests(place))
    runbook = {heading.lower() for heading in re.findall(r"^#+ (\w+)$", (place.root / "docs/operations.md").read_text(), re.MULTILINE)}
    for rule in place.alerts():
        name, notes = rule["alert"], rule.get("annotations", {})
        if rule.get("labels", {}).get("severity") not in SEVERITIES:
            yield f"{name}: severity must be critical or warning"
        for key in ("summary", "description", "runbook"):
            if not notes.get(key):
                yield f"{name}: the annotation {key} is missing"
        if notes.get("runbook") != f"docs/operations.md#{name.lower()}" or name.lower() not in runbook:
            yield f"{name}: docs/operations.md has no section of its name"
        for label in re.findall(r"\$labels\.(\w+)", json.dumps(notes)):
            if label not in LABELS:
                yield f"{name}: the label {label} may not stand in a message"
        fires = re.search(rf'alertname[:=] ?"?{name}\b', tests)
        if not fires or not silent(name, tests):
            yield f"{name}: a test must see it fire, and see it not fire"


def silent(name, tests):
    by_samples = re.search(rf'alertname="{name}"[^\n]*\n[^\n]*\n\s+exp_samples: \[\]', tests)
    return by_samples or re.search(rf"alertname: {name},[^\n]*exp_alerts: \[\]", tests)


def routes(place):
    file = place.deploy / "alertmanager/alertmanager.yml"
    code, said = place.tools.run("amtool", "check-config", file)
    if code:
        return [f"amtool check-config: {line(said)}"]
    failures = []
    for severity in sorted(SEVERITIES):
        code, said = place.tools.run("amtool", "config", "routes", "test", f"--config.file={file}", f"--verify.receivers=slack-{severity}", f"severity={severity}")
        if code:
            failures.append(f"an alert of severity {severity} goes elsewhere: {line(said)}")
    known = {rule["alert"] for rule in place.alerts()}
    for rule in yaml.safe_load(file.read_text())["inhibit_rules"]:
        for matcher in rule["source_matchers"] + rule["target_matchers"]:
            for name in re.findall(r'alertname=~?"(.+)"', matcher):
                failures += [f"inhibit_rules: there is no alert {one}" for one in name.split("|") if one not in known]
    return failures
