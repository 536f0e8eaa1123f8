import Bytes
import Namespace
import Runtime

/// Ends an element before its answer is written.
enum SMBHalt: Error {
    case status(NTStatus)
    /// What was missing is fetched, then the element is served again from its start.
    case lacks(Lack)
    /// It takes long, and has come so far: others of the loop have their turn first.
    case pause
    /// Only a task can do it. It answers what `Exchange.finish` gets.
    case later(@Sendable (Exchange) async throws(SMBHalt) -> SMBAnswer)
    /// Somebody will call `Exchange.finish` or `Exchange.again`.
    case pending
    /// An error that has more to say ([MS-SMB2] 2.2.2.2).
    case explained(NTStatus, data: [UInt8])
    /// A status that has more to say than an error has.
    case answer(SMBAnswer)

    init(_ halt: Halt) {
        switch halt {
        case .refused(let error): self = .status(NTStatus(error))
        case .lacks(let lack): self = .lacks(lack)
        }
    }
}

/// What a task brings: a status, and who writes the body of the answer.
///
/// Made and used on one loop.
struct SMBAnswer: @unchecked Sendable {
    var status: NTStatus
    var write: ((inout Writer) -> Void)?

    init(_ status: NTStatus) { self.status = status }
    init(_ status: NTStatus = .success, _ write: @escaping (inout Writer) -> Void) {
        self.status = status
        self.write = write
    }
}

/// One message of a client, which may be a chain of elements, and its answer. Used again and again; confined to its loop.
///
/// Elements are served one after the other; the first that can not be served at once makes the exchange a held one, which
/// owns its bytes. Answers gather in `reply` and leave together; changes that have to be safe first are waited for once.
final class Exchange: @unchecked Sendable {
    static let smallReply = 8 << 10
    /// Before the first element: the frame, and what encryption puts there.
    static let lead = SMBStream.frameBytes + TransformHeader.bytes
    static let attemptsMax = 1000

    let state: SMBLoop
    private(set) var stream: SMBStream?
    private var message = UnsafeRawBufferPointer(start: nil, count: 0)
    private var block: Block?
    private var copy: UnsafeMutableRawBufferPointer?
    private let small = Block(capacity: smallReply)
    private(set) var reply: Block
    private var charged = 0

    /// Where the element begins that is served now, and its end.
    private var offset = 0
    private var end = 0
    var header = Header()
    private(set) var encryptedBy: Session?
    private(set) var session: Session?
    private(set) var tree: Tree?
    /// For related elements: the file of the last one, and why there is none.
    var file: FileHandle?
    private var failure: NTStatus?
    /// Where the last answer begins; 0: there is none.
    private var lastReply = 0
    private var isHeld = false
    private var isDone = true
    private var asyncID: UInt64?
    /// The element that is served now has its answer.
    private var isAnswered = false
    private var attempts = 0
    /// Of the chain, so far.
    private var elements = 0
    /// How much of the element's work is done, when it is done in pieces: an attempt goes on where the last one ended.
    var progress = 0
    private var borrowedKeys: SessionKeys?
    /// The end of the answer, where it lies.
    private var lent: [BlockPart] = []
    /// Answers to be signed: where they begin, and by which keys.
    private var signers: [(place: Int, keys: SessionKeys)] = []
    /// Called with the element's answer as it will be sent, but for a signature.
    var onAnswer: ((UnsafeRawBufferPointer) -> Void)?
    /// The number of the open that the element is about to make.
    var creating: UInt128? {
        didSet { if let oldValue, creating == nil { stream?.creating[oldValue] = nil } }
    }
    /// The end of the file that the element writes at, and where that was.
    private(set) var appending: FileID?
    /// The element has waited once for the end of its client's old connection.
    var hasAwaitedAbsence = false
    /// How often it has waited for who knows no leases of ours.
    var delays = 0
    /// Told when nobody wants the answer any more.
    var onCancel: ((Cancellation) -> Void)?
    /// What has to be safe before the answer leaves.
    private var settles: [(number: UInt64, volume: Volume, word: Namespace.Durability)] = []
    /// Done behind the answer.
    private var afterwards: [() -> Void] = []
    private var closesConnection = false
    /// Goes up with each use, so that what was kept from an earlier one is recognised.
    private(set) var use: UInt64 = 0

    enum Cancellation {
        case client
        case session
        case connection
    }

    init(_ state: SMBLoop) {
        self.state = state
        reply = small
    }

    var server: SMBServer {
        guard let stream else { preconditionFailure("an exchange in use has a stream") }
        return stream.server
    }
    var loop: EventLoop { state.loop }
    var element: Element { Element(UnsafeRawBufferPointer(rebasing: message[offset..<end])) }
    var isRelated: Bool { header.flags.contains(.related) }
    var isFirst: Bool { offset == 0 }
    /// No other element's answer leaves with this one's.
    var isAlone: Bool { isFirst && header.nextCommand == 0 && lastReply == 0 }

    // MARK: Beginning

    func begin(_ stream: SMBStream, _ message: UnsafeRawBufferPointer, _ block: Block?, _ encryptedBy: Session?) {
        precondition(isDone, "an exchange is used once at a time")
        use += 1
        isDone = false
        self.stream = stream
        self.message = message
        self.block = block
        self.encryptedBy = encryptedBy
        reply = small
        reply.count = Self.lead
        offset = 0
        end = 0
        elements = 0
        lastReply = 0
        run()
    }

    func answerOldNegotiation(_ stream: SMBStream) {
        use += 1
        isDone = false
        self.stream = stream
        reply = small
        reply.count = Self.lead
        header = Header()
        offset = 0
        end = 0
        var writer = Writer(reply.free)
        writer.zeros(Header.bytes)
        writeNegotiation(&writer)
        complete(.success, writer.position - Header.bytes)
        leave()
    }

    // MARK: Serving

    /// Serves elements until one has to wait or all are answered.
    private func run() {
        while end < message.count {
            guard !isDone else { return }
            guard let stream, stream.connection.isOpen else { return drop() }
            switch nextElement(stream) {
            case .served: continue
            case .waits: return
            case .ended: return drop()
            }
        }
        leave()
    }

    private enum Step {
        case served
        case waits
        case ended
    }

    private func nextElement(_ stream: SMBStream) -> Step {
        offset = end
        var reader = Reader(UnsafeRawBufferPointer(rebasing: message[offset...]))
        do throws(BytesError) { header = try Header(reading: &reader) } catch {
            stream.end(because: "header")
            return .ended
        }
        let next = Int(header.nextCommand)
        guard next == 0 || next >= Header.bytes && next % 8 == 0 && next <= message.count - offset - Header.bytes else {
            stream.end(because: "chain")
            return .ended
        }
        end = next == 0 ? message.count : offset + next
        elements += 1
        guard elements <= SMB2.elementsMax else {
            stream.end(because: "elements of a chain")
            return .ended
        }
        guard !header.flags.contains(.response) else {
            stream.end(because: "a response")
            return .ended
        }
        let charge = stream.negotiation.hasMultiCredit ? max(Int(header.creditCharge), 1) : 1
        guard stream.window.take(header.messageID, charge: charge) else {
            stream.end(because: "message number")
            return .ended
        }
        attempts = 0
        progress = 0
        isAnswered = false
        // What can not be answered any more is not done.
        guard reply.count + wantedReply <= SMBLimits.replyMax - SMBLimits.replyReserve else {
            fail(.insufficientResources)
            return .served
        }
        return attempt()
    }

    /// Serves the element once.
    private func attempt() -> Step {
        prepare()
        var writer = Writer(reply.free)
        writer.zeros(Header.bytes)
        do throws(SMBHalt) {
            let status = try serve(&writer)
            guard !writer.overflowed else { throw .status(.insufficientResources) }
            complete(status, writer.position - Header.bytes)
            return .served
        } catch {
            return halted(error)
        }
    }

    private func halted(_ halt: SMBHalt) -> Step {
        switch halt {
        case .status(let status):
            fail(status)
            return .served
        case .answer(let answer):
            write(answer)
            return .served
        case .explained(let status, let data):
            fail(status, data: data)
            return .served
        case .pending:
            hold()
            return .waits
        case .lacks(let lack):
            attempts += 1
            guard attempts <= Self.attemptsMax else {
                fail(.insufficientResources)
                return .served
            }
            if lack.awaitsClient {
                if let creating { stream?.creating[creating] = header.messageID }
                announce()
            }
            hold()
            let (use, message) = (use, header.messageID)
            let task = loop.task { [self] () async in
                var failure: FileError?
                do throws(FileError) { try await lack.supplied() } catch { failure = error }
                // A cancelled one has its answer, and the next of the chain may be at it.
                guard self.use == use, !isDone, header.messageID == message else { return }
                if let failure { finish(SMBAnswer(NTStatus(failure))) } else { again() }
            }
            if lack.awaitsClient {
                onCancel = { [self] _ in
                    task.cancel()
                    finish(SMBAnswer(.cancelled))
                }
            }
            return .waits
        case .pause:
            hold()
            let (use, message) = (use, header.messageID)
            loop.execute { [self] in
                guard self.use == use, !isDone, header.messageID == message else { return }
                again()
            }
            return .waits
        case .later(let work):
            hold()
            let (use, message) = (use, header.messageID)
            loop.task { [self] () async in
                do throws(SMBHalt) {
                    let answer = try await work(self)
                    guard self.use == use, !isDone, header.messageID == message else { return }
                    finish(answer)
                } catch {
                    guard self.use == use, !isDone, header.messageID == message else { return }
                    if case .waits = halted(error) { return }
                    run()
                }
            }
            return .waits
        }
    }

    private var wantedReply: Int { Header.bytes + 16 + expectedReply(element) }

    /// Makes room for the largest answer that the element may have.
    private func prepare() {
        guard reply.capacity - reply.count < wantedReply else { return }
        let larger = state.block(reply.count + wantedReply)
        larger.append(reply.bytes)
        reply = larger
    }

    /// Where the body of an answer goes that a task makes, behind so many bytes: it stays there until then. Nil: the element has its answer.
    ///
    /// `use`, `message`: of the element.
    func room(_ use: UInt64, _ message: UInt64, behind lead: Int, _ count: Int) -> (
        block: Block, bytes: SendableBuffer
    )? {
        guard self.use == use, !isDone, header.messageID == message else { return nil }
        prepare()
        let place = Header.bytes + lead
        return (
            reply, SendableBuffer(UnsafeMutableRawBufferPointer(rebasing: reply.free[place..<(place + count)]))
        )
    }

    /// The element is served again from its start: what it waited for is there.
    func again() {
        guard !isDone else { return }
        onCancel = nil
        if case .served = attempt() { run() }
    }

    /// Ends an element that waited.
    func finish(_ answer: SMBAnswer) {
        guard !isDone else { return }
        onCancel = nil
        write(answer)
        run()
    }

    private func write(_ answer: SMBAnswer) {
        guard answer.write != nil || !answer.status.isError else { return fail(answer.status) }
        prepare()
        var writer = Writer(reply.free)
        writer.zeros(Header.bytes)
        answer.write?(&writer)
        if writer.overflowed {
            fail(.insufficientResources)
        } else {
            complete(answer.status, writer.position - Header.bytes)
        }
    }

    // MARK: Holding

    private func hold() {
        guard let stream else { return }
        stream.hold(self, header.messageID)
        // Whoever waits keeps no room for an answer: it is made again when there is one. Many watches, each with room for much,
        // would else be all that a connection may hold.
        if lastReply == 0 {
            reply = small
            reply.count = Self.lead
        }
        guard !isHeld else { return }
        isHeld = true
        if block == nil {
            let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: message.count, alignment: 8)
            copy.copyMemory(from: message)
            message = UnsafeRawBufferPointer(copy)
            self.copy = copy
        }
        charged = message.count + reply.capacity
        stream.charge(charged)
    }

    /// What a task takes for the element besides; it counts until the answer has left.
    func charge(_ bytes: Int) {
        guard isHeld, let stream else { return }
        charged += bytes
        stream.charge(bytes)
    }

    /// Tells the client that the answer takes a while ([MS-SMB2] 3.3.4.2). What was answered before in the chain leaves first.
    func announce() {
        guard asyncID == nil, let stream else { return }
        guard settles.isEmpty else { return announceWhenSafe() }
        flush()
        let id = stream.register(self)
        asyncID = id
        let body = Header.bytes
        var writer = Writer(reply.free)
        writer.zeros(body)
        writeError(&writer)
        complete(.pending, writer.position - body)
        flush()
    }

    /// What was answered before leaves with the announcement, and not before it is safe.
    private func announceWhenSafe() {
        guard let (number, volume, word) = settles.last else { return }
        let (use, message) = (use, header.messageID)
        volume.whenSettled(number, word, on: loop) { [self] failure in
            guard self.use == use, !isDone, !isAnswered, header.messageID == message else { return }
            guard failure == nil else {
                stream?.end(because: "a change is not safe")
                return
            }
            settles.removeAll { $0.volume === volume && $0.number <= number }
            announce()
        }
    }

    func cancel() { cancel(by: .client) }

    func cancel(by who: Cancellation) {
        guard let onCancel else { return }
        self.onCancel = nil
        onCancel(who)
    }

    // MARK: Answers

    /// How safe changes are before their answers leave: as the volume says, unless the share does.
    func word(_ volume: Volume) -> Namespace.Durability {
        guard let share = tree?.share, share.volume === volume else { return volume.durability }
        return share.durability ?? volume.durability
    }

    /// The change must be as safe as is promised here before the answer leaves.
    func settle(_ number: UInt64, _ volume: Volume) {
        guard number > 0 else { return }
        let word = word(volume)
        if let known = settles.firstIndex(where: { $0.volume === volume }) {
            settles[known].number = max(settles[known].number, number)
            settles[known].word = max(settles[known].word, word)
        } else {
            settles.append((number, volume, word))
        }
    }

    func afterReply(_ work: @escaping () -> Void) { afterwards.append(work) }
    func closeConnection() { closesConnection = true }

    /// [MS-SMB2] 2.2.2.
    private func writeError(_ writer: inout Writer, data: [UInt8] = []) {
        writer.u16LE(9)
        let isLatest = stream?.negotiation.dialect == .v311
        writer.u16LE(!data.isEmpty && isLatest ? 1 : 0)
        guard !data.isEmpty else {
            writer.u32LE(0)
            return writer.u8(0)
        }
        writer.u32LE(UInt32(data.count + (isLatest ? 8 : 0)))
        if isLatest {
            writer.u32LE(UInt32(data.count))
            writer.u32LE(0)
        }
        data.withUnsafeBytes { writer.bytes($0) }
    }

    private func fail(_ status: NTStatus, data: [UInt8] = []) {
        var data = data
        // Errors of elements behind this one have their room, too.
        if reply.count + data.count + 128 > SMBLimits.replyMax - SMBLimits.replyReserve { data = [] }
        if reply.capacity - reply.count < Header.bytes + 24 + data.count {
            let larger = state.block(reply.count + data.count + 4096)
            larger.append(reply.bytes)
            reply = larger
        }
        var writer = Writer(reply.free)
        writer.zeros(Header.bytes)
        writeError(&writer, data: data)
        complete(status, writer.position - Header.bytes)
    }

    /// The body of an answer stands behind the place of its header: writes the header and links it to the one before.
    private func complete(_ status: NTStatus, _ bodyBytes: Int) {
        guard let stream else { return }
        let start = reply.count
        if lastReply > 0 {
            reply.base.storeBytes(
                of: UInt32(start - lastReply).littleEndian, toByteOffset: lastReply + Header.nextCommandOffset,
                as: UInt32.self)
        }
        var answer = Header()
        answer.creditCharge = header.creditCharge
        answer.status = status.rawValue
        answer.command = header.command
        answer.flags = header.flags.intersection([.related, .replay, .dfs]).union(.response)
        answer.messageID = header.messageID
        answer.sessionID = session?.id ?? header.sessionID
        if let asyncID {
            answer.flags.insert(.async)
            answer.asyncID = asyncID
            // The announcement brought the credits.
            if status == .pending { answer.credits = stream.grant(header) }
        } else {
            answer.processID = header.processID
            answer.treeID = tree?.id ?? header.treeID
            answer.credits = stream.grant(header)
        }
        // An announcement is not signed ([MS-SMB2] 3.3.4.1.1): it has the number of the answer, and with GMAC the same nonce.
        if isSigning, status != .pending, let keys = borrowedKeys ?? session?.keys {
            answer.flags.insert(.signed)
            signers.append((start, keys))
        }
        var writer = Writer(reply.free)
        answer.write(into: &writer)
        reply.count += Header.bytes + bodyBytes
        lastReply = start
        if status == .pending { return }
        isAnswered = true
        if let asyncID {
            stream.unregister(asyncID)
            self.asyncID = nil
        }
        stream.unhold(header.messageID)
        if creating != nil { creating = nil }
        endAppending()
        hasAwaitedAbsence = false
        delays = 0
        if header.command == Command.create.rawValue {
            failure = status == .success ? nil : status
            // Related elements mean this file, and none before it.
            if failure != nil { file = nil }
        }
        // Elements begin at multiples of eight; of a chain the last one is filled up too, as Windows does it.
        if header.nextCommand != 0 || offset > 0 {
            while (reply.count - Self.lead) % 8 != 0, reply.count < reply.capacity {
                reply.base.storeBytes(of: 0, toByteOffset: reply.count, as: UInt8.self)
                reply.count += 1
            }
            precondition((reply.count - Self.lead) % 8 == 0, "room for what fills up an element")
        }
        if let onAnswer {
            self.onAnswer = nil
            onAnswer(UnsafeRawBufferPointer(start: reply.base + start, count: reply.count - start))
        }
    }

    /// Why a related element finds no file.
    var previousFailure: NTStatus { failure ?? .fileClosed }

    private var isSigning: Bool { encryptedBy == nil && (header.flags.contains(.signed) || isSigningSetup) }

    /// The answer that ends a log-on is signed whatever the request was.
    var isSigningSetup = false

    // MARK: Sending

    /// All elements are answered: waits for what the answers promise, then sends them.
    private func leave() {
        guard let (number, volume, word) = settles.popLast() else { return settled(nil) }
        let use = use
        let promise = Promise()
        volume.whenSettled(number, word, on: loop) { [self] failure in
            promise.isTold = true
            promise.failure = failure
            if !promise.isAsked, self.use == use, !isDone { went(failure) }
        }
        promise.isAsked = false
        if promise.isTold { went(promise.failure) } else { hold() }
    }

    /// One volume's changes are safe, or are not; those of the others follow.
    private func went(_ failure: FileError?) {
        if failure == nil { leave() } else { settled(failure) }
    }

    /// On one loop only.
    private final class Promise: @unchecked Sendable {
        /// While the call runs that may tell at once.
        var isAsked = true
        var isTold = false
        var failure: FileError?
    }

    /// What the answers promise came true, or never will: then none of them is given.
    private func settled(_ failure: FileError?) {
        if failure != nil {
            var place = Self.lead
            while true {
                let next = Int(
                    reply.base.loadUnaligned(fromByteOffset: place + Header.nextCommandOffset, as: UInt32.self))
                reply.base.storeBytes(
                    of: NTStatus.unexpectedIOError.rawValue, toByteOffset: place + Header.statusOffset, as: UInt32.self)
                if next == 0 { break }
                place += next
            }
        }
        flush()
        finishUse()
    }

    /// The only answer goes on with these bytes.
    func lend(_ parts: [BlockPart]) {
        precondition(isAlone && lent.isEmpty, "what is lent is the end of one answer")
        lent = parts
    }

    /// Sends what has gathered: signed, or encrypted as a whole.
    private func flush() {
        guard let stream, lastReply > 0 else { return }
        let packet = protect()
        if packet.count <= Self.smallReply {
            stream.connection.write(packet)
        } else if let base = packet.baseAddress {
            stream.connection.write(reply, offset: base - UnsafeRawPointer(reply.base), count: packet.count)
            // The connection has it now.
            reply = small
        }
        for part in lent { stream.connection.write(part) }
        lent.removeAll(keepingCapacity: true)
        reply.count = Self.lead
        lastReply = 0
    }

    /// The packet, but for what is lent: of an encrypted one, with it.
    private func protect() -> UnsafeRawBufferPointer {
        let bytes = reply.count - Self.lead + lent.reduce(0) { $0 + $1.count }
        let lead = encryptedBy == nil ? SMBStream.frameBytes : Self.lead
        let start = Self.lead - lead
        reply.base.storeBytes(
            of: UInt32(lead - SMBStream.frameBytes + bytes).bigEndian, toByteOffset: start, as: UInt32.self)
        if let encryptedBy, let keys = encryptedBy.keys {
            precondition(Self.lead + bytes <= reply.capacity, "room for what was asked for")
            let packet = UnsafeMutableRawBufferPointer(
                start: reply.base + SMBStream.frameBytes, count: TransformHeader.bytes + bytes)
            var writer = Writer(packet)
            TransformHeader(messageBytes: UInt32(bytes), sessionID: encryptedBy.id).write(into: &writer)
            keys.seal(packet, lent)
            lent.removeAll(keepingCapacity: true)
            reply.count = Self.lead + bytes
        }
        for (place, keys) in signers {
            let next = Int(reply.base.loadUnaligned(fromByteOffset: place + Header.nextCommandOffset, as: UInt32.self))
            keys.sign(
                UnsafeMutableRawBufferPointer(
                    start: reply.base + place, count: next == 0 ? reply.count - place : next), lent)
        }
        signers.removeAll(keepingCapacity: true)
        return UnsafeRawBufferPointer(start: reply.base + start, count: reply.count - start)
    }

    private func drop() {
        if let asyncID { stream?.unregister(asyncID) }
        stream?.unhold(header.messageID)
        asyncID = nil
        end = message.count
        finishUse()
    }

    private func finishUse() {
        guard !isDone, let stream else { return }
        isDone = true
        let work = afterwards
        let closes = closesConnection
        if isHeld {
            stream.unhold(header.messageID)
            stream.release(charged)
        }
        isHeld = false
        charged = 0
        copy?.deallocate()
        copy = nil
        block = nil
        message = UnsafeRawBufferPointer(start: nil, count: 0)
        reply = small
        session = nil
        tree = nil
        encryptedBy = nil
        file = nil
        failure = nil
        settles.removeAll()
        onCancel = nil
        afterwards = []
        closesConnection = false
        isSigningSetup = false
        onAnswer = nil
        borrowedKeys = nil
        if creating != nil { creating = nil }
        endAppending()
        signers.removeAll(keepingCapacity: true)
        lent.removeAll(keepingCapacity: true)
        header = Header()
        self.stream = nil
        state.giveBack(self)
        for each in work { each() }
        if closes { stream.endAfterReply() }
    }

    // MARK: Appending

    /// Where the file ends; others that append to it by SMB wait. Asked for anew at each attempt: who writes elsewhere than at the end takes no
    /// turn, and may have made the file longer while this one waited for something.
    func beginAppending(to file: FileID, _ end: () throws(SMBHalt) -> UInt64) throws(SMBHalt) -> UInt64 {
        if appending == nil {
            let turns = server.appends
            guard turns.take(file) else {
                throw .lacks(Lack { () async throws(FileError) in await turns.whenFree(file) })
            }
            appending = file
        }
        return try end()
    }

    func endAppending() {
        guard let file = appending else { return }
        appending = nil
        stream?.server.appends.give(file)
    }

    // MARK: Who and where

    /// The answer speaks of a session that belongs to another connection.
    func sign(by keys: SessionKeys) { borrowedKeys = keys }
    func use(_ session: Session?) { self.session = session }
    func use(_ tree: Tree?) { self.tree = tree }
}
