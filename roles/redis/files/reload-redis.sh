#!/bin/sh
# Load an instance's users and certificate again, without a restart: reload-redis NAME
set -eu
name=$1
REDISCLI_AUTH=$(cat /etc/bedstone/redis/admin.password)
export REDISCLI_AUTH
# Both speak to either server.
client=$(command -v valkey-cli || command -v redis-cli)
manage() {
    "$client" -e -s "/run/redis-$name/redis.sock" --user bedstone "$@"
}
manage ACL LOAD
if grep -q '^tls-port' "/etc/bedstone/redis/$name.conf"; then
    manage CONFIG SET tls-cert-file /etc/bedstone/tls/redis.crt tls-key-file /etc/bedstone/tls/redis.key
fi
