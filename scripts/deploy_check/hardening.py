"""checkov's rules for Kubernetes and Dockerfiles over what the chart renders and over deploy/Dockerfile."""

import json
import shutil
import tempfile
from pathlib import Path

# Each skipped rule with the reason.
SKIPPED = {
    "CKV_K8S_15": "pull policy Always: tags are versions that do not change; image.pullPolicy sets it where they do",
    "CKV_K8S_43": "image by digest: whoever mirrors the images knows theirs; the published values have none",
    "CKV_K8S_35": "secrets as files: URLs with passwords are settings of the daemons, which read variables; what is renewed while running (webhook secrets) is a file",
    "CKV_DOCKER_7": "no tag: the base images are arguments, whose defaults have one (image.py looks at that)",
}


def checkov(place):
    with tempfile.TemporaryDirectory() as folder:
        for values in (None, "everything-on"):
            (Path(folder) / f"{values or 'default'}.yaml").write_text(place.render(values))
        shutil.copy(place.deploy / "Dockerfile", folder)
        code, said = place.tools.run(
            "checkov", "--directory", folder, "--framework", "kubernetes", "dockerfile", "--output", "json", "--quiet", "--compact", "--skip-download", "--skip-check", ",".join(SKIPPED)
        )
    try:
        reports = json.loads(said[said.index("[") if said.lstrip().startswith("[") else said.index("{") :])
    except ValueError:
        return [f"checkov: {said[-300:]}"]
    reports = reports if isinstance(reports, list) else [reports]
    if sum(report["summary"]["passed"] for report in reports) < 100:
        return [f"checkov has looked at too little: {[report['summary'] for report in reports]}"]
    return [
        f"checkov {failed['check_id']}: {failed['check_name']}: {failed['resource']}" for report in reports for failed in report["results"]["failed_checks"]
    ]
