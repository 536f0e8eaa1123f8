/// A text that must not be seen: it prints as `[redacted]` wherever it is printed, interpolated, dumped or logged.
public struct Secret: Sendable {
    private let text: String

    public init(_ text: String) { self.text = text }

    /// The text itself, for the one place that needs it.
    public var revealed: String { text }
    public var isEmpty: Bool { text.isEmpty }
}

extension Secret: Equatable {
    /// Takes the same time wherever two secrets of one length differ.
    public static func == (a: Secret, b: Secret) -> Bool {
        let a = a.text.utf8, b = b.text.utf8
        guard a.count == b.count else { return false }
        var difference: UInt8 = 0
        for (x, y) in zip(a, b) { difference |= x ^ y }
        return difference == 0
    }
}

extension Secret: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    public var description: String { "[redacted]" }
    public var debugDescription: String { "[redacted]" }
    public var customMirror: Mirror { Mirror(self, children: []) }
}
