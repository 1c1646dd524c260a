#!/bin/bash
# Makes the database at the first start, runs what lies in /docker-entrypoint-initdb.d, then becomes the server.
#
# MARIADB_ROOT_PASSWORD, MARIADB_RANDOM_ROOT_PASSWORD, MARIADB_ALLOW_EMPTY_ROOT_PASSWORD, MARIADB_ROOT_HOST, MARIADB_DATABASE,
# MARIADB_USER, MARIADB_PASSWORD; each also as MYSQL_…, and the values also as …_FILE.
set -euo pipefail

say() { printf '%s [Entrypoint]: %s\n' "$(date --rfc-3339=seconds)" "$*"; }
fail() { printf '%s [ERROR] [Entrypoint]: %s\n' "$(date --rfc-3339=seconds)" "$*" >&2; exit 1; }

# setting SUFFIX [default]: MARIADB_<SUFFIX>, else MYSQL_<SUFFIX>, each given directly or by a file
setting() {
  local suffix=$1 prefix name file
  for prefix in MARIADB MYSQL; do
    name=${prefix}_$suffix file=${prefix}_${suffix}_FILE
    if [ -n "${!name:-}" ] && [ -n "${!file:-}" ]; then fail "both $name and $file are set (but are exclusive)"; fi
    if [ -n "${!file:-}" ]; then export "MARIADB_$suffix=$(<"${!file}")"; unset "$file"; return; fi
    if [ -n "${!name:-}" ]; then export "MARIADB_$suffix=${!name}"; return; fi
  done
  export "MARIADB_$suffix=${2:-}"
}

quoted() { local text=${1//\\/\\\\}; printf "'%s'" "${text//\'/\\\'}"; }
identifier() { printf '`%s`' "${1//\`/\`\`}"; }

socket=/run/mysqld/mysqld.sock
query() { mariadb --protocol=socket --socket="$socket" -uroot -hlocalhost --binary-mode --skip-ssl ${sql_password:+"-p$sql_password"} "$@"; }

start_temporary() {
  "$@" --skip-networking --default-time-zone=SYSTEM --socket="$socket" --wsrep_on=OFF --expire-logs-days=0 --loose-innodb_buffer_pool_load_at_startup=0 &
  server=$!
  local deadline=$((SECONDS + 60))
  until query --database=mysql <<<'SELECT 1' >/dev/null 2>&1; do
    if ! kill -0 "$server" 2>/dev/null; then fail 'the server ended while the database was made'; fi
    if [ $SECONDS -ge $deadline ]; then fail 'Unable to start server.'; fi
    sleep 0.1
  done
}
stop_temporary() { kill "$server"; wait "$server"; }

set_up() {
  local statements=''
  if [ -n "$MARIADB_RANDOM_ROOT_PASSWORD" ]; then
    MARIADB_ROOT_PASSWORD=$(head -c 24 /dev/urandom | base64)
    say "GENERATED ROOT PASSWORD: $MARIADB_ROOT_PASSWORD"
  fi
  local password; password=$(quoted "$MARIADB_ROOT_PASSWORD")
  statements+="SET @@SESSION.SQL_LOG_BIN=0; SET @@SESSION.SQL_MODE=REPLACE(@@SESSION.SQL_MODE, 'NO_BACKSLASH_ESCAPES', '');
DROP USER IF EXISTS ''@'localhost'; DROP DATABASE IF EXISTS test;
ALTER USER 'root'@'localhost' IDENTIFIED BY $password;"
  if [ -n "$MARIADB_ROOT_HOST" ] && [ "$MARIADB_ROOT_HOST" != localhost ]; then
    local host; host=$(quoted "$MARIADB_ROOT_HOST")
    statements+="CREATE USER 'root'@$host IDENTIFIED BY $password; GRANT ALL ON *.* TO 'root'@$host WITH GRANT OPTION;"
  fi
  if [ -n "$MARIADB_DATABASE" ]; then statements+="CREATE DATABASE IF NOT EXISTS $(identifier "$MARIADB_DATABASE");"; fi
  if [ -n "$MARIADB_USER" ]; then
    local user; user=$(quoted "$MARIADB_USER")
    statements+="CREATE USER $user@'%' IDENTIFIED BY $(quoted "$MARIADB_PASSWORD");"
    if [ -n "$MARIADB_DATABASE" ]; then
      # In a grant the name of a database is a pattern.
      local pattern=${MARIADB_DATABASE//_/\\_}
      statements+="GRANT ALL ON $(identifier "$pattern").* TO $user@'%';"
    fi
  fi
  query --database=mysql <<<"$statements"
  sql_password=$MARIADB_ROOT_PASSWORD
}

run_init_files() {
  local file database=()
  if [ -n "$MARIADB_DATABASE" ]; then database=(--database="$MARIADB_DATABASE"); fi
  for file in /docker-entrypoint-initdb.d/*; do
    case $file in
      *.sh) if [ -x "$file" ]; then say "running $file"; "$file"; else say "sourcing $file"; . "$file"; fi ;;
      *.sql) say "running $file"; query "${database[@]}" < "$file" ;;
      *.sql.gz) say "running $file"; gunzip -c "$file" | query "${database[@]}" ;;
      *.sql.xz) say "running $file"; xz -dc "$file" | query "${database[@]}" ;;
      *.sql.zst) say "running $file"; zstd -dc "$file" | query "${database[@]}" ;;
      */'*') ;; # the directory is empty
      *) say "ignoring $file" ;;
    esac
  done
}

if [ "${1:0:1}" = - ]; then set -- mariadbd "$@"; fi
if [ "${1:-}" = mysqld ]; then shift; set -- mariadbd "$@"; fi
if [ "${1:-}" = mariadbd ]; then
  for suffix in ROOT_PASSWORD DATABASE USER PASSWORD RANDOM_ROOT_PASSWORD ALLOW_EMPTY_ROOT_PASSWORD; do setting "$suffix"; done
  if [ -z "$MARIADB_ALLOW_EMPTY_ROOT_PASSWORD" ]; then MARIADB_ALLOW_EMPTY_ROOT_PASSWORD=${MYSQL_ALLOW_EMPTY_PASSWORD:-}; fi
  setting ROOT_HOST %
  data=/var/lib/mysql
  if [ "$(id -u)" = 0 ]; then
    find "$data" /run/mysqld \! -user mysql -exec chown mysql:mysql '{}' +
    exec setpriv --reuid=mysql --regid=mysql --init-groups -- "$BASH_SOURCE" "$@"
  fi
  if [ ! -d "$data/mysql" ]; then
    if [ -z "$MARIADB_ROOT_PASSWORD$MARIADB_RANDOM_ROOT_PASSWORD$MARIADB_ALLOW_EMPTY_ROOT_PASSWORD" ]; then
      fail 'Database is uninitialized and password option is not specified
	You need to specify one of MARIADB_ROOT_PASSWORD, MARIADB_ALLOW_EMPTY_ROOT_PASSWORD and MARIADB_RANDOM_ROOT_PASSWORD'
    fi
    if [ -n "$MARIADB_USER" ] && [ -z "$MARIADB_PASSWORD" ]; then fail 'MARIADB_USER is set without MARIADB_PASSWORD'; fi
    say 'Initializing database files'
    mariadb-install-db --datadir="$data" --rpm --auth-root-authentication-method=normal --skip-test-db --cross-bootstrap >/dev/null
    sql_password=''
    start_temporary "$@"
    set_up
    run_init_files
    stop_temporary
    say 'MariaDB init process done. Ready for start up.'
  fi
  unset MARIADB_ROOT_PASSWORD MARIADB_PASSWORD MYSQL_ROOT_PASSWORD MYSQL_PASSWORD
fi
exec "$@"
