"""Makes a client of the running server's OpenAPI document, by a generator that others use, and lets a short
program work with it: an endpoint, an event, its delivery, a refusal.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from product import running

CLIENTS = Path(__file__).parent / "clients"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hookwright", required=True, help="the binary")
    parser.add_argument("language", choices=["python", "typescript"])
    parser.add_argument("--node", help="a folder with node_modules of localstack/node, for typescript")
    return parser.parse_args()


def python(folder, env, _args):
    """openapi-python-client, and the program."""
    tools = Path(sys.executable).parent
    env = env | {"PATH": f"{tools}{os.pathsep}{env['PATH']}", "PYTHONPATH": str(folder)}
    generate = [tools / "openapi-python-client", "generate", "--path", "openapi.json", "--meta", "none"]
    run([*generate, "--output-path", "hookwright_client"], folder, env)
    run([sys.executable, "-B", CLIENTS / "client.py"], folder, env)


def typescript(folder, env, args):
    """openapi-typescript, the compiler's checks of the program, and the program."""
    Path(folder, "node_modules").symlink_to(Path(args.node).resolve() / "node_modules")
    Path(folder, "package.json").write_text('{"type": "module"}')
    shutil.copy(CLIENTS / "client.ts", folder)
    run(["node_modules/.bin/openapi-typescript", "openapi.json", "-o", "api.d.ts"], folder, env)
    run(["node_modules/.bin/tsc", "--strict", "--module", "nodenext", "--target", "es2022", "client.ts"], folder, env)
    run(["node", "client.js"], folder, env)


def run(command, folder, env):
    subprocess.run(command, cwd=folder, env=env, check=True, stdin=subprocess.DEVNULL, timeout=240)


def main():
    args = arguments()
    with running(args.hookwright) as product, tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        document = json.dumps(product.document())
        folder.joinpath("openapi.json").write_text(document)
        env = os.environ | {"CONTRACT_ROOT": product.root, "CONTRACT_API_KEY": product.key}
        {"python": python, "typescript": typescript}[args.language](folder, env, args)
    print(f"{args.language}: made, and works")


if __name__ == "__main__":
    main()
