import Bytes
import JSON
import Logging
import Runtime
import Transfer

/// A token and the account that it opens.
struct SwiftSession: Sendable {
    var token: Secret
    var storage: Endpoint
    /// Seconds since 1970; nil: nobody said.
    var expires: Int64?
}

/// Gets sessions, by whichever way the account has.
struct SwiftSessions: Sendable {
    private static let limitNanoseconds: UInt64 = 15_000_000_000

    private let options: SwiftOptions
    private let pool: TransferPool
    private let clock: any WorldClock

    init(_ options: SwiftOptions, over pool: TransferPool, clock: any WorldClock) {
        (self.options, self.pool, self.clock) = (options, pool, clock)
    }

    func fetch() async throws(StoreProblem) -> SwiftSession {
        switch options.authentication {
        case .version1(let endpoint, let user, let key): try await version1(endpoint, user, key)
        case .keystone(let keystone): try await self.keystone(keystone)
        }
    }

    private func problem(_ answer: String, _ advice: String) -> StoreProblem {
        StoreProblem(tried: "getting a token at \(options.authentication.endpoint)", answer: answer, advice: advice)
    }

    private func send(_ request: TransferRequest) async throws(StoreProblem) -> TransferReply {
        var request = request
        request.limitNanoseconds = Self.limitNanoseconds
        request.purpose = .access
        let reply = await pool.perform(request)
        if let failure = reply.failure {
            throw StoreProblem(
                "getting a token at \(options.authentication.endpoint)", at: options.authentication.endpoint, failure)
        }
        return reply
    }

    /// Whoever gets in over TLS is not led to send token and data without it, unless he said so himself.
    private func checkSecurity(of storage: Endpoint, _ endpoint: Endpoint) throws(StoreProblem) {
        guard endpoint.isSecure, !storage.isSecure, options.storageURL == nil else { return }
        throw problem(
            "an account at \(storage), without TLS",
            "let the cluster name its https address, or name the account's address with storage_url")
    }

    // MARK: Version 1

    private func version1(_ endpoint: Endpoint, _ user: String, _ key: Secret) async throws(StoreProblem)
        -> SwiftSession
    {
        var request = TransferRequest(.get, endpoint.description)
        request.headers = [("X-Auth-User", user), ("X-Auth-Key", key.revealed)]
        let reply = try await send(request)
        guard reply.status / 100 == 2 else {
            throw problem(
                "status \(reply.status)",
                reply.status == 401 || reply.status == 403
                    ? "the store does not know the user \(user) with this key"
                    : "is it an address like https://HOST/auth/v1.0?")
        }
        guard let token = reply.headers["X-Auth-Token"] ?? reply.headers["X-Storage-Token"], !token.isEmpty,
            let storage = options.storageURL ?? reply.headers["X-Storage-Url"].flatMap({ Endpoint($0) })
        else { throw problem("no token or no X-Storage-Url", "is it an address like https://HOST/auth/v1.0?") }
        try checkSecurity(of: storage, endpoint)
        let seconds = reply.headers["X-Auth-Token-Expires"].flatMap { Int64($0) }
        return SwiftSession(token: Secret(token), storage: storage, expires: expiry(seconds))
    }

    private func expiry(_ seconds: Int64?) -> Int64? {
        seconds.map { self.clock.wall() / 1_000_000_000 + min(max($0, 0), 10 * 365 * 86_400) }
    }

    // MARK: Keystone

    private func keystone(_ keystone: SwiftOptions.Keystone) async throws(StoreProblem) -> SwiftSession {
        var request = TransferRequest(.post, keystone.endpoint.description + "/auth/tokens")
        request.headers = [("Content-Type", "application/json")]
        let text = Array("\(Self.question(keystone.identity))".utf8)
        request.body = .blocks([text.withUnsafeBytes { Block(copying: $0) }])
        let reply = try await send(request)
        let json = try? JSON(reply.bodyBytes)
        guard reply.status == 201 || reply.status == 200 else {
            let said = json?["error"]?["message"]?.text.map { String($0.prefix(200)) } ?? "status \(reply.status)"
            throw problem(
                said,
                reply.status == 401
                    ? "Keystone does not know these credentials, or they have no role in that project"
                    : "is it an address like https://HOST:5000/v3?")
        }
        guard let token = reply.headers["X-Subject-Token"], !token.isEmpty, let content = json?["token"] else {
            throw problem("no token", "is it an address like https://HOST:5000/v3?")
        }
        let found = options.storageURL ?? Self.storage(content, keystone)
        guard let storage = found else {
            throw problem(
                "a catalog without an object-store for interface \(keystone.interface)"
                    + (keystone.region.map { " in region \($0)" } ?? ""),
                "look at openstack catalog list, and at region and interface of the store")
        }
        try checkSecurity(of: storage, keystone.endpoint)
        let expires = content["expires_at"]?.text.flatMap { Timestamp.extended($0) }
        return SwiftSession(token: Secret(token), storage: storage, expires: expires)
    }

    private static func question(_ identity: SwiftOptions.Keystone.Identity) -> JSON {
        switch identity {
        case .password(let user, let userDomain, let password, let project, let projectDomain):
            let person: JSON = [
                "name": .string(user), "domain": domain(userDomain), "password": .string(password.revealed),
            ]
            let scope: JSON = ["project": ["name": .string(project), "domain": domain(projectDomain)]]
            return [
                "auth": ["identity": ["methods": ["password"], "password": ["user": person]], "scope": scope]
            ]
        case .applicationCredential(let id, let secret):
            return [
                "auth": [
                    "identity": [
                        "methods": ["application_credential"],
                        "application_credential": ["id": .string(id), "secret": .string(secret.revealed)],
                    ]
                ]
            ]
        }
    }

    /// The one domain that every Keystone has is known by its id alone.
    private static func domain(_ name: String) -> JSON {
        name == "default" ? ["id": .string(name)] : ["name": .string(name)]
    }

    private static func storage(_ token: JSON, _ keystone: SwiftOptions.Keystone) -> Endpoint? {
        for service in token["catalog"]?.array ?? [] where service["type"]?.text == "object-store" {
            for endpoint in service["endpoints"]?.array ?? [] where endpoint["interface"]?.text == keystone.interface {
                let region = endpoint["region_id"]?.text ?? endpoint["region"]?.text
                guard keystone.region == nil || keystone.region == region else { continue }
                if let found = endpoint["url"]?.text.flatMap({ Endpoint($0) }) { return found }
            }
        }
        return nil
    }
}
