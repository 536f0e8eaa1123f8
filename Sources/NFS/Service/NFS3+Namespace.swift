import Namespace

/// From what Namespace says to what NFS says.
extension NFS3Status {
    init(_ error: FileError) {
        self =
            switch error {
            case .noEntry: .noEntry
            case .exists: .exists
            case .notDirectory: .notDirectory
            case .isDirectory: .isDirectory
            case .notEmpty: .notEmpty
            case .nameTooLong: .nameTooLong
            case .badName: .invalid
            case .stale: .stale
            case .accessDenied: .access
            case .notPermitted: .notOwner
            case .readOnly: .readOnly
            case .noSpace: .noSpace
            case .quotaExceeded: .quota
            case .fileTooBig: .fileTooBig
            case .loop, .tooDeep: .invalid
            case .tooManyLinks: .tooManyLinks
            case .noAttribute, .attributeTooBig, .tooManyAttributes: .invalid
            case .invalid: .invalid
            case .wrongType: .invalid
            case .crossDevice: .crossDevice
            case .notSynchronized: .notSynchronized
            case .badCookie: .badCookie
            // The client asks again after a while; that is what a lock or a lease of another protocol calls for.
            case .sharingViolation, .deletePending, .locked, .delay, .grace, .tooManyLocks: .jukebox
            case .deadlock: .serverFault
            case .tokenReused: .serverFault
            case .notSupported: .notSupported
            case .inputOutput: .inputOutput
            case .offline: .jukebox
            }
    }
}

extension NFS3FileType {
    init(_ type: FileType) {
        self =
            switch type {
            case .file: .regular
            case .directory: .directory
            case .symlink: .symlink
            case .fifo: .fifo
            case .socket: .socket
            case .characterDevice: .characterDevice
            case .blockDevice: .blockDevice
            }
    }
}

extension NFS3Time {
    private static let second: Int64 = 1_000_000_000

    /// The protocol's seconds have no sign and 32 bits: earlier and later times are shown as the ends.
    @inline(__always)
    init(_ nanoseconds: Int64) {
        let seconds = nanoseconds / Self.second
        if nanoseconds < 0 {
            self.init(seconds: 0, nanoseconds: 0)
        } else if seconds > Int64(UInt32.max) {
            self.init(seconds: .max, nanoseconds: UInt32(Self.second - 1))
        } else {
            self.init(
                seconds: UInt32(truncatingIfNeeded: seconds),
                nanoseconds: UInt32(truncatingIfNeeded: nanoseconds &- seconds &* Self.second))
        }
    }

    /// Nil: more nanoseconds than a second has.
    var asNanoseconds: Int64? {
        guard nanoseconds < UInt32(Self.second) else { return nil }
        return Int64(seconds) * Self.second + Int64(nanoseconds)
    }
}

extension NFS3Attributes {
    @inline(__always)
    init(_ attributes: Attributes, volume: UInt64) {
        self.init(
            type: NFS3FileType(attributes.type), mode: UInt32(attributes.mode), links: attributes.links,
            uid: attributes.uid, gid: attributes.gid, size: attributes.size, used: attributes.allocated,
            device: NFS3Device(major: attributes.major, minor: attributes.minor),
            // A subvolume is a file system of its own: its inode numbers are.
            fileSystem: volume &+ UInt64(attributes.file.subvolume) &* 0x9e37_79b9_7f4a_7c15,
            file: attributes.file.inode, accessed: NFS3Time(attributes.accessed),
            modified: NFS3Time(attributes.modified), changed: NFS3Time(attributes.changed))
    }
}

extension NFS3WeakData {
    init(_ changed: Changed, volume: UInt64) {
        self.init(
            before: changed.before.map {
                NFS3WeakAttributes(size: $0.size, modified: NFS3Time($0.modified), changed: NFS3Time($0.changed))
            }, after: NFS3Attributes(changed.after, volume: volume))
    }
}

extension NewAttributes {
    /// Nil: a time that is none.
    init?(_ wire: NFS3SetAttributes, now: Int64) {
        self.init()
        mode = wire.mode.map { UInt16(truncatingIfNeeded: $0 & 0o7777) }
        uid = wire.uid
        gid = wire.gid
        size = wire.size
        switch wire.accessed {
        case .keep: break
        case .serverTime:
            accessed = now
            isAccessedNow = true
        case .clientTime(let time):
            guard let time = time.asNanoseconds else { return nil }
            accessed = time
        }
        switch wire.modified {
        case .keep: break
        case .serverTime:
            modified = now
            isModifiedNow = true
        case .clientTime(let time):
            guard let time = time.asNanoseconds else { return nil }
            modified = time
        }
    }
}

extension NewFile {
    static let fileMode: UInt16 = 0o644
    static let directoryMode: UInt16 = 0o755

    /// Nil: a time that is none.
    init?(_ type: FileType, _ wire: NFS3SetAttributes, now: Int64) {
        guard let new = NewAttributes(wire, now: now) else { return nil }
        self.init(type: type, mode: new.mode ?? (type == .directory ? Self.directoryMode : Self.fileMode))
        uid = new.uid
        gid = new.gid
        accessed = new.accessed
        modified = new.modified
        if type == .file { size = new.size ?? 0 }
    }
}
