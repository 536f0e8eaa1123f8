import CShim
import Crypto
import Foundation
import HTTP
import Logging
import Namespace
import Runtime
import S3
import Synchronization
import TestSupport
import Testing

/// Says what a test wants the time to be.
final class TestClock: WorldClock {
    private let base: any WorldClock
    /// Nanoseconds since 1970; 0: the real one.
    let fixed = Atomic<Int64>(0)
    /// What comes in between whenever somebody asks for the time.
    let look = Guarded<(@Sendable () -> Void)?>(nil)

    init(_ base: any WorldClock) { self.base = base }
    func monotonic() -> UInt64 { base.monotonic() }
    func wall() -> Int64 {
        look.withLock { $0 }?()
        let fixed = fixed.load(ordering: .relaxed)
        return fixed == 0 ? base.wall() : fixed
    }
}

/// Users of the published examples' form.
final class TestCredentials: CredentialSource {
    static let exampleKey = "AKIAIOSFODNN7EXAMPLE"
    static let exampleSecret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"

    func grant(accessKey: String) -> AccessGrant? {
        switch accessKey {
        case Self.exampleKey:
            AccessGrant(
                user: "example", credential: Credential(uid: 10_000, gid: 10_000), volume: "default",
                secret: Secret(Self.exampleSecret))
        case "other":
            AccessGrant(
                user: "other", credential: Credential(uid: 10_001, gid: 10_001), volume: "default",
                secret: Secret("other-secret"))
        case "reader":
            AccessGrant(
                user: "reader", credential: Credential(uid: 10_000, gid: 10_000), volume: "default",
                secret: Secret("reader-secret"), isReadOnly: true)
        default: nil
        }
    }
    func userName(uid: UInt32) -> String? { uid == 10_000 ? "example" : uid == 10_001 ? "other" : nil }
    func uid(userName: String) -> UInt32? { userName == "example" ? 10_000 : userName == "other" ? 10_001 : nil }
}

struct Answer {
    var status: Int
    var fields: [(name: String, value: String)]
    var body: [UInt8]

    var text: String { String(decoding: body, as: UTF8.self) }
    func field(_ name: String) -> String? { fields.first { $0.name == name }?.value }
    /// What stands between the first tags of this name.
    func element(_ name: String) -> String? {
        guard let start = text.range(of: "<\(name)>"), let end = text.range(of: "</\(name)>") else { return nil }
        return String(text[start.upperBound..<end.lowerBound])
    }
    func elements(_ name: String) -> [String] {
        text.components(separatedBy: "<\(name)>").dropFirst().map { $0.components(separatedBy: "</\(name)>")[0] }
    }
    var code: String { element("Code") ?? "" }
}

/// A server of S3 over a volume of its own in a temporary folder.
final class Site: @unchecked Sendable {
    let folder: String
    let world: World
    let clock: TestClock
    let service: S3Service
    let listener: Listener
    let hosted: HostedVolume
    var volume: Volume { hosted.volume }

    init(limits: S3Limits = S3Limits(), domains: [String] = ["s3.amazonaws.com"]) async throws {
        folder = NSTemporaryDirectory() + "proxyfs-s3-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        let real = try World.real(disk: RealDisk(path: folder), loops: 2)
        let clock = TestClock(real.clock)
        self.clock = clock
        world = World(
            clock: clock, random: real.random, disk: real.disk, network: real.network, blocking: real.blocking,
            loops: real.loops)
        let world = world
        hosted = try await world.loops[0].task { () async throws -> HostedVolume in
            try await HostedVolume.open(
                "default", folder: "default", durability: .log, world: world, loop: world.loops[0])
        }.value
        let volumes = Volumes()
        _ = volumes.add(hosted.volume)
        service = S3Service(
            volumes, credentials: TestCredentials(), domains: domains, world: world,
            logger: Logger(level: .error, format: .logfmt, wall: { 0 }, monotonic: { 0 }), limits: limits)
        listener = try HTTPServer(service, clock: clock).listen(
            on: try #require(SocketAddress(numeric: "127.0.0.1", port: 0)), network: world.network, loops: world.loops)
        // As the contract has it for `default`: everybody may make buckets.
        let volume = hosted.volume
        try await world.loops[0].task { () async throws in
            var mode = NewAttributes()
            mode.mode = 0o1777
            let caller = Caller(.root, Request(reader: 0, now: clock.wall()))
            while true {
                switch volume.setAttributes(caller, volume.root, mode) {
                case .done: return
                case .refused(let error): throw error
                case .lacks(let lack): try await lack.supplied()
                }
            }
        }.value
    }

    func close() async throws {
        await listener.drain(within: 1_000_000_000)
        let hosted = hosted
        try await world.loops[0].task { () async throws in try await hosted.close() }.value
        world.stop()
        try FileManager.default.removeItem(atPath: folder)
    }

    // MARK: Requests

    /// As it is, and what comes back until the other side has nothing more to say of it.
    func raw(_ head: String, _ body: [UInt8] = []) throws -> Answer {
        let peer = try Peer(listener.address)
        peer.send(Array(head.utf8) + body)
        return Self.answer(peer, isHead: head.hasPrefix("HEAD "))
    }

    static func answer(_ peer: Peer, isHead: Bool = false) -> Answer {
        var bytes = peer.receive { Self.isComplete($0, isHead) }
        while bytes.starts(with: Array("HTTP/1.1 100".utf8)) {
            guard let end = Self.headEnd(bytes) else { break }
            bytes.removeFirst(end)
            if !Self.isComplete(bytes, isHead) { bytes += peer.receive { Self.isComplete(bytes + $0, isHead) } }
        }
        guard let end = headEnd(bytes) else { return Answer(status: 0, fields: [], body: bytes) }
        let lines = String(decoding: bytes[..<end], as: UTF8.self).components(separatedBy: "\r\n")
        let fields = lines.dropFirst().compactMap { line -> (name: String, value: String)? in
            guard let colon = line.firstIndex(of: ":") else { return nil }
            return (line[..<colon].lowercased(), String(line[line.index(colon, offsetBy: 2)...]))
        }
        let status = Int(lines[0].split(separator: " ").dropFirst().first ?? "") ?? 0
        return Answer(status: status, fields: fields, body: Array(bytes[end...]))
    }

    private static func headEnd(_ bytes: [UInt8]) -> Int? {
        guard bytes.count >= 4 else { return nil }
        for place in 0...(bytes.count - 4) where bytes[place..<(place + 4)].elementsEqual([13, 10, 13, 10]) {
            return place + 4
        }
        return nil
    }

    private static func isComplete(_ bytes: [UInt8], _ isHead: Bool) -> Bool {
        guard let end = headEnd(bytes) else { return false }
        let head = String(decoding: bytes[..<end], as: UTF8.self).lowercased()
        if isHead || head.hasPrefix("http/1.1 204") || head.hasPrefix("http/1.1 304") || head.hasPrefix("http/1.1 100")
        {
            return true
        }
        guard let range = head.range(of: "content-length: ") else { return true }
        return bytes.count - end >= Int(head[range.upperBound...].prefix { $0.isNumber }) ?? 0
    }

    /// Signed in the header, over the whole body.
    func request(
        _ method: String, _ target: String, _ fields: [(String, String)] = [], body: [UInt8] = [],
        key: String = TestCredentials.exampleKey, secret: String = TestCredentials.exampleSecret,
        hash: String? = nil, time: Int64? = nil
    ) throws -> Answer {
        let head = signed(method, target, fields, body: body, key: key, secret: secret, hash: hash, time: time)
        return try raw(head, body)
    }

    func signed(
        _ method: String, _ target: String, _ fields: [(String, String)] = [], body: [UInt8] = [],
        key: String = TestCredentials.exampleKey, secret: String = TestCredentials.exampleSecret,
        hash: String? = nil, time: Int64? = nil
    ) -> String {
        let date = Self.stamp(time ?? clock.wall() / 1_000_000_000)
        let hash = hash ?? Hexadecimal.encode(Digest.of(.sha256, body))
        var all = fields.map { (name: $0.0.lowercased(), value: $0.1) }
        all += [("host", "127.0.0.1"), ("x-amz-date", date), ("x-amz-content-sha256", hash)]
        all.sort { $0.name < $1.name }
        let parts = target.components(separatedBy: "?")
        let query =
            parts.count > 1
            ? parts[1].components(separatedBy: "&").map { $0.contains("=") ? $0 : $0 + "=" }.sorted().joined(
                separator: "&") : ""
        let names = all.map(\.name).joined(separator: ";")
        let canonical =
            "\(method)\n\(parts[0])\n\(query)\n"
            + all.map { "\($0.name):\($0.value)\n" }.joined() + "\n\(names)\n\(hash)"
        let scope = "\(date.prefix(8))/us-east-1/s3/aws4_request"
        let toSign =
            "AWS4-HMAC-SHA256\n\(date)\n\(scope)\n"
            + Hexadecimal.encode(Digest.of(.sha256, Array(canonical.utf8)))
        var signing = HMAC.of(.sha256, key: Array("AWS4\(secret)".utf8), String(date.prefix(8)))
        for part in ["us-east-1", "s3", "aws4_request"] { signing = HMAC.of(.sha256, key: signing, part) }
        let signature = Hexadecimal.encode(HMAC.of(.sha256, key: signing, toSign))
        var head = "\(method) \(target) HTTP/1.1\r\n"
        for field in all { head += "\(field.name): \(field.value)\r\n" }
        head += "authorization: AWS4-HMAC-SHA256 Credential=\(key)/\(scope), SignedHeaders=\(names), "
        head += "Signature=\(signature)\r\n"
        if !body.isEmpty || method == "PUT" || method == "POST" { head += "content-length: \(body.count)\r\n" }
        return head + "\r\n"
    }

    /// As the field `content-md5` has it.
    static func md5(_ body: [UInt8]) -> String { Base64.encode(Digest.of(.md5, body)) }

    static func stamp(_ seconds: Int64) -> String {
        var time = time_t(seconds)
        var parts = tm()
        gmtime_r(&time, &parts)
        return String(
            format: "%04d%02d%02dT%02d%02d%02dZ", parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday, parts.tm_hour,
            parts.tm_min, parts.tm_sec)
    }
}
