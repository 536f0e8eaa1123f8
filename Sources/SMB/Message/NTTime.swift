import Crypto
import Runtime

/// Windows counts tenths of microseconds since 1601 ([MS-DTYP] 2.3.3).
enum NTTime {
    private static let epoch: Int64 = 116_444_736_000_000_000
    /// Who formats a time may round it either way.
    private static let limit: Int64 = 9_223_372_036_000_000_000

    /// From nanoseconds since 1970; before 1601 is 0.
    static func from(_ nanoseconds: Int64) -> UInt64 {
        // Rounded down, before 1970 too.
        let ticks = nanoseconds / 100 - (nanoseconds % 100 < 0 ? 1 : 0)
        return UInt64(max(ticks + epoch, 0))
    }

    /// Nanoseconds since 1970; what those can not say becomes the nearest they can.
    static func nanoseconds(_ time: UInt64) -> Int64 {
        let ticks = Int64(clamping: time) - epoch
        let (value, overflow) = ticks.multipliedReportingOverflow(by: 100)
        return overflow ? (ticks < 0 ? -limit : limit) : min(max(value, -limit), limit)
    }

    static func now(_ clock: any WorldClock) -> UInt64 { from(clock.wall()) }
}

/// The hash that proves the messages of a negotiation and a log-on ([MS-SMB2] 3.1.4.4.1).
enum NegotiationHash {
    static func next(_ before: [UInt8], _ message: UnsafeRawBufferPointer) -> [UInt8] {
        ChainedDigest.sha512(before, message)
    }
}
