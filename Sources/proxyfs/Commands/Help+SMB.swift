/// Of the commands on SMB.
extension Help {
    static let smbSessions = """
        proxyfs smb sessions: show who is logged on, from where, and how.

        Usage: proxyfs smb sessions

        KIND: user, ticket (by Kerberos), guest (a name that nobody here has), nobody. PROTECTION: what all messages of the
        session have to be. 10,000 are shown at most.

        Where: a running server over DATA/control.socket, or one elsewhere with --admin.
          --data DIR         the data directory (./data)
          --config FILE      the server's configuration
          --admin URL        http://ADDRESS:PORT of a server's admin listener
          --token-file FILE  its token (DATA/admin.token)
          --json             the answer as JSON

        Examples:
          proxyfs smb sessions
          proxyfs smb sessions --json

        """

    static let smbOpens = """
        proxyfs smb opens: show what SMB clients have open.

        Usage: proxyfs smb opens

        A handle without a session outlived its connection: its client may come back for it. ACCESS is the mask of rights that
        the handle was given; KEEPS is the oplock, or the lease as R, W and H. 10,000 are shown at most.

        Where: a running server over DATA/control.socket, or one elsewhere with --admin.
          --data DIR         the data directory (./data)
          --config FILE      the server's configuration
          --admin URL        http://ADDRESS:PORT of a server's admin listener
          --token-file FILE  its token (DATA/admin.token)
          --json             the answer as JSON

        Examples:
          proxyfs smb opens
          proxyfs smb opens --json

        """

    static let smbLocks = """
        proxyfs smb locks: show the byte-range locks of SMB clients.

        Usage: proxyfs smb locks

        Bytes from FIRST to LAST are locked. 10,000 are shown at most.

        Where: a running server over DATA/control.socket, or one elsewhere with --admin.
          --data DIR         the data directory (./data)
          --config FILE      the server's configuration
          --admin URL        http://ADDRESS:PORT of a server's admin listener
          --token-file FILE  its token (DATA/admin.token)
          --json             the answer as JSON

        Examples:
          proxyfs smb locks
          proxyfs smb locks --json

        """
}
