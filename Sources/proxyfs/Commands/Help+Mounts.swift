/// Of the commands on mounts.
extension Help {
    static let volumeMount = """
        proxyfs volume mount: show a directory of the host, or of a volume, at a path, after restarts too.

        Usage: proxyfs volume mount PATH --directory DIR [--read-only]
               proxyfs volume mount PATH --bind OTHER
               proxyfs volume mount PATH --volume NAME[:/DIRECTORY] [--read-only]

        PATH is /VOLUME/DIRECTORY, which is made when only its last name is missing; what lies in it is covered. The
        files of a directory of the host stay the host's own: others may change them meanwhile. No lease is granted on them,
        no quota counts them. What is bound is the same directory by both names, with one set of locks. Another volume stays one: its locks, rights and quotas hold.

          --directory DIR  of the host where the volume is served, from the root on
          --read-only      clients change nothing in it
          --bind OTHER     /VOLUME/DIRECTORY of the same volume
          --volume NAME    another volume, or a directory of it: NAME:/DIRECTORY

        Where: a running server over DATA/control.socket, one elsewhere with --admin, else this process itself.
          --data DIR         the data directory (./data)
          --config FILE      the server's configuration
          --admin URL        http://ADDRESS:PORT of a server's admin listener
          --token-file FILE  its token (DATA/admin.token)
          --json             the answer as JSON

        Examples:
          proxyfs volume mount /archive/import --directory /srv/import
          proxyfs volume mounts archive
          proxyfs volume unmount /archive/import --force
          proxyfs volume mount /archive/import --directory /srv/import --read-only --json

        """

    static let volumeMounts = """
        proxyfs volume mounts: show what is mounted.

        Usage: proxyfs volume mounts [VOLUME] [--json]

        Where: a running server over DATA/control.socket, one elsewhere with --admin, else this process itself.
          --data DIR         the data directory (./data)
          --config FILE      the server's configuration
          --admin URL        http://ADDRESS:PORT of a server's admin listener
          --token-file FILE  its token (DATA/admin.token)
          --json             the answer as JSON

        Examples:
          proxyfs volume mounts
          proxyfs volume mounts archive --json

        """

    static let volumeUnmount = """
        proxyfs volume unmount: take a mount away; its files stay on the host, clients' handles of them are stale.

        Usage: proxyfs volume unmount PATH [--force]

          --force  also when somebody has a file open there

        Where: a running server over DATA/control.socket, one elsewhere with --admin, else this process itself.
          --data DIR         the data directory (./data)
          --config FILE      the server's configuration
          --admin URL        http://ADDRESS:PORT of a server's admin listener
          --token-file FILE  its token (DATA/admin.token)
          --json             the answer as JSON

        Examples:
          proxyfs volume unmount /archive/import
          proxyfs volume mount /archive/import --directory /srv/import
          proxyfs volume unmount /archive/import --json

        """
}
