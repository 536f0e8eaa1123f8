import Bytes
import Crypto
import JSON
import Logging
import ObjectStore
import Runtime
import StoreSupport
import SwiftStore
import Testing
import Transfer

/// An account in memory, in the words of Swift.
final class FakeSwift: Sendable {
    struct State {
        var containers: [String: [String: [UInt8]]] = [:]
        var containerFields: [String: [String: String]] = [:]
        var token = "token1"
        var tokenSeconds = 3600
        var tokens = 0
        var port: UInt16 = 0
        var script: [@Sendable (FakeServer.Request) -> FakeServer.Answer?] = []
        var pageMax = 10_000
        /// Containers that the account's listing does not show yet.
        var unlisted: Set<String> = []
        /// Requests for whole objects that asked all copies.
        var newest = 0
    }

    let state = Guarded(State())

    private func answer(_ request: FakeServer.Request) -> FakeServer.Answer {
        state.withLock { state in
            if request.path == "/auth/v1.0" { return Self.version1(request, &state) }
            if request.path == "/v3/auth/tokens" { return Self.keystone(request, &state) }
            guard request.fields["x-auth-token"] == state.token else { return .init(401) }
            if !state.script.isEmpty, let answer = state.script.removeFirst()(request) { return answer }
            var answer = Self.apply(request, &state)
            answer.fields.append(("X-Trans-Id", "tx1"))
            return answer
        }
    }

    private static func storage(_ state: State) -> String { "http://127.0.0.1:\(state.port)/v1/AUTH_test" }

    private static func version1(_ request: FakeServer.Request, _ state: inout State) -> FakeServer.Answer {
        guard request.fields["x-auth-user"] == "test:tester", request.fields["x-auth-key"] == "KEY" else {
            return .init(401)
        }
        state.tokens += 1
        state.token = "token\(state.tokens)"
        return .init(
            200, "",
            [
                ("X-Auth-Token", state.token), ("X-Storage-Url", storage(state)),
                ("X-Auth-Token-Expires", "\(state.tokenSeconds)"),
            ])
    }

    private static func keystone(_ request: FakeServer.Request, _ state: inout State) -> FakeServer.Answer {
        let question = try? JSON(request.body)
        let identity = question?["auth"]?["identity"]
        let password = identity?["password"]?["user"]
        let isPassword =
            password?["name"]?.text == "tester" && password?["password"]?.text == "KEY"
            && password?["domain"]?["id"]?.text == "default"
            && question?["auth"]?["scope"]?["project"]?["name"]?.text == "project"
        let application = identity?["application_credential"]
        guard isPassword || (application?["id"]?.text == "id" && application?["secret"]?.text == "KEY") else {
            return .init(401, "{\"error\":{\"message\":\"The request you have made requires authentication.\"}}")
        }
        state.tokens += 1
        state.token = "token\(state.tokens)"
        func endpoint(_ interface: String, _ region: String, _ url: String) -> String {
            "{\"interface\":\"\(interface)\",\"region_id\":\"\(region)\",\"url\":\"\(url)\"}"
        }
        return .init(
            201,
            "{\"token\":{\"expires_at\":\"2099-05-24T00:00:00.000000Z\",\"catalog\":[{\"type\":\"image\",\"endpoints\":[]},"
                + "{\"type\":\"object-store\",\"endpoints\":["
                + "\(endpoint("admin", "one", "http://127.0.0.1:1/v1/AUTH_x")),"
                + "\(endpoint("public", "two", "http://127.0.0.1:1/v1/AUTH_x")),"
                + "\(endpoint("public", "one", storage(state)))]}]}}", [("X-Subject-Token", state.token)])
    }

    private static func apply(_ request: FakeServer.Request, _ state: inout State) -> FakeServer.Answer {
        guard request.path.hasPrefix("/v1/AUTH_test") else { return .init(403) }
        let parts = request.path.dropFirst("/v1/AUTH_test".count).split(separator: "/", maxSplits: 1).map(String.init)
        guard let container = parts.first else {
            let listed = state.containers.keys.filter { !state.unlisted.contains($0) }
            return page(listed.sorted(), request, state) { "{\"name\":\"\($0)\"}" }
        }
        if parts.count == 1 {
            switch request.method {
            case "PUT":
                guard state.containers[container] == nil else { return .init(202) }
                state.containers[container] = [:]
                state.containerFields[container] = request.fields
                return .init(201)
            case "DELETE":
                guard let objects = state.containers[container] else { return .init(404) }
                guard objects.isEmpty else { return .init(409) }
                state.containers[container] = nil
                return .init(204)
            case "GET":
                guard let objects = state.containers[container] else { return .init(404) }
                return page(objects.keys.sorted(), request, state) {
                    "{\"name\":\"\($0)\",\"bytes\":\(objects[$0]?.count ?? 0),\"hash\":\"x\"}"
                }
            case "POST":
                guard state.containers[container] != nil else { return .init(404) }
                for (name, value) in request.fields { state.containerFields[container]?[name] = value }
                return .init(204)
            default:
                guard state.containers[container] != nil else { return .init(404) }
                let fields = state.containerFields[container] ?? [:]
                return .init(
                    204, "",
                    ["X-Storage-Policy", "X-Container-Sync-To"].compactMap { name in
                        fields[name.lowercased()].map { (name, $0) }
                    })
            }
        }
        return object(request, container, parts[1], &state)
    }

    private static func page(
        _ names: [String], _ request: FakeServer.Request, _ state: State, _ item: (String) -> String
    ) -> FakeServer.Answer {
        let marker = request.query["marker"] ?? ""
        let limit = min(request.query["limit"].flatMap { Int($0) } ?? 10_000, state.pageMax)
        let found = names.filter { $0 > marker && $0.hasPrefix(request.query["prefix"] ?? "") }.prefix(limit)
        return .init(200, "[" + found.map(item).joined(separator: ",") + "]")
    }

    private static func object(
        _ request: FakeServer.Request, _ container: String, _ name: String, _ state: inout State
    ) -> FakeServer.Answer {
        guard let objects = state.containers[container] else { return .init(404) }
        switch request.method {
        case "PUT":
            let tag = Hexadecimal.encode(Digest.of(.md5, request.body))
            if let wanted = request.fields["etag"], wanted != tag { return .init(422) }
            if request.fields["if-none-match"] == "*", objects[name] != nil { return .init(412) }
            state.containers[container]?[name] = request.body
            return .init(201, "", [("ETag", tag)])
        case "DELETE": return .init(state.containers[container]?.removeValue(forKey: name) == nil ? 404 : 204)
        default:
            if request.fields["x-newest"] == "true", request.fields["range"] == nil { state.newest += 1 }
            guard let bytes = objects[name] else { return .init(404) }
            var answer = FakeServer.Answer(200)
            answer.body = bytes
            guard let range = request.fields["range"] else { return answer }
            let ends = range.dropFirst("bytes=".count).split(separator: "-").compactMap { UInt64($0) }
            guard ends[0] < UInt64(bytes.count) else { return .init(416) }
            let last = min(Int(clamping: ends[1]), bytes.count - 1)
            answer = FakeServer.Answer(206, "", [("Content-Range", "bytes \(ends[0])-\(last)/\(bytes.count)")])
            answer.body = Array(bytes[Int(ends[0])...last])
            return answer
        }
    }

    /// How to get in, once the port is known.
    struct Way: Sendable { var make: @Sendable (UInt16) -> SwiftOptions.Authentication }

    func run(
        as way: Way? = nil,
        _ change: @escaping @Sendable (inout SwiftOptions) -> Void = { _ in },
        _ body: @escaping @Sendable (SwiftStore, World) async throws -> Void
    ) async throws {
        try await FakeServer { self.answer($0) }.run { world, port in
            self.state.withLock { $0.port = port }
            let pool = try TransferPool("test")
            let way =
                way?.make(port)
                ?? .version1(Endpoint("http://127.0.0.1:\(port)/auth/v1.0")!, user: "test:tester", key: Secret("KEY"))
            var options = SwiftOptions(way, SwiftOptions.Containers(name: "vol")!)
            change(&options)
            let store = SwiftStore(options, reads: pool, writes: pool, world: world, loop: world.loops[0])
            try await body(store, world)
            pool.stop()
        }
    }
}

func name(_ text: String) -> ObjectName { ObjectName(text)! }

extension StoreTransport {
    func put(_ object: String, _ text: String, _ condition: PutCondition = .always) async -> StoreReply {
        await perform(StoreRequest(.object(name(object), .put(.blocks([block(text)]), condition))))
    }
    func get(_ object: String, _ range: Range<UInt64>? = nil) async -> StoreReply {
        await perform(StoreRequest(.object(name(object), .get(range))))
    }
}
