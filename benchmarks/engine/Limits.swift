import Glibc
import Synchronization

/// What was measured, with the durability that it was measured in, beside what is asked. Who misses a limit ends non-zero.
enum Limits {
    enum Bound {
        case least(Double)
        case most(Double)

        func holds(_ value: Double) -> Bool {
            switch self {
            case .least(let limit): value >= limit
            case .most(let limit): value <= limit
            }
        }

        var text: String {
            switch self {
            case .least(let limit): "at least \(Limits.text(limit))"
            case .most(let limit): "at most \(Limits.text(limit))"
            }
        }
    }

    private static let missed = Mutex<[String]>([])

    private static func text(_ value: Double) -> String {
        guard value < 100, value != value.rounded() else { return "\(Int(value.rounded()))" }
        let hundredths = Int((value * 100).rounded())
        return "\(hundredths / 100).\(hundredths % 100 < 10 ? "0" : "")\(hundredths % 100)"
    }

    /// `durability` is one of `memory`, `log`, `store`, or `-` where nothing is written.
    static func tell(
        _ what: String, _ durability: String, _ value: Double, _ unit: String, _ bound: Bound? = nil,
        _ more: String = ""
    ) {
        func padded(_ text: String, _ width: Int) -> String {
            text + String(repeating: " ", count: max(1, width - text.count))
        }
        let isMet = bound?.holds(value) ?? true
        if !isMet { missed.withLock { $0.append(what) } }
        let limit = bound.map { "\($0.text): \(isMet ? "met" : "MISSED")" } ?? "no limit of its own"
        print(
            padded(what, 56) + padded(durability, 8) + padded("\(text(value)) \(unit)", 22) + padded(limit, 30) + more)
        fflush(nil)
    }

    /// The status to end with.
    static func end() -> Int32 {
        let missed = missed.withLock { $0 }
        guard !missed.isEmpty else { return 0 }
        print("missed: \(missed.joined(separator: "; "))")
        return 1
    }
}
