import Bytes
import Crypto
import JSON
import Logging
import Runtime
import Transfer

/// etcd, version 3, through its HTTP gateway. Its reads and transactions are linearizable. On its loop only.
public final class EtcdArbiter: Arbiter, @unchecked Sendable {
    public struct Options: Sendable {
        /// Members of one cluster.
        public var endpoints: [Endpoint]
        /// What all keys begin with.
        public var prefix: String
        public var user: (name: String, password: Secret)?

        public init(_ endpoints: [Endpoint], prefix: String) { (self.endpoints, self.prefix) = (endpoints, prefix) }
    }

    /// Of one member: the next one is asked then.
    private static let limitNanoseconds: UInt64 = 3_000_000_000
    private static let answerBytesMax = 4 << 20

    private let options: Options
    private let pool: TransferPool
    /// The member that answered last.
    private var first = 0
    private var token: Secret?
    /// Of the first answer: members of two clusters are no arbiter.
    private var cluster: UInt64?
    /// The newest moment that an answer was of.
    private var revision: UInt64 = 0

    public init(_ options: Options, over pool: TransferPool) {
        precondition(!options.endpoints.isEmpty, "an arbiter without an address")
        (self.options, self.pool) = (options, pool)
    }

    // MARK: Names

    public func claim(_ name: String, _ value: String) async throws(ArbiterFailure) -> String {
        let key = key(name)
        let answer = try await ask(
            "kv/txn",
            [
                "compare": [["key": key, "target": "CREATE", "result": "EQUAL", "create_revision": "0"]],
                "success": [["request_put": ["key": key, "value": Self.coded(value)]]],
                "failure": [["request_range": ["key": key]]],
            ])
        if answer["succeeded"]?.bool == true { return value }
        guard let found = answer["responses"]?.array?.first?["response_range"]?["kvs"]?.array?.first,
            let text = found["value"].flatMap(Self.text)
        else { throw ArbiterFailure("a transaction was refused, and the key has no value") }
        return text
    }

    public func set(_ name: String, _ value: String) async throws(ArbiterFailure) {
        _ = try await ask("kv/put", ["key": key(name), "value": Self.coded(value)])
    }

    public func value(of name: String) async throws(ArbiterFailure) -> String? {
        let answer = try await ask("kv/range", ["key": key(name)])
        guard let found = answer["kvs"]?.array?.first else { return nil }
        guard let text = found["value"].flatMap(Self.text) else { throw ArbiterFailure("a key without a value") }
        return text
    }

    public func values(
        prefix: String, after marker: String?, limit: Int
    ) async throws(ArbiterFailure) -> (entries: [(name: String, value: String)], isTruncated: Bool) {
        var start = Array((options.prefix + (marker.map { max($0, prefix) } ?? prefix)).utf8)
        if let marker, marker >= prefix { start.append(0) }
        let answer = try await ask(
            "kv/range",
            [
                "key": .string(Base64.encode(start)),
                "range_end": .string(Base64.encode(Self.end(ofPrefix: options.prefix + prefix))),
                "limit": .string("\(limit)"),
            ])
        var entries: [(name: String, value: String)] = []
        for found in answer["kvs"]?.array ?? [] {
            guard let name = found["key"].flatMap(Self.text), name.hasPrefix(options.prefix),
                let value = found["value"].flatMap(Self.text)
            else { throw ArbiterFailure("a key that was not asked for") }
            entries.append((String(name.dropFirst(options.prefix.count)), value))
        }
        return (entries, answer["more"]?.bool ?? false)
    }

    public func remove(_ name: String, _ value: String) async throws(ArbiterFailure) {
        let key = key(name)
        _ = try await ask(
            "kv/txn",
            [
                "compare": [["key": key, "target": "VALUE", "result": "EQUAL", "value": Self.coded(value)]],
                "success": [["request_delete_range": ["key": key]]],
            ])
    }

    private func key(_ name: String) -> JSON { Self.coded(options.prefix + name) }
    private static func coded(_ text: String) -> JSON { .string(Base64.encode(Array(text.utf8))) }

    private static func text(_ coded: JSON) -> String? {
        coded.text.flatMap { Base64.decode($0) }.map { String(decoding: $0, as: UTF8.self) }
    }

    /// The first key behind all that begin so. Names are ASCII: the last byte has a successor.
    private static func end(ofPrefix prefix: String) -> [UInt8] {
        var end = Array(prefix.utf8)
        end[end.count - 1] += 1
        return end
    }

    // MARK: Requests

    /// Asks the members in turn. A change that is asked for twice is the same change.
    private func ask(_ what: String, _ question: JSON) async throws(ArbiterFailure) -> JSON {
        var failure = ArbiterFailure("no member was asked")
        let start = first
        for offset in 0..<options.endpoints.count {
            let index = (start + offset) % options.endpoints.count
            do throws(ArbiterFailure) {
                let answer = try await ask(options.endpoints[index], what, question)
                first = index
                return answer
            } catch {
                failure = error
                // Whoever asks next may have no time for one that does not answer.
                first = (index + 1) % options.endpoints.count
            }
        }
        throw failure
    }

    private func ask(_ member: Endpoint, _ what: String, _ question: JSON) async throws(ArbiterFailure) -> JSON {
        var isRenewed = false
        while true {
            if options.user != nil, token == nil {
                token = try await newToken(member)
                isRenewed = true
            }
            let (sent, known) = (token, revision)
            let reply = try await send(member, what, question, sent)
            // A token has ended: another one, once.
            if options.user != nil, !isRenewed, Self.endsToken(reply) {
                isRenewed = true
                // Another question may have got one meanwhile.
                if token == sent { token = nil }
                continue
            }
            let answer = try Self.answer(reply, member)
            try accept(answer, since: known, from: member)
            return answer
        }
    }

    /// Only etcd's own answer, of the one cluster and of no time before the question, tells what there is and what not.
    private func accept(_ answer: JSON, since known: UInt64, from member: Endpoint) throws(ArbiterFailure) {
        guard let header = answer["header"], let cluster = Self.number(header["cluster_id"]),
            let revision = Self.number(header["revision"])
        else { throw ArbiterFailure("what \(member.base) answered is not etcd's") }
        guard cluster == self.cluster ?? cluster else {
            throw ArbiterFailure("\(member.base) is a member of another cluster than the one that answered before")
        }
        guard revision >= known else {
            throw ArbiterFailure("\(member.base) answered as of revision \(revision), behind \(known)")
        }
        self.cluster = cluster
        self.revision = max(self.revision, revision)
    }

    /// The gateway writes numbers of 64 bits as text.
    private static func number(_ json: JSON?) -> UInt64? {
        guard let json else { return nil }
        return json.unsigned ?? json.text.flatMap { UInt64($0) }
    }

    private func newToken(_ member: Endpoint) async throws(ArbiterFailure) -> Secret? {
        guard let user = options.user else { return nil }
        let reply = try await send(
            member, "auth/authenticate", ["name": .string(user.name), "password": .string(user.password.revealed)], nil)
        guard let token = try Self.answer(reply, member)["token"]?.text else {
            throw ArbiterFailure("\(member) gave no token to the user \(user.name)", isDenied: true)
        }
        return Secret(token)
    }

    private func send(
        _ member: Endpoint, _ what: String, _ question: JSON, _ token: Secret?
    ) async throws(ArbiterFailure) -> TransferReply {
        var request = TransferRequest(.post, "\(member)/v3/\(what)")
        request.headers = [("Content-Type", "application/json")]
        if let token { request.headers.append(("Authorization", token.revealed)) }
        let text = Array("\(question)".utf8)
        request.body = .blocks([text.withUnsafeBytes { Block(copying: $0) }])
        request.limitNanoseconds = Self.limitNanoseconds
        request.answerBytesMax = Self.answerBytesMax
        let reply = await pool.perform(request)
        if let failure = reply.failure { throw ArbiterFailure("no answer from \(member.base): \(failure.reason)") }
        return reply
    }

    private static func answer(_ reply: TransferReply, _ member: Endpoint) throws(ArbiterFailure) -> JSON {
        guard reply.status == 200, let json = try? JSON(reply.bodyBytes) else {
            let said = said(reply)
            throw ArbiterFailure(
                "\(member.base) answered \(reply.status) \(said)",
                isDenied: endsToken(reply) || reply.status == 403
                    || reply.status == 400 && said.contains("authentication"))
        }
        return json
    }

    private static func said(_ reply: TransferReply) -> String {
        let json = try? JSON(reply.bodyBytes)
        return (json?["message"] ?? json?["error"])?.text.map { String($0.prefix(200)) } ?? ""
    }

    /// After a change of its users or roles etcd refuses tokens as wrong arguments.
    private static func endsToken(_ reply: TransferReply) -> Bool {
        if reply.status == 401 { return true }
        guard reply.status == 400 else { return false }
        let said = said(reply)
        return said.contains("revision of auth store is old") || said.contains("user name is empty")
    }
}
