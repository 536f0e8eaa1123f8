/// Of the commands on exports and shares.
extension Help {
    static let exportAdd = """
        proxyfs export add: let NFS clients mount a directory.

        Usage: proxyfs export add PATH --client CLIENT [OPTIONS]

        CLIENT is HOSTS or HOSTS(OPTION,...): *, an address, a network, a host's name or @NETGROUP, with options as in
        exports(5): ro (the default), rw, root_squash (the default), no_root_squash, all_squash, anonuid=N, anongid=N,
        sec=sys:krb5:krb5i:krb5p, secure (the default: from ports below 1024), insecure. Quote it for the shell.

          --client CLIENT    who may mount, any number of times; the first that fits decides
          --durability WORD  store, log or memory

        Where: a running server over DATA/control.socket, one elsewhere with --admin, else this process itself.
          --data DIR         the data directory (./data)
          --config FILE      the server's configuration
          --admin URL        http://ADDRESS:PORT of a server's admin listener
          --token-file FILE  its token (DATA/admin.token)
          --json             the answer as JSON

        Examples:
          proxyfs export add /archive --client 10.0.0.0/8(rw) --client 192.168.1.7(ro,insecure)
          proxyfs export add /default --client *(rw,no_root_squash) --durability store

        """

    static let exportChange = """
        proxyfs export change: change who may mount, at once; clients that are named replace all.

        Usage: proxyfs export change PATH [OPTIONS]

        CLIENT is HOSTS or HOSTS(OPTION,...): *, an address, a network, a host's name or @NETGROUP, with options as in
        exports(5): ro (the default), rw, root_squash (the default), no_root_squash, all_squash, anonuid=N, anongid=N,
        sec=sys:krb5:krb5i:krb5p, secure (the default: from ports below 1024), insecure. Quote it for the shell.

          --client CLIENT    who may mount, any number of times; the first that fits decides
          --durability WORD  store, log or memory

        Where: a running server over DATA/control.socket, one elsewhere with --admin, else this process itself.
          --data DIR         the data directory (./data)
          --config FILE      the server's configuration
          --admin URL        http://ADDRESS:PORT of a server's admin listener
          --token-file FILE  its token (DATA/admin.token)
          --json             the answer as JSON

        Examples:
          proxyfs export change /archive --client 10.0.0.0/8(rw,all_squash,anonuid=1000,anongid=1000)
          proxyfs export change /default --durability log

        """

    static let exportRemove = """
        proxyfs export remove: let nobody mount a directory any more; a volume at a loopback address is exported to this host again.

        Usage: proxyfs export remove PATH

        Where: a running server over DATA/control.socket, one elsewhere with --admin, else this process itself.
          --data DIR         the data directory (./data)
          --config FILE      the server's configuration
          --admin URL        http://ADDRESS:PORT of a server's admin listener
          --token-file FILE  its token (DATA/admin.token)
          --json             the answer as JSON

        Examples:
          proxyfs export remove /archive
          proxyfs export remove /default --json

        """

    static let exportList = """
        proxyfs export list: show the exports that were made by command.

        Usage: proxyfs export list [--json]

        Where: a running server over DATA/control.socket, one elsewhere with --admin, else this process itself.
          --data DIR         the data directory (./data)
          --config FILE      the server's configuration
          --admin URL        http://ADDRESS:PORT of a server's admin listener
          --token-file FILE  its token (DATA/admin.token)
          --json             the answer as JSON

        Examples:
          proxyfs export list
          proxyfs export list --json

        """

    static let shareAdd = """
        proxyfs share add: let SMB clients connect to a directory under a name.

        Usage: proxyfs share add VOLUME NAME [OPTIONS]

        Each volume is a share of its own name without that.

          --directory DIR    below the volume's root
          --comment TEXT     shown in the list of shares
          --access ro|rw     rw is the default
          --hidden yes|no    not in the list of shares
          --encrypt yes|no   refuse clients that do not encrypt
          --sign yes|no      refuse clients that neither sign nor encrypt
          --guest yes|no     let in, as nobody, whoever has no name here
          --hide-unreadable yes|no
                             leave out of listings what the reader may not read
          --durability WORD  store, log or memory

        Where: a running server over DATA/control.socket, one elsewhere with --admin, else this process itself.
          --data DIR         the data directory (./data)
          --config FILE      the server's configuration
          --admin URL        http://ADDRESS:PORT of a server's admin listener
          --token-file FILE  its token (DATA/admin.token)
          --json             the answer as JSON

        Examples:
          proxyfs share add archive papers --access ro --comment papers
          proxyfs share add default team --encrypt yes
          proxyfs share add default lobby --guest yes --access ro --hide-unreadable yes

        """

    static let shareChange = """
        proxyfs share change: change a share; what is not named stays.

        Usage: proxyfs share change NAME [OPTIONS]

        A volume's own share can be changed, too.

          --directory DIR    below the volume's root
          --comment TEXT     shown in the list of shares
          --access ro|rw     rw is the default
          --hidden yes|no    not in the list of shares
          --encrypt yes|no   refuse clients that do not encrypt
          --sign yes|no      refuse clients that neither sign nor encrypt
          --guest yes|no     let in, as nobody, whoever has no name here
          --hide-unreadable yes|no
                             leave out of listings what the reader may not read
          --durability WORD  store, log or memory

        Where: a running server over DATA/control.socket, one elsewhere with --admin, else this process itself.
          --data DIR         the data directory (./data)
          --config FILE      the server's configuration
          --admin URL        http://ADDRESS:PORT of a server's admin listener
          --token-file FILE  its token (DATA/admin.token)
          --json             the answer as JSON

        Examples:
          proxyfs share change papers --access rw --hidden yes
          proxyfs share change default --access ro

        """

    static let shareRemove = """
        proxyfs share remove: remove a share, or what was changed of a volume's own.

        Usage: proxyfs share remove NAME

        Where: a running server over DATA/control.socket, one elsewhere with --admin, else this process itself.
          --data DIR         the data directory (./data)
          --config FILE      the server's configuration
          --admin URL        http://ADDRESS:PORT of a server's admin listener
          --token-file FILE  its token (DATA/admin.token)
          --json             the answer as JSON

        Examples:
          proxyfs share remove papers
          proxyfs share remove team --json

        """

    static let shareList = """
        proxyfs share list: show all shares.

        Usage: proxyfs share list [--json]

        Where: a running server over DATA/control.socket, one elsewhere with --admin, else this process itself.
          --data DIR         the data directory (./data)
          --config FILE      the server's configuration
          --admin URL        http://ADDRESS:PORT of a server's admin listener
          --token-file FILE  its token (DATA/admin.token)
          --json             the answer as JSON

        Examples:
          proxyfs share list
          proxyfs share list --json

        """
}
