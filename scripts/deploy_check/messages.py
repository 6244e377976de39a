"""Messages of a real Alertmanager, with the project's routing and templates, to a receiver in place of Slack."""

import http.server
import json
import subprocess
import tempfile
import threading
from datetime import datetime, timedelta, timezone
from pathlib import Path

import yaml

from .local import free_port, get, post, reached, until


def told_to_slack(place):
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
