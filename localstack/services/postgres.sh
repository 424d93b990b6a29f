# shellcheck shell=bash
# Postgres, with the superuser and database `hookwright`. Its data outlives a crash, not `down`.

# Debian and Ubuntu keep the server out of PATH. Ours if it is there, else the newest.
find_postgres() {
  pg=/usr/lib/postgresql/$POSTGRES_MAJOR/bin
  [[ -x $pg/initdb ]] || pg=$(printf '%s\n' /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
  [[ -x $pg/initdb ]]
}

install_postgres() {
  find_postgres && return
  # The package would start a server of its own on 5432; told not to, before it can.
  if [[ ! -e /etc/postgresql-common/createcluster.conf ]]; then
    apt_install postgresql-common
    local sudo=()
    ((EUID == 0)) || sudo=(sudo -n)
    "${sudo[@]}" sed -i 's/^#* *create_main_cluster.*/create_main_cluster = false/' \
      /etc/postgresql-common/createcluster.conf
  fi
  apt_install postgresql
  find_postgres || die "postgres: installed, but not under /usr/lib/postgresql"
}

# The server refuses to run as root: in front of a command, this runs it as the package's user.
drop=()
((EUID != 0)) || drop=(setpriv --reuid=postgres --regid=postgres --init-groups --)

# Where its user can reach it: beside the other data, or else in /var/tmp under this world's name.
pgdata=
postgres_dir() {
  pgdata=$data/postgres
  [[ -e $run/postgres.elsewhere ]] && pgdata=$(<"$run/postgres.elsewhere")
  return 0
}

place_postgres() {
  postgres_dir
  [[ -d $pgdata ]] && return
  if ! "${drop[@]}" test -x "$data"; then
    pgdata=/var/tmp/hookwright-world-$(printf '%s' "$world" | sha256sum | cut -c 1-16)
    echo "$pgdata" >"$run/postgres.elsewhere"
  fi
  # Made under another name first, so that an interrupted initdb is not taken for a database.
  local new=$pgdata.new
  rm -rf "$new"
  mkdir -p "$new"
  ((EUID != 0)) || chown postgres: "$new"
  (
    cd /
    "${drop[@]}" "$pg/initdb" -D "$new" --no-sync --username=hookwright --auth=trust --encoding=UTF8 --locale=C.UTF-8
    cat "$here/postgres/postgresql.conf" >>"$new/postgresql.conf"
    cat "$here/postgres/pg_hba.conf" >"$new/pg_hba.conf"
    printf '%s\n' "ALTER ROLE hookwright PASSWORD 'hookwright'" 'CREATE DATABASE hookwright' |
      "${drop[@]}" "$pg/postgres" --single -D "$new" postgres
  ) >>"$log/postgres.log" 2>&1 || die "postgres: $(tail -n 20 "$log/postgres.log")"
  mv "$new" "$pgdata"
}

# Ends what a killed server left behind: a child busy with a query notices only when that is done, and
# no new server starts on the data before. Known by program and directory, nobody else's are touched.
sweep_postgres() {
  local process left=1 deadline=$((SECONDS + 5))
  postgres_dir
  while ((left && SECONDS < deadline)); do
    left=0
    for process in /proc/[0-9]*; do
      if [[ $(readlink "$process/cwd") == "$pgdata" && $(readlink "$process/exe") == */postgres ]]; then
        kill -s KILL "${process#/proc/}" 2>/dev/null || true
        left=1
      fi
    done
  done
}

start_postgres() {
  local old
  settle_port postgres
  place_postgres
  # A server that was killed leaves its pid file. While the pid is a zombie (some containers' init
  # reaps late or never) Postgres would take it for a running server, so it is told a pid that cannot
  # be. The rest of the file stays: by it Postgres finds the old server's shared memory.
  if [[ -e $pgdata/postmaster.pid ]]; then
    sweep_postgres
    old=$(head -n 1 "$pgdata/postmaster.pid")
    birth "$old" >/dev/null || sed -i '1s/.*/4194305/' "$pgdata/postmaster.pid"
  fi
  launch postgres "${drop[@]}" "$pg/postgres" -D "$pgdata" -p "$port"
}

healthy_postgres() {
  port postgres
  find_postgres && "$pg/pg_isready" -q -t 2 -h 127.0.0.1 -p "$port"
}

# INT: end the sessions and stop at once. A kill would leave shared memory behind.
stop_postgres() {
  stop postgres INT
  sweep_postgres
}

env_postgres() {
  port postgres
  echo "export WORLD_POSTGRES_URL=postgres://hookwright:hookwright@127.0.0.1:$port/hookwright"
}
