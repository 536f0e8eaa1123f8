# Sourced by run: Swift's own list of requests shows no token that it does not take while they are renewed in time, and a new one behind each that
# is revoked.

# requests SWIFT CONTAINER [FROM]: what it was asked of the container, from that line of its list on.
requests() { tail -n "+$((${3:-0} + 1))" "$peer_folder/$1/requests" | grep -E "/$2(/| )" || true; }
# lines SWIFT: of its list.
lines() { wc -l < "$peer_folder/$1/requests"; }
# memcached SWIFT-PORT WORDS: to the memory of tokens beside the Swift on that port.
memcached() { printf '%s\r\nquit\r\n' "$2" > "/dev/tcp/127.0.0.1/$(($1 + 4))"; }

# used SWIFT VOLUME: one change, and a checkpoint that brings it to the store.
used() {
    volume_request "$1" PUT "$url/files/$2" "$folder/small"
    timeout 60 "$server" volume checkpoint "$1" --config "$folder/tokens.toml" > "$folder/checkpoint" || fail "$1: no checkpoint with a new token"
}

# tokens COUNT: until so many of Keystone's were used, each renewed at half of its life.
tokens() {
    local name swift from until index=0 tokens refused count=$1
    local seconds=$((keystone_seconds * (count - 1) / 2 + 10))
    local keystone_port=${keystone_swift_url##*:}
    cat > "$folder/tokens.toml" <<CONF
data = "$folder/data-tokens"
[ports]
nfs = 0
smb = 0
http = $http_port
admin = $admin_port
[engine]
checkpoint_interval = "1s"
flush_time = "1s"
[[store]]
name = "brief"
url = "swift://brief"
endpoint = "$swift_url/auth/v1.0"
user = "test:tester"
secret_key = "testing"
[[store]]
name = "keyed"
url = "swift://keyed"
endpoint = "$keystone_url"
storage_url = "$keystone_swift_url/v1/AUTH_$(keystone_account "$(keystone_login)")"
user = "storer"
project = "stores"
secret_key = "storer-secret"
$(for name in brief keyed; do printf '[[volume]]\nname = "%s"\nstore = "%s"\n' $name $name; done)
[[user]]
name = "alice"
secret = "alice-secret"
volumes = ["brief", "keyed"]
CONF
    start_server "$folder/tokens.toml"
    # Of a Swift that hears of its Keystone late the server asks again.
    for name in brief keyed; do
        for _ in $(seq 60); do volume_request "$name" PUT "$url/files" 2> /dev/null && break || sleep 1; done
        volume_request "$name" PUT "$url/files/first" "$folder/small"
    done
    declare -A from=([swift]=$(lines swift) [keystone-swift]=$(lines keystone-swift))
    until=$((SECONDS + seconds))
    while [ $SECONDS -lt $until ]; do
        index=$((index + 1))
        # tempauth gives whoever has a token the same one again until it ends; one that forgets that gives a new one, as other servers do.
        memcached "$swift_port" "delete $(printf 'AUTH_/user/test:tester' | md5sum | cut -d ' ' -f 1)"
        for name in brief keyed; do volume_request "$name" PUT "$url/files/$index" "$folder/small"; done
        sleep 0.5
    done
    for name in brief keyed; do
        swift=$([ $name = brief ] && echo swift || echo keystone-swift)
        requests $swift $name "${from[$swift]}" > "$folder/requests"
        refused=$(grep -c '^401' "$folder/requests" || true)
        tokens=$(cut -d ' ' -f 4 "$folder/requests" | sort -u | wc -l)
        [ "$refused" = 0 ] || fail "$name: $refused requests of $(wc -l < "$folder/requests") had a token that is over: $(grep -m 3 '^401' "$folder/requests")"
        [ "$tokens" -ge "$count" ] || fail "$name: $tokens tokens in $seconds s"
        step "$name: $tokens tokens in $(wc -l < "$folder/requests") requests, none refused"
    done
    # Revoked, each in its way: tempauth forgets all; Keystone is told, and Swift forgets what it knew of it.
    declare -A from=([swift]=$(lines swift) [keystone-swift]=$(lines keystone-swift))
    memcached "$swift_port" flush_all
    tokens=$(requests keystone-swift keyed | grep '^2' | tail -n 1 | cut -d ' ' -f 4)
    curl --noproxy '*' -fsS -X DELETE "$keystone_url/auth/tokens" -H "X-Auth-Token: $tokens" -H "X-Subject-Token: $tokens"
    memcached "$keystone_port" flush_all
    for name in brief keyed; do
        swift=$([ $name = brief ] && echo swift || echo keystone-swift)
        used $name revoked
        requests $swift $name "${from[$swift]}" > "$folder/requests"
        grep -q '^401' "$folder/requests" || fail "$name: no request with a token that was revoked"
        # Behind the last refusal; what is looked for and is not there has a 404.
        awk '/^401/ { good = 0; next } /^2/ { good = 1 } END { exit !good }' "$folder/requests" || fail "$name: no request that went well behind it: $(tail -n 1 "$folder/requests")"
        volume_request $name GET "$url/files/revoked" | cmp - "$folder/small" || fail "$name: what was written with a new token"
    done
    stop_server
    step "tokens are renewed before their end, and when they are revoked"
}
