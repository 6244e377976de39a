"""The names of the daemons' metrics, read from where they register them (crates/*/src), and whether alerts, dashboards and the chart use no others."""

import json
import re

import yaml

CALL = re.compile(r"\.register(?P<unit>_with_unit)?\(\s*\"(?P<name>[a-z0-9_]+)\"\s*,")
SUFFIXES = {"Counter": ["_total"], "Histogram": ["_bucket", "_sum", "_count"], "Gauge": [""]}
# As the tables of docs/ leave them out.
PREFIXES = ["", "researchflow_", "researchflow_batch_", "researchflow_speed_"]
# Metrics of ours in an expression of PromQL; recorded ones have a colon.
USED = re.compile(r"[a-zA-Z0-9_:]*researchflow_[a-zA-Z0-9_:]*")


def registered(place):
    """Every name that /metrics can have. A metric of a kind that cannot be read here may have any ending."""
    names = set()
    for file in place.root.glob("crates/*/src/**/*.rs"):
        text = file.read_text()
        if "registry" not in text:
            continue
        for call in CALL.finditer(text):
            arguments = arguments_from(text, call.end())
            prefix = "researchflow_" + "".join(f"{sub}_" for sub in re.findall(r"sub_registry_with_prefix\(\"(\w+)\"\)", text[: call.start()]))
            unit = re.search(r"Unit::(\w+)", arguments) if call["unit"] else None
            name = prefix + call["name"] + (f"_{unit[1].lower()}" if unit else "")
            names.update(name + suffix for suffix in SUFFIXES.get(kind_of(text, arguments), sum(SUFFIXES.values(), [])))
    return names


def arguments_from(text, start):
    """The rest of a call's arguments, to its closing parenthesis; texts may hold any."""
    depth, at, quoted = 1, start, False
    while depth and at < len(text):
        if text[at] == '"' and text[at - 1] != "\\":
            quoted = not quoted
        elif not quoted:
            depth += {"(": 1, ")": -1}.get(text[at], 0)
        at += 1
    return text[start : at - 1]


def kind_of(text, arguments):
    """Counter, Gauge or Histogram, by the type of the field that is registered."""
    field = re.findall(r"\w+\.(\w+)(?:\.clone\(\))?\s*,?\s*$", arguments)
    declared = re.search(rf"^\s*(?:pub(?:\(\w+\))? )?{field[0]}: (.+),$", text, re.MULTILINE) if field else None
    return next((kind for kind in SUFFIXES if declared and kind in declared[1]), None)


def used(place):
    """(where, name) of each name that is looked at."""
    for rule in place.rule_list():
        yield from ((f"rule {rule.get('alert') or rule['record']}", name) for name in USED.findall(without_strings(rule["expr"])))
    for file in sorted((place.deploy / "grafana/dashboards").glob("*.json")):
        for panel in json.loads(file.read_text())["panels"]:
            for target in panel["targets"]:
                yield from ((f"{file.name}: {panel['title']}", name) for name in USED.findall(without_strings(target["expr"])))


def without_strings(expression):
    return re.sub(r'"[^"]*"', '""', expression)


def names(place):
    known = registered(place)
    if len(known) < 40:
        return [f"only {len(known)} metrics are found in crates/: they are registered in a form that metrics.py does not read"]
    recorded = {rule["record"] for rule in place.rule_list() if "record" in rule}
    failures = [f"{where}: no daemon registers {name}" for where, name in used(place) if name not in known | recorded]
    return failures + list(rates(place, known))


def rates(place, known):
    """What autoscalers ask for is what prometheus-adapter is told to make of a counter that is there."""
    adapter = yaml.safe_load((place.deploy / "prometheus/adapter.yaml").read_text())["rules"]["custom"]
    made = {rule["name"]["as"]: rule for rule in adapter}
    values = yaml.safe_load((place.chart / "values.yaml").read_text())
    asked = [values["speedIngestor"]["autoscaling"]["webhookRate"]["metric"], values["servingGateway"]["autoscaling"]["queryRate"]["metric"]]
    if sorted(asked) != sorted(made):
        yield f"values.yaml asks for {sorted(asked)}, adapter.yaml makes {sorted(made)}"
    for name, rule in made.items():
        for counter in USED.findall(without_strings(rule["seriesQuery"] + rule["metricsQuery"])):
            if counter not in known:
                yield f"adapter.yaml: {name}: no daemon registers {counter}"


def told(place):
    """Every metric stands in a table of docs/, by its name without the prefix that the table names."""
    text = "\n".join(page.read_text() for page in place.root.glob("docs/*.md"))
    words = {re.sub(r"_total$", "", word) for word in re.findall(r"`(\w+)`", text)}
    for name in sorted({re.sub(r"_(bucket|sum|count|total)$", "", name) for name in registered(place)}):
        if not words & {re.sub(rf"^{prefix}", "", name) for prefix in PREFIXES}:
            yield f"docs/ tell nothing of {name}"
