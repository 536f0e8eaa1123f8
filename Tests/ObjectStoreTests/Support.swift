import Bytes
import Glibc
import ObjectStore
import Runtime
import Simulator
import Testing

func name(_ text: String) -> ObjectName { ObjectName(text)! }

func block(_ bytes: [UInt8]) -> Block { bytes.withUnsafeBytes { Block(copying: $0) } }

func block(_ text: String) -> Block { block(Array(text.utf8)) }

extension Block {
    var array: [UInt8] {
        defer { extendLifetime(self) }
        return Array(bytes)
    }
    var text: String { String(decoding: array, as: UTF8.self) }
}

/// A body that comes in pieces, and may fail or be of another length than it says.
final class Pieces: BodySource, @unchecked Sendable {
    let pieces: [[UInt8]]
    let failsAt: Int?

    init(_ pieces: [[UInt8]], failsAt: Int? = nil) {
        self.pieces = pieces
        self.failsAt = failsAt
    }

    func piece(at offset: UInt64) async throws(StoreError) -> Block? {
        var (index, place) = (0, 0)
        while index < pieces.count, place < offset {
            place += pieces[index].count
            index += 1
        }
        if index == failsAt { throw .unavailable("the client went away") }
        return index < pieces.count ? block(pieces[index]) : nil
    }
}

/// Answers what the test wants, in order; then 201.
final class Scripted: StoreTransport, @unchecked Sendable {
    var capabilities = StoreCapabilities(
        createIfAbsent: true, adoptsFiles: false, objectBytesMax: 1 << 20, listsConsistently: true)
    var script: [(StoreRequest) async -> StoreReply] = []
    private(set) var requests = 0
    private(set) var now = 0
    private(set) var most = 0
    private(set) var order: [String] = []

    func perform(_ request: StoreRequest) async -> StoreReply {
        requests += 1
        if case .object(let name, _) = request.kind { order.append(name.text) }
        now += 1
        most = max(most, now)
        defer { now -= 1 }
        return script.isEmpty ? StoreReply(status: 201) : await script.removeFirst()(request)
    }

    func answer(_ statuses: Int...) { script += statuses.map { status in { _ in StoreReply(status: status) } } }
}

func outcome<Success: Sendable>(
    _ body: () async throws(StoreError) -> Success
) async -> Result<Success, StoreError> {
    do throws(StoreError) { return .success(try await body()) } catch { return .failure(error) }
}

extension Result {
    var failure: Failure? { if case .failure(let error) = self { error } else { nil } }
}

/// Runs a body on a simulated world to its end.
func simulated<Success: Sendable>(
    _ simulation: Simulation = Simulation(seed: 1), _ body: @escaping @Sendable (World) async throws -> Success
) throws -> Success {
    let result = simulation.perform { world -> Result<Success, any Error> in
        do { return .success(try await body(world)) } catch { return .failure(error) }
    }
    return try #require(result, "the simulated program did not come to its end").get()
}
