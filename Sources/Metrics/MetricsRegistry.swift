import Synchronization

/// What the server tells a monitor of itself, in Prometheus' text form. Each room adds families of its own when it is
/// put together; they are read when somebody asks, so counting costs what the room's own counters cost.
public final class MetricsRegistry: Sendable {
    public enum Kind: String, Sendable { case counter, gauge }

    public struct Sample: Sendable {
        var labels: [(name: StaticString, value: String)]
        var value: Double

        /// Values of labels may be anything: they are escaped.
        public init(_ value: Double, _ labels: [(name: StaticString, value: String)] = []) {
            self.value = value
            self.labels = labels
        }

        public init(_ value: some BinaryInteger, _ labels: [(name: StaticString, value: String)] = []) {
            self.init(Double(value), labels)
        }
    }

    private struct Family {
        var name: String
        var kind: Kind
        var help: StaticString
        var read: @Sendable () -> [Sample]
    }

    /// Families come from our own code, once for each room: more is a leak.
    public static let familiesMax = 1024
    /// Samples of one family; what a family has beyond is left out and counted.
    public static let samplesMax = 10_000

    private let families = Mutex<[Family]>([])
    private let leftOut = Atomic<UInt64>(0)

    public init() {
        add("proxyfs_metrics_left_out_total", .counter, "Samples beyond the limit of their family.") { [unowned self] in
            [Sample(leftOut.load(ordering: .relaxed))]
        }
    }

    /// Names are in snake case, those of counters end with `_total`; each is added once. `read` is called on the
    /// loop that serves the metrics and must not wait.
    public func add(
        _ name: StaticString, _ kind: Kind, _ help: StaticString, _ read: @escaping @Sendable () -> [Sample]
    ) {
        let name = name.description
        precondition((kind == .counter) == name.hasSuffix("_total"), "counters end with _total, gauges do not")
        families.withLock { families in
            precondition(families.count < Self.familiesMax, "too many metrics")
            precondition(!families.contains { $0.name == name }, "a metric is added once")
            families.append(Family(name: name, kind: kind, help: help, read: read))
        }
    }

    /// All families in the order of their names.
    public func text() -> String {
        // Read outside the lock: a family may ask anybody.
        let snapshot = families.withLock { $0 }.sorted { $0.name < $1.name }
        var text = ""
        for family in snapshot {
            text += "# HELP \(family.name) \(family.help)\n# TYPE \(family.name) \(family.kind.rawValue)\n"
            let samples = family.read()
            if samples.count > Self.samplesMax {
                leftOut.wrappingAdd(UInt64(samples.count - Self.samplesMax), ordering: .relaxed)
            }
            for sample in samples.prefix(Self.samplesMax) {
                text += family.name
                if !sample.labels.isEmpty {
                    let labels = sample.labels.map { "\($0.name)=\"\(Self.escaped($0.value))\"" }
                    text += "{\(labels.joined(separator: ","))}"
                }
                text += " \(Self.number(sample.value))\n"
            }
        }
        return text
    }

    private static func escaped(_ value: String) -> String {
        var text = ""
        for scalar in value.unicodeScalars {
            switch scalar {
            case "\\": text += "\\\\"
            case "\"": text += "\\\""
            case "\n": text += "\\n"
            default: text.unicodeScalars.append(scalar)
            }
        }
        return text
    }

    private static func number(_ value: Double) -> String {
        if let whole = Int64(exactly: value) { return String(whole) }
        if value.isNaN { return "NaN" }
        if value.isInfinite { return value < 0 ? "-Inf" : "+Inf" }
        return String(value)
    }
}
