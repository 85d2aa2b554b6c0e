#!/bin/sh
# An authority and a certificate of it for hello.example.com, as role ca would make them.
set -eu
cd /etc/bedstone/tls
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "/CN=test authority" \
    -keyout ca.key -out ca.crt -addext "keyUsage=critical,keyCertSign,cRLSign"
openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=hello.example.com" \
    -keyout hello.key -out hello.csr
printf '%s\n' "subjectAltName=DNS:hello.example.com" "keyUsage=critical,digitalSignature" \
    "extendedKeyUsage=serverAuth" "authorityKeyIdentifier=keyid" "subjectKeyIdentifier=hash" > extensions
openssl x509 -req -in hello.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile extensions \
    -out hello.crt
