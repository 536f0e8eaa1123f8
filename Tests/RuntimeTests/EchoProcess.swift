import Glibc
import Runtime
import Testing

/// The echo server of the benchmark in a process of its own, so that its memory and its descriptors are its own.
final class EchoProcess {
    let process: pid_t
    let address: SocketAddress

    /// `openFiles`: as many as it may open.
    init(_ arguments: String..., openFiles: Int? = nil) throws {
        var path = [CChar](repeating: 0, count: 4096)
        let count = readlink("/proc/self/exe", &path, path.count - 1)
        try #require(count > 0)
        let own = String(decoding: path[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self)
        let folder = own[..<(try #require(own.lastIndex(of: "/")))]
        let program = "\(folder)/bench-echo"
        try #require(access(program, X_OK) == 0, "the test needs \(program)")
        var ends: [Int32] = [0, 0]
        try #require(pipe(&ends) == 0)
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        posix_spawn_file_actions_adddup2(&actions, ends[1], 1)
        posix_spawn_file_actions_addclose(&actions, ends[0])
        defer { posix_spawn_file_actions_destroy(&actions) }
        // A shell that becomes the server: limits are handed on.
        let limit = openFiles.map { "ulimit -n \($0); " } ?? ""
        var argv = (["sh", "-c", limit + "exec \"$0\" \"$@\"", program] + arguments).map { strdup($0) }
        argv.append(nil)
        defer { for argument in argv { free(argument) } }
        var process: pid_t = 0
        try #require(posix_spawn(&process, "/bin/sh", &actions, nil, argv, environ) == 0)
        close(ends[1])
        self.process = process
        var text = ""
        var byte: UInt8 = 0
        while read(ends[0], &byte, 1) == 1, byte != 10 { text.unicodeScalars.append(Unicode.Scalar(byte)) }
        close(ends[0])
        let port = try #require(text.split(separator: " ").last.flatMap { UInt16($0) }, "it said: \(text)")
        address = .loopback(port: port)
    }

    deinit {
        kill(process, SIGKILL)
        waitpid(process, nil, 0)
    }

    /// Resident memory in KiB.
    var resident: Int {
        guard let file = fopen("/proc/\(process)/status", "r") else { return .max }
        defer { fclose(file) }
        var line = [CChar](repeating: 0, count: 256)
        while fgets(&line, 256, file) != nil {
            let text = String(decoding: line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
            guard text.hasPrefix("VmRSS:") else { continue }
            return text.split(whereSeparator: { $0 == " " || $0 == "\t" }).dropFirst().first.flatMap { Int($0) }
                ?? .max
        }
        return .max
    }
}
