"""python -m deploy_check [--only NAME ...] [--self-test] [--write-manifests]; a failure is a line, and exit code 1."""

import argparse
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from . import alerts, chart, compose, dashboards, form, hardening, image, messages, metrics, pods, policies, self_test
from .place import Failed, Place, Tools, default_target

CHECKS = {
    "yaml": form.yaml_files,
    "chart-lint": chart.lint,
    "chart-schema": chart.schema,
    "chart-documents": chart.documents,
    "chart-pods": pods.promised,
    "chart-manifests": chart.manifests,
    "network-arrows": policies.arrows,
    "hardening": hardening.checkov,
    "configs": chart.configs,
    "dockerfile": image.dockerfile,
    "healthcheck": image.health,
    "compose": compose.file,
    "prometheus-config": alerts.config,
    "alert-tests": alerts.tested,
    "alert-notes": alerts.written,
    "alert-routes": alerts.routes,
    "alert-messages": messages.told_to_slack,
    "metric-names": metrics.names,
    "metric-tables": metrics.told,
    "dashboards": dashboards.structure,
    "dashboard-queries": dashboards.queries,
}


def main():
    options = argparse.ArgumentParser(prog="deploy-check")
    options.add_argument("--only", nargs="+", choices=CHECKS, help="these checks alone")
    options.add_argument("--self-test", action="store_true", help="break one field of each kind of file in a copy, and see the check fail")
    options.add_argument("--write-manifests", action="store_true", help="write deploy/kubernetes/researchflow.yaml anew")
    given = options.parse_args()
    root = Path(__file__).resolve().parents[2]
    target = default_target(root)
    place = Place(root, Tools(target / "tools", target))
    if given.write_manifests:
        chart.manifests_file(place).write_text(chart.manifests_text(place))
        return 0
    if given.self_test:
        return self_test.run(place, CHECKS, checked)
    failed = 0
    with ThreadPoolExecutor(max_workers=3) as pool:
        running = {name: pool.submit(timed, check, place) for name, check in CHECKS.items() if not given.only or name in given.only}
        for name, result in running.items():
            seconds, failures = result.result()
            print(f"== {name} ({seconds:.1f} s)")
            for failure in failures:
                print(f"deploy-check: {name}: {failure}")
            failed += len(failures)
    print(f"deploy-check: {failed} failures" if failed else f"deploy-check: {len(running)} checks passed")
    return 1 if failed else 0


def timed(check, place):
    began = time.monotonic()
    failures = checked(check, place)
    return time.monotonic() - began, failures


def checked(check, place):
    """What a check finds; a file that it cannot even read is a finding, too."""
    try:
        return list(check(place))
    except Failed as failed:
        return [str(failed)]
    except Exception as error:  # whatever a broken file leads to must be one clear line
        return [f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"]


if __name__ == "__main__":
    sys.exit(main())
