"""deploy/Dockerfile by rules of our own, and its health check: compiled, and tried against a server. A build needs an engine and a registry: `make image`."""

import http.server
import re
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path

from .place import DAEMONS


def dockerfile(place):
    text = (place.deploy / "Dockerfile").read_text()
    failures = []
    for argument, default in re.findall(r"^ARG (\w+_IMAGE)=(\S+)", text, re.MULTILINE):
        tag = default.rsplit("/", 1)[-1].partition(":")[2]
        if not tag or tag == "latest":
            failures.append(f"Dockerfile: {argument} needs a tag, and not latest")
    stages = dict(re.findall(r"^FROM (\S+) AS (\S+)$", text, re.MULTILINE))
    targets = {name: body for name, body in re.findall(r"^FROM runtime AS (\S+)$(.*?)(?=^FROM |\Z)", text, re.MULTILINE | re.DOTALL)}
    if targets.keys() != set(DAEMONS):
        failures.append(f"Dockerfile: targets are {sorted(targets)}, must be {sorted(DAEMONS)}")
    if "${RUNTIME_IMAGE}" not in stages:
        failures.append("Dockerfile: there is no stage of RUNTIME_IMAGE")
    final = text[text.index("FROM ${RUNTIME_IMAGE}") :]
    user = re.search(r"^USER (\d+):(\d+)$", final, re.MULTILINE)
    if not user or int(user[1]) < 10000:
        failures.append("Dockerfile: the images' user must be a number of 10000 or more")
    if re.search(r"^(RUN|SHELL) ", final, re.MULTILINE):
        failures.append("Dockerfile: nothing can run in an image without a shell: RUN after FROM ${RUNTIME_IMAGE}")
    for label in ("version", "revision", "licenses"):
        if f"org.opencontainers.image.{label}=" not in final:
            failures.append(f"Dockerfile: the label org.opencontainers.image.{label} is missing")
    for name, body in targets.items():
        failures += [f"Dockerfile: {name}: {problem}" for problem in target_problems(place, name, body)]
    if "--locked" not in text:
        failures.append("Dockerfile: cargo build must be --locked")
    return failures


def target_problems(place, name, body):
    if f'ENTRYPOINT ["/usr/local/bin/{name}"]' not in body:
        yield "ENTRYPOINT must be the daemon, as a list"
    for source in re.findall(r"^COPY (?!--)(\S+) ", body, re.MULTILINE):
        if not (place.root / source).exists():
            yield f"there is no {source}"
        if f"!{'/'.join(source.split('/')[:2])}" not in (place.root / ".dockerignore").read_text():
            yield f".dockerignore keeps {source} out"
    config = (place.deploy / "container" / f"{name}.toml").read_text()
    bound = re.findall(r'listen = "0\.0\.0\.0:(\d+)"', config)
    exposed = re.findall(r"\d+", re.search(r"^EXPOSE (.+)$", body, re.MULTILINE)[1])
    if sorted(bound) != sorted(exposed):
        yield f"EXPOSE {exposed}, but its configuration listens to {bound}"
    admin = re.search(r'admin_listen = "0\.0\.0\.0:(\d+)"', config)[1]
    if f'"127.0.0.1:{admin}"' not in body:
        yield f"HEALTHCHECK must ask the admin port, {admin}"


def health(place):
    source = place.deploy / "healthcheck/main.rs"
    if not shutil.which("rustc") or not shutil.which("rustfmt"):
        print("   not tried: no rustc or no rustfmt is here")
        return []
    failures = []
    formatted = subprocess.run(["rustfmt", "--edition", "2024", "--check", source], capture_output=True, text=True)
    if formatted.returncode:
        failures.append("healthcheck/main.rs: is not formatted: run rustfmt --edition 2024")
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "healthcheck"
        compiled = subprocess.run(["rustc", "--edition", "2024", "-D", "warnings", "-o", program, source], capture_output=True, text=True)
        if compiled.returncode:
            return [*failures, f"healthcheck/main.rs: {' '.join(compiled.stderr.split())[:300]}"]
        return failures + tried(program)


def tried(program):
    class Ready(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/readyz" else 503)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Ready)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"127.0.0.1:{server.server_port}"

    def code(*arguments):
        return subprocess.run([program, *arguments], capture_output=True).returncode

    outcomes = [("200", code(address, "/readyz"), 0), ("503", code(address, "/waiting"), 1), ("no arguments", code(), 2)]
    server.shutdown()
    server.server_close()
    outcomes.append(("nobody there", code(address, "/readyz"), 1))
    return [f"healthcheck: {what}: exit code {found}, must be {wanted}" for what, found, wanted in outcomes if found != wanted]
