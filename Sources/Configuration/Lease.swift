extension Configuration {
    /// For how long the server of a volume goes on answering when it can not look at the volume's store.
    public enum Lease: Sendable, Equatable, CustomStringConvertible {
        /// As long as it likes: whoever takes the volume over has to see to it that it does not run.
        case off
        /// A log in the store, or in a directory of several hosts, is there so that others can go on with it: such a volume has a lease where
        /// its store can prove one, and others have none.
        case byLogPlace
        case length(TimeSpan)

        public static let standard = TimeSpan.seconds(30)
        public static let lengths = TimeSpan.seconds(2)...TimeSpan.seconds(600)

        /// `off`, `auto`, or a time.
        public init?(_ text: String) {
            switch text {
            case "off": self = .off
            case "auto": self = .byLogPlace
            default:
                guard let length = TimeSpan(text), Self.lengths.contains(length) else { return nil }
                self = .length(length)
            }
        }

        public var description: String {
            switch self {
            case .off: "off"
            case .byLogPlace: "auto"
            case .length(let length): "\(length)"
            }
        }

        /// 0: none.
        public func nanoseconds(_ log: LogPlace, storeDecides: Bool) -> UInt64 {
            switch (self, log) {
            case (.off, _), (.byLogPlace, .local): 0
            case (.byLogPlace, .store), (.byLogPlace, .path): storeDecides ? Self.standard.nanoseconds : 0
            case (.length(let length), _): length.nanoseconds
            }
        }
    }
}

extension Section {
    mutating func lease(_ key: String) -> Configuration.Lease {
        let text = string(key, default: Configuration.Lease.byLogPlace.description, lengthMax: 32)
        guard let lease = Configuration.Lease(text) else {
            let lengths = Configuration.Lease.lengths
            report(
                "\(quoted(text)) is not off, auto, or a time of \(lengths.lowerBound) to \(lengths.upperBound)", at: key
            )
            return .byLogPlace
        }
        return lease
    }
}
