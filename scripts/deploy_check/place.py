"""Where a check looks: a tree (the project's, or a copy with one thing broken), and the tools that it asks."""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import yaml

# The same as `yaml.safe_load`, in C where that is built.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

DAEMONS = ["batch-refresher", "speed-ingestor", "serving-gateway"]


@dataclass(frozen=True)
class Tools:
    """Programs in target/tools, or in PATH."""

    folder: Path
    target: Path

    def program(self, name):
        for found in [self.folder / "deploy/bin" / name, self.folder / "bin" / name, self.folder / "prometheus/usr/bin" / name]:
            if found.exists():
                return str(found)
        found = shutil.which(name)
        if not found:
            raise FileNotFoundError(f"{name} is missing: run scripts/setup.sh deploy")
        return found

    def daemon(self, name):
        """A built daemon, or None: the newest of both profiles."""
        built = [found for profile in ("debug", "release") if (found := self.target / profile / name).exists()]
        return max(built, key=lambda path: path.stat().st_mtime, default=None)

    def run(self, name, *arguments, cwd=None, stdin=None):
        """Exit code, and what was printed to either output."""
        done = subprocess.run([self.program(name), *map(str, arguments)], cwd=cwd, input=stdin, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        return done.returncode, done.stdout


@dataclass(frozen=True)
class Place:
    root: Path
    tools: Tools

    @property
    def deploy(self):
        return self.root / "deploy"

    @property
    def chart(self):
        return self.deploy / "helm/researchflow"

    @property
    def rules(self):
        return self.deploy / "prometheus/rules/researchflow.yml"

    @cache
    def render(self, values=None):
        """The chart's documents as text; `values` is a file of `ci/`. Fails with what helm says."""
        chosen = ["--values", self.chart / "ci" / f"{values}.yaml"] if values else []
        command = [self.tools.program("helm"), "template", "researchflow", self.chart, "--namespace", "researchflow", *chosen]
        done = subprocess.run(list(map(str, command)), text=True, capture_output=True)
        if done.returncode:
            raise Failed(f"helm template with {values or 'default values'}: {helm_says(done.stderr)}")
        return done.stdout

    def documents(self, values=None):
        return [document for document in yaml.load_all(self.render(values), LOADER) if document]

    def alerts(self):
        """All rules that have a name to be woken by."""
        return [rule for rule in self.rule_list() if "alert" in rule]

    def rule_list(self):
        return [rule for group in yaml.safe_load(self.rules.read_text())["groups"] for rule in group["rules"]]

    @cached_property
    def version(self):
        section = (self.root / "Cargo.toml").read_text().split("[workspace.package]")[1]
        return re.search(r'^version = "(.+)"', section, re.MULTILINE)[1]


class Failed(Exception):
    """A check cannot go on: the line to print."""


def helm_says(text):
    """Its last words, without the notes on symbolic links (the chart shares views, rules and dashboards with the other ways of deploying)."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and "symbolic link" not in line and "--debug" not in line]
    return " ".join(lines[-3:])


def of_kind(documents, kind):
    return [document for document in documents if document["kind"] == kind]


def name_of(document):
    return f"{document['kind']}/{document['metadata']['name']}"


def default_target(root):
    """That of Cargo; a relative one counts from the project's folder."""
    return (root / os.environ.get("CARGO_TARGET_DIR", "target")).resolve()
