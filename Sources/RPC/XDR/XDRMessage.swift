import Bytes

/// What can be read from XDR and written as XDR (RFC 4506). Both are the same list of fields in the same order.
///
/// Opaques, strings and names of a message that was read lie in place: they are valid as long as the memory that they
/// were read from.
public protocol XDRMessage {
    init(reading reader: inout Reader) throws(BytesError)
    func write(into writer: inout Writer)
}

/// No arguments, or no results.
public struct XDRVoid: XDRMessage, Equatable, Sendable {
    public init() {}
    public init(reading reader: inout Reader) throws(BytesError) {}
    public func write(into writer: inout Writer) {}
}

extension Reader {
    /// Optional-data (RFC 4506 4.19).
    @inlinable
    @_lifetime(self: copy self)
    public mutating func optional<Message: XDRMessage>(_ type: Message.Type) throws(BytesError) -> Message? {
        try bool() ? try Message(reading: &self) : nil
    }

    /// Variable-length array (RFC 4506 4.13). Memory is taken as elements are read, not as the count claims.
    @inlinable
    @_lifetime(self: copy self)
    public mutating func array<Message: XDRMessage>(
        _ type: Message.Type, limit: Int
    ) throws(BytesError) -> [Message] {
        let count = try count(limit: limit)
        var elements: [Message] = []
        for _ in 0..<count { elements.append(try Message(reading: &self)) }
        return elements
    }

    /// A list that is chained by optional-data, as RFC 4506 4.19 shows it: read in a loop, not by recursion.
    @inlinable
    @_lifetime(self: copy self)
    public mutating func list<Message: XDRMessage>(
        _ type: Message.Type, limit: Int
    ) throws(BytesError) -> [Message] {
        var elements: [Message] = []
        while try bool() {
            guard elements.count < limit else { throw .tooLong }
            elements.append(try Message(reading: &self))
        }
        return elements
    }

    /// An opaque or string of variable length, in place.
    @inlinable @inline(__always)
    @_lifetime(self: copy self)
    public mutating func inPlace(limit: Int) throws(BytesError) -> UnsafeRawBufferPointer {
        try opaque(limit: limit).withUnsafeBytes { $0 }
    }

    /// An opaque of fixed length, in place.
    @inlinable @inline(__always)
    @_lifetime(self: copy self)
    public mutating func inPlace(fixed count: Int) throws(BytesError) -> UnsafeRawBufferPointer {
        try opaque(fixed: count).withUnsafeBytes { $0 }
    }
}

extension Writer {
    @inlinable
    public mutating func optional(_ message: (some XDRMessage)?) {
        bool(message != nil)
        message?.write(into: &self)
    }

    @inlinable
    public mutating func array(_ messages: [some XDRMessage]) {
        u32(UInt32(clamping: messages.count))
        for message in messages { message.write(into: &self) }
    }

    /// See `Reader.list`.
    @inlinable
    public mutating func list(_ messages: [some XDRMessage]) {
        for message in messages {
            bool(true)
            message.write(into: &self)
        }
        bool(false)
    }
}
