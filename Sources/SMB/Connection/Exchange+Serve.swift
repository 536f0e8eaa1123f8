import Bytes
import Namespace
import Runtime

/// Which element it is, and whether it may be served at all ([MS-SMB2] 3.3.5.2).
extension Exchange {
    /// Serves one element; what it writes is the body of the answer.
    func serve(_ writer: inout Writer) throws(SMBHalt) -> NTStatus {
        guard let stream, let command = Command(rawValue: header.command) else { throw .status(.invalidParameter) }
        try checkChain()
        switch command {
        case .negotiate: return try negotiate(stream, &writer)
        case .sessionSetup: return try setUp(stream, &writer)
        case .echo:
            if session == nil, header.sessionID != 0 { use(stream.sessions[header.sessionID]) }
            try checkSignature()
            _ = try parse { (element) throws(BytesError) in try EmptyRequest(reading: element) }
            return empty(&writer)
        case .cancel: throw .status(.invalidParameter)
        case .logoff, .treeConnect, .treeDisconnect, .create, .close, .flush, .read, .write, .lock, .ioctl,
            .queryDirectory, .changeNotify, .queryInfo, .setInfo, .oplockBreak:
            try admit(stream, command)
        }
        return switch command {
        case .logoff: try logOff(stream, &writer)
        case .treeConnect: try connectTree(&writer)
        case .treeDisconnect: try disconnectTree(stream, &writer)
        case .create: try create(&writer)
        case .close: try close(&writer)
        case .flush: try flush(&writer)
        case .read: try read(&writer)
        case .write: try write(&writer)
        case .lock: try lock(&writer)
        case .ioctl: try control(&writer)
        case .queryDirectory: try queryDirectory(&writer)
        case .changeNotify: try notify(&writer)
        case .queryInfo: try queryInfo(&writer)
        case .setInfo: try setInfo(&writer)
        case .oplockBreak: try acknowledgeBreak(&writer)
        case .negotiate, .sessionSetup, .echo, .cancel: throw .status(.invalidParameter)
        }
    }

    private func checkChain() throws(SMBHalt) {
        guard isRelated else {
            use(nil as Session?)
            use(nil as Tree?)
            file = nil
            return
        }
        guard !isFirst else { throw .status(.invalidParameter) }
    }

    /// Sessions, signatures, encryption and trees of all that comes after a log-on.
    private func admit(_ stream: SMBStream, _ command: Command) throws(SMBHalt) {
        guard stream.negotiation.dialect != nil else {
            stream.end(because: "nothing was negotiated")
            throw .status(.invalidParameter)
        }
        if !isRelated { use(stream.sessions[header.sessionID]) }
        if isRelated, session == nil { throw .status(.invalidParameter) }
        // What an earlier element or another message has ended meanwhile is gone for this one, too.
        if let session, stream.sessions[session.id] !== session { throw .status(.userSessionDeleted) }
        guard let session, session.state != .inProgress, session.state != .over else {
            throw .status(.userSessionDeleted)
        }
        if let encryptedBy, encryptedBy !== session { throw .status(.accessDenied) }
        try checkSignature()
        let generation = server.generation
        if session.generation != generation {
            try review(session, stream, generation)
            // What is wanted by now is wanted of this message, too.
            if session.requiresSigning, !isProtected { throw .status(.accessDenied) }
        }
        if session.state == .valid, let end = session.end, server.world.clock.monotonic() >= end {
            session.state = .expired
        }
        if session.state == .expired, command != .logoff, command != .close, command != .lock {
            throw .status(.networkSessionExpired)
        }
        if encryptedBy == nil, session.requiresEncryption { throw .status(.accessDenied) }
        switch command {
        case .logoff, .treeConnect: return
        default: break
        }
        if !isRelated { use(session.trees[header.treeID]) }
        guard let tree, session.trees[tree.id] === tree else { throw .status(.networkNameDeleted) }
        if encryptedBy == nil, tree.share.requiresEncryption { throw .status(.accessDenied) }
        if tree.share.requiresSigning, !isProtected { throw .status(.accessDenied) }
        try checkCharge()
    }

    /// The element is signed, which has been looked at, or was encrypted.
    var isProtected: Bool { encryptedBy != nil || header.flags.contains(.signed) && session?.keys != nil }

    /// What is wrong here was changed on its way, or was never the client's: the connection ends behind the answer.
    func checkSignature() throws(SMBHalt) {
        guard encryptedBy == nil, let session else { return }
        if header.flags.contains(.signed) {
            guard let keys = session.keys else { throw .status(.userSessionDeleted) }
            guard keys.isSigned(element.bytes) else {
                closeConnection()
                use(nil as Session?)
                throw .status(.accessDenied)
            }
        } else if session.requiresSigning, session.state != .inProgress {
            throw .status(.accessDenied)
        }
    }

    /// What is sent or wanted is paid for ([MS-SMB2] 3.3.5.2.5).
    private func checkCharge() throws(SMBHalt) {
        guard let stream, stream.negotiation.hasMultiCredit else { return }
        guard charged(element) <= max(Int(header.creditCharge), 1) * SMB2.singleCreditMax else {
            throw .status(.invalidParameter)
        }
    }

    private func word(_ offset: Int) -> Int {
        let bytes = element.bytes
        guard bytes.count >= offset + 4 else { return 0 }
        return Int(UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt32.self)))
    }

    private func charged(_ element: Element) -> Int {
        switch Command(rawValue: header.command) {
        case .read: word(64 + 4)
        case .write: word(64 + 4)
        case .ioctl: max(word(64 + 28), word(64 + 32), word(64 + 44))
        case .queryDirectory: word(64 + 28)
        case .changeNotify: word(64 + 4)
        case .queryInfo: max(word(64 + 4), word(64 + 12))
        case .setInfo: word(64 + 4)
        default: 0
        }
    }

    /// At most so many bytes of body has the answer.
    func expectedReply(_ element: Element) -> Int {
        let limit = SMB2.dataMax
        switch Command(rawValue: header.command) {
        case .read: return 16 + min(word(64 + 4), limit)
        case .queryDirectory: return 8 + min(word(64 + 28), limit)
        case .queryInfo: return 8 + min(word(64 + 4), limit)
        case .ioctl: return 48 + min(word(64 + 44), limit)
        case .changeNotify: return 8 + min(word(64 + 4), limit)
        case .negotiate, .sessionSetup: return 2048
        default: return 1024
        }
    }

    // MARK: Common parts

    func parse<Request>(_ read: (Element) throws(BytesError) -> Request) throws(SMBHalt) -> Request {
        do throws(BytesError) { return try read(element) } catch { throw .status(.invalidParameter) }
    }

    /// The value of an attempt, or the way out; what it changed is waited for before the answer leaves.
    @inline(__always)
    func value<Value>(_ attempt: Attempt<Value>, _ volume: Volume) throws(SMBHalt) -> Value {
        switch attempt {
        case .done(let value, let number):
            if number > 0 { settle(number, volume) }
            return value
        case .refused(let error): throw .status(NTStatus(error))
        case .lacks(let lack): throw .lacks(lack)
        }
    }

    /// An answer of four bytes.
    func empty(_ writer: inout Writer) -> NTStatus {
        writer.u16LE(4)
        writer.u16LE(0)
        return .success
    }
}

extension NTStatus {
    /// What the core says, in this protocol's words.
    init(_ error: FileError) {
        self =
            switch error {
            case .noEntry: .objectNameNotFound
            case .deletePending: .deletePending
            case .exists: .objectNameCollision
            case .notDirectory: .notADirectory
            case .isDirectory: .fileIsADirectory
            case .notEmpty: .directoryNotEmpty
            case .nameTooLong: .objectNameInvalid
            case .badName: .objectNameInvalid
            case .stale: .fileClosed
            case .accessDenied, .notPermitted: .accessDenied
            case .readOnly: .mediaWriteProtected
            case .noSpace: .diskFull
            case .quotaExceeded: .diskFull
            case .fileTooBig: .diskFull
            case .loop: .accessDenied
            case .tooDeep: .objectPathNotFound
            case .tooManyLinks: .tooManyLinks
            case .noAttribute: .notFound
            case .attributeTooBig: .eaTooLarge
            case .tooManyAttributes: .eaTooLarge
            case .invalid: .invalidParameter
            case .wrongType: .invalidDeviceRequest
            case .crossDevice: .notSameDevice
            case .notSynchronized: .accessDenied
            case .badCookie: .invalidParameter
            case .sharingViolation: .sharingViolation
            case .locked: .fileLockConflict
            case .deadlock: .lockNotGranted
            case .tooManyLocks: .insufficientResources
            case .delay: .sharingViolation
            case .grace: .sharingViolation
            case .tokenReused: .invalidParameter
            case .notSupported: .notSupported
            case .inputOutput: .unexpectedIOError
            case .offline: .networkNameDeleted
            }
    }
}
