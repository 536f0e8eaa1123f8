import Logging

extension LoadedConfiguration {
    /// Every setting, its value, and who set it.
    public var settings: [(key: String, value: String, place: String)] {
        var rows: [(key: String, value: String, place: String)] = []
        func row(_ key: String, _ value: String) { rows.append((key, value, places[key] ?? "default")) }
        let c = configuration
        row("address", c.address)
        row("data", c.data)
        row("user_file", c.userFile ?? "none")
        for (name, port) in c.ports.named { row("ports.\(name)", port == 0 ? "off" : "\(port)") }
        switch c.tls {
        case .off: row("tls", "off")
        case .selfSigned: row("tls.self_signed", "true")
        case .files(let certificate, let key):
            row("tls.certificate", certificate)
            row("tls.key", key)
        }
        for (index, certificate) in c.certificates.enumerated() {
            row("tls.certificate.\(index + 2)", "\(certificate.certificate) \(certificate.key)")
        }
        row("tls.client_authorities", c.tlsClients.authorities ?? "none")
        row("tls.client_required", "\(c.tlsClients.isRequired)")
        row("http.domains", c.http.domains.isEmpty ? "none" : c.http.domains.joined(separator: ", "))
        row("http.region", c.http.region)
        row("kerberos.keytab", c.kerberos.keytab ?? "none")
        row("kerberos.realms", c.kerberos.realms.isEmpty ? "none" : c.kerberos.realms.joined(separator: ", "))
        row("kerberos.instances", c.kerberos.instances.isEmpty ? "none" : c.kerberos.instances.joined(separator: ", "))
        for (key, list) in [("everybody", c.kerberos.everybody), ("principals", c.kerberos.principals)] {
            let words = list.map { "\($0.name):\($0.user)" }.joined(separator: ", ")
            row("kerberos.\(key)", words.isEmpty ? "none" : words)
        }
        row("smb.signing", c.smb.requiresSigning ? "required" : "offered")
        row("smb.encryption", c.smb.requiresEncryption ? "required" : "offered")
        row("log.level", c.log.level.name)
        row("log.format", c.log.format.rawValue)
        row("engine.flush_size", "\(c.engine.flushSize)")
        row("engine.flush_time", "\(c.engine.flushTime)")
        row("engine.checkpoint_interval", "\(c.engine.checkpointInterval)")
        row("engine.log_size", "\(c.engine.logSize)")
        row("engine.stage_size", "\(c.engine.stageSize)")
        row("engine.nonce_range", "\(c.engine.nonceRange)")
        row("engine.node_cache", "\(c.engine.nodeCache)")
        row("engine.data_cache", "\(c.engine.dataCache)")
        row("engine.delete_delay", "\(c.engine.deleteDelay)")
        row("engine.lease_drift", "\(c.engine.leaseDrift)")
        for volume in c.volumes {
            rows.append(("volume \(volume.name)", "\(volume.durability.rawValue), \(volume.size)", volume.place))
        }
        for user in c.users {
            rows.append(("user \(user.name)", "on \(user.volumes.joined(separator: ", "))", user.place))
        }
        return rows
    }

    /// What `proxyfs config check` prints of a good configuration.
    public var report: String {
        let rows = settings
        let keyWidth = rows.map(\.key.count).max() ?? 0
        let valueWidth = rows.map(\.value.count).max() ?? 0
        return rows.map { row in
            let key = row.key + String(repeating: " ", count: keyWidth - row.key.count)
            return "\(key)  \(row.value)\(String(repeating: " ", count: valueWidth - row.value.count))  \(row.place)\n"
        }.joined()
    }
}
