import CShim
import Glibc
import Runtime
import Testing

@Suite(.serialized) struct IdleConnectionTests {
    /// The echo server of the benchmark in a process of its own, so that its memory is its own.
    private final class Server {
        let process: pid_t
        let address: SocketAddress

        init(_ arguments: String...) throws {
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
            var argv = ([program] + arguments).map { strdup($0) }
            argv.append(nil)
            defer { for argument in argv { free(argument) } }
            var process: pid_t = 0
            try #require(posix_spawn(&process, program, &actions, nil, argv, environ) == 0)
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

    @Test(arguments: [0, 20])
    func tenThousandConnectionsTakeLessThan100MiB(_ begun: Int) async throws {
        let count = 10_000
        try #require(shim_open_files(20_000) >= UInt64(count + 200), "the test needs 10,200 open files")
        let server = try Server("--loops", "2")
        let before = server.resident
        // Each has sent a frame; then they are silent, or have begun another frame and not ended it.
        let frame: [UInt8] = [0, 0, 0, 100] + pattern(100)
        var peers: [Peer] = []
        for _ in 0..<count { peers.append(try Peer(server.address)) }
        for peer in peers { peer.send(frame + frame[..<begun]) }
        for peer in peers { try #require(peer.receive(104) == frame) }
        let after = server.resident
        print("10,000 connections with \(begun) bytes of a message: \(before) KiB before, \(after) KiB after")
        // Sanitizers keep several bytes for each byte of the program.
        let isSanitized = dlsym(nil, "__tsan_init") != nil || dlsym(nil, "__asan_init") != nil
        #expect(after < (isSanitized ? 400 : 100) << 10)
        // All are alive.
        for peer in peers { peer.send(Array(frame[begun...])) }
        if begun == 0 { for peer in peers { try #require(peer.receive(104) == frame) } }
    }
}
