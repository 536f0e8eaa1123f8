/// What keeps a file from being changed or removed, by whatever protocol: S3's object lock. It is kept in the file's
/// extended attribute `FileLock.name`, and the engine lets no file go that has one.
///
/// ```
/// 0 version  1 mode  2 held by law  3 until, nanoseconds since 1970, i64, little endian
/// ```
public struct FileLock: Equatable, Sendable {
    public static let name = "proxyfs.lock"
    static let nameBytes = [Array(name.utf8)]
    private static let version: UInt8 = 1

    public enum Mode: UInt8, Sendable {
        case governance = 1
        /// Nobody can end it.
        case compliance
    }

    public struct Retention: Equatable, Sendable {
        public var mode: Mode
        /// Nanoseconds since 1970.
        public var until: Int64

        public init(mode: Mode, until: Int64) { (self.mode, self.until) = (mode, until) }
    }

    public var retention: Retention?
    /// Until somebody takes it back.
    public var isHeld = false

    public init() {}

    public var isEmpty: Bool { retention == nil && !isHeld }

    /// Whether the file may not go at this time.
    public func isInForce(_ now: Int64) -> Bool { isHeld || retention.map { $0.until > now } ?? false }

    public var encoded: [UInt8] {
        let until = UInt64(bitPattern: retention?.until ?? 0)
        return [Self.version, retention?.mode.rawValue ?? 0, isHeld ? 1 : 0]
            + (0..<8).map { UInt8(truncatingIfNeeded: until >> (8 * UInt64($0))) }
    }

    /// What can not be read is a lock without an end: forgetting one would be worse.
    public init(_ bytes: [UInt8]) {
        guard bytes.count == 11, bytes[0] == Self.version, bytes[1] <= 2 else {
            isHeld = true
            return
        }
        isHeld = bytes[2] != 0
        if let mode = Mode(rawValue: bytes[1]) {
            let until = (0..<8).reduce(UInt64(0)) { $0 | UInt64(bytes[3 + $1]) << (8 * UInt64($1)) }
            retention = Retention(mode: mode, until: Int64(bitPattern: until))
        }
    }
}
