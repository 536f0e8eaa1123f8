# Sourced by run: three members of etcd over TLS, with users; one of them stands still, and the users' rights change.

cluster_ports=()
cluster_processes=()

start_etcd_cluster() {
    local index initial="" ring=()
    for index in 0 1 2; do
        cluster_ports+=("$(free_port)")
        ring+=("$(free_port)")
        initial+="${initial:+,}m$index=http://127.0.0.1:${ring[index]}"
    done
    for index in 0 1 2; do
        peer "etcd-$index" etcd --name "m$index" --data-dir "$peer_folder/etcd-$index" \
            --listen-client-urls "https://127.0.0.1:${cluster_ports[index]}" \
            --advertise-client-urls "https://localhost:${cluster_ports[index]}" \
            --cert-file "$folder/authority.pem" --key-file "$folder/key.pem" \
            --listen-peer-urls "http://127.0.0.1:${ring[index]}" --initial-advertise-peer-urls "http://127.0.0.1:${ring[index]}" \
            --initial-cluster "$initial" --initial-cluster-state new --heartbeat-interval 100 --election-timeout 1000
        cluster_processes+=("${peers[-1]}")
    done
    local until=$((SECONDS + 60))
    until cluster 0 maintenance/status '{}' 2> /dev/null | grep -q '"leader":"[1-9]'; do
        [ $SECONDS -lt $until ] || fail "three members of etcd do not find a leader"
        sleep 0.2
    done
}

# cluster MEMBER WHAT QUESTION [TOKEN]
cluster() {
    curl --noproxy '*' -fsS -m 10 --cacert "$folder/authority.pem" "https://localhost:${cluster_ports[$1]}/v3/$2" -d "$3" \
        ${4:+-H "Authorization: $4"}
}
coded() { printf '%s' "$1" | base64 -w0; }
# grant FROM TO TOKEN: the role of ProxyFS may read and write keys in between.
grant() {
    cluster 0 auth/role/grant "{\"name\":\"proxyfs\",\"perm\":{\"permType\":\"READWRITE\",\"key\":\"$(coded "$1")\",\"range_end\":\"$(coded "$2")\"}}" "${3:-}" \
        > "$folder/granted"
}

guarded() {
    local index leader token late
    cluster 0 auth/user/add '{"name":"root","password":"root-secret"}' > "$folder/granted"
    cluster 0 auth/role/add '{"name":"root"}' > "$folder/granted"
    cluster 0 auth/user/grant '{"user":"root","role":"root"}' > "$folder/granted"
    cluster 0 auth/user/add '{"name":"proxyfs","password":"arbiter-secret"}' > "$folder/granted"
    cluster 0 auth/role/add '{"name":"proxyfs"}' > "$folder/granted"
    grant "proxyfs/" "proxyfs0"
    cluster 0 auth/user/grant '{"user":"proxyfs","role":"proxyfs"}' > "$folder/granted"
    cluster 0 auth/enable '{}' > "$folder/granted"
    printf 'arbiter-secret\n' > "$folder/arbiter-secret"
    cat > "$folder/guarded.toml" <<CONF
data = "$folder/data-guarded"
[ports]
nfs = 0
smb = 0
http = $http_port
admin = $admin_port
[engine]
checkpoint_interval = "1s"
[[store]]
name = "guarded"
url = "swift://guarded"
endpoint = "$swift_url/auth/v1.0"
user = "test:tester"
secret_key = "testing"
arbiter = ["https://localhost:${cluster_ports[0]}", "https://localhost:${cluster_ports[1]}", "https://localhost:${cluster_ports[2]}"]
arbiter_user = "proxyfs"
arbiter_secret_file = "$folder/arbiter-secret"
arbiter_authorities = "$folder/authority.pem"
[[volume]]
name = "own"
[[volume]]
name = "guarded"
store = "guarded"
log = "store"
lease = "6s"
[[user]]
name = "alice"
secret = "alice-secret"
volumes = ["guarded"]
CONF
    sed -e 's/^arbiter_secret_file.*/arbiter_secret_file = "'"${folder//\//\\/}"'\/secret"/' "$folder/guarded.toml" > "$folder/unknown.toml"
    says "authentication failed" "$server" store check guarded --config "$folder/unknown.toml"
    sed -e '/^arbiter_authorities/d' "$folder/guarded.toml" > "$folder/strange.toml"
    says "certificate" "$server" store check guarded --config "$folder/strange.toml"
    start_server "$folder/guarded.toml"
    volume_request guarded PUT "$url/files"
    volume_request guarded PUT "$url/files/small" "$folder/small"
    # The leader stands still: another one is found, and nobody who uses the volume notices more than a pause.
    leader=$(cluster 0 maintenance/status '{}' | python3 -c 'import json, sys; print(json.load(sys.stdin)["leader"])')
    for index in 0 1 2; do
        cluster $index maintenance/status '{}' | grep -q "\"member_id\":\"$leader\"" && break
    done
    kill -STOP "${cluster_processes[index]}"
    for late in 1 2 3 4 5 6 7 8 9 10; do
        AWS_ACCESS_KEY_ID=guarded:alice AWS_SECRET_ACCESS_KEY=alice-secret timeout 30 "$here/s3request" PUT \
            "$url/files/late-$late" "$folder/small" || fail "no change while the leader of etcd stands still"
        volume_request guarded GET "$url/files/late-$late" | cmp - "$folder/small" || fail "no answer while the leader of etcd stands still"
        sleep 0.5
    done
    kill -CONT "${cluster_processes[index]}"
    # Its rights change: tokens end with that.
    token=$(cluster 0 auth/authenticate '{"name":"root","password":"root-secret"}' | python3 -c 'import json, sys; print(json.load(sys.stdin)["token"])')
    grant "other/" "other0" "$token"
    sleep 2
    volume_request guarded PUT "$url/files/later" "$folder/small"
    sleep 7
    volume_request guarded GET "$url/files/later" | cmp - "$folder/small" || fail "a change of rights in etcd ends the lease"
    stop_server
    "$server" fsck guarded --config "$folder/guarded.toml" 2> /dev/null || fail "fsck behind three members of etcd"
    step "three members of etcd, with users and TLS, decide, and one may stand still"
}
