import Bytes
import CShim
import Configuration
import Glibc
import Runtime

/// Looks at the machine with the eyes of a server that is about to start on it.
struct Examination {
    /// The oldest kernel that all that we use is in, `openat2` above all.
    private static let kernelMin = (5, 6)
    private static let memoryMin: UInt64 = 1 << 30
    private static let freeSpaceMin: UInt64 = 10 << 30
    private static let syncs = 5
    private static let slowSync: UInt64 = 50_000_000
    /// 2024: a clock before it was never set.
    private static let clockMin: Int64 = 1_704_067_200
    private static let memoryFileSystems: [UInt64: String] = [0x0102_1994: "tmpfs", 0x8584_58f6: "ramfs"]

    private let configuration: Configuration

    init(_ configuration: Configuration) { self.configuration = configuration }

    var findings: [Finding] {
        [kernel, openFiles, memory, clock, openSSL, rpcbind] + dataDirectory + ports
    }

    private var kernel: Finding {
        let release = withUnsafeTemporaryAllocation(of: CChar.self, capacity: 128) { text -> String in
            guard let start = text.baseAddress else { return "" }
            shim_kernel_release(start, 128)
            return String(cString: start)
        }
        let parts = release.split { !$0.isNumber }.prefix(2).compactMap { Int($0) }
        let isGood = parts.count == 2 && (parts[0], parts[1]) >= Self.kernelMin
        if isGood { return .good("kernel", "Linux \(release)") }
        return .bad(
            "kernel", "Linux \(release)", "Linux \(Self.kernelMin.0).\(Self.kernelMin.1) or later is needed")
    }

    private var openFiles: Finding {
        var soft: UInt64 = 0
        var hard: UInt64 = 0
        shim_open_files_limits(&soft, &hard)
        let found = "\(hard) at most"
        if hard >= Server.openFilesWanted { return .good("open files", found) }
        return .warning(
            "open files", found,
            "each connection is one: allow \(Server.openFilesWanted) (ulimit -Hn; LimitNOFILE= of the service)")
    }

    private var memory: Finding {
        let total = shim_memory_bytes()
        let caches = configuration.engine.nodeCache.bytes + configuration.engine.dataCache.bytes
        let found = "\(total >> 20) MiB, caches \(caches >> 20) MiB"
        if total < Self.memoryMin {
            return .warning("memory", found, "\(Self.memoryMin >> 20) MiB is the least that is reasonable")
        }
        if caches > total / 4 * 3 {
            return .bad("memory", found, "make engine.node_cache and engine.data_cache fit into the memory")
        }
        return .good("memory", found)
    }

    private var clock: Finding {
        let seconds = SystemClock().wall() / 1_000_000_000
        if seconds < Self.clockMin {
            return .bad("clock", "it was never set", "set it: Kerberos, signatures and certificates depend on it")
        }
        if shim_clock_is_synchronized() == 1 { return .good("clock", "synchronized") }
        return .warning(
            "clock", "nobody keeps it right",
            "run an NTP client: signed requests are refused when clocks are minutes apart")
    }

    private var openSSL: Finding { .good("OpenSSL", String(cString: shim_openssl_version())) }

    private var rpcbind: Finding {
        var address = shim_address()
        var inProgress: Int32 = 0
        var isThere = false
        if SocketAddress.loopback(port: 111).store(into: &address) {
            let fd = shim_connect(&address, 0, &inProgress)
            if fd >= 0 {
                var item = pollfd(fd: fd, events: Int16(POLLOUT), revents: 0)
                isThere = (inProgress == 0 || poll(&item, 1, 1000) > 0) && shim_socket_error(fd) == 0
                shim_close(fd)
            }
        }
        if isThere { return .good("rpcbind", "answers on 127.0.0.1:111") }
        return .warning(
            "rpcbind", "nobody answers on 127.0.0.1:111",
            "without it NFS mounts need nolock and port options: apt install rpcbind")
    }

    // MARK: The data directory

    private var dataDirectory: [Finding] {
        let path = existing(configuration.data)
        let found = path == configuration.data ? path : "\(configuration.data), not made yet, in \(path)"
        let disk: RealDisk
        do {
            disk = try RealDisk(path: path)
        } catch {
            return [.bad("data directory", "\(found): \(error)", "name one that this user can write to with --data")]
        }
        return [space(disk, found), durability(disk, path)]
    }

    /// The directory, or the nearest above it that is there: the doctor makes none.
    private func existing(_ path: String) -> String {
        var path = path
        while access(path, F_OK) != 0, path.contains("/"), path != "/" {
            while path.count > 1, path.last == "/" { path.removeLast() }
            while let last = path.last, last != "/" { path.removeLast() }
            while path.count > 1, path.last == "/" { path.removeLast() }
        }
        return access(path, F_OK) == 0 ? path : "."
    }

    private func space(_ disk: RealDisk, _ found: String) -> Finding {
        do {
            let space = try disk.space()
            let text = "\(found): \(space.free >> 30) GiB free of \(space.total >> 30) GiB"
            if space.free >= Self.freeSpaceMin { return .good("data directory", text) }
            return .warning(
                "data directory", text, "logs and stages need room: \(Self.freeSpaceMin >> 30) GiB at least")
        } catch {
            return .bad("data directory", "\(found): \(error)", "name another with --data")
        }
    }

    private func durability(_ disk: RealDisk, _ path: String) -> Finding {
        let name = ".proxyfs-doctor-\(getpid())"
        var times: [UInt64] = []
        do throws(Errno) {
            let file = try disk.open(name, [.write, .create, .truncate])
            defer {
                file.close()
                try? disk.remove(name)
            }
            let block = Block(capacity: 4096)
            block.free.initializeMemory(as: UInt8.self, repeating: 1)
            block.count = 4096
            for index in 0..<Self.syncs {
                let start = shim_clock_monotonic()
                try file.write(block.bytes, at: UInt64(index * 4096))
                try file.sync()
                times.append(shim_clock_monotonic() - start)
            }
        } catch {
            return .bad("durability", "can not write and sync in \(path): \(error)", "name another with --data")
        }
        let median = times.sorted()[times.count / 2]
        let found = "write and sync of 4 KiB takes \(median / 1000) us"
        if let kind = Self.memoryFileSystems[shim_file_system(path)] {
            return .warning(
                "durability", "\(found), but \(kind) is memory", "nothing there survives the power: only for trials")
        }
        if median > Self.slowSync {
            return .warning("durability", found, "each durable operation waits so long: use a faster disk for --data")
        }
        return .good("durability", found)
    }

    // MARK: Ports

    private var ports: [Finding] {
        let ports = configuration.ports
        let all = [
            ("nfs", ports.nfs), ("smb", ports.smb), ("http", ports.http), ("https", ports.https),
            ("admin", ports.admin),
        ]
        return all.filter { $0.1 != 0 }.map { port($0.0, $0.1) }
    }

    private func port(_ name: String, _ number: UInt16) -> Finding {
        let subject = "port \(number)"
        var address = shim_address()
        guard let wanted = SocketAddress(numeric: configuration.address, port: number), wanted.store(into: &address)
        else {
            return .bad(
                subject, "\"\(configuration.address)\" is no IPv4 or IPv6 address", "give --address a number")
        }
        let fd = shim_listen(&address, 1, 0)
        if fd >= 0 {
            shim_close(fd)
            return .good(subject, "free for \(name) on \(configuration.address)")
        }
        return .bad(
            subject, "can not be had for \(name) on \(configuration.address): \(Errno(-fd))",
            "stop whoever has it, or choose another with --\(name)-port")
    }
}
