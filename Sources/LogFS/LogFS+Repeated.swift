import Headhunter

extension LogFS {
    /// Whether a request with this token was made before, so that its first answer is what it gets.
    public func isRepeated(_ request: Request) -> Attempt<Bool> {
        guard let token = request.token else { return .done(false, number: 0) }
        return read(request.reader) { (records) throws(Halt) in
            try records.get(records.scratch.key(0, .token, token.client, token.id)) != nil
        }
    }
}
