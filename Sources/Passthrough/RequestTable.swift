import Namespace
import Runtime

/// What requests were answered that may come again, since this process began, and which ones are being carried out. No I/O.
///
/// Invariants: of one client it holds at most `perClientMax`, of which the oldest go first, whatever others ask; of clients at most
/// `clientsMax`, of which goes who has asked for nothing the longest.
struct RequestTable {
    static let perClientMax = 512
    static let clientsMax = 256

    private struct Key: Hashable {
        var client: UInt64
        var id: UInt64
    }

    fileprivate struct Client {
        var answers: [UInt64: (digest: UInt64, file: FileID)] = [:]
        /// In the order in which they came, around.
        var order: [UInt64] = []
        var oldest = 0
        var lastUse: UInt64 = 0
    }

    private var clients: [UInt64: Client] = [:]
    private var underWay: Set<Key> = []
    private var uses: UInt64 = 0

    /// Which file the same request has made or changed. Nil: it is new.
    func answer(_ token: RequestToken) throws(Halt) -> FileID? {
        guard let answer = clients[token.client]?.answers[token.id] else { return nil }
        guard answer.digest == token.digest else { throw .refused(.tokenReused) }
        return answer.file
    }

    /// Whatever its content was.
    func knows(_ token: RequestToken) -> Bool { clients[token.client]?.answers[token.id] != nil }

    func isUnderWay(_ token: RequestToken) -> Bool { underWay.contains(Key(client: token.client, id: token.id)) }

    /// False: the same request is being carried out.
    mutating func begin(_ token: RequestToken) -> Bool {
        underWay.insert(Key(client: token.client, id: token.id)).inserted
    }

    mutating func end(_ token: RequestToken) { underWay.remove(Key(client: token.client, id: token.id)) }

    mutating func remember(_ token: RequestToken, _ file: FileID) {
        if clients[token.client] == nil, clients.count >= Self.clientsMax,
            let silent = clients.min(by: { $0.value.lastUse < $1.value.lastUse })?.key
        {
            clients[silent] = nil
        }
        uses += 1
        clients[token.client, default: Client()].remember(token, file, uses)
    }
}

extension RequestTable.Client {
    fileprivate mutating func remember(_ token: RequestToken, _ file: FileID, _ use: UInt64) {
        lastUse = use
        guard answers.updateValue((token.digest, file), forKey: token.id) == nil else { return }
        if order.count < RequestTable.perClientMax {
            order.append(token.id)
        } else {
            answers[order[oldest]] = nil
            order[oldest] = token.id
            oldest = (oldest + 1) % RequestTable.perClientMax
        }
    }
}

extension Passthrough {
    public func isRepeated(_ request: Request) -> Attempt<Bool> {
        guard let token = request.token else { return .done(false, number: 0) }
        let (isKnown, isUnderWay) = state.withLock { ($0.requests.knows(token), $0.requests.isUnderWay(token)) }
        return isUnderWay ? .lacks(theOtherOne) : .done(isKnown, number: 0)
    }

    /// A change that its request is remembered by, in one step: a copy of it that comes meanwhile waits for its end.
    func once<Value>(_ request: Request, _ body: () throws(Halt) -> (Value, UInt64)) -> Attempt<Value> {
        guard let token = request.token else { return attempt(body) }
        guard state.withLock({ $0.requests.begin(token) }) else { return .lacks(theOtherOne) }
        defer { state.withLock { $0.requests.end(token) } }
        return attempt(body)
    }

    /// The same in a task.
    func once<Value: Sendable>(
        _ request: Request, _ body: @escaping @Sendable () throws(Halt) -> Value
    ) async throws(FileError) -> Value {
        guard let token = request.token else { return try await blocking(body) }
        while !state.withLock({ $0.requests.begin(token) }) { try await theOtherOne.supplied() }
        defer { state.withLock { $0.requests.end(token) } }
        return try await blocking(body)
    }

    /// It takes a few calls of the kernel.
    private var theOtherOne: Lack {
        Lack { [loop] () async throws(FileError) in await loop.sleep(nanoseconds: 1_000_000) }
    }

    /// Which file the request has made or changed before, and the change that its answer waits for.
    func repeated(_ request: Request) throws(Halt) -> (file: FileID, number: UInt64)? {
        guard let token = request.token else { return nil }
        let found = state.withLock { state in
            Result { () throws(Halt) in (try state.requests.answer(token), state.promises.newest) }
        }
        let (file, number) = try found.get()
        return file.map { ($0, number) }
    }

    /// A change of these files, that the request is remembered by.
    func changed(_ files: [FileID], _ request: Request, _ file: FileID) -> UInt64 {
        state.withLock { state in
            if let token = request.token { state.requests.remember(token, file) }
            return state.promises.changed(files)
        }
    }
}
