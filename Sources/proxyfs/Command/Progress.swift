import CShim
import Glibc

/// Tells a person how far a long command is: on standard error, and only when that is a terminal. Nothing in the first
/// second.
struct Progress {
    private static let quiet: UInt64 = 1_000_000_000
    private static let interval: UInt64 = 200_000_000

    private let what: String
    private let unit: String
    private let start = shim_clock_monotonic()
    private var shown: UInt64 = 0
    private let isTerminal = isatty(2) == 1

    init(_ what: String, unit: String) {
        self.what = what
        self.unit = unit
    }

    /// `total`: of what there is, when that is known.
    mutating func at(_ done: UInt64, of total: UInt64? = nil) {
        let now = shim_clock_monotonic()
        guard isTerminal, now - start >= Self.quiet, now - shown >= Self.interval else { return }
        shown = now
        Terminal.error("\r\u{1b}[K" + Self.line(what, unit, done, total, Double(now - start) / 1e9))
    }

    func finish() { if shown > 0 { Terminal.error("\r\u{1b}[K") } }

    /// What a server says of a command that it carries out.
    static func show(_ step: Meter.Step) { if isatty(2) == 1 { Terminal.error("\r\u{1b}[K" + step.line) } }
    static func clear() { if isatty(2) == 1 { Terminal.error("\r\u{1b}[K") } }

    static func line(_ what: String, _ unit: String, _ done: UInt64, _ total: UInt64?, _ seconds: Double) -> String {
        let rate = seconds > 0 ? Double(done) / seconds : 0
        var text = "\(what): \(done)"
        if let total { text += " of \(total)" }
        text += " \(unit), \(Int(rate))/s"
        if let total, rate > 0, total > done {
            let left = Int(Double(total - done) / rate)
            text += left >= 60 ? ", \(left / 60) min left" : ", \(left) s left"
        }
        return text
    }
}
