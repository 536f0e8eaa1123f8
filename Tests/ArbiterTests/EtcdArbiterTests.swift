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

    /// What every answer of a member begins with.
    private static func header(_ revision: Int = 5, cluster: String = "14841639068965178418") -> String {
        "\"header\":{\"cluster_id\":\"\(cluster)\",\"member_id\":\"1\",\"revision\":\"\(revision)\"}"
    }

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
                return .init(200, "{\(Self.header())," + #""succeeded":true,"responses":[{"response_put":{}}]}"#)
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
                    "{\(Self.header())," + #""responses":[{"response_range":{"kvs":[{"key":"cA==","value":""# + value
                        + #""}]}}]}"#)
            },
            { arbiter in
                let found = try await arbiter.claim("n", "mine")
                #expect(found == "theirs")
            })
    }

    /// Only as it was: another value stays.
    @Test func aNameIsRemoved() async throws {
        try await Self.ask(
            { _, question in
                let compare = question["compare"]?.array?.first
                #expect(compare?["key"] == Self.coded("p/n") && compare?["target"] == "VALUE")
                #expect(compare?["result"] == "EQUAL" && compare?["value"] == Self.coded("mine"))
                #expect(question["failure"] == nil)
                #expect(
                    question["success"]?.array?.first?["request_delete_range"]?["key"] == Self.coded("p/n")
                        && question["success"]?.array?.count == 1)
                return .init(200, "{\(Self.header())," + #""responses":[]}"#)
            }, { arbiter in try await arbiter.remove("n", "mine") })
    }

    @Test func namesAreListed() async throws {
        try await Self.ask(
            { _, question in
                #expect(question["key"] == Self.coded("p/v/a\0") && question["range_end"] == Self.coded("p/v0"))
                let found = JSON.object([
                    .init("header", ["cluster_id": "1", "revision": "5"]),
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
        (503, #"{"error":"etcdserver: no leader"}"#, false), (200, "no JSON", false), (200, "{}", false),
        (200, #"{"responses":[]}"#, false), (200, #"{"error":"no route","code":404}"#, false),
        (200, #"{"header":{}}"#, false), (200, #"{"token":"t"}"#, false), (200, "[]", false),
        (400, #"{"error":"etcdserver: user name is empty"}"#, true),
        (400, #"{"error":"etcdserver: duplicate key given in txn request"}"#, false),
        (403, #"{"error":"etcdserver: permission denied"}"#, true),
    ]) func whatIsNoAnswer(_ status: Int, _ text: String, _ isDenied: Bool) async throws {
        try await Self.ask(
            { _, _ in .init(status, text) },
            { arbiter in
                do throws(ArbiterFailure) {
                    let found = try await arbiter.claim("n", "mine")
                    Issue.record("\(found)")
                } catch { #expect(error.isDenied == isDenied) }
                do throws(ArbiterFailure) {
                    let found = try await arbiter.value(of: "n")
                    Issue.record("\(found ?? "none")")
                } catch { #expect(error.isDenied == isDenied) }
                do throws(ArbiterFailure) {
                    let found = try await arbiter.values(prefix: "v/", after: nil, limit: 1)
                    Issue.record("\(found.entries.count) entries")
                } catch { #expect(error.isDenied == isDenied) }
            })
    }

    /// After an answer of a cluster, one of another cluster, or of a time before, tells nothing.
    @Test(arguments: [
        (5, "14841639068965178418", true), (6, "14841639068965178418", true), (4, "14841639068965178418", false),
        (5, "2", false),
    ]) func answersAreOfOneClusterThatGoesOn(_ revision: Int, _ cluster: String, _ isGood: Bool) async throws {
        let asked = Guarded(0)
        try await Self.ask(
            { _, _ in
                let number = asked.withLock { count -> Int in
                    count += 1
                    return count
                }
                return .init(200, "{\(number == 1 ? Self.header() : Self.header(revision, cluster: cluster))}")
            },
            { arbiter in
                let first = try await arbiter.value(of: "n")
                #expect(first == nil)
                var isAnswered = false
                do throws(ArbiterFailure) {
                    let second = try await arbiter.value(of: "n")
                    isAnswered = second == nil
                } catch { #expect(!error.isDenied) }
                #expect(isAnswered == isGood)
            })
    }

    /// A token that served and has ended, or that a change of users made useless, is replaced, once.
    @Test(arguments: [
        (401, "etcdserver: invalid auth token"), (400, "etcdserver: revision of auth store is old"),
        (400, "etcdserver: user name is empty"),
    ]) func aTokenEnds(_ status: Int, _ text: String) async throws {
        let given = Guarded(0)
        let good = Guarded("t1")
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
                guard request.fields["authorization"] == good.withLock({ $0 }) else {
                    return .init(status, "{\"error\":\"\(text)\"}")
                }
                return .init(200, "{\(Self.header())}")
            }, user: true,
            { arbiter in
                let first = try await arbiter.value(of: "n")
                #expect(first == nil && given.withLock { $0 } == 1)
                good.withLock { $0 = "t2" }
                let second = try await arbiter.value(of: "n")
                #expect(second == nil && given.withLock { $0 } == 2)
                // A new one that is refused as well is no reason for more.
                good.withLock { $0 = "none" }
                do throws(ArbiterFailure) {
                    let found = try await arbiter.value(of: "n")
                    Issue.record("\(found ?? "none")")
                } catch { #expect(!error.reason.isEmpty) }
                #expect(given.withLock { $0 } == 3)
            })
    }
}
