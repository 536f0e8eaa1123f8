"""swift-server.py SWIFT.CONF SERVICE.CONF NAME: one of OpenStack Swift's servers, with a swift.conf that is not in /etc."""

import sys

from swift.common import utils

conf, service_conf, name = sys.argv[1:]
utils.SWIFT_CONF_FILE = conf
utils.validate_hash_conf()

from swift.common import storage_policy  # noqa: E402

storage_policy.SWIFT_CONF_FILE = conf
storage_policy.reload_storage_policies()

from swift.common.wsgi import run_wsgi  # noqa: E402

sys.exit(run_wsgi(service_conf, name))
