import Bytes
import Namespace
import RPC
import Runtime

/// Who makes a call, from where and when: what every service of this room asks a handle's export about.
struct NFSCaller {
    let context: NFSContext
    let identity: Identity
    let remote: SocketAddress
    let loop: EventLoop
    let now: Int64
    let token: RequestToken?

    init(
        _ context: NFSContext, _ identity: Identity, _ remote: SocketAddress, _ loop: EventLoop,
        token: RequestToken? = nil
    ) {
        self.context = context
        self.identity = identity
        self.remote = remote
        self.loop = loop
        now = context.clock.wall()
        self.token = token
    }

    /// Where a handle leads, and in whose name the caller acts there. The lock manager asks for no flavor: clients lock
    /// under AUTH_SYS what they have mounted with Kerberos.
    func place(_ handle: UnsafeRawBufferPointer, needsFlavor: Bool = true) throws(NFSHalt) -> NFSPlace {
        let bytes = handle
        guard let handle = FileHandle(claimed: bytes) else { throw .status(.badHandle) }
        let exports = context.exports.snapshot
        guard let export = exports[handle.export] else { throw .status(status(bytes, handle.volume, exports)) }
        let key = export.key ?? context.key.hash
        guard FileHandle.isGenuine(bytes, key) else { throw .status(.badHandle) }
        guard export.volume == handle.volume, let volume = context.volumes[handle.volume], handle.snapshot == 0 else {
            throw .status(.stale)
        }
        return NFSPlace(
            volume: volume, file: handle.file, caller: try caller(in: export, needsFlavor: needsFlavor), key: key,
            export: export.id, root: export.root, durability: export.durability ?? volume.durability)
    }

    /// Of a handle whose export is not there: nobody can tell whether one of a volume that is gone was ever good.
    private func status(
        _ handle: UnsafeRawBufferPointer, _ volume: UInt64, _ exports: ExportTable.Snapshot
    ) -> NFS3Status {
        guard let other = exports.exports.first(where: { $0.volume == volume }) else { return .stale }
        return FileHandle.isGenuine(handle, other.key ?? context.key.hash) ? .stale : .badHandle
    }

    /// In whose name the caller acts in an export. What only tells needs neither flavor nor port.
    @inline(__always)
    func caller(in export: Export, needsFlavor: Bool = true, needsPort: Bool = true) throws(NFSHalt) -> Caller {
        guard let client = export.client(remote) else { throw .status(.access) }
        if needsFlavor, !client.flavors.contains(identity.flavor) { throw .auth(.tooWeak) }
        if needsPort, client.needsPrivilegedPort, let port = remote.port, port >= 1024 { throw .status(.access) }
        var caller = Caller(
            try credential(client), Request(reader: loop.index, now: now, token: token),
            isReadOnly: client.isReadOnly, isStateless: true)
        caller.client = remote.host
        if !export.restricted.isEmpty, let rights = export.restricted[caller.credential.uid] {
            guard rights.contains(.read) else { throw .status(.access) }
            if !rights.contains(.write) { caller.isReadOnly = true }
        }
        return caller
    }

    private func credential(_ client: Export.Client) throws(NFSHalt) -> Credential {
        if client.squash == .all { return client.anonymous }
        let found: Credential
        switch identity.kind {
        case .anonymous: return client.anonymous
        case .system(let uid, let gid, let groups):
            if client.squash == .root, uid == 0 { return client.anonymous }
            found = Credential(uid: uid, gid: gid, groups: try allGroups(of: uid, groups))
        case .principal(let name):
            guard let known = context.principals?.credential(of: name) else { return client.anonymous }
            found = known
        }
        // Wherever root's group comes from: the client, or what this server knows of the user.
        guard client.squash == .root, found.uid == 0 || found.gid == 0 || found.groups.first == 0 else { return found }
        if found.uid == 0 { return client.anonymous }
        return Credential(
            uid: found.uid, gid: found.gid == 0 ? client.anonymous.gid : found.gid,
            groups: found.groups.filter { $0 != 0 }, sids: found.sids)
    }

    /// A credential has room for so many; whoever fills it may have more.
    @inline(__always)
    private func allGroups(of uid: UInt32, _ groups: [UInt32]) throws(NFSHalt) -> [UInt32] {
        guard groups.count == SystemCredential.groupsMax, let source = context.groups else { return groups }
        switch source.groups(of: uid) {
        case .done(let known, _): return known ?? groups
        case .refused: return groups
        case .lacks(let lack): throw .lacks(lack)
        }
    }
}

/// A file that a handle names, and in whose name the caller acts there.
struct NFSPlace {
    let volume: Volume
    let file: FileID
    let caller: Caller
    let key: KeyedHash
    let export: UInt32
    let root: FileID
    let durability: Durability

    func handle(_ file: FileID) -> FileHandle {
        FileHandle(export: export, volume: volume.identity, file: file)
    }
    func attributes(_ attributes: Attributes) -> NFS3Attributes {
        NFS3Attributes(attributes, volume: volume.identity)
    }
    func weak(_ changed: Changed) -> NFS3WeakData { NFS3WeakData(changed, volume: volume.identity) }

    /// The file's attributes, for results that may have them: only when they are at hand.
    func attributesAtHand(_ file: FileID) -> NFS3Attributes? {
        if case .done(let found, _) = volume.attributes(caller, file) { attributes(found) } else { nil }
    }
    var attributesAtHand: NFS3Attributes? { attributesAtHand(file) }
}

extension SocketAddress {
    /// A number of the host, whatever the port.
    fileprivate var host: UInt64 {
        switch self {
        case .ipv4(let host, _): UInt64(host)
        case .ipv6(let high, let low, _, _): high &* 0x9e37_79b9_7f4a_7c15 ^ low
        case .unix: 0
        }
    }
}

/// All groups of a user, for credentials that have no room for them.
public protocol GroupSource: AnyObject, Sendable {
    /// Nil: the user is not known here, and what the client says stands.
    func groups(of uid: UInt32) -> Attempt<[UInt32]?>
}

/// Which user a Kerberos principal is.
public protocol PrincipalSource: AnyObject, Sendable {
    /// Nil: nobody that is known.
    func credential(of principal: String) -> Credential?
}
