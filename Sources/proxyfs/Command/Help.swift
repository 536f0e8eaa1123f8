/// What `--help` prints. The lines behind `Examples:` that begin with two spaces and `proxyfs` are run by a test.
enum Help {
    static let overview = """
        proxyfs: one server that makes an object store a full file system.

        Usage: proxyfs COMMAND [OPTIONS]

          serve          serve volumes until told to stop
          config check   check a configuration and show what holds
          doctor         check this machine
          version        print the version

        proxyfs COMMAND --help has the options and examples of each.
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
}
