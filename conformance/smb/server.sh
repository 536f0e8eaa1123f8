# For the scripts beside it: `serve` starts the built server on a free port ($port), and lets it end with the script; `serve_all`
# one that serves NFS and HTTP, too ($nfs_port, $http_port). $folder is its own, and $server its process; `end` ends it sooner.
program=${PROXYFS:-$PWD/.build/release/proxyfs}
server='' folder=''
end() {
    [ -z "$server" ] || { kill "$server" 2> /dev/null || true; wait "$server" 2> /dev/null || true; }
    [ -z "$folder" ] || rm -rf "$folder"
    server='' folder=''
}
trap end EXIT
start() {
    # Not what the server before said.
    : > "$folder/log"
    "$program" serve --config "$folder/proxyfs.toml" --data "$folder/data" --admin-port 0 --smb-port "$port" \
        --user torture:secret --user other:secret2 "$@" > "$folder/log" 2>&1 < /dev/null &
    server=$!
    for _ in $(seq 600); do
        ! grep -q '^proxyfs: ready' "$folder/log" || return 0
        sleep 0.1
    done
    tail -n 20 "$folder/log" >&2
    return 1
}
prepare() {
    folder=$(mktemp -d)
    # Thousands of small changes: what is tested here is the protocol, so nobody waits for the disk.
    printf '[[volume]]\nname = "default"\ndurability = "memory"\n' > "$folder/proxyfs.toml"
    # A test of smbtorture's looks for a share of this name.
    printf '[[share]]\nname = "hideunread"\nhide_unreadable = true\n' >> "$folder/proxyfs.toml"
    # Port 0 switches a front end off, so free ones are looked for.
    read -r port nfs_port http_port < <(conformance/ports.py 3)
}
serve() {
    prepare
    start --nfs-port 0 --http-port 0
}
# A share "host" that shows $folder/host, where programs beside the server work, too.
share_host() {
    mkdir -m 777 "$folder/host"
    "$program" volume mount /default/host --directory "$folder/host" --data "$folder/data" > /dev/null
    "$program" share add default host --directory /host --data "$folder/data" > /dev/null
}
serve_all() {
    prepare
    start --nfs-port "$nfs_port" --http-port "$http_port"
}
