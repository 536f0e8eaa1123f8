import Bytes
import Crypto
import Logging
import Namespace
import Runtime
import SMB
import SMBSupport
import TestSupport
import Testing

/// Users with secrets, and the shares of another catalog.
final class GuardedCatalog: SMBCatalog {
    private let open: OpenCatalog
    let identities = UserTable(domain: (1, 2, 3))

    init(_ open: OpenCatalog) { self.open = open }

    var shares: [SMBShare] { open.shares }
    var generation: UInt64 { open.generation }
    func share(named name: String) -> SMBShare? { open.share(named: name) }
    func rights(of user: SMBUser, on volume: Volume) -> VolumeRights { [.read, .write] }

    func user(named name: String) -> SMBUser? {
        switch name.lowercased() {
        case "alice":
            SMBUser(name: "alice", ntHash: NTHash.of("password"), credential: Credential(uid: 10_000, gid: 10_000))
        case "bob": SMBUser(name: "bob", ntHash: NTHash.of("word"), credential: Credential(uid: 10_001, gid: 10_001))
        default: nil
        }
    }
}

extension Site {
    /// Another server over the same volume, for users.
    func guarded(_ protection: SMBProtection = []) throws -> Listener {
        let server = SMBServer(
            GuardedCatalog(catalog), SMBOptions(), world: world,
            logger: Logger(level: .error, format: .logfmt, wall: { 0 }, monotonic: { 0 }))
        server.require(protection)
        return try server.listen(on: try #require(SocketAddress(numeric: "127.0.0.1", port: 0)))
    }
}

/// A user in the dialect 3.1.1, who signs by AES-GMAC and seals by AES-128-GCM; everything can be done wrong.
final class SecureGuest {
    struct Refused: Error {}
    struct Silence: Error {}

    let guest: Guest
    private(set) var preauth = [UInt8](repeating: 0, count: 64)
    private var sessionPreauth: [UInt8] = []
    private(set) var signing: [UInt8] = []
    private var sealing: AuthenticatedCipher?
    private var opening: AuthenticatedCipher?
    private var nonce: UInt64 = 0
    /// Of what came sealed.
    private(set) var nonces: [[UInt8]] = []
    var signs = true
    var seals = false
    /// Changes what leaves, behind signature and seal.
    var tampering: (([UInt8]) -> [UInt8])?
    private var buffer: [UInt8] = []

    /// `changesNegotiation`: what the server gets to see of it.
    init(
        _ address: SocketAddress, user: String = "alice", secret: String = "password",
        changesNegotiation: (([UInt8]) -> [UInt8])? = nil
    ) throws {
        guest = try Guest(address)
        var wire = Wire()
        wire.u16(36)
        wire.u16(1)
        wire.u16(1)
        wire.u16(0)
        wire.u32(0x44)
        wire.u64(1)
        wire.u64(2)
        wire.u32(104)
        wire.u16(3)
        wire.u16(0)
        wire.u16(0x0311)
        wire.u16(0)
        for (type, values) in [(1, [1, 4, 1, 0x4141, 0x4242]), (2, [1, 2]), (8, [1, 2])] as [(UInt16, [UInt16])] {
            wire.zeros(-wire.bytes.count & 7)
            wire.u16(type)
            wire.u16(UInt16(values.count * 2))
            wire.u32(0)
            for value in values { wire.u16(value) }
        }
        let negotiation = guest.element(.negotiate, wire.bytes)
        preauth = Self.hash(preauth, negotiation)
        guest.send(frame: changesNegotiation?(negotiation) ?? negotiation)
        preauth = Self.hash(preauth, try received().bytes)
        try logOn(user, secret)
    }

    private static func hash(_ before: [UInt8], _ bytes: [UInt8]) -> [UInt8] {
        bytes.withUnsafeBytes { ChainedDigest.sha512(before, $0) }
    }

    static func setup(_ token: [UInt8]) -> [UInt8] {
        var wire = Wire()
        wire.u16(25)
        wire.u8(0)
        wire.u8(1)
        wire.u32(0)
        wire.u32(0)
        wire.u16(88)
        wire.u16(UInt16(token.count))
        wire.u64(0)
        return wire.bytes + token
    }

    /// Another session of the same connection, which is the one from now on.
    func logOn(_ user: String, _ secret: String) throws {
        var client = NTLMClient()
        client.user = user
        client.secret = secret
        sessionPreauth = preauth
        guest.session = 0
        let first = guest.element(.sessionSetup, Self.setup(NTLMClient.negotiate))
        sessionPreauth = Self.hash(sessionPreauth, first)
        guest.send(frame: first)
        let challenge = try received()
        sessionPreauth = Self.hash(sessionPreauth, challenge.bytes)
        guest.session = challenge.header.sessionID
        let second = guest.element(.sessionSetup, Self.setup(client.answer(Array(challenge.bytes.dropFirst(72)))))
        sessionPreauth = Self.hash(sessionPreauth, second)
        guest.send(frame: second)
        guard try received().status == .success else { throw Refused() }
        func derived(_ label: String) -> [UInt8] {
            KeyDerivation.counter(client.session, label: Array(label.utf8) + [0], context: sessionPreauth, count: 16)
        }
        signing = derived("SMBSigningKey")
        sealing = AuthenticatedCipher(
            .aes128GCM, key: derived("SMBC2SCipherKey"), nonceBytes: 12, encrypts: true)
        opening = AuthenticatedCipher(
            .aes128GCM, key: derived("SMBS2CCipherKey"), nonceBytes: 12, encrypts: false)
    }

    // MARK: Messages

    /// With the signature of this session's client.
    func signed(_ element: [UInt8]) -> [UInt8] {
        var bytes = element
        bytes[16] |= 8
        // [MS-SMB2] 3.1.4.1: a request to cancel shares the number of what it cancels.
        let nonce = Array(bytes[24..<32]) + [bytes[12] == Command.cancel.rawValue ? 2 : 0, 0, 0, 0]
        let code = GaloisCode(key: signing)
        var signature = [UInt8](repeating: 0, count: GaloisCode.count)
        bytes.withUnsafeBytes { bytes in
            nonce.withUnsafeBytes { nonce in
                signature.withUnsafeMutableBytes { code.code(bytes, nonce: nonce, into: $0) }
            }
        }
        bytes.replaceSubrange(48..<64, with: signature[..<16])
        return bytes
    }

    func sealed(_ message: [UInt8], session: UInt64? = nil) -> [UInt8] {
        nonce += 1
        var wire = Wire()
        wire.bytes = [0xFD] + Array("SMB".utf8)
        wire.zeros(16)
        wire.u64(nonce)
        wire.u64(0)
        wire.u32(UInt32(message.count))
        wire.u16(0)
        wire.u16(1)
        wire.u64(session ?? guest.session)
        var bytes = wire.bytes + message
        bytes.withUnsafeMutableBytes { packet in
            sealing?.seal(
                UnsafeMutableRawBufferPointer(rebasing: packet[52...]),
                nonce: UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(packet)[20..<32]),
                associated: UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(packet)[20..<52]),
                tag: UnsafeMutableRawBufferPointer(rebasing: packet[4..<20]))
        }
        return bytes
    }

    /// Its number.
    @discardableResult
    func send(_ command: Command, _ body: [UInt8], charge: UInt16 = 1) -> UInt64 {
        let number = guest.nextMessage
        var bytes = guest.element(command, body)
        (bytes[6], bytes[7]) = (UInt8(truncatingIfNeeded: charge), UInt8(charge >> 8))
        guest.nextMessage = number + UInt64(charge)
        bytes = seals ? sealed(bytes) : signs ? signed(bytes) : bytes
        guest.send(frame: tampering?(bytes) ?? bytes)
        return number
    }

    /// Whether the server has signed it.
    func isSigned(_ reply: Reply) -> Bool {
        var bytes = reply.bytes
        let nonce = Array(bytes[24..<32]) + [1, 0, 0, 0]
        let signature = Array(bytes[48..<64])
        bytes.replaceSubrange(48..<64, with: [UInt8](repeating: 0, count: 16))
        let code = GaloisCode(key: signing)
        var expected = [UInt8](repeating: 0, count: GaloisCode.count)
        bytes.withUnsafeBytes { bytes in
            nonce.withUnsafeBytes { nonce in
                expected.withUnsafeMutableBytes { code.code(bytes, nonce: nonce, into: $0) }
            }
        }
        return reply.header.flags.contains(.signed) && signature == expected
    }

    func ask(_ command: Command, _ body: [UInt8], charge: UInt16 = 1) throws -> Reply {
        let number = send(command, body, charge: charge)
        while true {
            let reply = try received()
            if reply.header.messageID == number, reply.status != .pending { return reply }
        }
    }

    /// The next message, opened; that it is signed as it should be is the caller's to ask.
    func received(within seconds: Double = 10) throws -> Reply {
        func length(_ bytes: [UInt8]) -> Int? {
            guard bytes.count >= 4 else { return nil }
            return 4 + (Int(bytes[1]) << 16 | Int(bytes[2]) << 8 | Int(bytes[3]))
        }
        buffer += guest.peer.receive(within: seconds) { more in
            length(buffer + more).map { (buffer + more).count >= $0 } ?? false
        }
        guard let count = length(buffer), buffer.count >= count else { throw Silence() }
        var bytes = Array(buffer[4..<count])
        buffer.removeFirst(count)
        if bytes[0] == 0xFD {
            nonces.append(Array(bytes[20..<36]))
            let isOpen = bytes.withUnsafeMutableBytes { packet in
                opening?.open(
                    UnsafeMutableRawBufferPointer(rebasing: packet[52...]),
                    nonce: UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(packet)[20..<32]),
                    associated: UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(packet)[20..<52]),
                    tag: UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(packet)[4..<20]))
            }
            guard isOpen == true else { throw Refused() }
            bytes.removeFirst(52)
        }
        let header = bytes.withUnsafeBytes { bytes -> Header? in
            var reader = Reader(bytes)
            return try? Header(reading: &reader)
        }
        guard let header else { throw Refused() }
        return Reply(header: header, bytes: bytes)
    }

    /// Whether the server has ended the connection; what it still says does not count.
    func isEnded() -> Bool {
        do {
            while true { _ = try received(within: 5) }
        } catch {
            // Silence alone is no end: who is still there takes a message and answers.
            tampering = nil
            send(.echo, [4, 0, 0, 0])
            return (try? received(within: 2)) == nil
        }
    }

    func connect(_ share: String) throws -> Reply {
        let path = Array("\\\\server\\\(share)".utf16)
        var wire = Wire()
        wire.u16(9)
        wire.u16(0)
        wire.u16(72)
        wire.u16(UInt16(path.count * 2))
        for unit in path { wire.u16(unit) }
        let reply = try ask(.treeConnect, wire.bytes)
        guest.tree = reply.header.treeID
        return reply
    }

    func open(_ name: String, _ opening: Guest.Opening = .init()) throws -> Reply {
        try ask(.create, Guest.create(name, opening))
    }
}
