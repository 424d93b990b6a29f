# shellcheck shell=bash
# What makes a TypeScript client of the OpenAPI document, for the tests.

fetch_node() {
  cp "$here"/node/package*.json "$1"
  npm --prefix "$1" ci --ignore-scripts --no-audit --no-fund
}

install_node() {
  need node nodejs
  need npm npm
  once node "$(cksum <"$here/node/package-lock.json")" fetch_node
}

env_node() { echo "export WORLD_NODE=$cache/node"; }
