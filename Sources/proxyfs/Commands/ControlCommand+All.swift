extension ControlCommand {
    private static let durability = Option("durability", .text)

    static let all: [ControlCommand] =
        volumes + users + buckets + exports + shares + quotas + nfs + smb + [
            ControlCommand(
                words: ["explain"], positional: ["PATH"], options: [Option("user", .text)], help: Help.explain)
        ]

    private static let volumes = [
        ControlCommand(
            words: ["volume", "create"], positional: ["NAME"],
            options: [
                durability, Option("store", .text), Option("log", .text), Option("lease", .text), Option("size", .size),
            ],
            help: Help.volumeCreate),
        ControlCommand(
            words: ["volume", "take"], positional: ["NAME"],
            options: [
                durability, Option("store", .text), Option("log", .text), Option("lease", .text), Option("size", .size),
            ],
            help: Help.volumeTake),
        ControlCommand(
            words: ["volume", "follow"], positional: ["NAME"],
            options: [Option("store", .text), Option("size", .size)],
            help: Help.volumeFollow),
        ControlCommand(
            words: ["volume", "list"],
            columns: [
                ("name", "NAME"), ("state", "STATE"), ("durability", "DURABILITY"), ("store", "STORE"),
                ("files", "FILES"), ("directories", "DIRECTORIES"), ("bytes", "BYTES"),
                ("lag_bytes", "LAG BYTES"), ("lag_seconds", "LAG SECONDS"), ("declared", "DECLARED"),
                ("problem", "PROBLEM"),
            ], help: Help.volumeList),
        ControlCommand(words: ["volume", "show"], positional: ["NAME"], help: Help.volumeShow),
        ControlCommand(
            words: ["volume", "delete"], positional: ["NAME"], options: [Option("yes", .flag)], help: Help.volumeDelete),
        ControlCommand(words: ["volume", "checkpoint"], positional: ["NAME"], help: Help.volumeCheckpoint),
        ControlCommand(words: ["volume", "freeze"], positional: ["NAME"], help: Help.volumeFreeze),
        ControlCommand(words: ["volume", "release"], positional: ["NAME"], help: Help.volumeRelease),
        ControlCommand(
            words: ["volume", "mount"], positional: ["PATH"],
            options: [
                Option("directory", .text), Option("bind", .text), Option("volume", .text), Option("read-only", .flag),
            ],
            help: Help.volumeMount),
        ControlCommand(
            words: ["volume", "unmount"], positional: ["PATH"], options: [Option("force", .flag)],
            help: Help.volumeUnmount),
        ControlCommand(
            words: ["volume", "mounts"], positional: ["[VOLUME]"],
            columns: [
                ("path", "PATH"), ("kind", "KIND"), ("directory", "DIRECTORY"), ("access", "ACCESS"),
                ("state", "STATE"),
                ("problem", "PROBLEM"),
            ], help: Help.volumeMounts),
    ]

    private static let ofVolume = [Option("volume", .text)]

    private static let buckets = [
        ControlCommand(
            words: ["bucket", "create"], positional: ["NAME"],
            options: ofVolume + [Option("owner", .text), Option("durability", .text)], help: Help.bucketCreate),
        ControlCommand(
            words: ["bucket", "list"], options: ofVolume,
            columns: [
                ("name", "NAME"), ("durability", "DURABILITY"), ("owner", "OWNER"), ("files", "FILES"),
                ("bytes", "BYTES"), ("older_versions", "OLDER"), ("older_bytes", "OLDER BYTES"), ("created", "CREATED"),
            ], help: Help.bucketList),
        ControlCommand(words: ["bucket", "stat"], positional: ["NAME"], options: ofVolume, help: Help.bucketStat),
    ]

    private static let numbers = [Option("uid", .number), Option("gid", .number), Option("group", .list)]

    private static let users = [
        ControlCommand(
            words: ["user", "add"], positional: ["NAME"], options: numbers + [Option("volume", .list)],
            takesSecret: true, help: Help.userAdd),
        ControlCommand(
            words: ["user", "change"], positional: ["NAME"],
            options: numbers + [Option("disable", .flag), Option("enable", .flag)], takesSecret: true,
            help: Help.userChange),
        ControlCommand(words: ["user", "remove"], positional: ["NAME"], help: Help.userRemove),
        ControlCommand(
            words: ["user", "list"],
            columns: [
                ("name", "NAME"), ("uid", "UID"), ("gid", "GID"), ("groups", "GROUPS"), ("volumes", "VOLUMES"),
                ("keys", "KEYS"), ("disabled", "DISABLED"), ("declared", "DECLARED"),
            ], help: Help.userList),
        ControlCommand(words: ["user", "grant"], positional: ["NAME", "VOLUME"], help: Help.userGrant),
        ControlCommand(words: ["user", "revoke"], positional: ["NAME", "VOLUME"], help: Help.userRevoke),
        ControlCommand(
            words: ["user", "key", "add"], positional: ["NAME", "[VOLUME]"], options: [Option("for", .span)],
            help: Help.userKeyAdd),
        ControlCommand(
            words: ["user", "key", "list"], positional: ["[NAME]"],
            columns: [("access_key", "ACCESS KEY"), ("user", "USER"), ("volume", "VOLUME")], help: Help.userKeyList),
        ControlCommand(words: ["user", "key", "remove"], positional: ["NAME", "KEY"], help: Help.userKeyRemove),
    ]

    private static let exports = [
        ControlCommand(
            words: ["export", "add"], positional: ["PATH"], options: [Option("client", .list), durability],
            help: Help.exportAdd),
        ControlCommand(
            words: ["export", "change"], positional: ["PATH"], options: [Option("client", .list), durability],
            help: Help.exportChange),
        ControlCommand(words: ["export", "remove"], positional: ["PATH"], help: Help.exportRemove),
        ControlCommand(
            words: ["export", "list"],
            columns: [
                ("path", "PATH"), ("clients", "CLIENTS"), ("durability", "DURABILITY"), ("declared", "DECLARED"),
            ], help: Help.exportList),
    ]

    private static let shareOptions = [
        Option("directory", .text), Option("comment", .text), Option("access", .text), Option("hidden", .text),
        Option("encrypt", .text), Option("sign", .text), Option("guest", .text), Option("hide-unreadable", .text),
        durability,
    ]

    private static let shares = [
        ControlCommand(
            words: ["share", "add"], positional: ["VOLUME", "NAME"], options: shareOptions, help: Help.shareAdd),
        ControlCommand(
            words: ["share", "change"], positional: ["NAME"], options: shareOptions, help: Help.shareChange),
        ControlCommand(words: ["share", "remove"], positional: ["NAME"], help: Help.shareRemove),
        ControlCommand(
            words: ["share", "list"],
            columns: [
                ("name", "NAME"), ("volume", "VOLUME"), ("directory", "DIRECTORY"), ("access", "ACCESS"),
                ("hidden", "HIDDEN"), ("encrypt", "ENCRYPT"), ("sign", "SIGN"), ("guest", "GUEST"),
                ("hide_unreadable", "HIDE UNREADABLE"), ("durability", "DURABILITY"), ("comment", "COMMENT"),
                ("declared", "DECLARED"),
            ], help: Help.shareList),
    ]

    private static let nfs = [
        ControlCommand(
            words: ["nfs", "clients"],
            columns: [
                ("address", "ADDRESS"), ("connections", "CONNECTIONS"), ("mounts", "MOUNTS"),
                ("lock_name", "LOCK NAME"),
                ("locks", "LOCKS"),
            ],
            help: Help.nfsClients),
        ControlCommand(
            words: ["nfs", "locks"],
            columns: [
                ("address", "ADDRESS"), ("name", "NAME"), ("process", "PROCESS"), ("mode", "MODE"),
                ("inode", "INODE"), ("first", "FIRST"), ("last", "LAST"),
            ], help: Help.nfsLocks),
        ControlCommand(words: ["nfs", "stats"], help: Help.nfsStats),
    ]

    private static let smb = [
        ControlCommand(
            words: ["smb", "sessions"],
            columns: [
                ("session", "SESSION"), ("user", "USER"), ("kind", "KIND"), ("address", "ADDRESS"),
                ("dialect", "DIALECT"), ("protection", "PROTECTION"), ("shares", "SHARES"), ("opens", "OPENS"),
            ], help: Help.smbSessions),
        ControlCommand(
            words: ["smb", "opens"],
            columns: [
                ("session", "SESSION"), ("user", "USER"), ("share", "SHARE"), ("path", "PATH"), ("access", "ACCESS"),
                ("keeps", "KEEPS"), ("durable", "DURABLE"), ("inode", "INODE"),
            ], help: Help.smbOpens),
        ControlCommand(
            words: ["smb", "locks"],
            columns: [
                ("session", "SESSION"), ("user", "USER"), ("share", "SHARE"), ("path", "PATH"), ("mode", "MODE"),
                ("first", "FIRST"), ("last", "LAST"),
            ], help: Help.smbLocks),
    ]

    private static let subject = [Option("tree", .text), Option("user", .text), Option("group", .text)]

    private static let quotas = [
        ControlCommand(
            words: ["quota", "set"], positional: ["VOLUME"],
            options: subject + [
                Option("soft", .size), Option("hard", .size), Option("soft-files", .number),
                Option("hard-files", .number), Option("grace", .span),
            ], help: Help.quotaSet),
        ControlCommand(
            words: ["quota", "list"], positional: ["[VOLUME]"],
            columns: [
                ("volume", "VOLUME"), ("subject", "SUBJECT"), ("used", "USED"), ("soft", "SOFT"), ("hard", "HARD"),
                ("used_files", "FILES"),
                ("soft_files", "SOFT FILES"), ("hard_files", "HARD FILES"), ("grace_seconds", "GRACE (S)"),
                ("grace_left", "LEFT (S)"),
            ], help: Help.quotaList),
        ControlCommand(words: ["quota", "remove"], positional: ["VOLUME"], options: subject, help: Help.quotaRemove),
    ]
}
