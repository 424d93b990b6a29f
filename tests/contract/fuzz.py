"""Holds a running server to its OpenAPI document: schemathesis makes up requests from the document, right and
wrong ones, and judges each answer. Every route of the document takes part; none is named here but those that
make something to be found.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from product import eventually, running

HERE = Path(__file__).parent
# What `dev` makes.
TENANT = "default"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hookwright", required=True, help="the binary")
    parser.add_argument("--cases", type=int, default=500, help="at least so many requests (default 500)")
    parser.add_argument("--seed", type=int, default=1, help="the same requests again (default 1)")
    return parser.parse_args()


def seed(product):
    """Something of what requests alone do not bring about: deliveries made and given up, a target that is to be
    verified, and a tenant with a key beside the run's own."""
    made = [
        product.call("POST", "/webhooks/targets", {"url": "http://127.0.0.1:9/", "verification": "crc"}),
        product.call("POST", "/admin/tenants", {"name": "other"}, product.admin_key),
        product.call("POST", "/admin/tenants/other/keys", {"name": "seeded"}, product.admin_key),
    ]
    assert [status for status, _ in made] == [201, 201, 201], made
    for path in ["taken", "failing", "gone"]:
        url = f"http://127.0.0.1:9/{path}"
        status, made = product.call("POST", "/webhooks/endpoints", {"url": url, "events": ["*"]})
        assert status == 201, made
        policy = {"retryPolicy": {"window": "1s", "first": "1s", "jitter": 0}}
        status, answer = product.call("PATCH", f"/webhooks/targets/{made['id']}", policy)
        assert status == 200, answer
    for number in range(3):
        status, answer = product.call("POST", "/webhooks/events", {"type": "seed.made", "payload": number})
        assert status == 202, answer
    for status in ["delivered", "exhausted", "canceled"]:
        path = f"/webhooks/deliveries?status={status}"
        eventually(f"a delivery that is {status}", lambda: product.call("GET", path)[1]["items"])


def judge(product, document, cases, seed_number, folder):
    """Runs schemathesis; its exit code and its report."""
    file, report = folder / "openapi.json", folder / "report.json"
    file.write_text(json.dumps(document))
    operations = sum(len(item) for item in document["paths"].values())
    command = [
        Path(sys.executable).with_name("schemathesis"), "--config-file", HERE / "schemathesis.toml",
        "run", file, "--url", product.root, "--seed", str(seed_number), "--no-color",
        "--max-examples", str(-(-cases // operations)), "--report-json-path", report,
    ]
    env = os.environ | {
        "CONTRACT_HOOKS": str(HERE / "hooks.py"), "CONTRACT_ROOT": product.root, "CONTRACT_TENANT": TENANT,
        "CONTRACT_API_KEY": product.key, "CONTRACT_ADMIN_KEY": product.admin_key,
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    limit = 60 + cases
    code = subprocess.run(command, cwd=folder, env=env, check=False, timeout=limit).returncode
    return code, json.loads(report.read_text())


def main():
    args = arguments()
    with running(args.hookwright) as product, tempfile.TemporaryDirectory() as folder:
        seed(product)
        code, report = judge(product, product.document(), args.cases, args.seed, Path(folder))
    generated = report["test_cases"]["generated"]
    print(f"{generated} requests, {report['operations']['tested']} operations")
    for operation, phases in report["valid_rates"].items():
        if not any(rate["accepted"] for rate in phases.values()):
            print(f"never more than refused: {operation}")
    if generated < args.cases:
        sys.exit(f"fewer than the {args.cases} that were wanted")
    sys.exit(code)


if __name__ == "__main__":
    main()
