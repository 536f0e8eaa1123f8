/// Of the commands on NFS.
extension Help {
    static let nfsClients = """
        proxyfs nfs clients: show who is connected, has mounted what, and holds how many locks.

        Usage: proxyfs nfs clients

        Mounts are what clients have said since this server's start, and few of them say when they end one. Who uses a mount
        has a connection.

        Where: a running server over DATA/control.socket, or one elsewhere with --admin.
          --data DIR         the data directory (./data)
          --config FILE      the server's configuration
          --admin URL        http://ADDRESS:PORT of a server's admin listener
          --token-file FILE  its token (DATA/admin.token)
          --json             the answer as JSON

        Examples:
          proxyfs nfs clients --data /srv/proxyfs

        """

    static let nfsLocks = """
        proxyfs nfs locks: show the locks of NFS clients.

        Usage: proxyfs nfs locks

        PROCESS is the client's own number for who holds the lock; bytes from FIRST to LAST are locked.

        Where: a running server over DATA/control.socket, or one elsewhere with --admin.
          --data DIR         the data directory (./data)
          --config FILE      the server's configuration
          --admin URL        http://ADDRESS:PORT of a server's admin listener
          --token-file FILE  its token (DATA/admin.token)
          --json             the answer as JSON

        Examples:
          proxyfs nfs locks --json

        """

    static let nfsStats = """
        proxyfs nfs stats: show how many calls came in, and what became of them.

        Usage: proxyfs nfs stats

        Held calls were answered later, refused ones by RPC itself, dropped ones not at all. Grace: clients reclaim the
        locks that they held before a restart, and nobody takes new ones.

        Where: a running server over DATA/control.socket, or one elsewhere with --admin.
          --data DIR         the data directory (./data)
          --config FILE      the server's configuration
          --admin URL        http://ADDRESS:PORT of a server's admin listener
          --token-file FILE  its token (DATA/admin.token)
          --json             the answer as JSON

        Examples:
          proxyfs nfs stats

        """
}
