import Glibc
import Synchronization

/// Structured lines to standard error (or wherever `sink` goes).
///
///     log.info("connection closed", [.init("peer", peer), .init("bytes", count)])
///
/// Fields are built only when the level is on. Lines with the same event are limited to `burst` in `window`, so that
/// one peer can not fill a disk; the next line that passes says how many were left out.
public final class Logger: Sendable {
    /// Lines of one event that pass in one window.
    public static let burst = 20
    public static let windowNanoseconds: UInt64 = 1_000_000_000
    /// Events share this many counters, by hash: memory stays bounded however many events there are.
    static let counters = 256

    private struct Counter {
        var windowStart: UInt64 = 0
        var passed = 0
        var suppressed: UInt64 = 0
    }

    private struct State {
        var line: LogLine
        var counters = [Counter](repeating: Counter(), count: Logger.counters)
    }

    private let threshold: Atomic<UInt8>
    private let state: Mutex<State>
    private let wall: @Sendable () -> Int64
    private let monotonic: @Sendable () -> UInt64
    private let sink: @Sendable (UnsafeRawBufferPointer) -> Void

    /// The clocks are those of the world that the program lives in.
    public init(
        level: LogLevel, format: LogFormat, wall: @escaping @Sendable () -> Int64,
        monotonic: @escaping @Sendable () -> UInt64,
        sink: @escaping @Sendable (UnsafeRawBufferPointer) -> Void = Logger.standardError
    ) {
        threshold = Atomic(level.rawValue)
        state = Mutex(State(line: LogLine(format)))
        self.wall = wall
        self.monotonic = monotonic
        self.sink = sink
    }

    /// Changes with the configuration, while the server runs.
    public var level: LogLevel {
        get { LogLevel(rawValue: threshold.load(ordering: .relaxed)) ?? .info }
        set { threshold.store(newValue.rawValue, ordering: .relaxed) }
    }

    @inline(__always)
    public func isOn(_ level: LogLevel) -> Bool { level.rawValue >= threshold.load(ordering: .relaxed) }

    public func debug(_ event: StaticString, _ fields: @autoclosure () -> [LogField] = []) {
        if isOn(.debug) { write(.debug, event, fields()) }
    }

    public func info(_ event: StaticString, _ fields: @autoclosure () -> [LogField] = []) {
        if isOn(.info) { write(.info, event, fields()) }
    }

    public func warning(_ event: StaticString, _ fields: @autoclosure () -> [LogField] = []) {
        if isOn(.warning) { write(.warning, event, fields()) }
    }

    public func error(_ event: StaticString, _ fields: @autoclosure () -> [LogField] = []) {
        if isOn(.error) { write(.error, event, fields()) }
    }

    @inline(never)
    private func write(_ level: LogLevel, _ event: StaticString, _ fields: [LogField]) {
        let now = monotonic()
        let time = timestamp(wall())
        state.withLock { state in
            let slot = Self.slot(event)
            if now &- state.counters[slot].windowStart >= Self.windowNanoseconds {
                state.counters[slot].windowStart = now
                state.counters[slot].passed = 0
            }
            guard state.counters[slot].passed < Self.burst else {
                state.counters[slot].suppressed &+= 1
                return
            }
            state.counters[slot].passed += 1
            state.line.begin()
            state.line.field("time", .text(time))
            state.line.field("level", .text(level.name))
            state.line.field("event", .text(event.description))
            if state.counters[slot].suppressed > 0 {
                state.line.field("suppressed", .unsigned(state.counters[slot].suppressed))
                state.counters[slot].suppressed = 0
            }
            for field in fields { state.line.field(field.name, field.value) }
            state.line.end()
            // Under the lock, so that lines of several threads come out one after the other.
            state.line.bytes.withUnsafeBytes(sink)
        }
    }

    private static func slot(_ event: StaticString) -> Int {
        // FNV-1a: events are our own constants, nobody chooses them to collide.
        event.withUTF8Buffer { bytes in
            var hash: UInt64 = 0xcbf2_9ce4_8422_2325
            for byte in bytes { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
            return Int(hash % UInt64(counters))
        }
    }

    public static let standardError: @Sendable (UnsafeRawBufferPointer) -> Void = { bytes in
        var rest = bytes
        while !rest.isEmpty {
            let count = Glibc.write(2, rest.baseAddress, rest.count)
            // A log that can not be written is no reason to stop serving.
            if count < 0, errno != EINTR { return }
            if count > 0 { rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst(count)) }
        }
    }
}
