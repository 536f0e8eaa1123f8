/// A store that can not be used as it was described: what was tried, what the answer was, and what to change.
public struct StoreProblem: Error, Equatable, Sendable, CustomStringConvertible {
    public let tried: String
    public let answer: String
    public let advice: String

    public init(tried: String, answer: String, advice: String) {
        (self.tried, self.answer, self.advice) = (tried, answer, advice)
    }

    public var description: String { "\(tried): \(answer); \(advice)" }

    /// Of a request that got no answer.
    public init(_ tried: String, at endpoint: Endpoint, _ failure: TransferFailure) {
        let advice =
            switch failure.kind {
            case .tls where !endpoint.isSecure: "the address is one of https"
            case .tls:
                "name the certificate of who signs for \(endpoint.host) with the store's key authorities, or the right host"
            case .unreachable: "is \(endpoint.base) the right address, and does the server run?"
            case .timeout, .broken, .canceled: "is something between this host and \(endpoint.base)?"
            case .tooLarge, .refused: "is \(endpoint.base) an object store?"
            }
        self.init(tried: tried, answer: "no answer from \(endpoint.base): \(failure.reason)", advice: advice)
    }
}
