import Bytes
import ObjectStore
import Runtime

/// Finding a volume's newest header where a listing may be old: two objects of fixed names tell as well. None of them is
/// trusted alone: what they name is looked at.
extension Headhunter {
    /// `identity`: whose objects these are, for as long as there are any. `newest`: the number of the newest header.
    private static func name(_ prefix: String, _ last: String) -> ObjectName {
        guard let name = ObjectName(prefix + "/" + last) else {
            preconditionFailure("a volume's prefix was checked when it was made")
        }
        return name
    }

    public static func identityName(_ prefix: String) -> ObjectName { name(prefix, "identity") }
    /// What of a volume goes last.
    public static func lastNames(_ prefix: String) -> [ObjectName] { [newestName(prefix), identityName(prefix)] }
    private static func newestName(_ prefix: String) -> ObjectName { name(prefix, "newest") }

    private static func digits(_ number: UInt64) -> String {
        let text = String(number, radix: 16)
        return String(repeating: "0", count: 16 - text.count) + text
    }

    private static func body(_ text: String) -> ObjectBody {
        .blocks([Array((text + "\n").utf8).withUnsafeBytes { Block(copying: $0) }])
    }

    /// One line of an object that may be missing.
    private static func line(
        _ name: ObjectName, _ store: ObjectStore, isUrgent: Bool = false
    ) async throws(StoreError) -> String? {
        do throws(StoreError) {
            let block = try await store.get(name, isUrgent: isUrgent)
            defer { extendLifetime(block) }
            return String(decoding: block.bytes.prefix(64).prefix { $0 != UInt8(ascii: "\n") }, as: UTF8.self)
        } catch {
            if error == .notFound { return nil }
            throw error
        }
    }

    // MARK: Whose it is

    /// Whether nothing says that there is a volume, or what is left of one. Called before one is made.
    static func isFree(_ store: ObjectStore, _ prefix: String) async throws(StoreError) -> Bool {
        guard try await store.head(identityName(prefix)) == nil, try await newestHeader(store, prefix) == nil else {
            return false
        }
        return try await store.names(prefix: ObjectNaming.prefix(prefix, ObjectNaming.boundary)).isEmpty
    }

    /// From here on nobody makes another volume there, whatever a listing shows him.
    static func identify(
        _ store: ObjectStore, _ prefix: String, _ volume: VolumeIdentity
    ) async throws(StoreError) {
        let name = identityName(prefix)
        let own = digits(volume.high) + digits(volume.low)
        if let found = try await line(name, store) {
            guard found == own else { throw .corrupt("it says that the objects are another volume's") }
            return
        }
        do throws(StoreError) {
            try await store.put(name, body(own), condition: .absent)
        } catch {
            if error != .exists { throw error }
        }
    }

    /// Whose the objects are, and which header is the newest, as far as there are any: by this a deletion that goes on sees whether
    /// another server has taken the volume, or made another one there, since it began.
    public static func whose(
        _ store: ObjectStore, _ prefix: String
    ) async throws(StoreError) -> (identity: String?, header: UInt64?) {
        let identity = try await line(identityName(prefix), store)
        do throws(StoreError) { return (identity, try await newestHeader(store, prefix)) } catch {
            // The headers that the hint leads to may be gone already: what it says was there, whoever told it.
            guard case .unavailable = error, !store.capabilities.listsConsistently else { throw error }
            return (identity, try await hint(store, prefix))
        }
    }

    /// The same of this volume.
    public var whose: (identity: String, header: UInt64) {
        let header = checkpoints.header
        return (Self.digits(header.volume.high) + Self.digits(header.volume.low), header.number)
    }

    // MARK: The newest header

    /// Headers in a row that may be missing behind one that a listing or the hint names, and has been deleted since.
    private static let deletedMax = 64
    /// Those behind the newest one: one alone may be on its way, of an owner who has not heard yet.
    private static let missesMax = 2

    static func hint(_ store: ObjectStore, _ prefix: String) async throws(StoreError) -> UInt64? {
        try await line(newestName(prefix), store, isUrgent: true).flatMap { ObjectNaming.number(Substring($0)) }
    }

    /// The newest by looking, from the one on that is known to have been there.
    static func newest(
        from known: UInt64?, _ store: ObjectStore, _ prefix: String
    ) async throws(StoreError) -> UInt64? {
        let hint = try await hint(store, prefix)
        let start = max(known ?? 0, hint ?? 0)
        // One that was just made has nothing but its first header.
        var number = max(start, 1)
        var found: UInt64?
        var misses = 0
        while misses < (found == nil && start > 0 ? deletedMax : missesMax), number < CheckpointHeader.numberMax {
            if try await store.head(ObjectNaming.name(prefix, ObjectNaming.header, number)) != nil {
                (found, misses) = (number, 0)
            } else {
                misses += 1
            }
            number += 1
        }
        if found == nil, start > 0 {
            throw .unavailable("the newest header is none of the \(deletedMax) from number \(start) on; try again")
        }
        return found
    }

    /// Best effort; what was not told keeps older headers from being deleted.
    func tellNewest(_ number: UInt64) async {
        guard !store.capabilities.listsConsistently else { return }
        do throws(StoreError) {
            try await store.put(Self.newestName(prefix), Self.body(Self.digits(number)), isUrgent: true)
            checkpoints.hinted = max(checkpoints.hinted, number)
        } catch { return }
    }

    /// Headers up to this one may have been deleted.
    package static func newestBoundary(
        _ store: ObjectStore, _ prefix: String, within limit: UInt64? = nil
    ) async throws(StoreError) -> UInt64? {
        var newest: UInt64?
        // No owner deletes more before he has told of a newer one; a listing may be older than that, or the hint.
        if !store.capabilities.listsConsistently, let hint = try await hint(store, prefix) {
            newest = hint - min(hint, 1)
        }
        let boundaries = ObjectNaming.prefix(prefix, ObjectNaming.boundary)
        for name in try await store.names(prefix: boundaries, isUrgent: true, within: limit) {
            guard let number = ObjectNaming.number(name, prefix, ObjectNaming.boundary) else { continue }
            newest = max(newest ?? 0, number)
        }
        return newest
    }
}
