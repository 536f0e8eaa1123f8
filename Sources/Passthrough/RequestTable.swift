import Namespace
import Runtime

/// What requests were answered that may come again, since this process began. No I/O.
///
/// Invariant: it holds at most `countMax`; the oldest go first.
struct RequestTable {
    static let countMax = 4096

    private struct Key: Hashable {
        var client: UInt64
        var id: UInt64
    }

    private var answers: [Key: (digest: UInt64, file: FileID)] = [:]
    /// In the order in which they came, around.
    private var order: [Key] = []
    private var oldest = 0

    /// Which file the same request has made or changed. Nil: it is new.
    func answer(_ token: RequestToken) throws(Halt) -> FileID? {
        guard let answer = answers[Key(client: token.client, id: token.id)] else { return nil }
        guard answer.digest == token.digest else { throw .refused(.tokenReused) }
        return answer.file
    }

    /// Whatever its content was.
    func knows(_ token: RequestToken) -> Bool { answers[Key(client: token.client, id: token.id)] != nil }

    mutating func remember(_ token: RequestToken, _ file: FileID) {
        let key = Key(client: token.client, id: token.id)
        guard answers.updateValue((token.digest, file), forKey: key) == nil else { return }
        if order.count < Self.countMax {
            order.append(key)
        } else {
            answers[order[oldest]] = nil
            order[oldest] = key
            oldest = (oldest + 1) % Self.countMax
        }
    }
}

extension Passthrough {
    public func isRepeated(_ request: Request) -> Attempt<Bool> {
        guard let token = request.token else { return .done(false, number: 0) }
        return .done(state.withLock { $0.requests.knows(token) }, number: 0)
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
