# shellcheck shell=bash
# The Python environments: clients for the tests, and LocalStack's own. Both made by uv, which lives
# in a small environment of its own, so that nothing is installed into the system's Python.

fetch_uv() {
  # Debian packs this part of Python by itself.
  python3 -c 'import ensurepip' || apt_install python3-venv
  python3 -m venv "$1/venv"
  "$1/venv/bin/pip" install -q --disable-pip-version-check "uv==$UV_VERSION"
}

install_uv() {
  need python3 python3
  once uv "$UV_VERSION" fetch_uv
}

uv() { "$cache/uv/venv/bin/uv" "$@"; }

fetch_clients() {
  uv venv -q "$1/venv"
  uv pip install -q --python "$1/venv/bin/python" -r "$here/python/requirements.txt"
}

install_clients() {
  once clients "$(cksum <"$here/python/requirements.txt")" fetch_clients
}

env_clients() { echo "export WORLD_PYTHON=$cache/clients/venv/bin/python"; }
