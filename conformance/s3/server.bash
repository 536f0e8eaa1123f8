# Sourced by the suites of S3: starts a server on free ports with a folder of its own, and ends it.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
here=$root/conformance/s3
server=${PROXYFS:-$root/.build/release/proxyfs}
folder=$(mktemp -d)
pid=

start_server() {
    : > "$folder/out"
    "$server" serve --data "${DATA:-$folder/data}" --nfs-port "$NFS_PORT" --smb-port "$SMB_PORT" --admin-port 0 --http-port "$HTTP_PORT" \
        --https-port "$HTTPS_PORT" --tls self-signed --user-file "$folder/users" \
        < /dev/null >> "$folder/out" 2> "$folder/log" &
    pid=$!
    for _ in $(seq 600); do
        grep -q '^proxyfs: ready' "$folder/out" && return
        kill -0 "$pid" 2> /dev/null || break
        sleep 0.1
    done
    echo "the server did not start:" >&2
    cat "$folder/log" >&2
    return 1
}

stop_server() {
    [ -n "$pid" ] || return 0
    kill -TERM "$pid" 2> /dev/null || true
    wait "$pid" || true
    pid=
}

finish() {
    local status=${1:-$?}
    stop_server
    if [ $status -ne 0 ]; then tail -n 20 "$folder/log" >&2; fi
    rm -rf "$folder"
    exit $status
}
trap finish EXIT

read -r NFS_PORT SMB_PORT HTTP_PORT HTTPS_PORT <<< "$("$root/conformance/ports.py" 4)"
umask 077
printf 'alice:alice-secret\nbob:bob-secret\n' > "$folder/users"
export NFS_PORT SMB_PORT HTTP_PORT HTTPS_PORT
export SERVER=$server SERVER_DATA=$folder/data
export ENDPOINT=http://127.0.0.1:$HTTP_PORT SECURE_ENDPOINT=https://127.0.0.1:$HTTPS_PORT
export AWS_ACCESS_KEY_ID=alice AWS_SECRET_ACCESS_KEY=alice-secret AWS_DEFAULT_REGION=us-east-1
export AWS_EC2_METADATA_DISABLED=true AWS_CONFIG_FILE=/dev/null AWS_SHARED_CREDENTIALS_FILE=/dev/null
export PYTHONDONTWRITEBYTECODE=1
# Python's own way of signing; who has AWS's in C sets it to false, and has all checksums.
export BOTO_DISABLE_CRT=true
# Clients may have been told of certificates and proxies of this machine: neither is meant here.
unset AWS_CA_BUNDLE REQUESTS_CA_BUNDLE HTTP_PROXY HTTPS_PROXY http_proxy https_proxy
