# For the scripts beside it: `serve` starts the built server on a free port, and lets it end with the script.
serve() {
    folder=$(mktemp -d)
    trap 'kill "$server" 2> /dev/null || true; wait "$server" 2> /dev/null || true; rm -rf "$folder"' EXIT
    # Thousands of small changes: what is tested here is the protocol, so nobody waits for the disk.
    printf '[[volume]]\nname = "default"\ndurability = "memory"\n' > "$folder/proxyfs.toml"
    # A test of smbtorture's looks for a share of this name.
    printf '[[share]]\nname = "hideunread"\nhide_unreadable = true\n' >> "$folder/proxyfs.toml"
    # Port 0 switches the front end off, so a free one is looked for.
    port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    .build/release/proxyfs serve --config "$folder/proxyfs.toml" --data "$folder/data" --nfs-port 0 --http-port 0 \
        --admin-port 0 --smb-port "$port" --user torture:secret --user other:secret2 > "$folder/log" 2>&1 < /dev/null &
    server=$!
    for _ in $(seq 100); do
        ! grep -q '^proxyfs: ready' "$folder/log" || return 0
        sleep 0.1
    done
    tail -n 20 "$folder/log" >&2
    return 1
}
