import Runtime

/// What is kept with a volume beside its files, as tasks use it: small records under names. On `loop` only.
///
/// Who keeps what: `identity`, `user/NAME`, `export/ID`, `share/NAME`, `quota/SUBJECT` are the registry's. `grace/SUBJECT` is a quota's. Under
/// `handle/` are opens that outlive the server, under `monitor/` the clients to be told of a restart. `handle-key` is what handles of NFS are
/// made under.
public struct VolumeSettings: Sendable {
    public static let handles = "handle/"
    public static let monitored = "monitor/"
    public static let handleKey = "handle-key"
    /// Calls made again for want of something; each time that was supplied.
    private static let attemptsMax = 1000

    private let fileSystem: any FileSystem
    private let durability: Durability
    private let clock: any WorldClock
    public let loop: EventLoop

    public init(_ volume: Volume, clock: any WorldClock, loop: EventLoop) {
        fileSystem = volume.fileSystem
        // An operator's word outlives the machine, whatever the volume's files do.
        durability = max(volume.durability, .log)
        self.clock = clock
        self.loop = loop
    }

    func run<Value>(_ call: (Request) -> Attempt<Value>) async throws(FileError) -> (Value, number: UInt64) {
        for _ in 0..<Self.attemptsMax {
            switch call(Request(reader: loop.index, now: clock.wall())) {
            case .done(let value, let number): return (value, number)
            case .refused(let error): throw error
            case .lacks(let lack): try await lack.supplied()
            }
        }
        throw .delay
    }

    /// Nil: there is none of that name.
    public func value(_ name: String) async throws(FileError) -> [UInt8]? {
        let bytes = Array(name.utf8)
        return try await run { request in bytes.withUnsafeBytes { fileSystem.setting(request, $0) } }.0
    }

    /// Nil removes it. When this returns, it is durable.
    public func set(_ name: String, _ value: [UInt8]?) async throws(FileError) {
        let bytes = Array(name.utf8)
        let (_, number) = try await run { request in
            bytes.withUnsafeBytes { name in
                guard let value else { return fileSystem.setSetting(request, name, nil) }
                return value.withUnsafeBytes { fileSystem.setSetting(request, name, $0) }
            }
        }
        guard number > 0 else { return }
        let box = Guarded<FileError?>(nil)
        await withUnsafeContinuation { (continuation: UnsafeContinuation<Void, Never>) in
            fileSystem.whenSettled(number, durability, on: loop) { failure in
                box.withLock { $0 = failure }
                continuation.resume()
            }
        }
        if let failure = box.withLock({ $0 }) { throw failure }
    }

    public func names(_ prefix: String) async throws(FileError) -> [String] {
        let wanted = Array(prefix.utf8)
        var names: [String] = []
        var after: [UInt8] = []
        while true {
            let last = after
            var found: [[UInt8]] = []
            let (more, _) = try await run { request in
                found.removeAll()
                return wanted.withUnsafeBytes { prefix in
                    last.withUnsafeBytes { last in
                        fileSystem.listSettings(request, prefix: prefix, after: last) { found.append(Array($0)) }
                    }
                }
            }
            names += found.map { String(decoding: $0, as: UTF8.self) }
            guard more, let last = found.last else { return names }
            after = last
        }
    }
}
