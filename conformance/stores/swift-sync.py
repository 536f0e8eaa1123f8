"""swift-sync.py FOLDER PORT: one pass of OpenStack Swift's own container sync over all containers of the Swift in FOLDER whose container server is at PORT."""

import sys

import eventlet

eventlet.monkey_patch()

from swift.common import utils  # noqa: E402

folder, port = sys.argv[1:]
utils.SWIFT_CONF_FILE = f"{folder}/swift.conf"
utils.validate_hash_conf()

from swift.common import storage_policy  # noqa: E402

storage_policy.SWIFT_CONF_FILE = utils.SWIFT_CONF_FILE
storage_policy.reload_storage_policies()

from swift.container.sync import ContainerSync  # noqa: E402

with open(f"{folder}/internal.conf", "w") as file:
    file.write(
        f"""[DEFAULT]
swift_dir = {folder}
[pipeline:main]
pipeline = catch_errors proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
[filter:catch_errors]
use = egg:swift#catch_errors
"""
    )
sync = ContainerSync(
    {
        "swift_dir": folder,
        "devices": f"{folder}/node",
        "mount_check": "false",
        "bind_ip": "127.0.0.1",
        "bind_port": port,
        "internal_client_conf_path": f"{folder}/internal.conf",
    }
)
# `report` forgets what was counted.
sync.report = lambda: None
sync.run_once()
print(f"swift-sync: {sync.container_puts} put, {sync.container_deletes} deleted, {sync.container_failures} failed")
sys.exit(sync.container_failures > 0 or sync.container_syncs == 0)
