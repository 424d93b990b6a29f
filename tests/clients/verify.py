"""A webhook receiver that shares no code with hookwright: it verifies each POST with the official
`standardwebhooks` library.

Listens on 127.0.0.1, prints `listening PORT`, then one JSON object per request. Answers 204 to what
is verified and 401 to the rest.

    verify.py --port 0 --secret whsec_…                 one secret for all paths
    verify.py --port 0 --secret /a=whsec_… --secret /b=whsec_…

A path with secrets of its own does not take the general ones; of several secrets any may match.
"""

import argparse
import hashlib
import json
import threading
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks.webhooks import Webhook

printing = threading.Lock()


def say(line):
    with printing:
        print(line, flush=True)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=0, help="0 (default): any free one")
    parser.add_argument("--secret", action="append", required=True, metavar="[PATH=]whsec_…")
    return parser.parse_args()


def by_path(values):
    """{path: [verifier]}; the path "" stands for all that are not named."""
    secrets = defaultdict(list)
    for value in values:
        path, secret = value.split("=", 1) if value.startswith("/") else ("", value)
        secrets[path].append(Webhook(secret))
    return secrets


def verify(verifiers, body, headers):
    """None, or why the request is not to be trusted."""
    error = "no secret for this path"
    for verifier in verifiers:
        try:
            verifier.verify(body, headers, json_parse=False)
            return None
        except Exception as problem:  # the library raises several kinds for malformed headers
            error = f"{type(problem).__name__}: {problem}"
    return error


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    secrets = {}

    def do_POST(self):
        body = self.read_body()
        path = self.path.split("?", 1)[0]
        verifiers = self.secrets.get(path) or self.secrets.get("", [])
        error = verify(verifiers, body, dict(self.headers.items()))
        # Told before answered: whoever has the answer finds the line.
        say(json.dumps(self.report(body, error)))
        self.send_response(401 if error else 204)
        if error:
            self.send_header("content-length", "0")
        self.end_headers()

    def report(self, body, error):
        attempt = self.headers.get("webhook-attempt")
        return {
            "path": self.path,
            "verified": error is None,
            "error": error,
            "id": self.headers.get("webhook-id"),
            "event_type": self.headers.get("webhook-event-type"),
            "attempt": int(attempt) if attempt and attempt.isdecimal() else attempt,
            "delivery_id": self.headers.get("webhook-delivery-id"),
            "content_type": self.headers.get("content-type"),
            "body_sha256": hashlib.sha256(body).hexdigest(),
            "body_len": len(body),
        }

    def read_body(self):
        if "chunked" not in self.headers.get("transfer-encoding", "").lower():
            return self.rfile.read(int(self.headers.get("content-length", 0)))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():  # trailers, up to the empty line
            pass
        return b"".join(chunks)

    def log_message(self, *_):
        pass  # stdout carries our lines, stderr only trouble


class Server(ThreadingHTTPServer):
    request_queue_size = 512
    daemon_threads = True


def main():
    args = arguments()
    Receiver.secrets = by_path(args.secret)
    server = Server(("127.0.0.1", args.port), Receiver)
    say(f"listening {server.server_address[1]}")
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
