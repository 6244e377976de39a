"""Servers of ours on 127.0.0.1: a port, whether one is there, what it answers."""

import json
import socket
import time
import urllib.error
import urllib.request

# Seconds that anything here may take: the machine may be busy.
LIMIT = 60


def post(url, body):
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    urllib.request.urlopen(request, timeout=LIMIT).close()


def get(url):
    with urllib.request.urlopen(url, timeout=LIMIT) as answer:
        return json.loads(answer.read())


def reached(url):
    try:
        urllib.request.urlopen(url, timeout=2).close()
        return True
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def until(holds, otherwise):
    end = time.monotonic() + LIMIT
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError(otherwise)
        time.sleep(0.05)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
