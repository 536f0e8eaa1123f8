# Sourced by run, while the server runs: a second server reads what the first one owns, and a copy of it, and writes nothing.

# A user who may read the bucket and nothing else.
allow_reader() {
    cat > "$folder/policy" <<'JSON'
{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": ["arn:aws:iam:::user/reader"]},
 "Action": ["s3:ListBucket", "s3:GetObject"], "Resource": ["arn:aws:s3:::bucket", "arn:aws:s3:::bucket/*"]}]}
JSON
    radosgw_request PUT "$radosgw_url/bucket?policy=" "$folder/policy"
}

reader_command() { "$server" volume "$@" --config "$folder/reader.toml"; }
# read_there VOLUME PATH
read_there() { volume_request "$1" GET "http://127.0.0.1:$reader_http/$2"; }
# shows VOLUME PATH FILE: some time soon.
shows() {
    for _ in $(seq 300); do
        if read_there "$1" "$2" 2> /dev/null | cmp -s - "$3"; then return; fi
        sleep 0.1
    done
    tail -n 5 "$folder/reader.log" >&2
    fail "the reader does not show $2 of $1: $(reader_command show "$1")"
}
keystone_login() {
    curl --noproxy '*' -fsS -D - -o /dev/null "$keystone_url/auth/tokens" -H 'Content-Type: application/json' -d '{"auth":
        {"identity":{"methods":["password"],"password":{"user":{"name":"storer","domain":{"id":"default"},
        "password":"storer-secret"}}},"scope":{"project":{"name":"stores","domain":{"id":"default"}}}}}' |
        tr -d '\r' | sed -n 's/^X-Subject-Token: //p'
}
keystone_account() {
    curl --noproxy '*' -fsS "$keystone_url/auth/tokens" -H "X-Auth-Token: $1" -H "X-Subject-Token: $1" |
        python3 -c 'import json, sys; print(json.load(sys.stdin)["token"]["project"]["id"])'
}
# mirror WORDS: of the volume tempauth to the other Swift. A Swift without memory for tokens for a moment answers 401, a slow one 503: what copies goes
# on with a new token, as every client of Swift does.
mirror() {
    local token
    for _ in 1 2 3 4 5; do
        token=$(keystone_login)
        if python3 "$here/mirror.py" "$swift_url/v1/AUTH_test" "$(swift_token)" \
            "$keystone_swift_url/v1/AUTH_$(keystone_account "$token")" "$token" "$1"; then return; fi
        sleep 2
    done
    fail "the copy on another Swift is not complete"
}

# Swift's own container sync brings the volume tempauth to another account, by the headers that we gave its containers.
sync_containers() {
    /usr/bin/python3 "$here/swift-sync.py" "$peer_folder/swift" "$((swift_port + 2))" > "$folder/synced" 2>> "$peer_folder/swift.log" ||
        fail "container sync: $(cat "$folder/synced") $(tail -n 5 "$peer_folder/swift.log")"
}
prepare_sync() {
    local token one
    token=$(curl --noproxy '*' -fsS -D - -o /dev/null -H 'X-Auth-User: copy:copier' -H 'X-Auth-Key: copying' "$swift_url/auth/v1.0" |
        tr -d '\r' | sed -n 's/^X-Auth-Token: //p')
    for one in 0 1 2; do
        curl --noproxy '*' -fsS -X PUT -H "X-Auth-Token: $token" -H 'X-Container-Sync-Key: sync-secret' "$swift_url/v1/AUTH_copy/volume-000$one"
    done
}

follow() {
    local reader_http ports count before after files
    reader_http=$(free_port)
    allow_reader
    ports=$(printf '%s\n' '[ports]' 'nfs = 0' 'smb = 0' "http = $reader_http" 'admin = 0')
    cat > "$folder/reader.toml" <<CONF
data = "$folder/data-reader"
$ports
[[store]]
name = "ceph"
url = "s3://bucket/some/where"
endpoint = "$radosgw_url"
access_key = "reader"
secret_file = "$folder/reader-secret"
[[store]]
name = "mirror"
url = "swift://volume"
endpoint = "$keystone_url"
user = "storer"
project = "stores"
secret_key = "storer-secret"
spread = "hash"
containers = 3
[[store]]
name = "decided"
url = "swift://decided"
endpoint = "$swift_url/auth/v1.0"
user = "test:tester"
secret_key = "testing"
arbiter = ["$etcd_url"]
[[volume]]
name = "ceph"
store = "ceph"
read_only = true
[[volume]]
name = "mirror"
store = "mirror"
read_only = true
[[volume]]
name = "own"
[[user]]
name = "alice"
secret = "alice-secret"
volumes = ["ceph", "mirror"]
CONF
    # One server serves no two copies of one volume.
    cat > "$folder/synced.toml" <<CONF
data = "$folder/data-synced"
$ports
[[store]]
name = "synced"
url = "swift://volume"
endpoint = "$swift_url/auth/v1.0"
user = "copy:copier"
secret_key = "copying"
spread = "hash"
containers = 3
[[volume]]
name = "synced"
store = "synced"
read_only = true
[[user]]
name = "alice"
secret = "alice-secret"
volumes = ["synced"]
CONF
    printf 'reader-secret\n' > "$folder/reader-secret"
    # A copy on another Swift, made by its API alone.
    printf 'before' > "$folder/before"
    printf 'after' > "$folder/after"
    volume_request tempauth PUT "$url/files/copied" "$folder/before"
    volume_command freeze tempauth > "$folder/frozen"
    mirror ""
    prepare_sync
    sync_containers
    volume_command release tempauth > "$folder/frozen"
    "$server" serve --config "$folder/reader.toml" < /dev/null > "$folder/out-reader" 2>> "$folder/reader.log" &
    other=$!
    for _ in $(seq 100); do grep -q '^proxyfs: ready' "$folder/out-reader" && break; sleep 0.1; done
    # By command, behind an arbiter.
    volume_command checkpoint decided > "$folder/checkpoint"
    files=$(volume_command show decided --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["files"])')
    reader_command follow decided --store decided > "$folder/followed"
    grep -q "open to be read" "$folder/followed" || fail "volume follow: $(cat "$folder/followed")"
    reader_command show decided --json | python3 -c 'import json, sys
row = json.load(sys.stdin)
assert row["state"] == "read-only" and row["files"] == int(sys.argv[1]), row' "$files"
    # The owner goes on: each answer is one of its states, and none is older than the one before.
    before=0
    for count in $(seq 40); do
        printf '%d' "$count" > "$folder/count"
        volume_request ceph PUT "$url/files/counter" "$folder/count"
        volume_request ceph PUT "$url/files/changing" "$folder/large"
        after=$(read_there ceph files/counter 2> /dev/null || echo "$before")
        [ "$after" -ge "$before" ] && [ "$after" -le "$count" ] || fail "the reader shows $after behind $before"
        before=$after
    done
    [ "$before" -gt 10 ] || fail "the reader was at $before when 40 were written"
    shows ceph files/counter "$folder/count"
    shows ceph files/changing "$folder/large"
    if volume_request ceph PUT "http://127.0.0.1:$reader_http/files/changed" "$folder/small" > "$folder/nothing" 2>&1; then
        fail "the reader takes changes"
    fi
    says "only read here" reader_command take ceph
    says "only read here" reader_command checkpoint ceph
    reader_command show ceph --json | python3 -c 'import json, sys
row = json.load(sys.stdin)
assert row["state"] == "read-only" and row["header"] > 1 and row["age_seconds"] < 30 and "problem" not in row, row'
    [ "$(volume_command show ceph --json | grep -c problem)" = 0 ] || fail "the owner has trouble"
    reader_command delete decided --yes > "$folder/followed"
    grep -q "were left" "$folder/followed" || fail "the reader's deletion: $(cat "$folder/followed")"
    volume_request decided GET "$url/files/large" | cmp - "$folder/large" || fail "the reader deleted its owner's volume"
    step "a second server reads what the first one owns"

    # The copy gets its newest headers before what they name.
    shows mirror files/copied "$folder/before"
    shows mirror files/large "$folder/large"
    volume_request tempauth PUT "$url/files/copied" "$folder/after"
    volume_request tempauth PUT "$url/files/new" "$folder/large"
    volume_command freeze tempauth > "$folder/frozen"
    mirror "segment/,meta/"
    sleep 6
    read_there mirror files/copied | cmp - "$folder/before" || fail "a state is shown that is not whole"
    reader_command show mirror | grep -q "not shown yet" || fail "nothing is told of the state that is not whole"
    mirror ""
    sync_containers
    volume_command release tempauth > "$folder/frozen"
    shows mirror files/copied "$folder/after"
    shows mirror files/new "$folder/large"
    kill -TERM "$other"
    wait "$other" || fail "the reader did not stop as it should"
    other=
    "$server" fsck mirror --config "$folder/reader.toml" 2> /dev/null || fail "fsck of a copy"
    "$server" serve --config "$folder/synced.toml" < /dev/null > "$folder/out-reader" 2>> "$folder/reader.log" &
    other=$!
    shows synced files/copied "$folder/after"
    shows synced files/new "$folder/large"
    shows synced files/large "$folder/large"
    kill -TERM "$other"
    wait "$other" || fail "the reader of what was synced did not stop as it should"
    other=
    "$server" fsck synced --config "$folder/synced.toml" 2> /dev/null || fail "fsck of what container sync brought"
    radosgw_request DELETE "$radosgw_url/bucket?policy="
    step "copies made by Swift's API and by its container sync are read, as far as they are whole"
}
