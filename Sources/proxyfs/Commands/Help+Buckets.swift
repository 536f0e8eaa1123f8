/// Of the commands on buckets.
extension Help {
    static let bucketCreate = """
        proxyfs bucket create: make a bucket, which is a directory in the volume's root.

        Usage: proxyfs bucket create NAME [OPTIONS]

          --volume V                     the volume (default)
          --owner USER                   whose it is; without it root's
          --durability store|log|memory  what an answer of S3 promises here; without it what the volume says

        Where: a running server over DATA/control.socket, one elsewhere with --admin, else this process itself.
          --data DIR         the data directory (./data)
          --config FILE      the server's configuration
          --admin URL        http://ADDRESS:PORT of a server's admin listener
          --token-file FILE  its token (DATA/admin.token)
          --json             the answer as JSON

        Examples:
          proxyfs bucket create photos --owner alice
          proxyfs bucket create logs --volume archive
          proxyfs bucket create ledgers --durability store

        """

    static let bucketList = """
        proxyfs bucket list: show the buckets of a volume, what lies in them, and how much of it are older versions.

        Usage: proxyfs bucket list [--volume V] [--json]

          --volume V  the volume (default)

        Where: a running server over DATA/control.socket, one elsewhere with --admin, else this process itself.
          --data DIR         the data directory (./data)
          --config FILE      the server's configuration
          --admin URL        http://ADDRESS:PORT of a server's admin listener
          --token-file FILE  its token (DATA/admin.token)
          --json             the answer as JSON

        Examples:
          proxyfs bucket list
          proxyfs bucket list --volume archive --json

        """

    static let bucketStat = """
        proxyfs bucket stat: show one bucket.

        Usage: proxyfs bucket stat NAME [--volume V] [--json]

          --volume V  the volume (default)

        Where: a running server over DATA/control.socket, one elsewhere with --admin, else this process itself.
          --data DIR         the data directory (./data)
          --config FILE      the server's configuration
          --admin URL        http://ADDRESS:PORT of a server's admin listener
          --token-file FILE  its token (DATA/admin.token)
          --json             the answer as JSON

        Examples:
          proxyfs bucket stat photos
          proxyfs bucket stat photos --json

        """
}
