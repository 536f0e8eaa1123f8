# Sourced: two servers fight for one volume, on a store of each kind.

# fight STORE ROUNDS: directory, ceph, swift (with etcd) or s3api (with etcd).
fight() {
    local name=$1 rounds=$2 ring=$folder/ring-$1 ports=()
    mkdir "$folder/fight-$name"
    case $name in
    directory) ring=directory ;;
    ceph)
        ports=("$radosgw_port")
        cat > "$ring" <<CONF
[[store]]
name = "ring"
url = "s3://bucket/ring"
endpoint = "http://127.0.0.1:@0@"
access_key = "store"
secret_file = "$folder/secret"
attempt_time = "2s"
CONF
        ;;
    swift)
        ports=("$swift_port" "$etcd_port")
        cat > "$ring" <<CONF
[[store]]
name = "ring"
url = "swift://ring"
endpoint = "http://127.0.0.1:@0@/auth/v1.0"
user = "test:tester"
secret_key = "testing"
attempt_time = "2s"
arbiter = ["http://127.0.0.1:@1@"]
CONF
        ;;
    s3api)
        ports=("$swift_port" "$etcd_port")
        cat > "$ring" <<CONF
[[store]]
name = "ring"
url = "s3://bucket/ring"
endpoint = "http://127.0.0.1:@0@"
access_key = "test:tester"
secret_key = "testing"
conditional = false
attempt_time = "2s"
arbiter = ["http://127.0.0.1:@1@"]
CONF
        ;;
    *) fail "$name is no store to fight on" ;;
    esac
    python3 "$here/fight.py" "$server" "$folder/fight-$name" "$ring" "$rounds" "$folder/fault-proxy" "${ports[@]}" || {
        tail -n 15 "$folder/fight-$name"/*.log >&2
        fail "the fight on $name"
    }
    step "two servers fought for a volume on $name"
}
