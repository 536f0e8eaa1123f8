import CShim
import JSON
import Runtime

/// How far a command is. Who does the work says how to find out, and who shows it asks, from any thread.
final class Meter: Sendable {
    /// What is done, and of how much, where that is known.
    typealias Reading = @Sendable () -> (done: UInt64, total: UInt64?)

    private struct Work {
        var what: String
        var unit: String
        var begun: UInt64
        var reading: Reading
    }

    private let work = Guarded<Work?>(nil)

    func follow(_ what: String, unit: String, _ reading: @escaping Reading) {
        let begun = shim_clock_monotonic()
        work.withLock { $0 = Work(what: what, unit: unit, begun: begun, reading: reading) }
    }

    /// What goes on until there is less than now: `left` says how much.
    func follow(_ what: String, unit: String, left: @escaping @Sendable () -> UInt64) {
        let total = left()
        follow(what, unit: unit) { (total - min(total, left()), total) }
    }

    struct Step: Sendable {
        var what: String
        var unit: String
        var done: UInt64
        var total: UInt64?
        var seconds: Double
    }

    /// Nil: nothing is under way, or nothing that has taken a second.
    var step: Step? {
        guard let work = work.withLock({ $0 }) else { return nil }
        let seconds = Double(shim_clock_monotonic() - work.begun) / 1e9
        guard seconds >= 1 else { return nil }
        let (done, total) = work.reading()
        return Step(what: work.what, unit: work.unit, done: done, total: total, seconds: seconds)
    }
}

extension Meter.Step {
    /// As it goes over the wire in front of an answer.
    var json: JSON {
        [
            "progress": [
                "what": .string(what), "unit": .string(unit), "done": .number(done),
                "total": total.map { .number($0) } ?? .null, "milliseconds": .number(UInt64(seconds * 1000)),
            ]
        ]
    }

    init?(_ json: JSON) {
        guard let progress = json["progress"], let what = progress["what"]?.text, let unit = progress["unit"]?.text,
            let done = progress["done"]?.unsigned, let milliseconds = progress["milliseconds"]?.unsigned
        else { return nil }
        self.init(
            what: what, unit: unit, done: done, total: progress["total"]?.unsigned, seconds: Double(milliseconds) / 1000
        )
    }

    var line: String { Progress.line(what, unit, done, total, seconds) }
}
