# shellcheck shell=bash
# ElasticMQ, a second opinion on SQS: stricter than LocalStack in some limits, wrong in others.

fetch_elasticmq() {
  mvn -q -B -f "$here/elasticmq/pom.xml" -Delasticmq.version="$ELASTICMQ_VERSION" \
    dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$1"
}

install_elasticmq() {
  need java default-jre-headless
  need mvn maven
  once elasticmq "$ELASTICMQ_VERSION" fetch_elasticmq
}

start_elasticmq() {
  settle_port elasticmq
  launch elasticmq env ELASTICMQ_PORT="$port" java -Xmx256m -cp "$cache/elasticmq/*" \
    "-Dconfig.file=$here/elasticmq/elasticmq.conf" org.elasticmq.server.Main
}

healthy_elasticmq() {
  port elasticmq
  curl -sf --noproxy '*' --max-time 2 -o /dev/null "http://127.0.0.1:$port/?Action=ListQueues"
}

stop_elasticmq() { stop elasticmq KILL; }

env_elasticmq() {
  port elasticmq
  echo "export WORLD_ELASTICMQ_ENDPOINT=http://127.0.0.1:$port"
}
