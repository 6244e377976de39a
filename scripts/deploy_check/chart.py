"""The chart: it renders, its values are checked, its documents are Kubernetes' and those that are committed, its configurations are the daemons'."""

import copy
import functools
import json
import os
import re
import subprocess
import tempfile
from pathlib import Path

import jsonschema
import kubernetes_validate
import yaml

from .place import DAEMONS, helm_says, name_of, of_kind

# It reads a file of all definitions anew for each document.
kubernetes_validate.utils.schema_contents = functools.cache(kubernetes_validate.utils.schema_contents)

VARIANTS = [None, "everything-on", "everything-off"]
# The oldest release that Chart.yaml takes, and a new one. The oldest is asked where every switch is on: that has every field.
NEWEST, OLDEST = "1.34", "1.30"
# Kinds of the Prometheus operator: their schemas are in no package.
FOREIGN = {"ServiceMonitor", "PrometheusRule"}
# Maps of values.yaml whose keys are the user's to choose.
FREE = re.compile(r"(^|\.)(commonLabels|config|nodeSelector|podAnnotations|affinity|labels|definitions|podSelector|namespaceSelector|matchLabels)(\.|$)")


def lint(place):
    failures = []
    for values in VARIANTS:
        chosen = ["--values", place.chart / "ci" / f"{values}.yaml"] if values else []
        code, said = place.tools.run("helm", "lint", "--strict", "--quiet", place.chart, *chosen)
        if code:
            failures.append(f"helm lint with {values or 'default values'}: {helm_says(said)}")
    about = yaml.safe_load((place.chart / "Chart.yaml").read_text())
    for key in ("version", "appVersion"):
        if about[key] != place.version:
            failures.append(f"Chart.yaml: {key} is {about[key]}, Cargo.toml's version is {place.version}")
    return failures


def schema(place):
    """values.schema.json takes values.yaml, and refuses a misspelt name at every place where names are the chart's."""
    rules = json.loads((place.chart / "values.schema.json").read_text())
    values = yaml.safe_load((place.chart / "values.yaml").read_text())
    jsonschema.Draft202012Validator.check_schema(rules)
    validator = jsonschema.Draft202012Validator(rules)
    failures = [f"values.yaml: {error.json_path}: {error.message}" for error in validator.iter_errors(values)]
    for path in maps_of(values):
        broken = copy.deepcopy(values)
        at = broken
        for step in path:
            at = at[step]
        at["misspelt"] = True
        if not FREE.search(".".join(map(str, path))) and validator.is_valid(broken):
            failures.append(f"values.schema.json: a misspelt name in {'.'.join(map(str, path)) or 'the values'} is not refused")
    code, said = place.tools.run("helm", "template", "x", place.chart, "--set", "speedIngestor.replica=3")
    if code == 0 or "replica" not in said:
        failures.append("helm takes a misspelt value: speedIngestor.replica")
    return failures


def maps_of(value, path=()):
    if isinstance(value, dict):
        yield path
        for key, inner in value.items():
            yield from maps_of(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from maps_of(inner, (*path, index))


def documents(place):
    """Every document is one of Kubernetes' by its own schema, unknown fields refused; the operator's are looked at by hand."""
    failures = []
    for values in VARIANTS:
        for document in place.documents(values):
            where = f"{values or 'default values'}: {name_of(document)}"
            if document["kind"] in FOREIGN:
                failures += [f"{where}: {problem}" for problem in foreign_problems(document)]
                continue
            for release in [NEWEST, OLDEST] if values == "everything-on" else [NEWEST]:
                try:
                    kubernetes_validate.validate(document, release, strict=True)
                except kubernetes_validate.ValidationError as error:
                    failures.append(f"{where}: Kubernetes {release}: {'.'.join(map(str, error.path))}: {error.message}")
    return failures


def foreign_problems(document):
    spec = document["spec"]
    if document["apiVersion"] != "monitoring.coreos.com/v1":
        yield "apiVersion must be monitoring.coreos.com/v1"
    if document["kind"] == "PrometheusRule" and not (spec.keys() == {"groups"} and all(group.keys() == {"name", "rules"} for group in spec["groups"])):
        yield "spec must be groups of name and rules"
    if document["kind"] == "ServiceMonitor":
        if unknown := spec.keys() - {"jobLabel", "selector", "endpoints", "namespaceSelector"}:
            yield f"unknown fields {sorted(unknown)}"
        if any(endpoint.keys() - {"port", "path", "interval"} for endpoint in spec["endpoints"]):
            yield "unknown fields of an endpoint"


HEADER = """\
# Rendered from deploy/helm/researchflow with its default values, and a namespace; not edited by hand: `make deploy-manifests` writes it, `make deploy-check` compares.
# HAPI, PostgreSQL and Redis are not in it. Before `kubectl apply`: the Secrets (docs/operations.md), the images' registry, hapiUrl, and whom the NetworkPolicies name.
---
apiVersion: v1
kind: Namespace
metadata:
  name: researchflow
  labels:
    # No pod that asks for more than these are given may be made here.
    pod-security.kubernetes.io/enforce: restricted
    pod-security.kubernetes.io/warn: restricted
"""


def manifests_text(place):
    return HEADER + place.render()


def manifests_file(place) -> Path:
    return place.deploy / "kubernetes/researchflow.yaml"


def manifests(place):
    file = manifests_file(place)
    if not file.exists():
        return [f"{file.name} is missing: run make deploy-manifests"]
    committed, rendered = file.read_text(), manifests_text(place)
    if committed == rendered:
        return []
    pairs = zip(committed.splitlines() + [""], rendered.splitlines() + [""])
    line = next((number for number, (a, b) in enumerate(pairs, 1) if a != b), min(len(committed.splitlines()), len(rendered.splitlines())))
    return [f"deploy/kubernetes/researchflow.yaml, line {line}: is not what the chart renders: run make deploy-manifests"]


def configs(place):
    """The daemons themselves read what the ConfigMaps and the images tell them."""
    missing = [daemon for daemon in DAEMONS if not place.tools.daemon(daemon)]
    if missing:
        print(f"   not tried: {', '.join(missing)} is not built here, so no --check-config")
        return []
    failures = []
    for values in VARIANTS:
        for document in of_kind(place.documents(values), "ConfigMap"):
            if "config.toml" in (document.get("data") or {}):
                daemon = document["metadata"]["labels"]["app.kubernetes.io/component"]
                failures += config_problems(place, daemon, f"{values or 'default values'}: {name_of(document)}", document["data"]["config.toml"])
    for daemon in DAEMONS:
        text = (place.deploy / "container" / f"{daemon}.toml").read_text()
        failures += config_problems(place, daemon, f"deploy/container/{daemon}.toml", text)
    return failures


def config_problems(place, daemon, where, text):
    with tempfile.TemporaryDirectory() as folder:
        # What a Secret would be mounted as.
        for name in ("webhook-secrets", "hapi-authorization"):
            (Path(folder) / name).write_text("of-the-check\n")
        file = Path(folder) / "config.toml"
        file.write_text(text.replace("/etc/researchflow/secrets", folder).replace("/etc/researchflow/tls", folder))
        if "/etc/researchflow/tls" in text:
            make_certificate(Path(folder))
        environment = dict(os.environ)
        if where.startswith("deploy/container"):
            # What the image leaves to whoever runs it, as Compose does it.
            compose = yaml.safe_load((place.deploy / "compose.yaml").read_text())["services"][daemon]["environment"]
            environment |= {name: value for name, value in compose.items() if name.endswith("ALLOW_UNAUTHENTICATED")}
        if daemon == "speed-ingestor" and "secret_file" not in text:
            environment["RF_SPEED__WEBHOOK__SECRET_FILE"] = f"{folder}/webhook-secrets"
        done = subprocess.run([place.tools.daemon(daemon), "--check-config", "--config", file], text=True, capture_output=True, env=environment)
    return [f"{where}: {' '.join(done.stderr.split())}"] if done.returncode else []


def make_certificate(folder):
    """What a Secret of TLS would be mounted as."""
    command = ["openssl", "req", "-x509", "-newkey", "ed25519", "-noenc", "-days", "2", "-subj", "/CN=of-the-check"]
    subprocess.run([*command, "-keyout", folder / "tls.key", "-out", folder / "tls.crt"], check=True, capture_output=True)
    (folder / "ca.crt").write_bytes((folder / "tls.crt").read_bytes())
