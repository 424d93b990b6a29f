# shellcheck shell=bash
# Apache Kafka, one node. Its data outlives a crash of the process, not `down`.

fetch_kafka() {
  mvn -q -B -f "$here/kafka/pom.xml" -Dkafka.version="$KAFKA_VERSION" -Dlog4j.version="$LOG4J_VERSION" \
    dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$1"
}

install_kafka() {
  need java default-jre-headless
  need mvn maven
  once kafka "$KAFKA_VERSION $LOG4J_VERSION" fetch_kafka
}

start_kafka() {
  local java=(java -cp "$cache/kafka/*" "-Dlog4j2.configurationFile=$here/kafka/log4j2.properties")
  local config=$run/kafka.properties kafka_port
  settle_port kafka
  kafka_port=$port
  settle_port controller
  sed -e "s|@KAFKA_PORT@|$kafka_port|" -e "s|@CONTROLLER_PORT@|$port|" -e "s|@DATA@|$data/kafka|" \
    "$here/kafka/server.properties" >"$config"
  if [[ ! -e $data/kafka/meta.properties ]]; then
    local id # what `StorageTool random-uuid` prints, without another start of the JVM
    id=$(head -c 16 /dev/urandom | base64 | tr '+/' 'ab' | cut -c 1-22)
    rm -rf "$data/kafka"
    "${java[@]}" -XX:TieredStopAtLevel=1 kafka.tools.StorageTool format --standalone -t "$id" -c "$config" \
      >>"$log/kafka.log" 2>&1 </dev/null || die "kafka: $(tail -n 20 "$log/kafka.log")"
  fi
  launch kafka "${java[@]}" -Xms128m -Xmx512m kafka.Kafka "$config"
}

# Asks which API versions it speaks (ApiVersions v0), and looks for an answer to that very question:
# an open port alone answers long before the broker does.
healthy_kafka() {
  local answer
  port kafka
  answer=$(
    exec 2>/dev/null 3<>"/dev/tcp/127.0.0.1/$port" || exit
    printf '\0\0\0\012\0\022\0\0\0\0\0\07\377\377' >&3
    timeout 2 head -c 10 <&3 | od -An -tx1 -j4 | tr -d ' \n'
  ) || return 1
  [[ $answer == 000000070000 ]]
}

# What it has not written yet is deleted anyway.
stop_kafka() { stop kafka KILL; }

env_kafka() {
  port kafka
  echo "export WORLD_KAFKA_BROKERS=127.0.0.1:$port"
}
