"""Prometheus' and Alertmanager's files: by their own tools, by what docs/operations.md must have of each alert, and by real messages to a receiver like Slack."""

import http.server
import json
import re
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path

import yaml

SEVERITIES = {"critical", "warning"}
# What a message may be filled with: small fixed sets, never a patient's data.
LABELS = {"type", "view", "job", "installation", "event"}
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


def messages(place):
    """A real Alertmanager with the templates and the routing of the project, alerts that fire and are over, a receiver in place of Slack."""
    received = []

    class Receiver(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_):
            pass

    slack = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    # The other side may be gone before it has read the answer.
    slack.handle_error = lambda *_: None
    threading.Thread(target=slack.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        config = tried_config(place, Path(folder), slack.server_port)
        process = subprocess.Popen(
            [place.tools.program("prometheus-alertmanager"), f"--config.file={config}", f"--storage.path={folder}/data", f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address="],
            stdout=subprocess.DEVNULL,
            stderr=(Path(folder) / "log").open("w"),
            # Where its default templates are, if it was unpacked (install.py) and not installed.
            cwd=default_templates(place) or folder,
        )
        try:
            return told(place, f"http://127.0.0.1:{port}", received)
        except TimeoutError as error:
            return [f"{error}: {(Path(folder) / 'log').read_text()[-400:]}"]
        finally:
            process.terminate()
            process.wait()
            slack.shutdown()


def default_templates(place):
    unpacked = place.tools.folder / "prometheus/usr/share/prometheus/alertmanager"
    return unpacked if unpacked.exists() else None


def tried_config(place, folder, port):
    """The project's, but for where Slack is, and how long one waits."""
    (folder / "slack-url").write_text(f"http://127.0.0.1:{port}/")
    config = yaml.safe_load((place.deploy / "alertmanager/alertmanager.yml").read_text())
    config["global"]["slack_api_url_file"] = str(folder / "slack-url")
    config["templates"] = [str(place.deploy / "alertmanager/templates/*.tmpl")]
    for route in [config["route"], *config["route"]["routes"]]:
        route.update(group_wait="1s", group_interval="1s")
    file = folder / "alertmanager.yml"
    file.write_text(yaml.safe_dump(config))
    return file


def told(place, url, received):
    until(lambda: reached(f"{url}/-/ready"), "Alertmanager does not start")
    post(f"{url}/api/v2/alerts", [alert(place, "RedisNotDurable"), alert(place, "TailStuck"), alert(place, "SubscriptionNotActive", installation="default")])
    awaited = ("RedisNotDurable", "SubscriptionNotActive")
    until(lambda: all(any(name in shown(message) for message in received) for name in awaited), f"messages of {' and '.join(awaited)} do not come")
    while_firing = [shown(message) for message in received]
    suppressed = [one["labels"]["alertname"] for one in get(f"{url}/api/v2/alerts") if one["status"]["state"] == "suppressed"]
    over = dict(alert(place, "RedisNotDurable"), endsAt=(datetime.now(timezone.utc) - timedelta(seconds=1)).isoformat())
    post(f"{url}/api/v2/alerts", [over])
    until(lambda: any("Over: RedisNotDurable" in shown(message) for message in received), "that an alert is over is not told")
    first = next((text for text in while_firing if "RedisNotDurable" in text), "")
    for part in ("CRITICAL: RedisNotDurable", "Redis is away, or would lose what is acknowledged", "docs/operations.md#redisnotdurable", "#researchflow-alerts", "danger"):
        if part not in first:
            return [f"the message of RedisNotDurable has no {part}: {first}"]
    if not any("#researchflow-notices" in text and "SubscriptionNotActive" in text for text in while_firing):
        return ["a warning is not told in #researchflow-notices"]
    if suppressed != ["TailStuck"] or any("TailStuck" in text for text in while_firing):
        return [f"TailStuck is told beside RedisNotDurable, from which it follows; not told are {suppressed}"]
    return []


def alert(place, name, **labels):
    rule = next(rule for rule in place.alerts() if rule["alert"] == name)
    return {"labels": {"alertname": name, **rule["labels"], **labels}, "annotations": rule["annotations"]}


def shown(message):
    return json.dumps(message, ensure_ascii=False)


def post(url, body):
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    urllib.request.urlopen(request, timeout=LIMIT).close()


def get(url):
    with urllib.request.urlopen(url, timeout=LIMIT) as answer:
        return json.loads(answer.read())


def reached(url):
    try:
        urllib.request.urlopen(url, timeout=2).close()
        return True
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def until(holds, otherwise):
    end = time.monotonic() + LIMIT
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError(otherwise)
        time.sleep(0.05)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
