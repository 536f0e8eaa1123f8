import Arbiter
import Crypto
import JSON
import Logging
import Runtime
import StoreSupport
import Testing
import Transfer

/// etcd's gateway, answered for in a member's place; `conformance/stores` asks a real one.
struct EtcdArbiterTests {
    private static func coded(_ text: String) -> JSON { .string(Base64.encode(Array(text.utf8))) }

    private typealias Answer = @Sendable (FakeServer.Request, JSON) -> FakeServer.Answer

    private static func ask(
        _ answer: @escaping Answer, user: Bool = false,
        _ body: @escaping @Sendable (EtcdArbiter) async throws -> Void
    ) async throws {
        let server = FakeServer { (request: FakeServer.Request) -> FakeServer.Answer in
            let question = try? JSON(request.body)
            return answer(request, question ?? .null)
        }
        try await server.run { world, port in
            let pool = try TransferPool("test")
            defer { pool.stop() }
            // The first member is not there.
            let members = ["http://127.0.0.1:1", "http://127.0.0.1:\(port)"].compactMap { Endpoint($0) }
            var options = EtcdArbiter.Options(members, prefix: "p/")
            if user { options.user = ("store", Secret("secret")) }
            try await body(EtcdArbiter(options, over: pool))
        }
    }

    @Test func aNameIsClaimed() async throws {
        try await Self.ask(
            { request, question in
                #expect(request.path == "/v3/kv/txn")
                let compare = question["compare"]?.array?.first
                #expect(compare?["key"] == Self.coded("p/n") && compare?["create_revision"] == "0")
                return .init(200, #"{"header":{},"succeeded":true,"responses":[{"response_put":{}}]}"#)
            },
            { arbiter in
                let found = try await arbiter.claim("n", "mine")
                #expect(found == "mine")
            })
    }

    @Test func aNameIsAnothers() async throws {
        let value = Base64.encode(Array("theirs".utf8))
        try await Self.ask(
            { _, _ in
                .init(
                    200,
                    #"{"header":{},"responses":[{"response_range":{"kvs":[{"key":"cA==","value":""# + value
                        + #""}]}}]}"#)
            },
            { arbiter in
                let found = try await arbiter.claim("n", "mine")
                #expect(found == "theirs")
            })
    }

    @Test func namesAreListed() async throws {
        try await Self.ask(
            { _, question in
                #expect(question["key"] == Self.coded("p/v/a\0") && question["range_end"] == Self.coded("p/v0"))
                let found = JSON.object([
                    .init("kvs", [["key": Self.coded("p/v/b"), "value": Self.coded("1")]]), .init("more", true),
                ])
                return .init(200, "\(found)")
            },
            { arbiter in
                let page = try await arbiter.values(prefix: "v/", after: "v/a", limit: 1)
                #expect(page.isTruncated && page.entries.map(\.name) == ["v/b"] && page.entries.map(\.value) == ["1"])
            })
    }

    /// What is no answer to the question is a failure, never "there is none".
    @Test(arguments: [
        (503, #"{"error":"etcdserver: no leader"}"#, false), (200, "no JSON", false),
        (200, #"{"responses":[]}"#, false), (400, #"{"error":"etcdserver: user name is empty"}"#, true),
    ]) func whatIsNoAnswer(_ status: Int, _ text: String, _ isDenied: Bool) async throws {
        try await Self.ask(
            { _, _ in .init(status, text) },
            { arbiter in
                do throws(ArbiterFailure) {
                    let found = try await arbiter.claim("n", "mine")
                    Issue.record("\(found)")
                } catch { #expect(error.isDenied == isDenied) }
            })
    }

    /// A token that has ended is replaced, once.
    @Test func aTokenEnds() async throws {
        let given = Guarded(0)
        try await Self.ask(
            { request, question in
                if request.path == "/v3/auth/authenticate" {
                    #expect(question["name"] == "store" && question["password"] == "secret")
                    let number = given.withLock { count -> Int in
                        count += 1
                        return count
                    }
                    return .init(200, "{\"token\":\"t\(number)\"}")
                }
                guard request.fields["authorization"] == "t2" else {
                    return .init(401, #"{"error":"invalid auth token"}"#)
                }
                return .init(200, #"{"header":{}}"#)
            }, user: true,
            { arbiter in
                // The first token is new, so its refusal counts; the one after it serves.
                do throws(ArbiterFailure) { _ = try await arbiter.value(of: "n") } catch {
                    #expect(error.isDenied)
                }
                let found = try await arbiter.value(of: "n")
                #expect(found == nil)
                #expect(given.withLock { $0 } == 2)
            })
    }
}
