/// What `--help` prints. The lines behind `Examples:` that begin with two spaces and `proxyfs` are run by a test.
enum Help {
    static let overview = """
        proxyfs: one server that makes an object store a full file system.

        Usage: proxyfs COMMAND [OPTIONS]

          serve          serve volumes until told to stop
          volume         create, take, follow, list, show, delete, checkpoint, freeze, release, mount, unmount, mounts
          user           add, change, remove, list, grant, revoke, key add, key list, key remove
          bucket         create, list, stat: directories for S3 clients
          export         add, change, remove, list: directories for NFS clients
          share          add, change, remove, list: directories for SMB clients
          quota          set, list, remove: limits
          nfs            clients, locks, stats: who uses NFS
          smb            sessions, opens, locks: who uses SMB
          explain        show what is known of one file
          store check    find out what an object store really does
          fsck           check a volume that nobody serves
          bench engine   measure the engine on this machine
          config check   check a configuration and show what holds
          doctor         check this machine
          version        print the version

        proxyfs COMMAND --help has the options and examples of each; proxyfs --help --json names them all.
        Exit status: 0 success, 1 failure, 2 misuse.

        """

    static let serve = """
        proxyfs serve: serve volumes until SIGTERM.

        Usage: proxyfs serve [OPTIONS]

          --config FILE        the configuration (TOML); options go before what it says
          --data DIR           where volumes live (./data), made when it is not there
          --address A          where the listeners accept (127.0.0.1)
          --nfs-port N         NFS, MOUNT, NLM and the rest (2049); 0 switches a front end off
          --smb-port N         SMB (4450)
          --http-port N        S3, Swift, AGFS (8080)
          --https-port N       the same with TLS (0)
          --admin-port N       health, metrics (8081)
          --tls self-signed    a certificate of our own making, for trials
          --user NAME:SECRET   a user of SMB, S3 and Swift; any number of times
          --user-file FILE     users by lines; with PROXYFS_USERS, keeps secrets off the process list

        Prints "proxyfs: ready" when every listener accepts. SIGHUP reads the configuration again: log.level holds
        at once, and for everything else that has changed the log says that it needs a restart. SIGTERM finishes
        what is under way and ends within 30 seconds.

        Examples:
          proxyfs serve
          proxyfs serve --data /srv/proxyfs --admin-port 9081 --user alice:secret
          proxyfs serve --config /etc/proxyfs.toml

        """

    static let configCheck = """
        proxyfs config check: check a configuration and print every setting, its value, and who set it.

        Usage: proxyfs config check [--config FILE] [options of proxyfs serve]

        Examples:
          proxyfs config check
          proxyfs config check --config /etc/proxyfs.toml
          proxyfs config check --admin-port 9081

        """

    static let doctor = """
        proxyfs doctor: check whether this machine is fit to serve, and say what to do where it is not.

        Usage: proxyfs doctor [--json] [options of proxyfs serve]

        Looks at the kernel, limits, memory, the clock, OpenSSL, rpcbind, the data directory (free space, whether
        and how fast it syncs) and whether the ports are free. Exit status 1 when something must be mended.

        Examples:
          proxyfs doctor
          proxyfs doctor --json
          proxyfs doctor --data /srv/proxyfs --nfs-port 0

        """

    static let version = """
        proxyfs version: print the version.

        Usage: proxyfs version [--json]

        Examples:
          proxyfs version
          proxyfs version --json

        """

    static let fsck = """
        proxyfs fsck: check a volume that nobody serves.

        Usage: proxyfs fsck VOLUME [--metadata] [--json] [--data DIR] [--config FILE]

        Reads every record and every byte with its checksum, makes anew what sums and back references should be, and
        names each difference by path. It mends nothing. Exit status 1 when there are differences.

          --metadata   leave the files' data out

        Examples:
          proxyfs fsck default
          proxyfs fsck archive --metadata --json

        """

    static let storeCheck = """
        proxyfs store check: find out what an object store really does, and what follows for ProxyFS.

        Usage: proxyfs store check STORE [--json] [--config FILE]

        STORE is the name of a [[store]] of the configuration, or an address: s3://BUCKET/PREFIX?KEY=VALUE&...,
        swift://CONTAINER/PREFIX?KEY=VALUE&..., with keys of [[store]] that are no secrets. Secrets come from the
        configuration, from files that it names, or from the environment (AWS_ACCESS_KEY_ID, OS_PASSWORD, ST_KEY ...).

        Writes some objects under a name of its own, and deletes them again: reading what was just written, overwriting,
        deleting, listing, ranges, large objects, 8 writers that create one name at once, the clock. Exit status 1 when
        the store lacks something that ProxyFS needs.

        Examples:
          proxyfs store check --help

        """

    static let benchEngine = """
        proxyfs bench engine: measure the engine on this machine's disk.

        Usage: proxyfs bench engine [--directory DIR] [--files N] [--megabytes N] [--json]

        Works in a folder of its own that goes afterwards. Each number stands beside its durability: log (synced), memory
        (written, not synced), or none for what promises nothing.

          --directory DIR   where to work (.)
          --files N         files of the large part (100000)
          --megabytes N     data of the sequential part (256)

        Examples:
          proxyfs bench engine --files 2000 --megabytes 8
          proxyfs bench engine --files 1000 --megabytes 4 --json

        """
}
