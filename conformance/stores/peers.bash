# Sourced: real stores in a scratch folder, on free ports of loopback, as this user. What can not start is a failure.
# Each start_NAME sets NAME_url; await_peers waits for all of them, stop_peers ends them.

peers=()
awaited=()
peer_folder=

free_port() { free_ports 1; }

# What stands between a server of ours and a store.
build_proxy() { gcc -O2 -Wall -Wextra -Werror "$here/fault-proxy.c" -o "$folder/fault-proxy"; }

# The first of so many ports in a row.
free_ports() { "$here/../ports.py" "$1" | cut -d " " -f 1; }

# peer NAME COMMAND...: runs it in the background, its output in a file.
peer() {
    local name=$1
    shift
    "$@" < /dev/null >> "$peer_folder/$name.log" 2>&1 &
    peers+=($!)
}

# await NAME URL: something will answer there, or its process ends, which is a failure.
await() { awaited+=("$1 $2 ${peers[-1]}"); }

await_peers() {
    local name url process begin=$SECONDS
    for one in "${awaited[@]}"; do
        read -r name url process <<< "$one"
        until curl --noproxy '*' -s -o /dev/null -m 5 "$url"; do
            if [ $((SECONDS - begin)) -gt 200 ] || ! kill -0 "$process" 2> /dev/null; then
                echo "stores: $name does not answer at $url:" >&2
                tail -n 20 "$peer_folder/$name"*.log >&2
                return 1
            fi
            sleep 0.2
        done
    done
    awaited=()
}

stop_peers() {
    local one
    for one in "${peers[@]}"; do kill "$one" 2> /dev/null || true; done
    for one in "${peers[@]}"; do
        for _ in $(seq 50); do kill -0 "$one" 2> /dev/null && sleep 0.1 || break; done
        kill -9 "$one" 2> /dev/null || true
        wait "$one" 2> /dev/null || true
    done
    peers=()
}

# A cluster of Ceph with one monitor, one disk (a file) and the S3 server; user store, secret store-secret.
start_radosgw() {
    local folder=$peer_folder/radosgw port fsid=5f0b3c1a-3a54-4f0e-9d6d-52d0a8a6c001
    port=$(free_ports 9)
    mkdir -p "$folder"/{mon,osd,rgw}
    export CEPH_CONF=$folder/ceph.conf
    cat > "$CEPH_CONF" <<CONF
[global]
fsid = $fsid
mon host = [v2:127.0.0.1:$((port + 1))]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind msgr1 = false
ms bind port min = $((port + 2))
ms bind port max = $((port + 8))
auth cluster required = none
auth service required = none
auth client required = none
ms mon client mode = crc
run dir = $folder
crash dir = $folder
log file = $folder/\$name.log
mon data = $folder/mon
mon data avail warn = 1
mon data avail crit = 1
mon allow pool size one = true
paxos propose interval = 0.05
osd data = $folder/osd
osd memory target = 939524096
bluestore block size = 16G
osd pool default size = 1
osd pool default pg num = 1
rgw data = $folder/rgw
rgw rados pool pg num min = 1
rgw frontends = beast endpoint=127.0.0.1:$port tcp_nodelay=1
rgw dns name = localhost
CONF
    monmaptool --create --clobber --fsid "$fsid" --addv a "[v2:127.0.0.1:$((port + 1))]" "$folder/monmap" \
        >> "$peer_folder/radosgw.log"
    ceph-mon -i a --mkfs --monmap "$folder/monmap" >> "$peer_folder/radosgw.log" 2>&1
    peer radosgw-mon ceph-mon -f -i a
    timeout 60 ceph osd new "$fsid" 0 >> "$peer_folder/radosgw.log" 2>&1
    ceph-osd -i 0 --mkfs --osd-uuid "$fsid" >> "$peer_folder/radosgw.log" 2>&1
    peer radosgw-osd ceph-osd -f -i 0
    timeout 60 radosgw-admin user create --uid=store --display-name=store --access-key=store --secret=store-secret \
        >> "$peer_folder/radosgw.log" 2>&1
    peer radosgw radosgw -f -n client.rgw
    radosgw_port=$port
    radosgw_url=http://127.0.0.1:$port
    await radosgw "$radosgw_url"
}

# start_swift [KEYSTONE-URL]: OpenStack Swift all in one; without Keystone, tempauth's test:tester with key testing, and s3api, and copy:copier with key
# copying, whose account is where container sync brings what goes to //here/copy/AUTH_copy.
start_swift() {
    local keystone=${1:-} name=swift folder port service number=1 auth="s3api tempauth"
    if [ -n "$keystone" ]; then
        name=keystone-swift
        auth="authtoken keystoneauth"
    fi
    folder=$peer_folder/$name
    port=$(free_ports 5)
    mkdir -p "$folder/node/d1"
    printf '[swift-hash]\nswift_hash_path_suffix = conformance\n[storage-policy:0]\nname = gold\ndefault = yes\n' > "$folder/swift.conf"
    for service in account container object; do
        cat > "$folder/$service.conf" <<CONF
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = $((port + number))
workers = 0
user = $(id -un)
swift_dir = $folder
devices = $folder/node
mount_check = false
log_level = WARNING
[pipeline:main]
pipeline = $service-server
[app:$service-server]
use = egg:swift#$service
CONF
        (
            cd "$folder"
            swift-ring-builder $service.builder create 4 1 0
            swift-ring-builder $service.builder add --region 1 --zone 1 --ip 127.0.0.1 --port $((port + number)) \
                --device d1 --weight 1
            swift-ring-builder $service.builder rebalance
        ) >> "$peer_folder/$name.log" 2>&1
        number=$((number + 1))
    done
    {
        cat <<CONF
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = $port
workers = 0
user = $(id -un)
swift_dir = $folder
log_level = WARNING
[pipeline:main]
pipeline = catch_errors requests gatekeeper healthcheck cache listing_formats container_sync $auth copy container_quotas slo dlo proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
recheck_container_existence = 1
[filter:requests]
paste.filter_factory = request_log:factory
file = $folder/requests
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:$((port + 4))
[filter:s3api]
use = egg:swift#s3api
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing .admin
user_copy_copier = copying .admin
token_life = ${token_seconds:-3600}
[filter:keystoneauth]
use = egg:swift#keystoneauth
operator_roles = admin, storer
[filter:authtoken]
paste.filter_factory = keystonemiddleware.auth_token:filter_factory
auth_type = password
auth_url = $keystone
www_authenticate_uri = $keystone
username = admin
password = admin-secret
project_name = admin
user_domain_id = default
project_domain_id = default
delay_auth_decision = true
service_token_roles_required = true
cache = swift.cache
include_service_catalog = false
CONF
        for service in catch_errors gatekeeper healthcheck listing_formats container_sync copy container_quotas slo dlo; do
            printf '[filter:%s]\nuse = egg:swift#%s\n' $service $service
        done
    } > "$folder/proxy.conf"
    printf '[here]\nkey = realm-secret\ncluster_copy = http://127.0.0.1:%d/v1/\n' "$port" > "$folder/container-sync-realms.conf"
    peer "$name-memcached" memcached -u nobody -l 127.0.0.1 -p $((port + 4)) -U 0
    for service in account container object proxy; do
        peer "$name-$service" /usr/bin/python3 "$here/swift-server.py" "$folder/swift.conf" "$folder/$service.conf" $service-server
    done
    if [ -n "$keystone" ]; then
        keystone_swift_url=http://127.0.0.1:$port
    else
        swift_port=$port
        swift_url=http://127.0.0.1:$port
    fi
    await "$name" "http://127.0.0.1:$port/healthcheck"
}

# One member of etcd, in memory's stead on the scratch folder.
start_etcd() {
    local port peers_port
    port=$(free_port)
    peers_port=$(free_port)
    peer etcd etcd --data-dir "$peer_folder/etcd" --listen-client-urls "http://127.0.0.1:$port" --unsafe-no-fsync \
        --advertise-client-urls "http://127.0.0.1:$port" --listen-peer-urls "http://127.0.0.1:$peers_port"
    etcd_process=${peers[-1]}
    etcd_port=$port
    etcd_url=http://127.0.0.1:$port
    await etcd "$etcd_url/health"
}

# OpenStack Keystone on SQLite; user storer, password storer-secret, project stores. Making its tables takes long:
# prepare_keystone may run beside other things, with the port that it is told.
prepare_keystone() {
    local folder=$peer_folder/keystone log=$peer_folder/keystone.log kind url=http://127.0.0.1:$1/v3
    mkdir -p "$folder"/{fernet,credential}
    chmod 700 "$folder"/{fernet,credential}
    cat > "$folder/keystone.conf" <<CONF
[DEFAULT]
log_file = $folder/keystone.log
[database]
connection = sqlite:///$folder/keystone.db
[token]
provider = fernet
expiration = ${keystone_seconds:-3600}
[fernet_tokens]
key_repository = $folder/fernet
[credential]
key_repository = $folder/credential
[identity]
password_hash_rounds = 4
CONF
    manage() { keystone-manage --config-file "$folder/keystone.conf" "$@" >> "$log" 2>&1; }
    for kind in fernet credential; do manage ${kind}_setup --keystone-user "$(id -un)" --keystone-group "$(id -gn)"; done
    manage db_sync
    manage bootstrap --bootstrap-password admin-secret --bootstrap-region-id RegionOne --bootstrap-public-url "$url" \
        --bootstrap-internal-url "$url"
    manage bootstrap --bootstrap-username storer --bootstrap-password storer-secret --bootstrap-project-name stores \
        --bootstrap-role-name storer
}

start_keystone() {
    keystone_url=http://127.0.0.1:$1/v3
    # One process: two lock each other out of SQLite.
    OS_KEYSTONE_CONFIG_FILES=$peer_folder/keystone/keystone.conf peer keystone uwsgi --plugin python3 \
        --http-socket "127.0.0.1:$1" --wsgi-file /usr/bin/keystone-wsgi-public --need-app --die-on-term --disable-logging
    await keystone "$keystone_url"
}

# catalog SWIFT-URL: tells Keystone where Swift is.
catalog() {
    local token service answer=$peer_folder/keystone/answer
    post() {
        curl --noproxy '*' -fsS -D "$answer" "$keystone_url/$1" -H 'Content-Type: application/json' \
            -H "X-Auth-Token: ${token:-}" -d "$2"
    }
    post auth/tokens '{"auth":{"identity":{"methods":["password"],"password":{"user":{"name":"admin","domain":
        {"id":"default"},"password":"admin-secret"}}},"scope":{"project":{"name":"admin","domain":{"id":"default"}}}}}' \
        > /dev/null
    token=$(tr -d '\r' < "$answer" | sed -n 's/^X-Subject-Token: //p')
    service=$(post services '{"service":{"type":"object-store","name":"swift"}}' |
        python3 -c 'import json, sys; print(json.load(sys.stdin)["service"]["id"])')
    post endpoints "{\"endpoint\":{\"interface\":\"public\",\"region_id\":\"RegionOne\",\"service_id\":\"$service\",
        \"url\":\"$1/v1/AUTH_%(project_id)s\"}}" > /dev/null
}

# application_credential: of the user storer, with the secret application-secret; prints its id.
application_credential() {
    local user token answer=$peer_folder/keystone/answer
    user=$(curl --noproxy '*' -fsS -D "$answer" "$keystone_url/auth/tokens" -H 'Content-Type: application/json' -d '{"auth":
        {"identity":{"methods":["password"],"password":{"user":{"name":"storer","domain":{"id":"default"},
        "password":"storer-secret"}}},"scope":{"project":{"name":"stores","domain":{"id":"default"}}}}}' |
        python3 -c 'import json, sys; print(json.load(sys.stdin)["token"]["user"]["id"])')
    token=$(tr -d '\r' < "$answer" | sed -n 's/^X-Subject-Token: //p')
    curl --noproxy '*' -fsS "$keystone_url/users/$user/application_credentials" -H 'Content-Type: application/json' \
        -H "X-Auth-Token: $token" \
        -d '{"application_credential":{"name":"application","secret":"application-secret"}}' |
        python3 -c 'import json, sys; print(json.load(sys.stdin)["application_credential"]["id"])'
}
