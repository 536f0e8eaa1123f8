/// What a client may ask of the server's memory and patience. Times in nanoseconds.
public struct HTTPLimits: Sendable {
    /// The request target: presigned addresses are long. Beyond: 414.
    public var targetBytesMax = 16 << 10
    /// Request line and header fields together, with their line ends. Beyond: 431.
    public var headBytesMax = 64 << 10
    /// Beyond: 431.
    public var fieldsMax = 256
    /// A chunk's size with its extensions, without the line end. Beyond: 400.
    public var chunkLineBytesMax = 256
    /// Fields behind a chunked body, with their line ends; they are checked and dropped. Beyond: 400.
    public var trailerBytesMax = 8 << 10
    /// After an answer that did not wait for it, the rest of a body is read and dropped up to this size, so that
    /// the connection can go on; beyond, it is closed.
    public var discardMax = 64 << 10
    /// From the first byte of a request to the end of its header fields.
    public var headTimeout: UInt64 = 30_000_000_000
    /// Between two pieces of a body that the server waits for.
    public var bodyTimeout: UInt64 = 30_000_000_000
    /// So much of a body, or all that is left of it, comes within that time: single bytes do not keep a connection.
    public var bodyBytesMin = 4 << 10
    /// Between an answer and the next request.
    public var idleTimeout: UInt64 = 75_000_000_000
    /// The peer takes no byte of an answer.
    public var writeTimeout: UInt64 = 60_000_000_000
    /// So much of an answer, or all that waits for it, is taken within that time: single bytes do not keep a connection.
    public var outputBytesMin = 4 << 10
    /// Connections of one listener.
    public var connectionsMax = 16_384

    public init() {}

    /// The longest method: none that is registered has more than 18 letters.
    static let methodBytesMax = 32
    /// What is unread of pipelined requests stays in the connection's buffer: room for a head and then some.
    static let inputBytesMin = 256 << 10
}
