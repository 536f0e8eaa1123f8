/// Of the commands on users.
extension Help {
    static let userAdd = """
        proxyfs user add: add a user of SMB, S3 and Swift.

        Usage: proxyfs user add NAME [OPTIONS]

        The secret never stands on the command line, where everybody could read it.

          --secret-file FILE   the secret: the first line of FILE; without it standard input is read
          --random             a secret is made and shown this once
          --uid N              without it the first free one from 10000 on
          --gid N              without it the uid
          --group NAME|GID     a further group, any number of times; an unknown name makes a group
          --volume V[:RIGHTS]  rights ro or rw (the default); without any: default:rw

        Where: a running server over DATA/control.socket, one elsewhere with --admin, else this process itself.
          --data DIR         the data directory (./data)
          --config FILE      the server's configuration
          --admin URL        http://ADDRESS:PORT of a server's admin listener
          --token-file FILE  its token (DATA/admin.token)
          --json             the answer as JSON

        Examples:
          proxyfs user add alice --random
          proxyfs user add bob --random --uid 2001 --gid 2001 --group staff --volume default:ro --volume archive

        """

    static let userChange = """
        proxyfs user change: change a user; what is not named stays.

        Usage: proxyfs user change NAME [OPTIONS]

        Files keep their numbers: a changed uid leaves them with the old one.

          --secret-file FILE  the secret: the first line of FILE; without it standard input is read
          --random            a secret is made and shown this once
          --uid N             without it the first free one from 10000 on
          --gid N             without it the uid
          --group NAME|GID    a further group, any number of times; an unknown name makes a group
          --disable           let the user in no more
          --enable            let the user in again

        Where: a running server over DATA/control.socket, one elsewhere with --admin, else this process itself.
          --data DIR         the data directory (./data)
          --config FILE      the server's configuration
          --admin URL        http://ADDRESS:PORT of a server's admin listener
          --token-file FILE  its token (DATA/admin.token)
          --json             the answer as JSON

        Examples:
          proxyfs user change alice --random
          proxyfs user change alice --group staff --group 100
          proxyfs user change bob --disable

        """

    static let userRemove = """
        proxyfs user remove: remove a user; the files stay, under the uid.

        Usage: proxyfs user remove NAME

        Where: a running server over DATA/control.socket, one elsewhere with --admin, else this process itself.
          --data DIR         the data directory (./data)
          --config FILE      the server's configuration
          --admin URL        http://ADDRESS:PORT of a server's admin listener
          --token-file FILE  its token (DATA/admin.token)
          --json             the answer as JSON

        Examples:
          proxyfs user remove alice
          proxyfs user remove bob --json

        """

    static let userList = """
        proxyfs user list: show all users; secrets are not shown.

        Usage: proxyfs user list [--json]

        Where: a running server over DATA/control.socket, one elsewhere with --admin, else this process itself.
          --data DIR         the data directory (./data)
          --config FILE      the server's configuration
          --admin URL        http://ADDRESS:PORT of a server's admin listener
          --token-file FILE  its token (DATA/admin.token)
          --json             the answer as JSON

        Examples:
          proxyfs user list
          proxyfs user list --json

        """

    static let userGrant = """
        proxyfs user grant: give a user rights on a volume: ro or rw (the default).

        Usage: proxyfs user grant NAME VOLUME[:RIGHTS]

        Where: a running server over DATA/control.socket, one elsewhere with --admin, else this process itself.
          --data DIR         the data directory (./data)
          --config FILE      the server's configuration
          --admin URL        http://ADDRESS:PORT of a server's admin listener
          --token-file FILE  its token (DATA/admin.token)
          --json             the answer as JSON

        Examples:
          proxyfs user grant alice archive
          proxyfs user grant alice archive:ro

        """

    static let userRevoke = """
        proxyfs user revoke: take a user's rights on a volume, and the keys for it.

        Usage: proxyfs user revoke NAME VOLUME

        Where: a running server over DATA/control.socket, one elsewhere with --admin, else this process itself.
          --data DIR         the data directory (./data)
          --config FILE      the server's configuration
          --admin URL        http://ADDRESS:PORT of a server's admin listener
          --token-file FILE  its token (DATA/admin.token)
          --json             the answer as JSON

        Examples:
          proxyfs user revoke alice archive
          proxyfs user revoke alice archive --json

        """

    static let userKeyAdd = """
        proxyfs user key add: make a further access key for S3 and Swift, good for one volume (default).

        Usage: proxyfs user key add NAME [VOLUME] [--for TIME]

        The secret is shown this once. With --for it is a key of S3 that ends after that time (1m to 7d), or when the
        user's secret changes: requests bring its session token along. Such keys are not listed.

          --for TIME         how long it is good

        Where: a running server over DATA/control.socket, one elsewhere with --admin, else this process itself.
          --data DIR         the data directory (./data)
          --config FILE      the server's configuration
          --admin URL        http://ADDRESS:PORT of a server's admin listener
          --token-file FILE  its token (DATA/admin.token)
          --json             the answer as JSON

        Examples:
          proxyfs user key add alice
          proxyfs user key add alice archive --json
          proxyfs user key add alice --for 1h --json

        """

    static let userKeyList = """
        proxyfs user key list: show access keys; secrets are not shown.

        Usage: proxyfs user key list [NAME] [--json]

        Where: a running server over DATA/control.socket, one elsewhere with --admin, else this process itself.
          --data DIR         the data directory (./data)
          --config FILE      the server's configuration
          --admin URL        http://ADDRESS:PORT of a server's admin listener
          --token-file FILE  its token (DATA/admin.token)
          --json             the answer as JSON

        Examples:
          proxyfs user key list
          proxyfs user key list alice --json

        """

    static let userKeyRemove = """
        proxyfs user key remove: take an access key back.

        Usage: proxyfs user key remove NAME KEY

        Where: a running server over DATA/control.socket, one elsewhere with --admin, else this process itself.
          --data DIR         the data directory (./data)
          --config FILE      the server's configuration
          --admin URL        http://ADDRESS:PORT of a server's admin listener
          --token-file FILE  its token (DATA/admin.token)
          --json             the answer as JSON

        Examples:
          proxyfs user key remove alice KEY
          proxyfs user key remove alice KEY --json

        """
}
