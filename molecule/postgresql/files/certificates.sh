#!/bin/sh
# Makes certificates for the tests in a directory:
#
#   certificates.sh DIRECTORY ca NAME                    an authority: NAME.crt, NAME.key
#   certificates.sh DIRECTORY issue CA FILE COMMON_NAME [DNS_NAME...]
#
# An authority that is there is kept; a certificate is always made again, with a new key.
set -eu
cd "$1"
case "$2" in
  ca)
    [ -e "$3.crt" ] || openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
      -keyout "$3.key" -out "$3.crt" -subj "/CN=$3" -days 30
    ;;
  issue)
    ca=$3 file=$4 common_name=$5
    shift 5
    names=DNS:$common_name
    for name in "$@"; do names="$names,DNS:$name"; done
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
      -keyout "$file.key" -out "$file.csr" -subj "/CN=$common_name"
    printf 'subjectAltName=%s\n' "$names" > "$file.ext"
    openssl x509 -req -in "$file.csr" -CA "$ca.crt" -CAkey "$ca.key" -CAcreateserial -days 30 \
      -extfile "$file.ext" -out "$file.crt"
    rm "$file.csr" "$file.ext"
    ;;
esac
