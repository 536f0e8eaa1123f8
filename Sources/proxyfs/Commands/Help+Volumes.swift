/// Of the commands on volumes and files.
extension Help {
    static let volumeCreate = """
        proxyfs volume create: make a volume and serve it, now and after restarts.

        Usage: proxyfs volume create NAME [OPTIONS]

          --durability WORD  store, log (the default) or memory: what a reply promises
          --store STORE      directory (the default): the objects lie in DATA/volumes/NAME/store; or the name of a
                             [[store]] of the configuration; or an address, s3://BUCKET/PREFIX?KEY=VALUE&... or
                             swift://CONTAINER/PREFIX?KEY=VALUE&...: proxyfs store check --help says more
          --log PLACE        local (the default); store: what is durable is in the store then, and another server can
                             go on with all of it; or /PATH, a directory that several hosts have mounted: who has
                             the lock in /PATH/NAME has the volume, and the next one goes on with all of it
          --lease TIME       2s to 600s, off, or auto (the default: off with --log local, else 30s): how long this
                             server goes on answering when it can not see whether another one has taken the volume
          --size SIZE        1PiB (the default): what clients are shown where no quota says less; it limits nothing

        Where: a running server over DATA/control.socket, one elsewhere with --admin, else this process itself.
          --data DIR         the data directory (./data)
          --config FILE      the server's configuration
          --admin URL        http://ADDRESS:PORT of a server's admin listener
          --token-file FILE  its token (DATA/admin.token)
          --json             the answer as JSON

        Examples:
          proxyfs volume create archive
          proxyfs volume create scratch --durability memory --size 100GiB
          proxyfs volume create ledger --durability store --store directory

        """

    static let volumeTake = """
        proxyfs volume take: go on with a volume from what its store has, when the place of its replay log is gone.

        Usage: proxyfs volume take NAME [OPTIONS]

        What only that log had is lost: nothing of a volume with durability store or with its log in the store. An owner that is
        still alive is shut out; this waits for his lease, and says so when he has none: make sure then that he is gone. Likewise on
        a store without conditional creation, such as OpenStack Swift, that has no arbiter.

          --store STORE      where its objects are, when this server does not know the volume
          --durability WORD  store, log (the default) or memory, likewise
          --log PLACE        local (the default), store or /PATH, likewise
          --lease TIME       2s to 600s, off, or auto (the default), likewise
          --size SIZE        what clients are shown, likewise

        Where: a running server over DATA/control.socket, one elsewhere with --admin, else this process itself.
          --data DIR         the data directory (./data)
          --config FILE      the server's configuration
          --admin URL        http://ADDRESS:PORT of a server's admin listener
          --token-file FILE  its token (DATA/admin.token)
          --json             the answer as JSON

        Examples:
          proxyfs volume take archive
          proxyfs volume take ledger --store s3://ledger --log store

        """

    static let volumeFollow = """
        proxyfs volume follow: read a volume that another server owns, or a copy of one.

        Usage: proxyfs volume follow NAME --store STORE [OPTIONS]

        Nothing is written to the store, and the owner knows nothing of it. What is shown is the owner's newest checkpoint, some
        seconds behind; proxyfs volume show says how far. A copy is shown as soon as one state of it is whole, and needs nothing but
        its objects. proxyfs volume delete ends it, and leaves the objects where they are.

          --store STORE  where its objects are: the name of a [[store]] of the configuration, or an address
          --size SIZE    1PiB (the default): what clients are shown

        Where: a running server over DATA/control.socket, one elsewhere with --admin, else this process itself.
          --data DIR         the data directory (./data)
          --config FILE      the server's configuration
          --admin URL        http://ADDRESS:PORT of a server's admin listener
          --token-file FILE  its token (DATA/admin.token)
          --json             the answer as JSON

        Examples:
          proxyfs volume follow archive --store s3://archive/volume
          proxyfs volume follow mirror --store copies --json

        """

    static let volumeList = """
        proxyfs volume list: show all volumes.

        Usage: proxyfs volume list [--json]

        Where: a running server over DATA/control.socket, one elsewhere with --admin, else this process itself.
          --data DIR         the data directory (./data)
          --config FILE      the server's configuration
          --admin URL        http://ADDRESS:PORT of a server's admin listener
          --token-file FILE  its token (DATA/admin.token)
          --json             the answer as JSON

        Examples:
          proxyfs volume list
          proxyfs volume list --json

        """

    static let volumeShow = """
        proxyfs volume show: show one volume.

        Usage: proxyfs volume show NAME [--json]

        Where: a running server over DATA/control.socket, one elsewhere with --admin, else this process itself.
          --data DIR         the data directory (./data)
          --config FILE      the server's configuration
          --admin URL        http://ADDRESS:PORT of a server's admin listener
          --token-file FILE  its token (DATA/admin.token)
          --json             the answer as JSON

        Examples:
          proxyfs volume show archive
          proxyfs volume show archive --json

        """

    static let volumeDelete = """
        proxyfs volume delete: delete a volume and all that is in it.

        Usage: proxyfs volume delete NAME --yes

        A volume that the configuration declares is not deleted by command.

          --yes  without it nothing is deleted

        Where: a running server over DATA/control.socket, one elsewhere with --admin, else this process itself.
          --data DIR         the data directory (./data)
          --config FILE      the server's configuration
          --admin URL        http://ADDRESS:PORT of a server's admin listener
          --token-file FILE  its token (DATA/admin.token)
          --json             the answer as JSON

        Examples:
          proxyfs volume delete scratch --yes
          proxyfs volume delete ledger --yes --json

        """

    static let volumeCheckpoint = """
        proxyfs volume checkpoint: bring all that was written to the store, and wait for it.

        Usage: proxyfs volume checkpoint NAME

        Where: a running server over DATA/control.socket, one elsewhere with --admin, else this process itself.
          --data DIR         the data directory (./data)
          --config FILE      the server's configuration
          --admin URL        http://ADDRESS:PORT of a server's admin listener
          --token-file FILE  its token (DATA/admin.token)
          --json             the answer as JSON

        Examples:
          proxyfs volume checkpoint archive
          proxyfs volume checkpoint archive --json

        """

    static let volumeFreeze = """
        proxyfs volume freeze: let a served volume stand still.

        Usage: proxyfs volume freeze NAME

        A checkpoint is made; then changes wait, and what is stored may be copied, until it is released. Reads go on.

        Where: a running server over DATA/control.socket, one elsewhere with --admin, else this process itself.
          --data DIR         the data directory (./data)
          --config FILE      the server's configuration
          --admin URL        http://ADDRESS:PORT of a server's admin listener
          --token-file FILE  its token (DATA/admin.token)
          --json             the answer as JSON

        Examples:
          proxyfs volume freeze archive
          proxyfs volume freeze archive --json

        """

    static let volumeRelease = """
        proxyfs volume release: let a frozen volume go on.

        Usage: proxyfs volume release NAME

        Where: a running server over DATA/control.socket, one elsewhere with --admin, else this process itself.
          --data DIR         the data directory (./data)
          --config FILE      the server's configuration
          --admin URL        http://ADDRESS:PORT of a server's admin listener
          --token-file FILE  its token (DATA/admin.token)
          --json             the answer as JSON

        Examples:
          proxyfs volume release archive
          proxyfs volume release archive --json

        """

    static let explain = """
        proxyfs explain: show what is known of one file: where it is stored, who may do what and why, and under which
        names the protocols show it.

        Usage: proxyfs explain PATH [--user NAME]

        PATH is /VOLUME/DIRECTORY/FILE.

          --user NAME  what this user may do; without it all users

        Where: a running server over DATA/control.socket, one elsewhere with --admin, else this process itself.
          --data DIR         the data directory (./data)
          --config FILE      the server's configuration
          --admin URL        http://ADDRESS:PORT of a server's admin listener
          --token-file FILE  its token (DATA/admin.token)
          --json             the answer as JSON

        Examples:
          proxyfs explain /default
          proxyfs explain /default --user alice --json

        """

    static let quotaSet = """
        proxyfs quota set: limit what a volume, a directory, a user or a group may take.

        Usage: proxyfs quota set VOLUME [OPTIONS]

        Limits that are not named stay; 0 is no limit.

          --tree DIR        of a directory and all below it
          --user NAME|UID   of a user's files
          --group NAME|GID  of a group's files
          --soft SIZE       may be passed for the time of grace: 10GiB
          --hard SIZE       may never be passed
          --soft-files N
          --hard-files N
          --grace TIME      7d is the default

        Where: a running server over DATA/control.socket, one elsewhere with --admin, else this process itself.
          --data DIR         the data directory (./data)
          --config FILE      the server's configuration
          --admin URL        http://ADDRESS:PORT of a server's admin listener
          --token-file FILE  its token (DATA/admin.token)
          --json             the answer as JSON

        Examples:
          proxyfs quota set default --hard 1TiB
          proxyfs quota set default --user alice --soft 10GiB --hard 12GiB --grace 3d
          proxyfs quota set archive --tree / --hard-files 1000000

        """

    static let quotaList = """
        proxyfs quota list: show the limits.

        Usage: proxyfs quota list [VOLUME] [--json]

        Where: a running server over DATA/control.socket, one elsewhere with --admin, else this process itself.
          --data DIR         the data directory (./data)
          --config FILE      the server's configuration
          --admin URL        http://ADDRESS:PORT of a server's admin listener
          --token-file FILE  its token (DATA/admin.token)
          --json             the answer as JSON

        Examples:
          proxyfs quota list
          proxyfs quota list default --json

        """

    static let quotaRemove = """
        proxyfs quota remove: take a limit away.

        Usage: proxyfs quota remove VOLUME [OPTIONS]

          --tree DIR        of a directory and all below it
          --user NAME|UID   of a user's files
          --group NAME|GID  of a group's files

        Where: a running server over DATA/control.socket, one elsewhere with --admin, else this process itself.
          --data DIR         the data directory (./data)
          --config FILE      the server's configuration
          --admin URL        http://ADDRESS:PORT of a server's admin listener
          --token-file FILE  its token (DATA/admin.token)
          --json             the answer as JSON

        Examples:
          proxyfs quota remove default
          proxyfs quota remove default --user alice
          proxyfs quota remove archive --tree /

        """
}
