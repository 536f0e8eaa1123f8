import Bytes
import Glibc
import ObjectStore
import Runtime

/// What one operation costs with ten times the objects: it should cost the same.
enum Crowd {
    private struct Cost {
        let name: String
        let wall: Double
        let processor: Double
    }

    private static let samples = 1_000
    /// Puts under way while the store fills: as many as share a sync of their directory, and then some.
    private static let fillers = 32

    static func run(_ world: World, _ count: Int) async throws {
        let few = count / 10
        try await fill(world, 0..<few)
        let before = try await measure(world, few)
        try await fill(world, few..<count)
        let after = try await measure(world, count)
        print(
            "objects      \(left("", 12))\(right(few)) \(right(count))        ratio   (microseconds of wall and processor)"
        )
        for (few, many) in zip(before, after) {
            print(
                left(few.name, 24), right(few.wall), right(few.processor), right(many.wall), right(many.processor),
                right(many.processor / few.processor))
        }
    }

    private static func name(_ index: Int) -> ObjectName {
        let digits = String(index, radix: 16)
        guard let name = ObjectName("v/segment/" + String(repeating: "0", count: 16 - digits.count) + digits) else {
            preconditionFailure("the benchmark's own name")
        }
        return name
    }

    private static func open(_ world: World) async throws -> ObjectStore {
        let loop = world.loops[0]
        return ObjectStore(
            try await DirectoryStore.open(world: world, loop: loop, root: "store"), world: world, loop: loop)
    }

    private static func fill(_ world: World, _ range: Range<Int>) async throws {
        let store = try await open(world)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for worker in 0..<fillers {
                group.addTask {
                    for index in stride(from: range.lowerBound + worker, to: range.upperBound, by: fillers) {
                        try await store.put(name(index), .blocks([]))
                    }
                }
            }
            try await group.waitForAll()
        }
    }

    private static func measure(_ world: World, _ count: Int) async throws -> [Cost] {
        var costs: [Cost] = []
        costs.append(try await cost("open", world, 20) { _ in _ = try await open(world) })
        let store = try await open(world)
        let body = Block(capacity: 100)
        body.count = 100
        world.random.fill(UnsafeMutableRawBufferPointer(start: body.base, count: 100))
        // Objects of their own, so that those that fill the store stay as they are.
        let fresh = count..<(count + samples)
        func random() -> Int { Int(world.random.next() % UInt64(count)) }
        costs.append(
            try await cost("put", world, samples) { try await store.put(name(fresh.lowerBound + $0), .blocks([body])) })
        costs.append(
            try await cost("get", world, samples) { _ = try await store.get(name(fresh.lowerBound + $0)) })
        costs.append(try await cost("head", world, samples) { _ in _ = try await store.head(name(random())) })
        costs.append(
            try await cost("list 1,000 by marker", world, 50) { _ in
                let from = random() / 2
                let page = try await store.list(prefix: "v/segment/", after: name(from).text, limit: 1_000)
                precondition(page.entries.count == 1_000 && page.entries[0].name == name(from + 1))
            })
        costs.append(
            try await cost("delete", world, samples) { try await store.delete(name(fresh.lowerBound + $0)) })
        return costs
    }

    private static func cost(
        _ name: String, _ world: World, _ count: Int, _ body: (Int) async throws -> Void
    ) async throws -> Cost {
        let begin = (world.clock.monotonic(), processor())
        for index in 0..<count { try await body(index) }
        let wall = Double(world.clock.monotonic() - begin.0) / 1e3
        return Cost(name: name, wall: wall / Double(count), processor: (processor() - begin.1) / Double(count))
    }

    /// Of all threads, user and system, in microseconds.
    private static func processor() -> Double {
        var usage = rusage()
        getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
        func microseconds(_ time: timeval) -> Double { Double(time.tv_sec) * 1e6 + Double(time.tv_usec) }
        return microseconds(usage.ru_utime) + microseconds(usage.ru_stime)
    }

    private static func left(_ text: String, _ width: Int) -> String {
        text + String(repeating: " ", count: max(0, width - text.count))
    }
    private static func right(_ number: Int) -> String { right("\(number)") }
    private static func right(_ number: Double) -> String {
        let tenths = Int((number * 10).rounded())
        return right("\(tenths / 10).\(tenths % 10)")
    }
    private static func right(_ text: String) -> String {
        String(repeating: " ", count: max(0, 10 - text.count)) + text
    }
}
