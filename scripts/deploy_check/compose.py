"""deploy/compose.yaml: a model of the Compose specification reads it, and rules of our own."""

import re

import compose_spec
import yaml

from .place import DAEMONS

# Services whose image has nothing to ask for its health with, and why that is enough.
WITHOUT_HEALTH = {"hapi": "its image has neither a shell nor a client; the daemons wait for what they need of it by themselves"}
VARIABLE = re.compile(r"\$\{(\w+)(?::?([-?])([^}]*))?\}")


def file(place):
    text = (place.deploy / "compose.yaml").read_text()
    parsed = yaml.safe_load(interpolated(text))
    plain = {key: value for key, value in parsed.items() if not key.startswith("x-")}
    try:
        compose_spec.PyCompose.from_yaml(yaml.safe_dump(plain)).to_spec()
    except Exception as error:  # its errors have no common type
        return [f"compose.yaml: {' '.join(str(error).split())[:300]}"]
    failures = []
    for name, service in plain["services"].items():
        failures += [f"compose.yaml: {name}: {problem}" for problem in service_problems(place, name, service, plain)]
    for script in sorted((place.deploy / "compose").glob("*.sh")):
        code, said = place.tools.run("sh", "-n", script)
        failures += [f"compose/{script.name}: {' '.join(said.split())}"] if code else []
    return failures + list(secrets(place, text))


def interpolated(text):
    """As Compose does it; a variable that must be given is `given`."""
    with_values = VARIABLE.sub(lambda found: found[3] if found[2] == "-" else "given", text)
    return with_values.replace("$$", "$")


def service_problems(place, name, service, compose):
    image = service.get("image", "")
    tag = image.rsplit("/", 1)[-1].partition(":")[2]
    if not tag or tag == "latest":
        yield f"the image needs a tag, and not latest: {image}"
    if "healthcheck" not in service and name not in WITHOUT_HEALTH:
        yield "has no healthcheck"
    if "healthcheck" in service and name in WITHOUT_HEALTH:
        yield "has a healthcheck: take it out of WITHOUT_HEALTH"
    for port in service.get("ports", []):
        if not str(port).startswith("127.0.0.1:"):
            yield f"the port {port} must be bound to 127.0.0.1"
    for volume in service.get("volumes", []):
        source = volume.split(":")[0]
        if source.startswith("./") and not source.startswith("./secrets/") and not (place.deploy / source).exists():
            yield f"there is no {source}"
        if not source.startswith(("./", "/")) and source not in compose.get("volumes", {}):
            yield f"the volume {source} is not declared"
        if source.startswith("./") and not volume.endswith(":ro"):
            yield f"{source} must be mounted read-only"
    for other, wanted in service.get("depends_on", {}).items():
        if other not in compose["services"]:
            yield f"depends on {other}, which is not there"
        elif wanted.get("condition") == "service_healthy" and "healthcheck" not in compose["services"][other]:
            yield f"waits for the health of {other}, which has no check"
    if name in DAEMONS:
        if not (service.get("read_only") and service.get("cap_drop") == ["ALL"] and "no-new-privileges:true" in service.get("security_opt", [])):
            yield "must be read-only, without capabilities and without new privileges"
        if service.get("build", {}).get("target") != name:
            yield "must be built from the target of its name"


def secrets(place, text):
    """Every password is a variable without a default, and every variable that must be given stands in env.example."""
    example = set(re.findall(r"^(\w+)=", (place.deploy / "compose/env.example").read_text(), re.MULTILINE))
    given = {found[1] for found in VARIABLE.finditer(text) if found[2] == "?"}
    if example != given:
        yield f"compose/env.example: differs from the variables that compose.yaml asks for: {sorted(example ^ given)}"
    for found in VARIABLE.finditer(text):
        if "PASSWORD" in found[1] and found[2] != "?":
            yield f"compose.yaml: {found[1]} must have no default, and must be asked for"
    for line in text.splitlines():
        for name, value in re.findall(r"(\w*(?:PASSWORD|password|SECRET|TOKEN)): (\S+)", line):
            if not value.startswith("${"):
                yield f"compose.yaml: {name} must be a variable"
    if re.search(r"^\w+=.", (place.deploy / "compose/env.example").read_text(), re.MULTILINE):
        yield "compose/env.example: must have no values"
