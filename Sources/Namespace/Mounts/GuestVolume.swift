import Synchronization

/// A volume that is mounted in another one.
///
/// It stays a volume of its own: what its users owe each other, its quotas and its rights are the same by every way to its
/// files. So each call about one of them is made there, and only the way to its root is the other volume's.
public final class GuestVolume: Sendable {
    public let volume: Volume
    /// By this way.
    public let isReadOnly: Bool
    /// The directory that is seen.
    let root: FileID
    private final class Opens: Sendable {
        let count = Atomic<Int>(0)
    }
    /// Of this mounting and those before: what was opened by one is closed by the next.
    private let opens: Opens

    init(_ volume: Volume, root: FileID, isReadOnly: Bool, after former: GuestVolume?) {
        self.volume = volume
        self.root = root
        self.isReadOnly = isReadOnly
        opens = former.flatMap { $0.volume === volume ? $0.opens : nil } ?? Opens()
    }

    func opened() { opens.count.wrappingAdd(1, ordering: .relaxed) }
    func closed() { opens.count.wrappingSubtract(1, ordering: .relaxed) }

    /// Something was opened by this way and is not closed.
    public var isInUse: Bool { opens.count.load(ordering: .relaxed) > 0 }

    /// A call that came by this way.
    func call<Value>(_ caller: Caller, isReadOnly: Bool, _ call: (Volume, Caller) -> Attempt<Value>) -> Attempt<Value> {
        var caller = caller
        if isReadOnly || self.isReadOnly { caller.isReadOnly = true }
        // The other server side of a volume is its own: by this way nobody comes to what it keeps for itself.
        caller.isServer = false
        let attempt = call(volume, caller)
        guard case .done(let value, let number) = attempt, number > 0 else { return attempt }
        return .done(value, number: number | MountTree.foreignNumber)
    }
}

extension Volume {
    /// Who has the file, if it is not this volume.
    @inline(__always)
    func guest(_ file: FileID) -> GuestVolume? {
        file.subvolume == subvolume ? nil : fileSystem.guest(of: file, orFormer: false)
    }

    /// The same for who ends what he has of it.
    @inline(__always)
    func formerGuest(_ file: FileID) -> GuestVolume? {
        file.subvolume == subvolume ? nil : fileSystem.guest(of: file, orFormer: true)
    }

    /// The call, made by who has the file; nil: that is this volume.
    @inline(__always)
    func passed<Value>(
        _ caller: Caller, _ file: FileID, _ call: (Volume, Caller) -> Attempt<Value>
    ) -> Attempt<Value>? {
        if file.subvolume == subvolume { return nil }
        guard let guest = guest(file) else { return nil }
        let attempt = guest.call(caller, isReadOnly: isReadOnly, call)
        // A change of one that was taken away in the middle of it is not waited for: nobody may say that it is safe.
        if case .done(_, let number) = attempt, number > 0, self.guest(file) !== guest { return .refused(.stale) }
        return attempt
    }

    /// An open that a guest made: it is not unmounted as long as there are some.
    @inline(__always)
    func passedOpening(
        _ caller: Caller, _ file: FileID, _ call: (Volume, Caller) -> Attempt<OpenedFile>
    ) -> Attempt<OpenedFile>? {
        if file.subvolume == subvolume { return nil }
        return openedThere(caller, file, call)
    }

    @inline(never)
    private func openedThere(
        _ caller: Caller, _ file: FileID, _ call: (Volume, Caller) -> Attempt<OpenedFile>
    ) -> Attempt<OpenedFile>? {
        guard let guest = guest(file) else { return nil }
        // Before it is there: an unmounting in between must know of it.
        guest.opened()
        let attempt = guest.call(caller, isReadOnly: isReadOnly, call)
        if case .done(let opened, let number) = attempt {
            if number == 0 || self.guest(file) === guest { return attempt }
            // As in `passed`. Whoever asked gets no handle that he could close.
            let volume = guest.volume
            loops.patiently(caller.request.asNew) { volume.close(Caller(.root, $0), opened.handle) }
            guest.closed()
            return .refused(.stale)
        }
        guest.closed()
        return attempt
    }

    /// A directory that is none of the file's volume is not looked at there.
    func near(_ file: FileID, _ directory: FileID?) -> FileID? {
        directory?.subvolume == file.subvolume ? directory : nil
    }

    /// The volume that knows the key of a lease.
    func home(of key: LeaseKey) -> Volume {
        let guests = fileSystem.guests
        if guests.isEmpty || sharing.look({ $0.leases.state(key) }) != nil { return self }
        return guests.first { $0.lease(key) != nil } ?? self
    }

    /// The volume that has the watch.
    func home(of watch: WatchID) -> Volume? {
        guard watch.volume != 0 else { return self }
        return formerGuest(FileID(subvolume: watch.volume, inode: 0, generation: 0))?.volume
    }
}
