"""Grafana's files: their structure by rules of our own (Grafana itself is in no package), and every query asked of a real Prometheus."""

import json
import subprocess
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from pathlib import Path

import yaml

from .local import free_port, reached, until

KINDS = {"timeseries", "stat", "table"}
UNITS = {"short", "s", "ops", "reqps", "bytes", "percentunit"}
# What Grafana puts in place of its own variables.
VARIABLES = {"$__rate_interval": "1m", "$__interval": "15s", "$__range": "3h"}


def load(place):
    for file in sorted((place.deploy / "grafana/dashboards").glob("*.json")):
        try:
            yield file.name, json.loads(file.read_text())
        except json.JSONDecodeError as error:
            yield file.name, {"panels": [], "broken": str(error)}


def structure(place):
    boards = list(load(place))
    failures = [] if boards else ["there are no dashboards"]
    for what in ("uid", "title"):
        counted = Counter(board.get(what) for _, board in boards)
        failures += [f"{what} {value} is there {count} times" for value, count in counted.items() if count > 1]
    for name, board in boards:
        failures += [f"{name}: {problem}" for problem in board_problems(name, board)]
    return failures + list(provisioning(place))


def board_problems(name, board):
    if "broken" in board:
        yield board["broken"]
        return
    if name != f"{board.get('uid')}.json":
        yield "the file must have the name of its uid"
    if not isinstance(board.get("schemaVersion"), int) or board["schemaVersion"] < 36:
        yield "schemaVersion must be 36 or more"
    if not any(variable["name"] == "datasource" and variable["type"] == "datasource" and variable["query"] == "prometheus" for variable in board["templating"]["list"]):
        yield "there is no variable datasource of Prometheus"
    ids = Counter(panel.get("id") for panel in board["panels"])
    yield from (f"the id {value} is there {count} times" for value, count in ids.items() if count > 1)
    taken = {}
    for panel in board["panels"]:
        where = f"panel {panel.get('title')!r}"
        yield from (f"{where}: {problem}" for problem in panel_problems(panel))
        place = panel.get("gridPos", {})
        for cell in cells(place):
            if taken.setdefault(cell, panel.get("id")) != panel.get("id"):
                yield f"{where}: lies over another panel"
                break


def cells(place):
    return [(x, y) for x in range(place.get("x", 0), place.get("x", 0) + place.get("w", 0)) for y in range(place.get("y", 0), place.get("y", 0) + place.get("h", 0))]


def panel_problems(panel):
    if panel.get("type") not in KINDS:
        yield f"the type must be one of {sorted(KINDS)}"
    if not panel.get("title"):
        yield "has no title"
    place = panel.get("gridPos", {})
    if place.keys() != {"x", "y", "w", "h"} or place["x"] + place["w"] > 24:
        yield "gridPos must have x, y, w, h within 24 columns"
    if panel.get("fieldConfig", {}).get("defaults", {}).get("unit") not in UNITS:
        yield f"the unit must be one of {sorted(UNITS)}"
    if not panel.get("targets"):
        yield "has no query"
    references = [target.get("refId") for target in panel.get("targets", [])]
    if len(set(references)) != len(references) or None in references:
        yield "each query needs a refId of its own"
    for target in [panel, *panel.get("targets", [])]:
        if target.get("datasource") != {"type": "prometheus", "uid": "${datasource}"}:
            yield "the datasource must be the variable ${datasource}"
            break


def provisioning(place):
    folder = place.deploy / "grafana/provisioning"
    source = yaml.safe_load((folder / "datasources/prometheus.yaml").read_text())
    provider = yaml.safe_load((folder / "dashboards/researchflow.yaml").read_text())
    compose = (place.deploy / "compose.yaml").read_text()
    if source.get("apiVersion") != 1 or not all(one.keys() >= {"name", "type", "access", "url"} for one in source.get("datasources", [])):
        yield "datasources/prometheus.yaml: each datasource needs name, type, access and url"
    for one in provider.get("providers", []):
        if f":{one.get('options', {}).get('path')}:ro" not in compose:
            yield f"dashboards/researchflow.yaml: compose.yaml mounts nothing at {one.get('options', {}).get('path')}"


def queries(place):
    """Each query of each panel, asked of a Prometheus that has no data: what it cannot parse or type, it refuses."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "prometheus.yml"
        config.write_text("{}\n")
        port = free_port()
        process = subprocess.Popen(
            [place.tools.program("prometheus"), f"--config.file={config}", f"--storage.tsdb.path={folder}/data", f"--web.listen-address=127.0.0.1:{port}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            until(lambda: reached(f"http://127.0.0.1:{port}/-/ready"), "Prometheus does not start")
            return [
                f"{name}: panel {panel.get('title')!r}: {problem}"
                for name, board in load(place)
                for panel in board["panels"]
                for target in panel["targets"]
                if (problem := refused(port, target["expr"]))
            ]
        except TimeoutError as error:
            return [str(error)]
        finally:
            process.terminate()
            process.wait()


def refused(port, expression):
    for variable, value in VARIABLES.items():
        expression = expression.replace(variable, value)
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/query?" + urllib.parse.urlencode({"query": expression}), timeout=10).close()
    except urllib.error.HTTPError as error:
        return json.loads(error.read()).get("error", str(error))
    return None
