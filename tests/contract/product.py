"""`hookwright dev` in a folder of its own, every delivery of which ends in this process.

All targets are reached through a proxy that listens here and answers in their place, so that whatever URL a test
makes up, nothing leaves the machine and no name is looked up.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

START_LIMIT = 60
STOP_LIMIT = 30


class EveryTarget(BaseHTTPRequestHandler):
    """The proxy, and after CONNECT the target: 410 to paths that begin with /gone, 500 to /failing, 204 to the
    rest. A target of https gets no further than its handshake."""

    protocol_version = "HTTP/1.1"

    def do_CONNECT(self):
        self.send_response_only(200)
        self.end_headers()

    def answer(self):
        self.rfile.read(int(self.headers.get("content-length") or 0))
        statuses = {"/gone": 410, "/failing": 500}
        status = next((status for path, status in statuses.items() if self.path.startswith(path)), 204)
        self.send_response_only(status)
        if status != 204:
            self.send_header("content-length", "0")
        self.end_headers()

    do_GET = do_POST = do_OPTIONS = answer

    def send_error(self, *_args, **_kwargs):
        self.close_connection = True


class Targets(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_args):
        """A connection that breaks off is the product's affair."""


@dataclass
class Product:
    root: str
    key: str
    admin_key: str

    def call(self, method, path, body=None, key=None):
        """Status and body of a request below /v1."""
        request = urllib.request.Request(
            f"{self.root}/v1{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"authorization": f"Bearer {key or self.key}", "content-type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.loads(answer.read() or "null")
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or "null")

    def document(self):
        return self.call("GET", "/openapi.json")[1]


def eventually(what, probe, limit=30):
    """What `probe` answers, once it is more than nothing."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        answer = probe()
        if answer:
            return answer
        time.sleep(0.02)  # what another process does can only be asked for
    raise TimeoutError(f"not within {limit} s: {what}")


@contextlib.contextmanager
def running(binary, **settings):
    """The product, until the end of the block. `settings` are configuration keys: `delivery__timeout="1s"`."""
    # Stopped from outside, it stops the product too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    targets = Targets(("127.0.0.1", 0), EveryTarget)
    threading.Thread(target=targets.serve_forever, daemon=True).start()
    env = {name: value for name, value in os.environ.items() if not name.startswith("HOOKWRIGHT_")}
    env["HOOKWRIGHT_OPS__LISTEN"] = "127.0.0.1:0"
    env["HOOKWRIGHT_DELIVERY__PROXY"] = f"http://127.0.0.1:{targets.server_port}"
    env |= {f"HOOKWRIGHT_{name.upper()}": value for name, value in settings.items()}
    with tempfile.TemporaryDirectory(prefix="hookwright-") as folder:
        data, out, log = (Path(folder, name) for name in ["data", "stdout", "stderr"])
        with out.open("wb") as stdout, log.open("wb") as stderr:
            child = subprocess.Popen(
                [Path(binary).resolve(), "dev", "--data", data, "--listen", "127.0.0.1:0"],
                cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr,
            )
        try:
            def banner(name):
                if child.poll() is not None:
                    raise RuntimeError(f"hookwright ended before it was ready: {child.returncode}")
                found = re.search(rf"^  {name}  +(http://\S+)", out.read_text(), re.M)
                return found and found[1]

            api = eventually("it says where it listens", lambda: banner("api"), START_LIMIT)
            keys = [data.joinpath(name).read_text().strip() for name in ["api-key", "admin-key"]]
            product = Product(api.removesuffix("/v1"), *keys)
            eventually("it is ready", lambda: ready(banner("metrics")), START_LIMIT)
            yield product
            if child.poll() is not None:
                raise RuntimeError(f"hookwright ended in between: {child.returncode}")
            child.send_signal(signal.SIGTERM)
            if code := child.wait(STOP_LIMIT):
                raise RuntimeError(f"hookwright ended badly: {code}")
        except BaseException:
            child.kill()
            child.wait()
            print(f"--- the end of what hookwright said:\n{log.read_text(errors='replace')[-4000:]}", flush=True)
            raise
        finally:
            targets.shutdown()
            targets.server_close()


def ready(metrics):
    try:
        with urllib.request.urlopen(metrics.replace("/metrics", "/readyz"), timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False
