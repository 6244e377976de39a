"""Whether the checks can fail: one field broken in each kind of file, in a copy; the check that is for it must say so."""

import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from .place import Place

# What the checks look at: copied where something is broken, else pointed at.
LOOKED_AT = ["deploy", "docs", "proto", "crates", "Cargo.toml", ".dockerignore"]


@dataclass(frozen=True)
class Break:
    """`old`, once, becomes `new` in `file`; then `check` must name `expected`."""

    check: str
    file: str
    old: str
    new: str
    expected: str


CHART = "deploy/helm/researchflow"
BREAKS = [
    Break("yaml", "deploy/alertmanager/alertmanager.yml", "route:\n", "route:\n   receiver: x\n", "alertmanager.yml"),
    Break("chart-lint", f"{CHART}/Chart.yaml", "version: 0.1.0", "version: 0.2.0", "Cargo.toml"),
    Break("chart-lint", f"{CHART}/templates/services.yaml", "{{- if $service.headless }}", "{{- if $service.headless }", "helm lint"),
    Break("chart-schema", f"{CHART}/values.yaml", "drainSeconds: 20", "drainSecond: 20", "drainSecond"),
    Break("chart-schema", f"{CHART}/values.schema.json", '"additionalProperties": false', '"additionalProperties": true', "is not refused"),
    Break("chart-documents", f"{CHART}/templates/_deployment.tpl", "readOnlyRootFilesystem: true", "readOnlyRootFileSystem: true", "readOnlyRootFileSystem"),
    Break("chart-documents", f"{CHART}/templates/monitoring.yaml", "jobLabel:", "jobLable:", "jobLable"),
    Break("chart-pods", f"{CHART}/templates/_deployment.tpl", "add $root.Values.drainSeconds $root.Values.preStopSeconds 5", "add $root.Values.drainSeconds 5", "terminationGracePeriodSeconds"),
    Break("chart-pods", f"{CHART}/templates/speed-ingestor.yaml", "researchflow.speed.v1.SpeedService", "researchflow.speed.v1.Speed", "grpc.health.v1"),
    Break("chart-pods", f"{CHART}/templates/_deployment.tpl", "httpGet: {path: /readyz, port: admin}", "httpGet: {path: /livez, port: admin}", "where gRPC has TLS"),
    Break("chart-pods", f"{CHART}/templates/services.yaml", 'suffix" "http" "name" "http" "port" $serving.httpPort', 'suffix" "http" "name" "http" "port" $serving.adminPort', "Services lead to"),
    Break("chart-pods", f"{CHART}/templates/batch-refresher.yaml", '(include "researchflow.fromSecret" (dict "name" "RF_BATCH__HAPI__URL"', '(dict "name" "RF_BATCH__HAPI__URL" "value" "x") (include "researchflow.fromSecret" (dict "name" "OTHER"', "must come from a Secret"),
    Break("chart-manifests", "deploy/kubernetes/researchflow.yaml", "maxUnavailable: 1", "maxUnavailable: 2", "make deploy-manifests"),
    Break("chart-manifests", "deploy/views/patient_simple.json", '"active"', '"draft"', "make deploy-manifests"),
    Break("network-arrows", f"{CHART}/templates/networkpolicies.yaml", '(dict "why" "webhooks" "peers" $policy.hapi.peers "port" $speed.webhookPort)', "", "hapi connect to speed-ingestor"),
    Break("network-arrows", f"{CHART}/templates/networkpolicies.yaml", '(dict "why" "Redis: the speed store" "peers" $policy.redis.peers', '(dict "why" "" "peers" $policy.viewsDatabase.peers', "views-database"),
    Break("network-arrows", f"{CHART}/templates/networkpolicies.yaml", "policyTypes: [Ingress, Egress]", "policyTypes: [Ingress]", "close both ways"),
    Break("network-arrows", "deploy/network-arrows.yaml", "to: speed-ingestor, port: grpc", "to: speed-ingestor, port: webhook", "no policy lets"),
    Break("hardening", f"{CHART}/templates/_deployment.tpl", "allowPrivilegeEscalation: false", "allowPrivilegeEscalation: true", "CKV_K8S_20"),
    Break("configs", "deploy/container/speed-ingestor.toml", "[webhook]", "[webhooks]", "webhooks"),
    Break("configs", "deploy/compose.yaml", "RF_SERVING__HTTP__ALLOW_UNAUTHENTICATED: \"true\"", "RF_SERVING__HTTP__ALLOW_UNAUTHENTICATED: \"false\"", "http.listen"),
    Break("dockerfile", "deploy/Dockerfile", "USER 65532:65532", "USER root", "user must be a number"),
    Break("dockerfile", "deploy/Dockerfile", "EXPOSE 7403 7413 7423", "EXPOSE 7403 7423", "EXPOSE"),
    Break("dockerfile", ".dockerignore", "!deploy/container\n", "", ".dockerignore"),
    Break("healthcheck", "deploy/healthcheck/main.rs", "Ok(true) => ExitCode::SUCCESS", "Ok(_) => ExitCode::SUCCESS", "healthcheck"),
    Break("compose", "deploy/compose.yaml", "redis:7.2-bookworm", "redis:latest", "not latest"),
    Break("compose", "deploy/compose.yaml", '"127.0.0.1:9090:9090"', '"9090:9090"', "127.0.0.1"),
    Break("compose", "deploy/compose.yaml", "shm_size: 256mb", "shm_sise: 256mb", "shm_sise"),
    Break("compose", "deploy/compose.yaml", "POSTGRES_PASSWORD: ${POSTGRES_PASSWORD:?see deploy/compose/env.example}", "POSTGRES_PASSWORD: postgres", "POSTGRES_PASSWORD"),
    Break("alert-tests", "deploy/prometheus/rules/researchflow.yml", "researchflow_tail_lag_seconds) > 30", "researchflow_tail_lag_seconds) > 31", "promtool test rules"),
    Break("prometheus-config", "deploy/prometheus/prometheus.yml", "scrape_interval: 15s", "scrape_intervall: 15s", "scrape_intervall"),
    Break("alert-notes", "deploy/prometheus/rules/researchflow.yml", "labels: {severity: critical, layer: batch}", "labels: {severity: page, layer: batch}", "severity"),
    Break("alert-notes", "deploy/prometheus/rules/tests/speed.yml", 'alertname="RedisNearlyFull"', 'alertname="RedisNearlyFul"', "RedisNearlyFull: a test"),
    Break("alert-notes", "docs/operations.md", "### DeadLetters", "### DeadLetter", "DeadLetters"),
    Break("alert-routes", "deploy/alertmanager/alertmanager.yml", 'alertname="RefreshFailedTwice"', 'alertname="RefreshFailsTwice"', "RefreshFailsTwice"),
    Break("alert-routes", "deploy/alertmanager/alertmanager.yml", 'severity="critical"', 'severity="urgent"', "slack-warning"),
    Break("alert-messages", "deploy/alertmanager/templates/researchflow.tmpl", ".Annotations.summary", ".Annotations.sumary", "RedisNotDurable"),
    Break("alert-messages", "deploy/alertmanager/alertmanager.yml", 'alertname="RedisNotDurable"', 'alertname="RedisNotDurabel"', "TailStuck"),
    Break("metric-names", "deploy/prometheus/rules/researchflow.yml", "max(researchflow_merge_leading)", "max(researchflow_merge_leader)", "researchflow_merge_leader"),
    Break("metric-names", "crates/speed-ingestor/src/measures.rs", '"tail_lag_seconds"', '"tail_lag"', "researchflow_tail_lag_seconds"),
    Break("metric-names", "deploy/prometheus/adapter.yaml", "rate(researchflow_grpc_calls_total", "rate(researchflow_grpc_call_total", "researchflow_grpc_call_total"),
    Break("metric-tables", "docs/operations.md", "`merge_leading`", "`merge_leader`", "researchflow_merge_leading"),
    Break("dashboards", "deploy/grafana/dashboards/researchflow-speed.json", '"id": 2,', '"id": 1,', "the id 1"),
    Break("dashboards", "deploy/grafana/dashboards/researchflow-batch.json", '"uid": "${datasource}"', '"uid": "abc"', "datasource"),
    Break("dashboard-queries", "deploy/grafana/dashboards/researchflow-overview.json", "max(researchflow_tail_lag_seconds)", "max(researchflow_tail_lag_seconds", "Tail lag"),
]


def run(place, checks, checked):
    built = all(place.tools.daemon(daemon) for daemon in ("batch-refresher", "speed-ingestor", "serving-gateway"))
    breaks = [one for one in BREAKS if built or one.check != "configs"]
    with ThreadPoolExecutor(max_workers=3) as pool:
        outcomes = list(pool.map(lambda one: seen(place, checks, checked, one), breaks))
    missed = [problem for problem in outcomes if problem]
    missed += [f"no break tries the check {name}" for name in checks if name not in {one.check for one in BREAKS}]
    for problem in missed:
        print(f"deploy-check: self-test: {problem}")
    print(f"deploy-check: self-test: {len(missed)} failures" if missed else f"deploy-check: self-test: {len(breaks)} broken fields, each seen")
    return 1 if missed else 0


def seen(place, checks, checked, broken):
    """None, or what the check did not see."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name in LOOKED_AT:
            if name != broken.file.split("/")[0]:
                (root / name).symlink_to(place.root / name)
            elif (place.root / name).is_dir():
                shutil.copytree(place.root / name, root / name, symlinks=True)
            else:
                shutil.copy(place.root / name, root / name)
        file = root / broken.file
        text = file.read_text()
        if broken.old not in text:
            return f"{broken.file} has no {broken.old!r} to break"
        file.write_text(text.replace(broken.old, broken.new, 1))
        failures = checked(checks[broken.check], Place(root, place.tools))
    if any(broken.expected in failure for failure in failures):
        return None
    return f"{broken.check} does not name {broken.expected!r} after {broken.old!r} in {broken.file}: {failures[:2]}"
