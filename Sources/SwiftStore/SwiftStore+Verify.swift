import Bytes
import Crypto
import JSON
import ObjectStore
import Runtime
import Transfer

extension SwiftStore {
    private static let verifyNanoseconds: UInt64 = 15_000_000_000
    /// An object of the first container that says how all of them are used: a copy of them can be read from it alone.
    static let layoutName = "proxyfs-containers"

    /// Whether the account and its containers are there for us; the first container is made when `creates` says so.
    public func verify(creates: Bool) async throws(StoreProblem) {
        let session = try await sessions.current()
        let first = map.all?.first ?? map.container(of: "")
        let tried = "looking at the container \(first) at \(session.storage)"
        var answer = await send(.head, "/\(first)", Self.verifyNanoseconds, over: reads)
        if let failure = answer.failure { throw StoreProblem(tried, at: session.storage, failure) }
        if Self.isAbsent(answer), creates {
            let reply = await make(first, Self.verifyNanoseconds)
            guard reply.status / 100 == 2 else {
                throw StoreProblem(
                    tried: "making the container \(first)", answer: reply.reason,
                    advice: "let this user make containers, or make it and let this user write to it; is the storage "
                        + "policy one that the cluster has?")
            }
            answer.status = 204
        }
        guard answer.status / 100 == 2 else {
            let advice =
                switch answer.status {
                case 401, 403: "let this user read and write the container"
                case 404 where Self.isAbsent(answer): "name a container that there is"
                default: "look at the store's own log"
                }
            throw StoreProblem(tried: tried, answer: "status \(answer.status)", advice: advice)
        }
        try await verifyLayout(first, creates)
        if options.containers.policy != nil || options.containers.syncTo != nil { try await verifyContainers(creates) }
    }

    /// Those that are there already are what the configuration wants of those that are made.
    private func verifyContainers(_ mends: Bool) async throws(StoreProblem) {
        let all: [String]
        switch await containers(Self.verifyNanoseconds) {
        case .success(let found): all = found
        case .failure(let refused):
            throw StoreProblem(
                tried: "listing the containers", answer: refused.value.reason, advice: "look at the store's own log")
        }
        for container in all {
            let answer = await send(.head, "/\(container)", Self.verifyNanoseconds, over: reads)
            if Self.isAbsent(answer) { continue }
            guard answer.status / 100 == 2 else {
                throw StoreProblem(
                    tried: "looking at the container \(container)",
                    answer: answer.failure?.reason ?? "status \(answer.status)", advice: "try again later")
            }
            if let wanted = options.containers.policy, let found = answer.headers["X-Storage-Policy"],
                found.lowercased() != wanted.lowercased()
            {
                throw StoreProblem(
                    tried: "looking at the container \(container)", answer: "its storage policy is \(found)",
                    advice: "a container keeps its policy: say policy = \"\(found)\", or name other containers")
            }
            let fields = syncFields(container)
            guard let wanted = fields.first?.value, answer.headers["X-Container-Sync-To"] != wanted else { continue }
            guard mends else { continue }
            var extras = Extras()
            extras.body = .blocks([])
            extras.headers = fields
            let told = await send(.post, "/\(container)", Self.verifyNanoseconds, over: writes, extras)
            guard told.status / 100 == 2 else {
                throw StoreProblem(
                    tried: "telling the container \(container) where it is copied to",
                    answer: told.failure?.reason
                        ?? "status \(told.status) \(String(decoding: told.bodyBytes.prefix(200), as: UTF8.self))",
                    advice: "is sync_to //REALM/CLUSTER/ACCOUNT of a realm that the cluster knows?")
            }
        }
    }

    /// Whether this user may write and delete there: tried with an object of its own.
    public func probe() async throws(StoreProblem) {
        let lead = options.prefix.isEmpty ? "" : options.prefix + "/"
        let first = map.all?.first ?? map.container(of: "")
        let name = "proxyfs-probe-" + String(random.next(), radix: 16)
        let path = "/\(first)/\(Endpoint.escape(lead + name, keepsSlash: true))"
        var extras = Extras()
        extras.body = .blocks([])
        var answer = TransferReply()
        for (method, extras, doing) in [(TransferRequest.Method.put, extras, "write"), (.delete, Extras(), "delete")] {
            answer = await send(method, path, Self.verifyNanoseconds, over: writes, extras)
            // A replica that is behind does not have it yet.
            guard answer.status / 100 != 2, doing != "delete" || answer.status != 404 else { continue }
            let advice =
                switch answer.status {
                case 401, 403: "let this user \(doing) in the container"
                case 413, 507: "make room in the account or the container"
                default: "try again later"
                }
            throw StoreProblem(
                tried: "trying to \(doing) an object in the container \(first)",
                answer: answer.failure?.reason ?? "status \(answer.status)", advice: advice)
        }
    }

    /// Names would not be found with another number of containers.
    private func verifyLayout(_ first: String, _ creates: Bool) async throws(StoreProblem) {
        let lead = options.prefix.isEmpty ? "" : options.prefix + "/"
        let path = layoutPath
        let answer = await send(.get, path, Self.verifyNanoseconds, over: reads)
        let tried = "reading \(first)/\(lead)\(Self.layoutName)"
        if Self.isAbsent(answer) {
            guard creates else { return }
            var extras = Extras()
            let text = Array("\(layout)\n".utf8)
            extras.body = .blocks([text.withUnsafeBytes { Block(copying: $0) }])
            extras.headers = [("If-None-Match", "*"), ("Content-Type", "application/json")]
            let written = await send(.put, path, Self.verifyNanoseconds, over: writes, extras)
            guard written.status == 201 || written.status == 412 else {
                throw StoreProblem(
                    tried: "writing \(first)/\(lead)\(Self.layoutName)",
                    answer: written.failure?.reason ?? "status \(written.status)",
                    advice: "let this user write to the container")
            }
            made.layout = made.layout || written.status == 201
            return
        }
        guard answer.status == 200, let found = try? JSON(answer.bodyBytes) else {
            throw StoreProblem(
                tried: tried, answer: answer.failure?.reason ?? "status \(answer.status)", advice: "look at that object"
            )
        }
        guard found == layout else {
            throw StoreProblem(
                tried: tried, answer: "the containers are used as \(found)",
                advice: "say the same for the store, not \(layout)")
        }
    }

    private var layout: JSON {
        switch options.containers.spread {
        case .single: ["spread": "single"]
        case .hash(let count): ["spread": "hash", "containers": .number(count)]
        case .number(let count): ["spread": "number", "objects": .number(count)]
        }
    }
}

extension SwiftStore {
    /// What the store's clock says, in seconds since 1970.
    public func time() async -> Int64? {
        let first = map.all?.first ?? map.container(of: "")
        let answer = await send(.head, "/\(first)", Self.verifyNanoseconds, over: reads)
        return answer.headers["Date"].flatMap { Timestamp.http($0) }
    }

    /// Takes back what this one's `verify` and PUTs have made, and nothing that was there before: others may use it.
    public func undo() async {
        if made.layout { await removeLayout() }
        await removeContainers()
    }

    /// After the last object is gone: the same, and the layout whoever made it, unless there is something left that needs
    /// it.
    public func unmake() async {
        let left = await list("", nil, 1, Self.verifyNanoseconds)
        if left.status == 200, left.entries.isEmpty, !left.truncated { await removeLayout() }
        await removeContainers()
    }

    private func removeLayout() async {
        _ = await send(.delete, layoutPath, Self.verifyNanoseconds, over: writes)
        made.layout = false
    }

    private func removeContainers() async {
        for container in made.containers.sorted() {
            // The store refuses it for one that holds something.
            _ = await send(.delete, "/\(container)", Self.verifyNanoseconds, over: writes)
        }
        made.containers = []
    }

    private var layoutPath: String {
        let lead = options.prefix.isEmpty ? "" : options.prefix + "/"
        let first = map.all?.first ?? map.container(of: "")
        return "/\(first)/\(Endpoint.escape(lead + Self.layoutName, keepsSlash: true))"
    }
}
