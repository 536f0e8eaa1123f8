import Headhunter
import LogFS
import ObjectStore
import Runtime

/// What operators do with a volume beside using it. On the volume's loop.
extension HostedVolume {
    /// Everything that was written up to now is in the store when this returns.
    public func checkpoint() async throws(HostingError) {
        do throws(Failure) { try await files.flushAll() } catch { throw .volume(Self.volumeError(error)) }
        do throws(VolumeError) { try await headhunter.checkpoint() } catch { throw .volume(error) }
    }

    /// A checkpoint, and then nothing that is stored changes until `release`: changes wait. Who asks while another one
    /// freezes the volume waits with him; twice is once. False: it was released meanwhile.
    public func freeze() async throws(HostingError) -> Bool {
        while let running = freezing.withLock({ $0 }) { _ = await running.value }
        guard !isFrozen else { return true }
        let task = loop.task { () async -> HostingError? in
            let failure = await self.standStill()
            self.freezing.withLock { $0 = nil }
            return failure
        }
        freezing.withLock { $0 = task }
        if let failure = await task.value { throw failure }
        return isFrozen
    }

    private func standStill() async -> HostingError? {
        do throws(Failure) { try await files.flushAll() } catch { return .volume(Self.volumeError(error)) }
        do throws(VolumeError) { try await headhunter.standStill() } catch { return .volume(error) }
        return nil
    }

    /// Bytes that were written and are not in the store. From any thread.
    public var unstoredBytes: UInt64 { UInt64(max(0, files.unflushedBytes)) + headhunter.storeLag.bytes }

    public func release() { headhunter.release() }
    public var isFrozen: Bool { headhunter.standsStill }

    public struct Totals: Equatable, Sendable {
        public var files: UInt64
        public var directories: UInt64
        public var bytes: UInt64
    }

    public func totals() async throws(HostingError) -> Totals {
        do throws(Failure) {
            let sums = try await files.run { files.totals(LogFS::Request(reader: $0, now: 0), files.rootID) }.value
            return Totals(
                files: UInt64(clamping: sums.files), directories: UInt64(clamping: sums.directories),
                bytes: UInt64(clamping: sums.bytes))
        } catch { throw .volume(Self.volumeError(error)) }
    }

    /// What the check of a volume found.
    public struct Findings: Sendable {
        /// As many as a list may hold; `count` is all.
        public var differences: [(path: String?, what: String)]
        public var count: Int

        fileprivate mutating func add(_ path: String?, _ what: String) {
            differences.append((path, what))
            count += 1
        }

        fileprivate mutating func add(_ audit: StoreAudit) {
            for what in audit.findings { add(nil, what) }
            count += audit.count - audit.findings.count
        }
    }

    /// Reads everything, and changes nothing. Nobody uses the volume meanwhile. What does not open is told as well, beside what its
    /// store says.
    public static func check(
        _ name: String, folder: String, world: World, loop: EventLoop, options: HeadhunterOptions, readsData: Bool,
        connect: (@Sendable () async throws(HostingError) -> ObjectStore)? = nil,
        progress: @escaping @Sendable (Check.Progress) -> Void
    ) async throws(HostingError) -> Findings {
        var options = options
        options.isReadOnly = true
        // One state alone: what changes meanwhile would differ from itself.
        options.followNanoseconds = 0
        var findings = Findings(differences: [], count: 0)
        var store: ObjectStore?
        do throws(HostingError) {
            let volume = try await open(
                name, folder: folder, durability: .log, world: world, loop: loop, options: options, mayMake: false,
                isServed: false, connect: connect)
            store = volume.headhunter.store
            findings = try await volume.check(readsData: readsData, progress: progress)
            for what in volume.damage { findings.add(nil, what) }
            if options.follows {
                do throws(StoreError) {
                    findings.add(try await StoreAudit.run(volume.headhunter, readsData: readsData))
                } catch { throw .store("reading the objects of \(name): \(error)") }
            }
            try await volume.close()
        } catch {
            switch error {
            case .volume(.damaged(let why)), .volume(.unknownFormat(let why)): findings.add(nil, why)
            default: throw error
            }
        }
        if options.follows { return findings }
        let objects: ObjectStore
        if let store {
            objects = store
        } else if let connect {
            objects = try await connect()
        } else {
            objects = try await directory(folder, world: world, loop: loop)
        }
        do throws(StoreError) {
            findings.add(try await StoreAudit.run(objects, prefix: prefix, readsData: readsData))
        } catch { throw .store("reading the objects of \(name): \(error)") }
        return findings
    }

    /// The same of an open volume's files alone.
    public func check(
        readsData: Bool, progress: (Check.Progress) -> Void
    ) async throws(HostingError) -> Findings {
        var findings = Findings(differences: [], count: 0)
        do throws(Failure) {
            // What an owner before left half way is no difference.
            if !isReadOnly { try await files.tidy() }
            let check = try await Check.run(files, readsData: readsData, progress: progress)
            for difference in check.differences {
                var path: String?
                if let inode = difference.inode { path = await check.path(of: inode) }
                findings.add(path, "\(difference)")
            }
            findings.count += check.count - check.differences.count
            return findings
        } catch { throw .volume(Self.volumeError(error)) }
    }

    /// A range of a file, and where its bytes lie in a segment.
    public struct StoredRange: Equatable, Sendable {
        public var start: UInt64
        public var end: UInt64
        public var segment: UInt64
        public var offset: UInt32
    }

    /// Where a file's bytes are stored; nil: in the tree.
    public func layout(_ file: FileID, limit: Int) async throws(HostingError) -> [StoredRange]? {
        do throws(Failure) {
            let id = LogFS::FileID(inode: file.inode, generation: file.generation)
            let ranges = try await files.run {
                files.layout(LogFS::Request(reader: $0, now: 0), id, limit: limit)
            }.value
            return ranges?.map {
                StoredRange(start: $0.start, end: $0.end, segment: $0.segment, offset: $0.offset)
            }
        } catch { throw .volume(Self.volumeError(error)) }
    }
}
