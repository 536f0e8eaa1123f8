import Bytes
import Headhunter
import LogFS
import Runtime

/// Callers beside the worker, who share its syncs: each makes files by rising number in a directory of its own, waits until one is
/// durable before it makes the next, and removes those of long ago.
extension KillTrial {
    package static let callers = 16
    /// So many files of a caller are there.
    private static let kept = 20

    private static func name(_ number: Int) -> [UInt8] { Array("n\(number)".utf8) }

    /// Long enough, now and then, to lie in a segment.
    private static func content(_ caller: Int, _ number: Int) -> [UInt8] {
        let piece = Array("\(caller):\(number);".utf8)
        return Array(repeatElement(piece, count: number % 4 == 0 ? 900 : 3).joined())
    }

    private static func home(_ files: LogFS, _ caller: Int) async throws -> FileID? {
        let found = try await outcome(files) { request in
            with(Array("c\(caller)".utf8)) { files.lookup(request, in: files.rootID, $0) }
        }
        if case .success(let inode) = found { return inode.id }
        return nil
    }

    static func makeCrowd(_ files: LogFS) async throws {
        for caller in 0..<callers {
            let new = NewFile(type: .directory, mode: 0o755, uid: 0, gid: 0)
            _ = try await outcome(files) { request in
                with(Array("c\(caller)".utf8)) { files.create(request, in: files.rootID, $0, new) }
            }.get()
        }
    }

    /// Goes on until the end of the process.
    static func startCrowd(_ files: LogFS, on loop: EventLoop, _ tell: @escaping @Sendable (Event) -> Void) {
        for caller in 0..<callers {
            loop.task {
                do { try await work(files, caller, tell) } catch { tell(.failed("caller \(caller): \(error)")) }
            }
        }
    }

    private static func work(_ files: LogFS, _ caller: Int, _ tell: (Event) -> Void) async throws {
        guard let home = try await home(files, caller) else { return tell(.failed("caller \(caller) has no home")) }
        let new = NewFile(type: .file, mode: 0o644, uid: 0, gid: 0)
        var number = 0
        while true {
            let made = try await outcome(files) { request in
                with(name(number)) { files.create(request, in: home, $0, new) }
            }.get()
            let bytes = content(caller, number).withUnsafeBytes { Block(copying: $0) }
            try await files.writeAll(made.inode.id, at: 0, bytes.bytes, now: 1)
            extendLifetime(bytes)
            try await files.sync(made.inode.id, .durable)
            tell(.told(caller, number))
            if number >= kept {
                _ = try await outcome(files) { request in
                    with(name(number - kept)) { files.unlink(request, in: home, $0) }
                }.get()
            }
            number += 1
        }
    }

    private static func names(_ files: LogFS, in home: FileID) async throws -> [[UInt8]] {
        var names: [[UInt8]] = []
        var cookie: UInt64 = 0
        while true {
            let from = cookie
            var page: [(name: [UInt8], cookie: UInt64)] = []
            _ = try await outcome(files) { request in
                page.removeAll()
                return files.list(request, home, after: from, limit: 100) { entry, name in
                    page.append((Array(name), entry.entry.cookie))
                    return true
                }
            }.get()
            names += page.map(\.name)
            guard let last = page.last else { return names }
            cookie = last.cookie
        }
    }

    /// What is wrong with what is there of each caller who was told of all files up to a number, and of more that nobody heard of. Takes it all away.
    static func judgeCrowd(_ files: LogFS, told: [Int]) async throws -> [String] {
        var problems = try await Check.run(files).differences.map { "beside others: \($0)" }
        for (caller, told) in told.enumerated() {
            guard let home = try await home(files, caller) else {
                problems.append("caller \(caller) was told of \(told), and its directory is not there")
                continue
            }
            let names = try await names(files, in: home)
            if let problem = try await judge(files, home, caller, names, told: told) {
                problems.append("caller \(caller) was told of \(told), and \(problem)")
            }
            for name in names {
                _ = try await outcome(files) { request in with(name) { files.unlink(request, in: home, $0) } }.get()
            }
            _ = try await outcome(files) { request in
                with(Array("c\(caller)".utf8)) { files.rmdir(request, in: files.rootID, $0) }
            }.get()
        }
        return problems
    }

    private static func judge(
        _ files: LogFS, _ home: FileID, _ caller: Int, _ names: [[UInt8]], told: Int
    ) async throws -> String? {
        let numbers = names.compactMap { Int(String(decoding: $0.dropFirst(), as: UTF8.self)) }.sorted()
        guard let first = numbers.first, let last = numbers.last else {
            return told < 0 && names.isEmpty ? nil : "nothing is there"
        }
        // The oldest goes when the newest is durable.
        guard last >= told, numbers == Array(first...last), first == max(0, last - kept) || first == last - kept + 1
        else { return "\(first) to \(last) are there, \(numbers.count) in all" }
        for number in numbers {
            let expected = content(caller, number)
            let found = try await FileWorker.content(files, in: home, name(number))
            // The newest may have been on its way.
            guard found == expected || number == last && number > told && expected.starts(with: found) else {
                return "\(number) has \(found.count) bytes, not its \(expected.count)"
            }
        }
        return nil
    }
}
