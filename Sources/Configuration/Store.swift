import Logging

extension Configuration {
    /// An object store elsewhere: `[[store]]` of the file, or what an address says alone.
    public struct Store: Sendable, Equatable {
        public enum Kind: String, Sendable { case s3, swift }
        public enum Credentials: String, Sendable, CaseIterable {
            /// Those here, else the environment's, else the shared file's.
            case automatic = "auto"
            case environment
            case sharedFile = "shared-file"
            case metadata
            case webIdentity = "web-identity"
        }
        public enum Addressing: String, Sendable, CaseIterable { case automatic = "auto", path, virtual }
        public enum Spread: String, Sendable, CaseIterable { case single, hash, number }

        public var name: String
        public var kind: Kind
        /// The bucket; the container, or what the containers' names begin with.
        public var bucket: String
        public var prefix: String
        /// S3: the server; Swift: where tokens are given.
        public var endpoint: String?
        public var region: String?
        public var addressing = Addressing.automatic
        public var credentials = Credentials.automatic
        /// Nil: the environment's, else `default`.
        public var profile: String?
        public var accessKey: String?
        public var secretKey: Secret?
        /// One line, in place of a secret here.
        public var secretFile: String?
        public var createsIfAbsent = true
        /// Nil: as its creates are decided; one that can not decide them is seldom better at listing.
        public var listsConsistently: Bool?
        public var hasChecksums = true
        public var partSize = ByteSize.mebi(64)
        public var metadataEndpoint: String?
        public var tokenEndpoint: String?
        public var role: String?
        public var tokenFile: String?

        public var user: String?
        public var userDomain = "default"
        public var project: String?
        public var projectDomain = "default"
        public var application: String?
        public var interface = "public"
        public var storageURL: String?
        public var spread = Spread.single
        public var containers = 64
        public var objectsPerContainer: UInt64 = 1_000_000
        public var policy: String?
        public var syncTo: String?
        public var syncKey: Secret?

        /// Addresses of an etcd that decides what the store does not; none: nobody does.
        public var arbiters: [String] = []
        public var arbiterPrefix = "proxyfs"
        public var arbiterAuthorities: String?
        public var arbiterUser: String?
        public var arbiterSecretFile: String?

        static let arbitersMax = 16

        public var authorities: String?
        public var authoritiesDirectory: String?
        public var proxy: String?
        public var readConnections = 64
        public var writeConnections = 16
        public var attemptTime = TimeSpan.seconds(30)
        public var deadline = TimeSpan.seconds(60)
        public var hedge: UInt64 = 5
        /// Millionths of a dollar for a thousand requests.
        public var prices = Prices()
        public var place: String

        public struct Prices: Sendable, Equatable {
            public var put: UInt64 = 5_000
            public var get: UInt64 = 400
            public var head: UInt64 = 400
            public var delete: UInt64 = 0
            public var list: UInt64 = 5_000

            static let priceMax: UInt64 = 1_000_000_000
        }

        /// Without secrets: `s3://BUCKET/PREFIX`.
        public var address: String { "\(kind.rawValue)://\(bucket)\(prefix.isEmpty ? "" : "/\(prefix)")" }

        /// `s3://BUCKET/PREFIX?KEY=VALUE&...` or `swift://...`, where keys are those of the file that are no secrets.
        public init(address: String, place: String) throws(Issue) {
            func issue(_ message: String) -> Issue {
                Issue(place: place, message: "\(quoted(Self.shown(address))): \(message)")
            }
            guard let kind = [Kind.s3, .swift].first(where: { address.hasPrefix("\($0.rawValue)://") }) else {
                throw issue("is no address of a store: s3://BUCKET/PREFIX or swift://CONTAINER/PREFIX")
            }
            self.kind = kind
            let parts = address.dropFirst(kind.rawValue.count + 3).split(
                separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
            let path = parts[0].split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
            guard !path[0].isEmpty else { throw issue("names no \(kind == .s3 ? "bucket" : "container")") }
            guard Self.isName(path[0]) else {
                throw issue("names of buckets and containers have letters, digits, dots and dashes; secrets have keys")
            }
            bucket = path[0]
            var prefix = path.count > 1 ? path[1][...] : ""
            while prefix.hasSuffix("/") { prefix.removeLast() }
            // Names of objects have 255 bytes at most; stores take 1,024.
            guard prefix.utf8.count <= 512, !prefix.hasPrefix("/"), !prefix.contains("//"),
                prefix.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7f && $0 != UInt8(ascii: "#") && $0 != UInt8(ascii: "\\") }
                )
            else { throw issue("the prefix has letters, digits and signs of ASCII, 512 at most") }
            self.prefix = String(prefix)
            name = String(address.prefix { $0 != "?" })
            self.place = place
            for pair in parts.count > 1 ? parts[1].split(separator: "&") : [] {
                let sides = pair.split(separator: "=", maxSplits: 1).map(String.init)
                guard sides.count == 2, set(sides[0], sides[1]) else {
                    throw issue(
                        "\(sides.count == 2 ? quoted(sides[0]) : "a key without a value") is not taken here; secrets and the rest of the keys are for [[store]] "
                            + "in the configuration, or for the environment")
                }
            }
        }

        /// What may be told of an address that is none: secrets were put behind a question mark, or before an @.
        fileprivate static func shown(_ address: String) -> String {
            let plain = address.prefix { $0 != "?" }
            guard let sign = plain.lastIndex(of: "@") else { return String(plain) }
            return "...\(plain[sign...])"
        }

        private static func isName(_ text: String) -> Bool {
            text.utf8.allSatisfy { byte in
                switch byte {
                case 0x30...0x39, 0x41...0x5a, 0x61...0x7a, UInt8(ascii: "."), UInt8(ascii: "-"), UInt8(ascii: "_"):
                    true
                default: false
                }
            }
        }

        private mutating func set(_ key: String, _ value: String) -> Bool {
            func take<Word: RawRepresentable>(_ place: WritableKeyPath<Store, Word>) -> Bool
            where Word.RawValue == String {
                guard let word = Word(rawValue: value) else { return false }
                self[keyPath: place] = word
                return true
            }
            switch key {
            case "endpoint": endpoint = value
            case "region": region = value
            case "addressing": return take(\.addressing)
            case "credentials": return take(\.credentials)
            case "profile": profile = value
            case "authorities": authorities = value
            case "secret_file": secretFile = value
            case "access_key": accessKey = value
            case "user": user = value
            case "user_domain": userDomain = value
            case "project": project = value
            case "project_domain": projectDomain = value
            case "application": application = value
            case "interface": interface = value
            case "storage_url": storageURL = value
            case "policy": policy = value
            case "spread": return take(\.spread)
            case "arbiter":
                arbiters = value.split(separator: ",").map(String.init)
                return (1...Self.arbitersMax).contains(arbiters.count)
            case "conditional":
                guard value == "true" || value == "false" else { return false }
                createsIfAbsent = value == "true"
            default: return false
            }
            return true
        }
    }

    /// Why a volume can not have its objects there; nil: it can.
    public func fault(inStore text: String) -> String? {
        if text == "directory" || stores.contains(where: { $0.name == text }) { return nil }
        do throws(Issue) {
            _ = try Store(address: text, place: "")
            return nil
        } catch {
            guard !text.contains("://") else { return error.message }
            return
                "\(quoted(Store.shown(text))) is no store: directory, the name of a [[store]], or s3://... or swift://..."
                + suggestion(text, stores.map(\.name))
        }
    }

    /// Of a volume; nil: it is a directory.
    public func store(_ text: String, place: String) throws(Issue) -> Store? {
        if text == "directory" { return nil }
        if let declared = stores.first(where: { $0.name == text }) { return declared }
        return try Store(address: text, place: place)
    }

    mutating func readStores(_ root: inout Section) {
        root.sections("store", countMax: Self.storesMax) { section in
            let name = section.string("name", default: "", lengthMax: 63)
            let url = section.string("url", default: "")
            guard section.has("name"), section.has("url") else {
                return section.report("a store needs a name and a url", at: "name")
            }
            guard !name.contains("://"), name != "directory" else {
                return section.report("is not an address, and not directory", at: "name")
            }
            if let other = stores.first(where: { $0.name == name }) {
                section.report("\(quoted(name)) is declared already, at \(other.place)", at: "name")
            }
            do throws(Issue) {
                var store = try Store(address: url, place: section.place)
                store.name = name
                store.read(&section)
                stores.append(store)
            } catch { section.report(error.message, at: "url") }
        }
    }
}

extension Configuration.Store {
    fileprivate mutating func read(_ section: inout Section) {
        func text(_ key: String, _ value: inout String?) { value = section.optionalString(key) ?? value }
        func secret(_ key: String, _ value: inout Secret?) {
            value = section.optionalString(key).map { Secret($0) } ?? value
        }
        text("endpoint", &endpoint)
        text("region", &region)
        addressing = section.word(
            "addressing", default: addressing, Addressing.allCases.map { ($0.rawValue, $0) })
        credentials = section.word(
            "credentials", default: credentials, Credentials.allCases.map { ($0.rawValue, $0) })
        text("profile", &profile)
        text("access_key", &accessKey)
        secret("secret_key", &secretKey)
        text("secret_file", &secretFile)
        createsIfAbsent = section.boolean("conditional", default: createsIfAbsent)
        let listings: [(String, Bool?)] = [("auto", nil), ("consistent", true), ("behind", false)]
        listsConsistently = section.word("listings", default: listsConsistently, listings)
        hasChecksums = section.boolean("checksums", default: hasChecksums)
        partSize = section.quantity("part_size", default: partSize, in: .mebi(5)...(.gibi(4)))
        text("metadata_endpoint", &metadataEndpoint)
        text("token_endpoint", &tokenEndpoint)
        text("role", &role)
        text("token_file", &tokenFile)
        text("user", &user)
        userDomain = section.string("user_domain", default: userDomain)
        text("project", &project)
        projectDomain = section.string("project_domain", default: projectDomain)
        text("application", &application)
        interface = section.word(
            "interface", default: interface, ["public", "internal", "admin"].map { ($0, $0) })
        text("storage_url", &storageURL)
        spread = section.word("spread", default: spread, Spread.allCases.map { ($0.rawValue, $0) })
        containers = section.integer("containers", default: containers, in: 1...4_096)
        objectsPerContainer = section.integer(
            "objects_per_container", default: objectsPerContainer, in: 1_000...1_000_000_000)
        text("policy", &policy)
        text("sync_to", &syncTo)
        secret("sync_key", &syncKey)
        arbiters = section.strings("arbiter", default: arbiters, countMax: Self.arbitersMax)
        arbiterPrefix = section.string("arbiter_prefix", default: arbiterPrefix, lengthMax: 255)
        text("arbiter_authorities", &arbiterAuthorities)
        text("arbiter_user", &arbiterUser)
        text("arbiter_secret_file", &arbiterSecretFile)
        text("authorities", &authorities)
        text("authorities_directory", &authoritiesDirectory)
        text("proxy", &proxy)
        readConnections = section.integer("read_connections", default: readConnections, in: 1...1_024)
        writeConnections = section.integer("write_connections", default: writeConnections, in: 1...1_024)
        attemptTime = section.quantity("attempt_time", default: attemptTime, in: .seconds(1)...(.seconds(3600)))
        deadline = section.quantity("deadline", default: deadline, in: .seconds(1)...(.seconds(86_400)))
        hedge = section.integer("hedge", default: hedge, in: 0...50)
        prices.put = section.integer("price_put", default: prices.put, in: 0...Prices.priceMax)
        prices.get = section.integer("price_get", default: prices.get, in: 0...Prices.priceMax)
        prices.head = section.integer("price_head", default: prices.head, in: 0...Prices.priceMax)
        prices.delete = section.integer("price_delete", default: prices.delete, in: 0...Prices.priceMax)
        prices.list = section.integer("price_list", default: prices.list, in: 0...Prices.priceMax)
        if secretKey != nil, secretFile != nil { section.report("not together with secret_key", at: "secret_file") }
        if (arbiterUser == nil) != (arbiterSecretFile == nil) {
            section.report("arbiter_user and arbiter_secret_file go together", at: "arbiter_user")
        }
        if (syncTo == nil) != (syncKey == nil) { section.report("sync_to and sync_key go together", at: "sync_to") }
    }
}
