import Bytes
import Namespace
import Runtime

/// [MS-SMB2] 2.2.13, RequestedOplockLevel, and what each allows a client to keep.
enum Oplock {
    static let none: UInt8 = 0
    static let second: UInt8 = 1
    static let exclusive: UInt8 = 8
    static let batch: UInt8 = 9
    static let lease: UInt8 = 0xFF

    static func state(_ level: UInt8) -> LeaseState {
        switch level {
        case second: .read
        case exclusive: [.read, .write]
        case batch: .all
        default: []
        }
    }

    /// Oplocks have no client's key: they get one that no client may have.
    static let reservedKey = UInt128.max
    static func key(_ handle: FileHandle) -> LeaseKey {
        LeaseKey(client: UInt128(handle.persistent) << 64 | UInt128(handle.volatile), key: reservedKey)
    }

    static func isOplock(_ key: LeaseKey) -> Bool { key.key == reservedKey }

    static func level(_ state: LeaseState) -> UInt8 {
        if state == .all { return batch }
        if state.contains(.write) { return exclusive }
        return state.contains(.read) ? second : none
    }
}

extension SMBStream {
    /// How a client is told that a lease or oplock of an open breaks: by this connection; a lease by another one of the same client and
    /// user, when this one is gone.
    func leaseHolder(_ handle: FileHandle, _ session: UInt64) -> LeaseHolder {
        let client = negotiation.clientGUID
        let isEncrypted = sessions[session]?.isToldEncrypted ?? false
        let user = sessions[session]?.user?.name
        return LeaseHolder(
            loop: loop,
            tell: { [weak self, server] message in
                if let self, self.connection.isOpen, self.sessions[session] != nil {
                    return self.tell(message, handle, session)
                }
                guard !Oplock.isOplock(message.key) else { return }
                for (home, stream) in server.clients.all(of: client) {
                    home.execute {
                        guard let stand = stream.stand(in: user, isEncrypted) else { return }
                        stream.tell(message, handle, stand)
                    }
                }
            },
            end: { [server, loop] key in server.durables.purge(key, on: loop) })
    }

    /// A session of the same user, that can say what another one is told no more; nil: there is none.
    private func stand(in user: String?, _ isEncrypted: Bool) -> UInt64? {
        guard connection.isOpen else { return nil }
        return sessions.values.first {
            $0.state == .valid && $0.user?.name == user && (!isEncrypted || $0.isToldEncrypted)
        }?.id
    }

    /// OPLOCK_BREAK without a request ([MS-SMB2] 2.2.23).
    private func tell(_ message: LeaseBreak, _ handle: FileHandle, _ session: UInt64) {
        let isOplock = message.key == Oplock.key(handle)
        if isOplock, let open = sessions[session]?.opens[handle.volatile] { open.oplock = Oplock.level(message.to) }
        var header = Header()
        header.command = Command.oplockBreak.rawValue
        header.flags = .response
        header.messageID = .max
        send(header, session) { writer in
            if isOplock {
                writer.u16LE(24)
                writer.u8(Oplock.level(message.to))
                writer.zeros(5)
                writer.handle(handle)
            } else {
                writer.u16LE(44)
                writer.u16LE(message.epoch)
                writer.u32LE(message.mustAcknowledge ? 1 : 0)
                writer.u64LE(UInt64(truncatingIfNeeded: message.key.key))
                writer.u64LE(UInt64(truncatingIfNeeded: message.key.key >> 64))
                writer.u32LE(UInt32(message.from.rawValue))
                writer.u32LE(UInt32(message.to.rawValue))
                writer.zeros(12)
            }
        }
    }

    /// A message of the server's own accord: never signed, encrypted where its session is.
    private func send(_ header: Header, _ session: UInt64, _ body: (inout Writer) -> Void) {
        let keys = sessions[session].flatMap { $0.isToldEncrypted ? $0.keys : nil }
        var bytes = [UInt8](repeating: 0, count: 256)
        let count = bytes.withUnsafeMutableBytes { memory -> Int in
            let lead = Self.frameBytes + (keys == nil ? 0 : TransformHeader.bytes)
            var writer = Writer(UnsafeMutableRawBufferPointer(rebasing: memory[lead...]))
            header.write(into: &writer)
            body(&writer)
            let size = writer.position
            memory.storeBytes(of: UInt32(lead - Self.frameBytes + size).bigEndian, as: UInt32.self)
            if let keys {
                let packet = UnsafeMutableRawBufferPointer(rebasing: memory[Self.frameBytes..<(lead + size)])
                var transform = Writer(packet)
                TransformHeader(messageBytes: UInt32(size), sessionID: session).write(into: &transform)
                keys.seal(packet)
            }
            return lead + size
        }
        bytes.withUnsafeBytes { connection.write(UnsafeRawBufferPointer(rebasing: $0[..<count])) }
    }
}

extension Exchange {
    /// OPLOCK_BREAK ([MS-SMB2] 3.3.5.22).
    func acknowledgeBreak(_ writer: inout Writer) throws(SMBHalt) -> NTStatus {
        let acknowledgement = try parse { (element) throws(BytesError) in try BreakAcknowledgement(reading: element) }
        guard let volume = tree?.share.volume else { throw .status(.invalidDeviceRequest) }
        switch acknowledgement {
        case .oplock(let level, let handle):
            let open = try open(handle)
            guard open.oplock != Oplock.lease else { throw .status(.invalidParameter) }
            guard level == Oplock.none || level == Oplock.second else { throw .status(.invalidParameter) }
            switch volume.acknowledge(Oplock.key(open.handle), Oplock.state(level)) {
            case .accepted(let state): open.oplock = Oplock.level(state)
            case .unknown, .notBreaking: throw .status(.invalidOplockProtocol)
            case .notAccepted: throw .status(.invalidOplockProtocol)
            }
            writer.u16LE(24)
            writer.u8(open.oplock)
            writer.zeros(5)
            writer.handle(open.handle)
        case .lease(let key, let state):
            guard key != Oplock.reservedKey else { throw .status(.objectNameNotFound) }
            let client = stream?.negotiation.clientGUID ?? 0
            let wanted = LeaseState(rawValue: UInt8(truncatingIfNeeded: state & 7))
            switch volume.acknowledge(LeaseKey(client: client, key: key), wanted) {
            case .accepted(let state):
                writer.u16LE(36)
                writer.u16LE(0)
                writer.u32LE(0)
                writer.u64LE(UInt64(truncatingIfNeeded: key))
                writer.u64LE(UInt64(truncatingIfNeeded: key >> 64))
                writer.u32LE(UInt32(state.rawValue))
                writer.u64LE(0)
            case .unknown: throw .status(.objectNameNotFound)
            case .notBreaking: throw .status(.unsuccessful)
            case .notAccepted: throw .status(.requestNotAccepted)
            }
        }
        return .success
    }
}
