"""What the schemas of Kubernetes cannot know of the chart's pods."""

import re

from .chart import VARIANTS
from .place import DAEMONS, name_of, of_kind


def promised(place):
    """Probes of the services that the daemons have, a grace longer than the drain, passwords by reference alone."""
    services = {path.parent.parent.name: service_name(path) for path in place.root.glob("proto/researchflow/*/v1/*.proto")}
    expected = dict(zip(DAEMONS, (services["batch"], services["speed"], services["serving"])))
    failures = []
    for values in VARIANTS:
        rendered = place.documents(values)
        failures += [f"{name_of(secret)}: the chart must not hold secrets" for secret in of_kind(rendered, "Secret")]
        deployments = {document["metadata"]["labels"]["app.kubernetes.io/component"]: document for document in of_kind(rendered, "Deployment")}
        if deployments.keys() != set(DAEMONS):
            failures.append(f"Deployments of {sorted(deployments)}, not of {DAEMONS}")
            continue
        for daemon, deployment in deployments.items():
            config = next(d for d in of_kind(rendered, "ConfigMap") if d["metadata"]["name"] == deployment["metadata"]["name"])["data"]["config.toml"]
            where = f"{values or 'default values'}: {name_of(deployment)}"
            failures += [f"{where}: {problem}" for problem in pod_problems(deployment, expected[daemon], config)]
            failures += [f"{where}: {problem}" for problem in service_problems(daemon, deployment, of_kind(rendered, "Service"))]
    return failures


def service_name(proto):
    text = proto.read_text()
    package = re.search(r"^package (.+);", text, re.MULTILINE)[1]
    service = re.search(r"^service (\w+)", text, re.MULTILINE)[1]
    return f"{package}.{service}"


def pod_problems(deployment, service, config):
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    if deployment["spec"]["strategy"].get("rollingUpdate", {}).get("maxUnavailable") != 0:
        yield "an update must not take away a pod before its successor serves: maxUnavailable 0"
    if pod.get("automountServiceAccountToken") is not False:
        yield "no token of the ServiceAccount may be mounted"
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        if probe not in container:
            yield f"{probe} is missing"
    readiness = container.get("readinessProbe", {})
    # Kubernetes' probes of gRPC know no TLS.
    if "[daemon.grpc_tls]" in config:
        if readiness.get("httpGet") != {"path": "/readyz", "port": "admin"}:
            yield "readinessProbe must ask for /readyz where gRPC has TLS"
    elif readiness.get("grpc", {}).get("service") != service:
        yield f"readinessProbe must ask grpc.health.v1 for {service}"
    drain = int(re.search(r"^shutdown_grace_seconds = (\d+)$", config, re.MULTILINE)[1])
    before = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    if pod["terminationGracePeriodSeconds"] <= drain + before:
        yield f"terminationGracePeriodSeconds must be above the pause and the drain, {before} + {drain}"
    for variable in container.get("env", []):
        if re.search(r"URL|SECRET|PASSWORD|TOKEN", variable["name"]) and "secretKeyRef" not in variable.get("valueFrom", {}):
            yield f"{variable['name']} must come from a Secret"
    if re.search(r"^(secret|previous_secret|authorization|secret_access_key) =", config, re.MULTILINE):
        yield "a secret stands in the ConfigMap"


def service_problems(daemon, deployment, services):
    ports = {port["name"]: port["containerPort"] for port in deployment["spec"]["template"]["spec"]["containers"][0]["ports"]}
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    reached = {}
    for service in services:
        if service["spec"]["selector"].get("app.kubernetes.io/component") == daemon:
            if not service["spec"]["selector"].items() <= labels.items():
                yield f"{name_of(service)} does not select its pods"
            for port in service["spec"]["ports"]:
                reached[port["targetPort"]] = port["port"]
    if reached != ports:
        yield f"Services lead to {reached}, the container listens to {ports}"
