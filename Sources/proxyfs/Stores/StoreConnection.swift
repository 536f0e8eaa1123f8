import Arbiter
import Configuration
import Glibc
import Headhunter
import Logging
import Namespace
import ObjectStore
import Runtime
import S3Store
import SwiftStore
import Transfer

/// A store elsewhere, as the configuration describes it: its threads, its credentials, and what sits on them.
final class StoreConnection: Sendable {
    let description: Configuration.Store
    let transport: any StoreTransport
    let reads: TransferPool
    let writes: TransferPool
    private let arbiter: TransferPool?
    /// Of the store itself, whatever an arbiter adds to it.
    let listsConsistently: Bool
    private let check: @Sendable (_ creates: Bool) async throws(StoreProblem) -> Void
    /// Whether it lets us write as volumes do.
    let probe: @Sendable () async throws(StoreProblem) -> Void
    /// The store's clock, in seconds since 1970; nil: it does not tell.
    let time: @Sendable () async -> Int64?
    /// Takes back what a check that creates has made, and nothing that was there before.
    let undo: @Sendable () async -> Void
    /// After the last object is gone: takes away what the store keeps beside them.
    let unmake: @Sendable () async throws(StoreError) -> Void
    /// Takes away what tries left of names that an arbiter gave to others.
    let collect: @Sendable () async -> Void

    /// Beside those that are read or written: second requests for late ones, credentials, given up ones that still end.
    private static let spareConnections = 8
    /// At once, of connections that nobody else waits for.
    private static let deletesMax = 4
    /// Of owners that look for another one.
    private static let urgentConnections = ObjectStore.Options().urgentMax

    /// On the loop that the store will belong to.
    init(_ description: Configuration.Store, world: World, loop: EventLoop) throws(CommandFailure) {
        self.description = description
        var options = TransferPool.Options()
        options.authoritiesFile = description.authorities
        options.authoritiesDirectory = description.authoritiesDirectory
        options.proxy = description.proxy
        // Silence is no failure before the time of an attempt is over.
        options.silentSeconds = max(
            options.silentSeconds, Int(clamping: description.attemptTime.nanoseconds / 1_000_000_000))
        do throws(TransferFailure) {
            options.connectionsMax = description.readConnections + Self.spareConnections + Self.urgentConnections
            reads = try TransferPool("store reads", options)
            options.connectionsMax =
                description.writeConnections + Self.spareConnections + Self.urgentConnections + Self.deletesMax
            writes = try TransferPool("store writes", options)
            options.connectionsMax = Self.arbiterConnections
            options.authoritiesFile = description.arbiterAuthorities ?? description.authorities
            options.proxy = nil
            arbiter = description.arbiters.isEmpty ? nil : try TransferPool("arbiter", options)
        } catch { throw .failure("the store \(description.name): \(error)") }
        let direct: any StoreTransport
        let directCheck: @Sendable (_ creates: Bool) async throws(StoreProblem) -> Void
        let directUnmake: @Sendable () async -> Void
        switch description.kind {
        case .s3:
            let (options, source) = try Self.s3(description, over: writes, world: world, loop: loop)
            let store = S3Store(
                options, credentials: source, reads: reads, writes: writes, world: world, loop: loop)
            direct = store
            directCheck = { (_) async throws(StoreProblem) in try await store.verify() }
            probe = { () async throws(StoreProblem) in try await store.probe() }
            time = { await store.time() }
            (undo, directUnmake) = ({}, {})
        case .swift:
            let store = SwiftStore(
                try Self.swift(description), reads: reads, writes: writes, world: world, loop: loop)
            direct = store
            directCheck = { (creates) async throws(StoreProblem) in try await store.verify(creates: creates) }
            probe = { () async throws(StoreProblem) in try await store.probe() }
            time = { await store.time() }
            undo = { await store.undo() }
            directUnmake = { await store.unmake() }
        }
        listsConsistently = direct.capabilities.listsConsistently
        guard let arbiter else {
            (transport, check) = (direct, directCheck)
            unmake = { () async throws(StoreError) in await directUnmake() }
            collect = {}
            return
        }
        let etcd = EtcdArbiter(try Self.etcd(description), over: arbiter)
        let decided = ArbitratedStore(direct, arbiter: etcd, random: world.random, decides: Self.isDecided)
        transport = decided
        collect = {
            for kind in HostedVolume.decidedKinds.sorted() {
                await decided.collect(below: "\(HostedVolume.prefix)/\(kind)/")
            }
        }
        check = { (creates) async throws(StoreProblem) in
            try await directCheck(creates)
            let headers = Headhunter.headers(below: HostedVolume.prefix)
            if let failure = await decided.verify(prefix: HostedVolume.prefix + "/", headers: headers) {
                throw StoreProblem(
                    tried: "asking the arbiter at \(description.arbiters.joined(separator: ", "))",
                    answer: failure.reason,
                    advice:
                        "is it the etcd that all servers of this volume name, and may this one read and write there?")
            }
        }
        unmake = { () async throws(StoreError) in
            do throws(ArbiterFailure) { try await decided.forget(prefix: HostedVolume.prefix + "/") } catch {
                throw .unavailable("the arbiter: \(error)")
            }
            await directUnmake()
        }
    }

    private static let arbiterConnections = 16

    private static func etcd(_ description: Configuration.Store) throws(CommandFailure) -> EtcdArbiter.Options {
        var endpoints: [Endpoint] = []
        for text in description.arbiters { endpoints.append(try endpoint(text, "arbiter", description)) }
        var options = EtcdArbiter.Options(
            endpoints, prefix: "\(description.arbiterPrefix)/\(description.address)/")
        if let user = description.arbiterUser, let file = description.arbiterSecretFile {
            options.user = (user, try secret(in: file, description))
        }
        return options
    }

    /// Names of which no two servers may make the same: those by which a volume has one owner, and those by which `store check` sees
    /// whether that is so.
    private static func isDecided(_ name: ObjectName) -> Bool {
        let parts = name.text.split(separator: "/")
        guard parts.count > 1, let last = parts.last, !last.contains(".") else { return false }
        return HostedVolume.decidedKinds.contains(String(parts[parts.count - 2]))
            || parts[0].hasPrefix(StoreCheck.lead) && StoreCheck.isDecided(last)
    }

    /// Whether it is there for us, and what to change when it is not.
    func verify(creates: Bool) async throws(StoreProblem) { try await check(creates) }

    /// With retries and limits, as volumes use it.
    func objectStore(world: World, loop: EventLoop, isReadOnly: Bool = false) -> ObjectStore {
        var options = ObjectStore.Options()
        options.deadlineNanoseconds = description.deadline.nanoseconds
        options.attemptNanoseconds = description.attemptTime.nanoseconds
        options.readsMax = description.readConnections
        options.writesMax = description.writeConnections
        options.deletesMax = max(1, min(description.writeConnections / 4, Self.deletesMax))
        options.hedgedOfHundred = description.hedge
        return ObjectStore(
            isReadOnly ? ReadOnlyTransport(transport) : transport, world: world, loop: loop, options: options)
    }

    func stop() {
        reads.stop()
        writes.stop()
        arbiter?.stop()
    }

    /// The same, without waiting.
    func end() {
        reads.end()
        writes.end()
        arbiter?.end()
    }

    private static func endpoint(
        _ text: String, _ key: String, _ description: Configuration.Store
    ) throws(CommandFailure) -> Endpoint {
        guard let endpoint = Endpoint(text) else {
            throw .failure(
                "the store \(description.name): what \(key) says is no address like https://HOST:PORT; secrets have keys of "
                    + "their own")
        }
        return endpoint
    }

    /// The one that is named: here, in a file, or in the environment.
    private static func secret(
        _ description: Configuration.Store, _ variables: String...
    ) throws(CommandFailure) -> Secret? {
        if let secret = description.secretKey { return secret }
        if let file = description.secretFile { return try secret(in: file, description) }
        for variable in variables { if let value = environment(variable) { return Secret(value) } }
        return nil
    }

    private static func secret(
        in file: String, _ description: Configuration.Store
    ) throws(CommandFailure) -> Secret {
        let text = String(
            decoding: try Settings.read(file, "the secret of the store \(description.name),"), as: UTF8.self)
        guard let line = text.split(whereSeparator: \.isNewline).first else {
            throw .failure("the secret file \(file) is empty")
        }
        return Secret(String(line))
    }

    private static func environment(_ name: String) -> String? {
        getenv(name).map { String(cString: $0) }.flatMap { $0.isEmpty ? nil : $0 }
    }

    // MARK: S3

    private static func s3(
        _ description: Configuration.Store, over pool: TransferPool, world: World, loop: EventLoop
    ) throws(CommandFailure) -> (S3Options, any S3CredentialSource) {
        let region = description.region ?? environment("AWS_REGION") ?? environment("AWS_DEFAULT_REGION") ?? "us-east-1"
        var endpoint = S3Options.publicEndpoint(region: region)
        if let text = description.endpoint ?? environment("AWS_ENDPOINT_URL") {
            endpoint = try Self.endpoint(text, "endpoint", description)
        }
        guard let endpoint else { throw .failure("the store \(description.name): \"\(region)\" is no region") }
        guard var options = S3Options(bucket: description.bucket, endpoint: endpoint) else {
            throw .failure(
                "the store \(description.name): \"\(description.bucket)\" is no bucket's name: 3 to 63 letters, digits, "
                    + "dots and dashes")
        }
        options.prefix = description.prefix
        options.region = region
        let isPublic = endpoint.host.hasSuffix(".amazonaws.com")
        options.addressing =
            switch description.addressing {
            case .path: .path
            case .virtual: .virtual
            // A dot in the bucket's name is one more label than the certificate has.
            case .automatic: isPublic && !description.bucket.contains(".") ? .virtual : .path
            }
        // Behind an arbiter nothing is asked of the store.
        options.createsIfAbsent = description.createsIfAbsent && description.arbiters.isEmpty
        options.listsConsistently = description.listsConsistently ?? description.createsIfAbsent
        options.hasChecksums = description.hasChecksums
        options.partBytes = description.partSize.bytes
        return (options, try credentials(description, region, over: pool, world: world, loop: loop))
    }

    private static func credentials(
        _ description: Configuration.Store, _ region: String, over pool: TransferPool, world: World, loop: EventLoop
    ) throws(CommandFailure) -> any S3CredentialSource {
        let way = description.credentials
        if way == .automatic || way == .environment {
            if way == .automatic, let key = description.accessKey {
                guard let secret = try secret(description, "AWS_SECRET_ACCESS_KEY") else {
                    throw .failure(
                        "the store \(description.name): the access key \(key) has no secret: secret_key or secret_file")
                }
                if let file = description.secretFile, description.secretKey == nil {
                    return fileCredentials("the key \(key) and \(file)", world: world, loop: loop) {
                        guard let secret = (try? Self.secret(description)).flatMap({ $0 }) else { return nil }
                        return S3Credentials(accessKey: key, secret: secret)
                    }
                }
                return FixedCredentials(
                    S3Credentials(accessKey: key, secret: secret), from: "the key \(key) of \(description.place)")
            }
            if let found = LocalCredentials.environment(environment) {
                return FixedCredentials(found, from: "the key \(found.accessKey) of the environment")
            }
        }
        if way == .automatic || way == .sharedFile {
            let file = environment("AWS_SHARED_CREDENTIALS_FILE") ?? (environment("HOME") ?? "") + "/.aws/credentials"
            let profile = description.profile ?? environment("AWS_PROFILE") ?? "default"
            if way == .sharedFile || access(file, R_OK) == 0 {
                let text = String(decoding: try Settings.read(file, "the credentials"), as: UTF8.self)
                if let found = LocalCredentials.sharedFile(text, profile: profile) {
                    let place = "the key \(found.accessKey) of profile \(profile) in \(file)"
                    return fileCredentials(place, world: world, loop: loop) {
                        guard let bytes = try? Settings.read(file, "the credentials") else { return nil }
                        return LocalCredentials.sharedFile(String(decoding: bytes, as: UTF8.self), profile: profile)
                    }
                }
            }
        }
        if way == .webIdentity || way == .automatic && environment("AWS_WEB_IDENTITY_TOKEN_FILE") != nil {
            return try webIdentity(description, region, over: pool, world: world, loop: loop)
        }
        if way == .metadata {
            let address =
                description.metadataEndpoint ?? environment("AWS_EC2_METADATA_SERVICE_ENDPOINT")
                ?? MetadataCredentials.standardEndpoint
            return MetadataCredentials(try endpoint(address, "metadata_endpoint", description), over: pool)
        }
        throw .failure(
            "the store \(description.name) has no credentials: set access_key and secret_file in [[store]], or "
                + "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile in ~/.aws/credentials, or credentials = "
                + "\"metadata\" or \"web-identity\"")
    }

    /// Read again when the store no longer takes what was there.
    private static func fileCredentials(
        _ place: String, world: World, loop: EventLoop, _ read: @escaping @Sendable () -> S3Credentials?
    ) -> FileCredentials {
        FileCredentials(from: place) { await world.blocking.run(on: loop) { () throws(Never) in read() } }
    }

    private static func webIdentity(
        _ description: Configuration.Store, _ region: String, over pool: TransferPool, world: World, loop: EventLoop
    ) throws(CommandFailure) -> any S3CredentialSource {
        guard let role = description.role ?? environment("AWS_ROLE_ARN"),
            let file = description.tokenFile ?? environment("AWS_WEB_IDENTITY_TOKEN_FILE")
        else {
            throw .failure(
                "the store \(description.name): credentials by web identity need role and token_file, or AWS_ROLE_ARN and "
                    + "AWS_WEB_IDENTITY_TOKEN_FILE")
        }
        let address =
            description.tokenEndpoint ?? environment("AWS_ENDPOINT_URL_STS") ?? "https://sts.\(region).amazonaws.com"
        let session = environment("AWS_ROLE_SESSION_NAME") ?? "proxyfs"
        return WebIdentityCredentials(
            .init(
                endpoint: try endpoint(address, "token_endpoint", description), role: role, session: session,
                tokenPlace: file
            ) {
                await world.blocking.run(on: loop) { () throws(Never) -> Secret? in
                    guard let bytes = try? Settings.read(file, "the token") else { return nil }
                    let text = String(decoding: bytes, as: UTF8.self).split(whereSeparator: \.isWhitespace).first
                    return text.map { Secret(String($0)) }
                }
            }, over: pool)
    }

    // MARK: Swift

    private static func swift(_ description: Configuration.Store) throws(CommandFailure) -> SwiftOptions {
        guard var containers = SwiftOptions.Containers(name: description.bucket) else {
            throw .failure(
                "the store \(description.name): \"\(description.bucket)\" is no container's name: letters, digits, dots, "
                    + "dashes")
        }
        containers.spread =
            switch description.spread {
            case .single: .single
            case .hash: .hash(description.containers)
            case .number: .number(perContainer: description.objectsPerContainer)
            }
        containers.policy = description.policy
        containers.syncTo = description.syncTo
        containers.syncKey = description.syncKey
        guard let text = description.endpoint ?? environment("OS_AUTH_URL") ?? environment("ST_AUTH") else {
            throw .failure(
                "the store \(description.name) needs an endpoint: where tokens are given, https://HOST/auth/v1.0 or "
                    + "https://HOST:5000/v3")
        }
        let endpoint = try endpoint(text, "endpoint", description)
        var options = SwiftOptions(try authentication(description, endpoint), containers)
        options.prefix = description.prefix
        if let storage = description.storageURL {
            options.storageURL = try Self.endpoint(storage, "storage_url", description)
        }
        return options
    }

    private static func authentication(
        _ description: Configuration.Store, _ endpoint: Endpoint
    ) throws(CommandFailure) -> SwiftOptions.Authentication {
        func wants(_ what: String) -> CommandFailure { .failure("the store \(description.name) needs \(what)") }
        guard endpoint.path.hasSuffix("/v3") else {
            guard let user = description.user ?? environment("ST_USER") else {
                throw wants("a user, as in ACCOUNT:USER")
            }
            guard let key = try secret(description, "ST_KEY") else { throw wants("secret_key, secret_file or ST_KEY") }
            return .version1(endpoint, user: user, key: key)
        }
        let identity: SwiftOptions.Keystone.Identity
        if let id = description.application ?? environment("OS_APPLICATION_CREDENTIAL_ID") {
            guard let secret = try secret(description, "OS_APPLICATION_CREDENTIAL_SECRET") else {
                throw wants("secret_key, secret_file or OS_APPLICATION_CREDENTIAL_SECRET")
            }
            identity = .applicationCredential(id: id, secret: secret)
        } else {
            guard let user = description.user ?? environment("OS_USERNAME"),
                let project = description.project ?? environment("OS_PROJECT_NAME")
            else { throw wants("a user and a project, or an application credential") }
            guard let password = try secret(description, "OS_PASSWORD") else {
                throw wants("secret_key, secret_file or OS_PASSWORD")
            }
            identity = .password(
                user: user, userDomain: description.userDomain, password: password, project: project,
                projectDomain: description.projectDomain)
        }
        var keystone = SwiftOptions.Keystone(endpoint, identity)
        keystone.region = description.region
        keystone.interface = description.interface
        return .keystone(keystone)
    }
}
