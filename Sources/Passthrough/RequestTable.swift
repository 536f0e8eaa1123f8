import Namespace
import Runtime

/// What requests were answered that may come again, since this process began. No I/O.
///
/// Invariants: of one client it holds at most `perClientMax`, of which the oldest go first, whatever others ask; of clients at most
/// `clientsMax`, of one machine at most `clientsPerHostMax`, of which goes who has asked for nothing the longest. A network that has
/// more than half of them makes room itself.
struct RequestTable {
    static let perClientMax = 512
    static let clientsMax = 256
    /// Whoever comes from one address calls himself what he likes: he pushes out none but his own.
    static let clientsPerHostMax = 64

    fileprivate struct Client {
        var answers: [UInt64: (digest: UInt64, file: FileID)] = [:]
        /// In the order in which they came, around.
        var order: [UInt64] = []
        var oldest = 0
        var lastUse: UInt64 = 0
    }

    private var clients: [UInt64: Client] = [:]
    private var uses: UInt64 = 0

    /// Which file the same request has made or changed. Nil: it is new.
    func answer(_ token: RequestToken) throws(Halt) -> FileID? {
        guard let answer = clients[token.client]?.answers[token.id] else { return nil }
        guard answer.digest == token.digest else { throw .refused(.tokenReused) }
        return answer.file
    }

    /// Whatever its content was.
    func knows(_ token: RequestToken) -> Bool { clients[token.client]?.answers[token.id] != nil }

    mutating func remember(_ token: RequestToken, _ file: FileID) {
        if clients[token.client] == nil { makeRoom(for: token) }
        uses += 1
        clients[token.client, default: Client()].remember(token, file, uses)
    }

    private mutating func makeRoom(for token: RequestToken) {
        let ofHost = clients.filter { $0.key >> 32 == token.client >> 32 }
        let isCrowd = ofHost.count >= Self.clientsPerHostMax
        guard isCrowd || clients.count >= Self.clientsMax,
            let silent = (isCrowd ? ofHost : mostOfNetwork() ?? clients)
                .min(by: { $0.value.lastUse < $1.value.lastUse })?.key
        else { return }
        clients[silent] = nil
    }

    /// The clients of the network that more than half come from.
    private func mostOfNetwork() -> [UInt64: Client]? {
        var counts: [UInt64: Int] = [:]
        for client in clients.keys { counts[client >> 48, default: 0] += 1 }
        guard let network = counts.first(where: { $0.value > Self.clientsMax / 2 })?.key else { return nil }
        return clients.filter { $0.key >> 48 == network }
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
        // In this order: what has ended is known.
        if let lack = running.lack(token) { return .lacks(lack) }
        return .done(state.withLock { $0.requests.knows(token) }, number: 0)
    }

    /// A change that its request is remembered by, in one step: a copy of it that comes meanwhile waits for its end.
    func once<Value>(_ request: Request, _ body: () throws(Halt) -> (Value, UInt64)) -> Attempt<Value> {
        guard let token = request.token else { return attempt(body) }
        // One that has ended in between is asked for again at once.
        guard running.begin(token) else { return .lacks(running.lack(token) ?? Lack {}) }
        defer { running.end(token) }
        return attempt(body)
    }

    /// The same in a task.
    func once<Value: Sendable>(
        _ request: Request, _ body: @escaping @Sendable () throws(Halt) -> Value
    ) async throws(FileError) -> Value {
        guard let token = request.token else { return try await blocking(body) }
        return try await running.alone(token) { () async throws(FileError) in try await blocking(body) }
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
