#!/bin/sh
# Makes the certificates of the TLS tests anew: two authorities, a server (localhost, 127.0.0.1, ::1), a client.
# They protect nothing and are valid for 100 years.
set -eu
cd "$(dirname "$0")"
days=36500

authority() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days $days -keyout "$1.key" -out "$1.pem" \
        -subj "/CN=sandarb-consumer test $1" \
        -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign
}

leaf() {
    openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$1.key" -out "$1.csr" -subj "/CN=$1"
    printf '%s\n' "$2" basicConstraints=critical,CA:FALSE >"$1.ext"
    openssl x509 -req -in "$1.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days $days -extfile "$1.ext" -out "$1.pem"
    rm "$1.csr" "$1.ext"
}

authority ca
authority other-ca
leaf server "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1
extendedKeyUsage=serverAuth"
leaf client "subjectAltName=DNS:client
extendedKeyUsage=clientAuth"
# The authorities sign nothing more.
rm ca.key other-ca.key ca.srl
