# shellcheck shell=bash
# What `up`, `down` and the services share: places, ports, processes, waiting.

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
repo=$(dirname "$here")
world=${WORLD_DIR:-$repo/target/world}
mkdir -p "$(dirname "$world")"
world=$(cd "$(dirname "$world")" && pwd -P)/$(basename "$world")

cache=$world/cache # downloads: survive `down`
run=$world/run     # pids, ports, rendered configs
log=$world/log
data=$world/data
env_file=$world/env
marker=$world/.world # says that this folder is ours to delete

# shellcheck source=versions.env
source "$here/versions.env"

say() { echo "world: $*" >&2; }
die() {
  say "$*"
  exit 1
}

# A mistyped WORLD_DIR must not cost anybody their files.
ours() { [[ ! -d $world || -e $marker || -z $(ls -A "$world") ]]; }

# One `up` or `down` per world at a time. The lock lies beside the folder, because `down --purge`
# deletes the folder. Held through fd 9, which `launch` closes, until the script ends.
lock() {
  exec 9>"$world.lock"
  flock -n 9 && return
  say "waiting for another up or down of this world"
  flock -w 600 9 || die "another up or down has held $world.lock for ten minutes"
}

# --- packages -------------------------------------------------------------------------------------

# Only called for what is missing. One at a time: apt keeps a lock of its own.
apt_install() (
  exec 8>"$run/apt.lock"
  flock 8
  local sudo=()
  if ((EUID != 0)); then
    sudo=(sudo -n)
    command -v sudo >/dev/null || die "missing: $* (apt-get install them as root)"
  fi
  say "installing $*"
  local install=("${sudo[@]}" env DEBIAN_FRONTEND=noninteractive
    apt-get install -y -q --no-install-recommends "$@")
  # A fresh machine has no package lists yet, an old one has stale ones.
  "${install[@]}" >>"$log/apt.log" 2>&1 </dev/null && return
  "${sudo[@]}" apt-get update -q >>"$log/apt.log" 2>&1 </dev/null || true
  "${install[@]}" >>"$log/apt.log" 2>&1 </dev/null && return
  tail -n 20 "$log/apt.log" >&2
  die "apt-get could not install $* (whole log: $log/apt.log)"
)

need() { # need COMMAND PACKAGE
  command -v "$1" >/dev/null || apt_install "$2"
}

# once NAME KEY COMMAND…: run the command (given an empty folder as last argument) unless it has
# succeeded before with this key. The stamp comes last, so an interrupted download starts again.
once() {
  local name=$1 key=$2 dir=$cache/$1
  shift 2
  [[ -e $dir/.done && $(<"$dir/.done") == "$key" ]] && return
  say "$name: fetching, once"
  rm -rf "$dir"
  mkdir -p "$dir"
  if ! "$@" "$dir" >"$log/install-$name.log" 2>&1 </dev/null; then
    tail -n 20 "$log/install-$name.log" >&2
    die "$name: could not be fetched (whole log: $log/install-$name.log)"
  fi
  echo "$key" >"$dir/.done"
}

# --- ports ----------------------------------------------------------------------------------------

port_open() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# port NAME sets $port: the one chosen at first start. Below the range that outgoing connections
# take theirs from, so that it is still free when a service has to be started again.
port() {
  local file=$run/$1.port
  if [[ ! -e $file ]]; then
    port=$((20000 + (SRANDOM % 12000)))
    while port_open $port || grep -qsx $port "$run"/*.port; do
      port=$((20000 + (SRANDOM % 12000)))
    done
    echo $port >"$file"
  fi
  port=$(<"$file")
}

# Before a start: somebody else may have taken the port while the service was down. A killed process
# keeps it for a moment, until the last of its threads is gone.
settle_port() {
  port "$1"
  local _
  for _ in {1..20}; do
    port_open "$port" || return 0
    sleep 0.1
  done
  say "$1: port $port is taken, choosing another"
  rm "$run/$1.port"
  port "$1"
}

# --- processes ------------------------------------------------------------------------------------

# When a process started, in ticks since boot: tells it from a later one with the same pid.
birth() {
  local stat
  # Not `$(<…)`: where there is no such file, bash may take that for the end of the whole script.
  read -r stat 2>/dev/null <"/proc/$1/stat" || return 1
  stat=${stat##*) }
  # shellcheck disable=SC2086 # splitting into fields is the point
  set -- $stat
  [[ $1 != Z ]] && echo "${20}"
}

# alive NAME sets $pid when the service's process runs.
alive() {
  local born
  [[ -e $run/$1.pid ]] && read -r pid born <"$run/$1.pid" && [[ $(birth "$pid") == "$born" ]]
}

# launch NAME COMMAND…: a daemon that shares nothing with its caller: own session, no terminal, no
# inherited descriptor (the lock, the pipe a test reads our output from).
launch() {
  local name=$1
  shift
  rm -f "$run/$name.pid"
  echo "--- started $(date -u +%FT%TZ)" >>"$log/$name.log"
  # shellcheck disable=SC2016 # expands in the inner shell
  setsid bash -c '
    for fd in /proc/self/fd/*; do fd=${fd##*/}; ((fd > 2)) && eval "exec $fd>&-"; done
    cd / && echo $$ >"$1" && shift && exec "$@"
  ' _ "$run/$name.launched" "$@" </dev/null >>"$log/$name.log" 2>&1 &
  local deadline=$((SECONDS + 10))
  until [[ -s $run/$name.launched ]]; do
    ((SECONDS < deadline)) || die "$name: could not be launched"
    sleep 0.02
  done
  local pid
  pid=$(<"$run/$name.launched")
  rm "$run/$name.launched"
  echo "$pid $(birth "$pid" || echo 0)" >"$run/$name.pid"
}

# stop NAME SIGNAL: and after five seconds without mercy. A session is a process group of its own.
stop() {
  local pid deadline=$((SECONDS + 5))
  alive "$1" || return 0
  kill -s "$2" -- "$pid" 2>/dev/null || true
  while alive "$1"; do
    ((SECONDS < deadline)) || kill -s KILL -- "-$pid" 2>/dev/null || true
    sleep 0.05
  done
  rm -f "$run/$1.pid"
}

# ensure NAME: leaves a running, healthy service alone and starts any other. Each service is a file
# in services/ with install_NAME, start_NAME, healthy_NAME and stop_NAME.
ensure() {
  local name=$1 pid
  if alive "$name"; then
    wait_healthy "$name" 10 && return
    ! alive "$name" || say "$name: alive but not healthy, starting it again"
    "stop_$name"
  fi
  "install_$name"
  "start_$name"
  if ! wait_healthy "$name" 60; then
    say "$name: not healthy; the end of $log/$name.log:"
    tail -n 20 "$log/$name.log" >&2
    "stop_$name"
    return 1
  fi
  say "$name: up on port $(<"$run/$name.port")"
}

wait_healthy() {
  local deadline=$((SECONDS + $2))
  until "healthy_$1"; do
    # A daemon that ended will not become healthy.
    alive "$1" && ((SECONDS < deadline)) || return 1
    sleep 0.1
  done
}
