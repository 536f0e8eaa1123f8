import Logging

/// A configuration with where each of its values came from.
public struct LoadedConfiguration: Sendable {
    public let configuration: Configuration
    /// Key path to file, line and column, or option; keys with their defaults are not in it.
    public let places: [String: String]
    /// Every key there is, with its default.
    public let known: [(path: String, standard: String)]
}

extension Configuration {
    /// Reads `file`'s text (nil: there is none), then the options on top of it, then checks that all of it fits together.
    public static func load(
        _ text: [UInt8]?, file: String, options: ServeOptions = ServeOptions()
    ) throws(Invalid) -> LoadedConfiguration {
        let document: TOMLDocument
        do {
            document = try TOMLDocument(text ?? [])
        } catch {
            throw Invalid(issues: [Issue(place: "\(file):\(error.position)", message: error.message)])
        }
        let findings = Findings(file: file, document: document)
        var configuration = Configuration()
        var section = Section(document.root, findings)
        configuration.read(&section)
        section.finish()

        var places = findings.places
        options.apply(to: &configuration, &places)
        var issues = findings.issues
        configuration.check(places, &issues)
        if !issues.isEmpty { throw Invalid(issues: issues) }
        if configuration.volumes.isEmpty { configuration.volumes = [standardVolume] }
        return LoadedConfiguration(configuration: configuration, places: places, known: findings.known)
    }

    private mutating func read(_ root: inout Section) {
        address = root.string("address", default: address, lengthMax: 255)
        data = root.string("data", default: data)
        userFile = root.optionalString("user_file")
        root.section("ports") { section in
            ports.nfs = section.integer("nfs", default: ports.nfs, in: 0...65_535)
            ports.smb = section.integer("smb", default: ports.smb, in: 0...65_535)
            ports.http = section.integer("http", default: ports.http, in: 0...65_535)
            ports.https = section.integer("https", default: ports.https, in: 0...65_535)
            ports.admin = section.integer("admin", default: ports.admin, in: 0...65_535)
        }
        root.section("tls") {
            tls = Self.tls(&$0)
            tlsClients.authorities = $0.optionalString("client_authorities")
            tlsClients.isRequired = $0.boolean("client_required", default: false)
        }
        root.sections("certificate", countMax: Self.certificatesMax) { section in
            let certificate = section.string("certificate", default: "")
            let key = section.string("key", default: "")
            for key in ["certificate", "key"] where !section.has(key) {
                section.report("a certificate needs a \(key)", at: key)
            }
            certificates.append(Certificate(certificate: certificate, key: key))
        }
        root.section("http") { section in
            http.domains = section.strings("domains", default: http.domains, countMax: Self.domainsMax)
            http.region = section.string("region", default: http.region, lengthMax: 64)
        }
        root.section("kerberos") { section in
            kerberos.keytab = section.optionalString("keytab")
            kerberos.realms = section.strings("realms", default: kerberos.realms, countMax: Self.realmsMax)
            kerberos.instances = section.strings("instances", default: kerberos.instances, countMax: Self.realmsMax)
            kerberos.everybody = Self.mapped("everybody", "REALM", countMax: Self.realmsMax, &section)
            kerberos.principals = Self.mapped("principals", "PRINCIPAL@REALM", countMax: Self.principalsMax, &section)
        }
        root.section("smb") { section in
            let words = [("offered", false), ("required", true)]
            smb.requiresSigning = section.word("signing", default: smb.requiresSigning, words)
            smb.requiresEncryption = section.word("encryption", default: smb.requiresEncryption, words)
        }
        root.section("log") { section in
            let levels = LogLevel.allCases.map { ($0.name, $0) }
            log.level = section.word("level", default: log.level, levels)
            log.format = section.word("format", default: log.format, LogFormat.allCases.map { ($0.rawValue, $0) })
        }
        root.section("engine") { engine.read(&$0) }
        root.section("identity") { hostUsers = $0.boolean("host_users", default: hostUsers) }
        readStores(&root)
        root.sections("volume", countMax: Self.volumesMax) { section in
            let name = section.string("name", default: "")
            let store = section.string("store", default: "directory")
            let words = Durability.allCases.map { ($0.rawValue, $0) }
            let durability = section.word("durability", default: .log, words)
            let word = section.string("log", default: "local", lengthMax: 1_024)
            let log = LogPlace(word) ?? .local
            if LogPlace(word) == nil {
                section.report(
                    "\(quoted(word)) is no place of a log: local, store, or the path of a directory", at: "log")
            }
            if let fault = log.fault(store: store) { section.report(fault, at: "log") }
            let lease = section.lease("lease")
            let size = section.quantity("size", default: Volume.standardSize, in: Volume.sizes)
            let isReadOnly = section.boolean("read_only", default: false)
            if isReadOnly, store == "directory" {
                section.report("is for a volume whose store is elsewhere: this one is nobody else's", at: "read_only")
            }
            for key in ["log", "lease"] where isReadOnly && section.has(key) {
                section.report("is its owner's to say: this server only reads the volume", at: key)
            }
            if !section.has("name") { return section.report("a volume needs a name", at: "name") }
            if let fault = Self.fault(inVolumeName: name) { section.report(fault, at: "name") }
            if let other = volumes.first(where: { $0.name == name }) {
                section.report("\(quoted(name)) is declared already, at \(other.place)", at: "name")
            }
            if let fault = fault(inStore: store) { section.report(fault, at: "store") }
            if case .length = lease, store == "directory" {
                section.report("is for a volume whose store is elsewhere: nobody else can take this one", at: "lease")
            }
            volumes.append(
                Volume(
                    name: name, durability: durability, store: store, log: log, lease: lease, size: size,
                    isReadOnly: isReadOnly, place: section.place))
        }
        readExports(&root)
        readShares(&root)
        root.sections("user", countMax: Self.usersMax) { section in
            if let user = Self.user(&section) {
                if let other = users.first(where: { $0.name == user.name }) {
                    section.report("\(quoted(user.name)) is declared already, at \(other.place)", at: "name")
                }
                users.append(user)
            }
        }
    }

    /// `NAME:USER`, the user behind the last colon: no user's name has one.
    private static func mapped(
        _ key: String, _ what: String, countMax: Int, _ section: inout Section
    ) -> [Kerberos.Mapped] {
        var found: [Kerberos.Mapped] = []
        for text in section.strings(key, default: [], countMax: countMax) {
            guard let colon = text.lastIndex(of: ":"), colon > text.startIndex,
                fault(inUserName: String(text[text.index(after: colon)...])) == nil
            else {
                section.report("\(quoted(text)) is not \(what):USER", at: key)
                continue
            }
            let entry = Kerberos.Mapped(
                name: String(text[..<colon]), user: String(text[text.index(after: colon)...]))
            if found.contains(where: { $0.name == entry.name }) {
                section.report("\(quoted(entry.name)) is there twice", at: key)
            }
            found.append(entry)
        }
        return found
    }

    private static func durabilityOverride(_ section: inout Section) -> Durability? {
        let isSet = section.has("durability")
        let word = section.word("durability", default: .log, Durability.allCases.map { ($0.rawValue, $0) })
        return isSet ? word : nil
    }

    private mutating func readExports(_ root: inout Section) {
        root.sections("export", countMax: Self.exportsMax) { section in
            let path = section.string("path", default: "/", lengthMax: 1024)
            let clients = section.strings("clients", default: [], countMax: Self.clientsMax)
            let durability = Self.durabilityOverride(&section)
            if !section.has("path") { return section.report("an export needs a path", at: "path") }
            if !path.hasPrefix("/") || path == "/" { section.report("is /VOLUME or /VOLUME/DIRECTORY", at: "path") }
            if clients.isEmpty { section.report("an export names its clients", at: "clients") }
            if let other = exports.first(where: { $0.path == path }) {
                section.report("\(quoted(path)) is declared already, at \(other.place)", at: "path")
            }
            exports.append(Export(path: path, clients: clients, durability: durability, place: section.place))
        }
    }

    private mutating func readShares(_ root: inout Section) {
        root.sections("share", countMax: Self.sharesMax) { section in
            let name = section.string("name", default: "share", lengthMax: 80)
            let volume = section.string("volume", default: Self.standardVolume.name)
            let directory = section.optionalString("directory") ?? ""
            let comment = section.optionalString("comment") ?? ""
            let isReadOnly = section.word("access", default: false, [("rw", false), ("ro", true)])
            let isHidden = section.boolean("hidden", default: false)
            let needsEncryption = section.boolean("encrypt", default: false)
            let needsSigning = section.boolean("sign", default: false)
            let allowsGuests = section.boolean("guest", default: false)
            let hidesUnreadable = section.boolean("hide_unreadable", default: false)
            let durability = Self.durabilityOverride(&section)
            if !section.has("name") { return section.report("a share needs a name", at: "name") }
            if let other = shares.first(where: { $0.name.lowercased() == name.lowercased() }) {
                section.report("\(quoted(name)) is declared already, at \(other.place)", at: "name")
            }
            shares.append(
                Share(
                    name: name, volume: volume, directory: directory, comment: comment, isReadOnly: isReadOnly,
                    isHidden: isHidden, needsEncryption: needsEncryption, needsSigning: needsSigning,
                    allowsGuests: allowsGuests, hidesUnreadable: hidesUnreadable, durability: durability,
                    place: section.place))
        }
    }

    private static func tls(_ section: inout Section) -> TLS {
        let selfSigned = section.boolean("self_signed", default: false)
        let certificate = section.optionalString("certificate")
        let key = section.optionalString("key")
        switch (certificate, key) {
        case (let certificate?, let key?):
            if selfSigned { section.report("not together with a certificate", at: "self_signed") }
            return .files(certificate: certificate, key: key)
        case (_?, nil):
            section.report("needs tls.key beside it", at: "certificate")
            return .off
        case (nil, _?):
            section.report("needs tls.certificate beside it", at: "key")
            return .off
        case (nil, nil): return selfSigned ? .selfSigned : .off
        }
    }

    private static func user(_ section: inout Section) -> User? {
        let name = section.string("name", default: "")
        let secret = section.string("secret", default: "")
        let uid: UInt32? = section.optionalInteger("uid", in: 0...UInt32.max - 1)
        let gid: UInt32? = section.optionalInteger("gid", in: 0...UInt32.max - 1)
        let groups = section.strings("groups", default: [], countMax: 1024)
        let volumes = section.strings("volumes", default: ["default"], countMax: Configuration.volumesMax)
        for key in ["name", "secret"] where !section.has(key) { section.report("a user needs a \(key)", at: key) }
        guard !name.isEmpty, !secret.isEmpty else { return nil }
        if let fault = fault(inUserName: name) { section.report(fault, at: "name") }
        return User(
            name: name, secret: Secret(secret), uid: uid, gid: gid, groups: groups, volumes: volumes,
            place: section.place)
    }
}

extension Configuration.Engine {
    fileprivate mutating func read(_ section: inout Section) {
        flushSize = section.quantity("flush_size", default: flushSize, in: .mebi(1)...(.gibi(1)))
        flushTime = section.quantity("flush_time", default: flushTime, in: .milliseconds(100)...(.seconds(3600)))
        checkpointInterval = section.quantity(
            "checkpoint_interval", default: checkpointInterval, in: .seconds(1)...(.seconds(3600)))
        logSize = section.quantity("log_size", default: logSize, in: .mebi(16)...(.gibi(64)))
        stageSize = section.quantity("stage_size", default: stageSize, in: .mebi(64)...(.tebi(16)))
        nonceRange = section.integer("nonce_range", default: nonceRange, in: 1024...16_777_216)
        nodeCache = section.quantity("node_cache", default: nodeCache, in: .mebi(16)...(.tebi(1)))
        dataCache = section.quantity("data_cache", default: dataCache, in: .mebi(16)...(.tebi(16)))
        deleteDelay = section.quantity("delete_delay", default: deleteDelay, in: .seconds(0)...(.seconds(3_600)))
        leaseDrift = section.quantity("lease_drift", default: leaseDrift, in: .milliseconds(100)...(.seconds(60)))
    }
}

// MARK: What concerns several keys

extension Configuration {
    private func check(_ places: [String: String], _ issues: inout [Issue]) {
        func report(_ message: String, _ keys: String...) {
            // The place of a key that was set; a default alone is never wrong.
            let place = keys.lazy.compactMap { places[$0] }.first ?? "defaults"
            issues.append(Issue(place: place, message: message))
        }
        if ports.https != 0, tls == .off {
            report(
                "ports.https is set, but there is no certificate: set tls.certificate and tls.key, or "
                    + "tls.self_signed", "ports.https")
        }
        if tlsClients.isRequired, tlsClients.authorities == nil {
            report(
                "certificates of clients are required, but no authority for them is named: set tls.client_authorities",
                "tls.client_required")
        }
        if !certificates.isEmpty, tls == .off {
            report(
                "there are further certificates, but none for clients that ask for no name: set tls.certificate and "
                    + "tls.key, or tls.self_signed", "certificate.certificate", "certificate")
        }
        let listeners = ports.named.filter { $0.port != 0 }
        if listeners.isEmpty { report("every port is 0: there is nothing to serve", "ports.nfs") }
        for (i, a) in listeners.enumerated() {
            for b in listeners.dropFirst(i + 1) where a.port == b.port {
                report("ports.\(b.name) and ports.\(a.name) are both \(a.port)", "ports.\(b.name)", "ports.\(a.name)")
            }
        }
        if engine.dataCache < engine.flushSize {
            report(
                "engine.data_cache (\(engine.dataCache)) is smaller than one segment, engine.flush_size "
                    + "(\(engine.flushSize))", "engine.data_cache", "engine.flush_size")
        }
        let names = volumes.isEmpty ? [Self.standardVolume.name] : volumes.map(\.name)
        for user in users {
            for volume in user.volumes where !names.contains(volume) && !volumes.isEmpty {
                issues.append(
                    Issue(
                        place: user.place,
                        message:
                            "user \(quoted(user.name)) has rights on volume \(quoted(volume)), which no [[volume]] "
                            + "declares\(suggestion(volume, names))"))
            }
        }
    }
}
