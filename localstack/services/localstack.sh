# shellcheck shell=bash
# LocalStack with SQS, S3 and KMS. Its state is in memory: a restart is an empty AWS.

fetch_localstack() {
  uv venv -q --python "$LOCALSTACK_PYTHON" "$1/venv"
  # Not the package `localstack`, whose start asks for a licence.
  uv pip install -q --python "$1/venv/bin/python" --exclude-newer "$LOCALSTACK_AS_OF" \
    "localstack-core[base-runtime,runtime]==$LOCALSTACK_VERSION"
}

install_localstack() {
  once localstack "$LOCALSTACK_VERSION $LOCALSTACK_AS_OF $LOCALSTACK_PYTHON" fetch_localstack
}

start_localstack() {
  settle_port localstack
  mkdir -p "$data/localstack"
  local settings=(
    SERVICES="sqs,s3,kms" EAGER_SERVICE_LOADING=1
    GATEWAY_LISTEN="127.0.0.1:$port"
    # Addresses it hands out must resolve without a name server.
    LOCALSTACK_HOST="127.0.0.1:$port" SQS_ENDPOINT_STRATEGY=path
    # Nothing goes out to the network, and no name server is started on port 53.
    DISABLE_EVENTS=1 SKIP_SSL_CERT_DOWNLOAD=1 DNS_ADDRESS=0
    # Per message costs that nobody looks at.
    SQS_DISABLE_CLOUDWATCH_METRICS=1 LS_LOG=warning
    # Everything it writes, object bodies included, goes where `down` deletes it.
    # (which it does only if it does not think it has a container to itself).
    OVERRIDE_IN_DOCKER=0 FILESYSTEM_ROOT="$data/localstack" TMPDIR="$data/localstack" HOME="$data/localstack"
  )
  launch localstack env "${settings[@]}" "$cache/localstack/venv/bin/python" \
    "$here/python/localstack_loopback.py"
}

healthy_localstack() {
  local health
  port localstack
  health=$(curl -sf --noproxy '*' --max-time 2 "http://127.0.0.1:$port/_localstack/health") || return 1
  local service
  for service in s3 sqs kms; do
    [[ $health =~ \"$service\":\ *\"(running|available)\" ]] || return 1
  done
}

# All it has is in memory.
stop_localstack() { stop localstack KILL; }

env_localstack() {
  port localstack
  local url=http://127.0.0.1:$port
  echo "export WORLD_SQS_ENDPOINT=$url"
  echo "export WORLD_S3_ENDPOINT=$url"
  echo "export AWS_ENDPOINT_URL=$url"
  echo "export AWS_ACCESS_KEY_ID=test"
  echo "export AWS_SECRET_ACCESS_KEY=test"
  echo "export AWS_REGION=us-east-1"
}
