#!/bin/bash
# RABBITMQ_DEFAULT_USER, RABBITMQ_DEFAULT_PASS, RABBITMQ_DEFAULT_VHOST (each also as …_FILE) and RABBITMQ_ERLANG_COOKIE.
set -euo pipefail

setting() {
  local name=$1 file=$1_FILE
  if [ -n "${!file:-}" ]; then export "$name=$(<"${!file}")"; unset "$file"; fi
}

if [[ ${1:-} == rabbitmq* ]]; then
  for name in RABBITMQ_DEFAULT_USER RABBITMQ_DEFAULT_PASS RABBITMQ_DEFAULT_VHOST; do setting "$name"; done
  # A configuration of ours, unless somebody has mounted one of this name. The package's default user may come from loopback only.
  conf=/etc/rabbitmq/conf.d/10-defaults.conf
  if [ ! -e "$conf" ]; then
    {
      echo 'loopback_users.guest = false'
      echo 'listeners.tcp.default = 5672'
      echo 'management.tcp.port = 15672'
      if [ -n "${RABBITMQ_DEFAULT_USER:-}" ]; then echo "default_user = $RABBITMQ_DEFAULT_USER"; fi
      if [ -n "${RABBITMQ_DEFAULT_PASS:-}" ]; then echo "default_pass = $RABBITMQ_DEFAULT_PASS"; fi
      if [ -n "${RABBITMQ_DEFAULT_VHOST:-}" ]; then echo "default_vhost = $RABBITMQ_DEFAULT_VHOST"; fi
    } > "$conf"
  fi
  cookie=/var/lib/rabbitmq/.erlang.cookie
  if [ -n "${RABBITMQ_ERLANG_COOKIE:-}" ] && [ ! -e "$cookie" ]; then
    (umask 0077 && printf '%s' "$RABBITMQ_ERLANG_COOKIE" > "$cookie")
  fi
  if [ "$(id -u)" = 0 ]; then
    find /var/lib/rabbitmq /etc/rabbitmq \! -user rabbitmq -exec chown rabbitmq '{}' +
    if [ "$1" = rabbitmq-server ]; then exec setpriv --reuid=rabbitmq --regid=rabbitmq --init-groups -- "$BASH_SOURCE" "$@"; fi
  fi
fi
exec "$@"
