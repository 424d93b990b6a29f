# shellcheck shell=bash
# A mail server that keeps all it is sent, as files in a Maildir.

install_smtp() { install_clients; } # aiosmtpd is among them

start_smtp() {
  settle_port smtp
  launch smtp "$cache/clients/venv/bin/python" -m aiosmtpd -n -l "127.0.0.1:$port" \
    -c aiosmtpd.handlers.Mailbox "$data/mail"
}

healthy_smtp() {
  local greeting
  port smtp
  greeting=$(
    exec 2>/dev/null 3<>"/dev/tcp/127.0.0.1/$port" || exit
    timeout 2 head -n 1 <&3
    printf 'QUIT\r\n' >&3
  ) || return 1
  [[ $greeting == 220* ]]
}

stop_smtp() { stop smtp TERM; }

env_smtp() {
  port smtp
  echo "export WORLD_SMTP_PORT=$port"
  echo "export WORLD_SMTP_MAILDIR=$data/mail"
}
