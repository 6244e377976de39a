"""The form of YAML files."""

RULES = """
extends: default
rules:
  line-length: disable
  document-start: disable
  comments: {min-spaces-from-content: 1}
  braces: {max-spaces-inside: 1}
  truthy: {check-keys: false}
"""


def yaml_files(place):
    rendered = place.deploy / "kubernetes"
    templates = place.chart / "templates"
    files = [file for pattern in ("**/*.yaml", "**/*.yml") for file in place.deploy.glob(pattern)]
    looked_at = [file for file in files if rendered not in file.parents and templates not in file.parents and "files" not in file.parts]
    code, said = place.tools.run("yamllint", "--strict", "--format", "parsable", "--config-data", RULES, *sorted(looked_at))
    return [line.replace(f"{place.root}/", "") for line in said.splitlines() if line.strip()] if code else []
