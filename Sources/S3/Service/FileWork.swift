import Namespace
import Runtime

/// Who works on the files of a volume in the words of S3: a request, or what sweeps buckets. Confined to its loop.
protocol FileWork: AnyObject {
    var service: S3Service { get }
    var loop: EventLoop { get }
    var volume: Volume { get }
    /// By the key that was used.
    var isReadOnly: Bool { get }
    /// What the bucket promises that this is about, if not what the volume does.
    var word: Durability? { get }
}

extension FileWork {
    var limits: S3Limits { service.limits }
    /// Nanoseconds since 1970.
    var now: Int64 { service.clock.wall() }
    /// For the service's own files, and for looking whether something is there.
    var ownCaller: Caller { caller(.root) }

    func caller(_ credential: Credential) -> Caller {
        Caller(
            credential, Request(reader: loop.index, now: now), isReadOnly: isReadOnly, isStateless: true,
            isServer: true)
    }

    /// Repeats a call that never waits, supplying what it lacks, until it is done.
    func supplied<Value>(
        _ attempt: () -> Attempt<Value>
    ) async throws(FileError) -> (value: Value, number: UInt64) {
        while true {
            switch attempt() {
            case .done(let value, let number): return (value, number)
            case .refused(let error): throw error
            case .lacks(let lack): try await lack.supplied()
            }
        }
    }

    /// The same, with the file system's refusals in S3's words.
    func done<Value>(_ attempt: () -> Attempt<Value>) async throws(S3Error) -> (value: Value, number: UInt64) {
        do throws(FileError) { return try await supplied(attempt) } catch { throw S3Error(file: error) }
    }

    func value<Value>(_ attempt: () -> Attempt<Value>) async throws(S3Error) -> Value { try await done(attempt).value }

    /// Nil: there is no such file.
    func found<Value>(_ attempt: () -> Attempt<Value>) async throws(S3Error) -> Value? {
        do throws(FileError) { return try await supplied(attempt).value } catch {
            switch error {
            case .noEntry, .stale, .notDirectory: return nil
            default: throw S3Error(file: error)
            }
        }
    }

    /// Returns when the change is as safe as the bucket's word says, or the volume's.
    func settle(_ number: UInt64) async throws(S3Error) {
        guard number > 0 else { return }
        do throws(FileError) { try await volume.settled(number, word ?? volume.durability, on: loop) } catch {
            throw S3Error(file: error)
        }
    }

    /// For an answer that rests on what somebody else has changed: that may not be safe yet.
    func settleAll() async throws(S3Error) { try await settle(volume.newestChange) }
    /// The same when it lies in this bucket.
    func settleAll(_ bucket: Bucket) async throws(S3Error) {
        try await settle(volume.newestChange(at: bucket.file))
    }

    /// Changes that a request makes before other requests of the loop have their turn.
    static var turnMax: Int { 32 }

    func othersTurn() async { await Task.yield() }

    /// A directory of the server's own below the volume's root; made when it is missing and wanted.
    func ownDirectory(_ names: [[UInt8]], make: Bool) async throws(S3Error) -> Attributes? {
        let volume = volume
        if let found = try await locate(volume.root, names, ownCaller) { return found }
        guard make else { return nil }
        let home = try await makeOwn(names, in: volume.root)
        return try await value { volume.attributes(ownCaller, home) }
    }

    /// Directories one in the other, those made that are missing.
    func makeOwn(_ names: some Collection<[UInt8]>, in directory: FileID) async throws(S3Error) -> FileID {
        let volume = volume
        var home = directory
        for name in names {
            do throws(FileError) {
                home = try await supplied {
                    name.withUnsafeBytes {
                        volume.create(ownCaller, in: home, $0, NewFile(type: .directory, mode: 0o700))
                    }
                }.value.file.file
            } catch {
                guard error == .exists, let found = try await locate(home, [name], ownCaller) else {
                    throw S3Error(file: error)
                }
                home = found.file
            }
        }
        return home
    }
}
