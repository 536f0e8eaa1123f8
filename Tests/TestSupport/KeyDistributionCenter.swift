import CShim
import Glibc

/// A Kerberos realm of its own on a loopback port, with a user's tickets and a service's keys in files; ends with its owner. The
/// process's environment leads GSSAPI to it, so there is one at a time.
package final class KeyDistributionCenter {
    static let program = "/usr/sbin/krb5kdc"
    package static let realm = "TEST.PROXYFS"
    package static var isInstalled: Bool { access(program, X_OK) == 0 && access("/usr/bin/kinit", X_OK) == 0 }

    package struct Failed: Error { var what: String }

    package let folder: String
    package var keytab: String { folder + "/keytab" }
    private var process: pid_t = 0

    /// `encryption`: the one that all its keys have. `service`: as in `nfs`, of this host.
    package init(encryption: String, service: String = "nfs") throws {
        var template = Array("/tmp/kdc.XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw Failed(what: "mkdtemp") }
        folder = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        let port = try freePort()
        try write(
            "krb5.conf",
            """
            [libdefaults]
            default_realm = \(Self.realm)
            dns_lookup_kdc = false
            dns_lookup_realm = false
            dns_canonicalize_hostname = false
            rdns = false
            udp_preference_limit = 1
            clockskew = 2
            default_tkt_enctypes = \(encryption)
            default_tgs_enctypes = \(encryption)
            permitted_enctypes = \(encryption)
            [realms]
            \(Self.realm) = {
                kdc = 127.0.0.1:\(port)
            }
            """)
        try write(
            "kdc.conf",
            """
            [kdcdefaults]
            kdc_listen = 127.0.0.1:\(port)
            kdc_tcp_listen = 127.0.0.1:\(port)
            [realms]
            \(Self.realm) = {
                database_name = \(folder)/principal
                key_stash_file = \(folder)/stash
                master_key_type = \(encryption)
                supported_enctypes = \(encryption):normal
            }
            [logging]
            kdc = FILE:\(folder)/log
            """)
        setenv("KRB5_CONFIG", folder + "/krb5.conf", 1)
        setenv("KRB5_KDC_PROFILE", folder + "/kdc.conf", 1)
        setenv("KRB5CCNAME", "FILE:" + folder + "/cache", 1)
        setenv("KRB5RCACHEDIR", folder, 1)
        try run("kdb5_util create -s -r \(Self.realm) -P master")
        for query in [
            "addprinc -pw secret alice", "addprinc -pw secret mallory", "addprinc -randkey \(service)/localhost",
            "ktadd -k \(keytab) \(service)/localhost",
        ] {
            try run("kadmin.local -r \(Self.realm) -q '\(query)'")
        }
        process = try Self.spawn([Self.program, "-n", "-r", Self.realm])
        for attempt in 0..<100 {
            if (try? run("echo secret | kinit alice")) != nil { return }
            guard attempt < 99 else { throw Failed(what: "kinit") }
            usleep(50_000)
        }
    }

    deinit {
        if process > 0 {
            // This process holds signals back, and so does what it starts.
            kill(process, SIGKILL)
            waitpid(process, nil, 0)
        }
        for name in ["KRB5_CONFIG", "KRB5_KDC_PROFILE", "KRB5CCNAME", "KRB5RCACHEDIR"] { unsetenv(name) }
        _ = try? run("rm -rf '\(folder)'")
    }

    /// Its keys are in the keytab, too.
    package func add(service: String) throws {
        for query in ["addprinc -randkey \(service)/localhost", "ktadd -k \(keytab) \(service)/localhost"] {
            try run("kadmin.local -r \(Self.realm) -q '\(query)'")
        }
    }

    /// Tickets of this user are the environment's from now on.
    package func logIn(_ user: String, seconds: Int? = nil) throws {
        try run("echo secret | kinit \(seconds.map { "-l \($0)s " } ?? "")\(user)")
    }

    private func write(_ name: String, _ text: String) throws {
        guard let file = fopen(folder + "/" + name, "w") else { throw Failed(what: name) }
        fputs(text + "\n", file)
        fclose(file)
    }

    private func run(_ command: String) throws {
        let process = try Self.spawn(
            ["/bin/sh", "-c", "PATH=$PATH:/usr/sbin:/sbin; (\(command)) >> \(folder)/out 2>&1"])
        var status: Int32 = 0
        waitpid(process, &status, 0)
        guard status == 0 else { throw Failed(what: command) }
    }

    private static func spawn(_ words: [String]) throws -> pid_t {
        var process: pid_t = 0
        var arguments: [UnsafeMutablePointer<CChar>?] = words.map { strdup($0) } + [nil]
        defer { for word in arguments { free(word) } }
        guard posix_spawn(&process, words[0], nil, nil, &arguments, environ) == 0 else { throw Failed(what: words[0]) }
        return process
    }
}
