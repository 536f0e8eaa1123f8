import Glibc
import Namespace

/// What the tables cost that stand in each request's way.
@main
enum Program {
    static func main() {
        // Alone where only that is looked at, by a profiler too.
        guard CommandLine.arguments.last != "open" else { return OpenReadClose.run() }
        locks()
        opens()
        access()
        OpenReadClose.run()
    }

    // MARK: Locks

    /// Fixed work, timed by the processor's time of this thread; the least of five rounds.
    static func nanoseconds(_ count: Int, _ body: (Int) -> Int) -> Double {
        var least = Double.infinity
        var sum = 0
        for _ in 0..<5 {
            let start = processorTime()
            for index in 0..<count { sum &+= body(index) }
            least = min(least, Double(processorTime() - start) / Double(count))
        }
        // What was computed is used, so that it is computed.
        precondition(sum != .min)
        return least
    }

    static func processorTime() -> UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }

    static func report(_ what: String, _ value: Double, _ unit: String) {
        print(what + String(repeating: " ", count: max(1, 64 - what.count)), Double(Int(value * 100)) / 100, unit)
    }

    static func locks() {
        let file = FileID(subvolume: 1, inode: 7, generation: 1)
        func range(_ index: Int, _ length: UInt64) -> LockRange {
            LockRange(toEndIfZero: UInt64(index) * 100, length: length)
        }
        for (name, rules) in [("processes", LockOwner.Rules.posix), ("handles", .handle)] {
            for count in [1000, LockTable.locksPerFileMax] {
                var table = LockTable()
                for index in 0..<count {
                    let owner = LockOwner(rules, client: UInt64(index % 16), id: UInt64(index % 100))
                    precondition(table.lock(file, range(index, 50), .exclusive, owner, now: 0) == .granted)
                }
                let stranger = LockOwner(.handle, client: 99, id: 1)
                let what = "\(count) exclusive locks of \(name): "
                report(
                    what + "a read that hits none",
                    nanoseconds(200_000) { index in
                        let range = LockRange(accessed: UInt64(index % count) * 100 + 60, count: 20)
                        return range.flatMap { table.blocker(file, $0, isWrite: true, handle: stranger) } == nil ? 0 : 1
                    }, "ns")
                report(
                    what + "a test that hits one",
                    nanoseconds(200_000) { index in
                        table.test(file, range(index % count, 10), .shared, stranger) == nil ? 0 : 1
                    }, "ns")
                guard count < LockTable.locksPerFileMax else { continue }
                let other = LockOwner(.posix, client: 98, id: 1)
                report(
                    what + "lock and unlock of a gap",
                    nanoseconds(50_000) { index in
                        let gap = LockRange(toEndIfZero: UInt64(index % (count - 1)) * 100 + 60, length: 20)
                        let answer = table.lock(file, gap, .exclusive, other, now: 0)
                        precondition(answer == .granted && table.unlock(file, gap, process: other))
                        return 1
                    }, "ns")
            }
        }
        // The worst case for a list in order: all locks are shared, reach to the end, and are one's own.
        var table = LockTable()
        let mine = LockOwner(.handle, client: 1, id: 1)
        for index in 0..<1000 {
            precondition(
                table.lock(file, LockRange(toEndIfZero: UInt64(index), length: 0), .shared, mine, now: 0) == .granted)
        }
        report(
            "1000 shared locks to the end, one's own: a read",
            nanoseconds(200_000) { index in
                LockRange(accessed: UInt64(index), count: 20)
                    .flatMap { table.blocker(file, $0, isWrite: false, handle: mine) } == nil ? 0 : 1
            }, "ns")
        let process = LockOwner(.posix, client: 2, id: 1)
        report(
            "1000 shared locks to the end: who is in the way of an exclusive one",
            nanoseconds(200_000) { index in
                table.test(file, LockRange(toEndIfZero: UInt64(index), length: 5), .exclusive, process) == nil ? 0 : 1
            }, "ns")
    }

    // MARK: Opens

    static func residentBytes() -> Int {
        guard let file = fopen("/proc/self/statm", "r") else { return 0 }
        defer { fclose(file) }
        var line = [UInt8](repeating: 0, count: 128)
        let count = fread(&line, 1, line.count, file)
        let words = String(decoding: line[..<count], as: UTF8.self).split(separator: " ")
        return words.count > 1 ? (Int(words[1]) ?? 0) * sysconf(Int32(_SC_PAGESIZE)) : 0
    }

    static func opens() {
        let count = 200_000
        let before = residentBytes()
        var opens = OpenTable()
        var leases = LeaseTable()
        var locks = LockTable()
        for index in 0..<count {
            let file = FileID(subvolume: 1, inode: UInt64(index), generation: 1)
            let client = UInt64(index % 64)
            let key = LeaseKey(client: UInt128(client), key: UInt128(index))
            let share = ShareMode(access: [.read, .write], shared: .read)
            let answer = opens.open(
                OpenRequest(file: file, name: UInt64(index + 1), client: client, share: share, leaseKey: key.key))
            guard case .opened(let id, _) = answer else { preconditionFailure("an open was refused") }
            _ = leases.grant(key, on: file, kind: .lease, wanted: .all, isShared: false, isLocked: false)
            if index % 4 == 0 {
                let owner = LockOwner(.handle, client: client, id: id.number)
                let range = LockRange(toEndIfZero: 0, length: 10)
                precondition(locks.lock(file, range, .exclusive, owner, now: 0) == .granted)
            }
        }
        let used = residentBytes() - before
        precondition(opens.count == count && leases.count == count && locks.count == count / 4)
        report("memory of an open file with a lease, every fourth with a lock", Double(used) / Double(count), "bytes")
        let file = FileID(subvolume: 2, inode: 1, generation: 1)
        let share = ShareMode(access: .read, shared: .all)
        for index in 0..<1000 {
            _ = opens.open(OpenRequest(file: file, name: 1, client: UInt64(100 + index), share: share))
        }
        report(
            "open and close of a file that 1000 others have open",
            nanoseconds(100_000) { _ in
                guard case .opened(let id, _) = opens.open(OpenRequest(file: file, name: 2, client: 1, share: share))
                else {
                    return 0
                }
                return opens.close(id) == nil ? 0 : 1
            }, "ns")
        report(
            "check of a write against the share modes of 1000 opens",
            nanoseconds(500_000) { _ in opens.blocker(file, .write) == nil ? 0 : 1 }, "ns")
    }

    // MARK: Access

    static func access() {
        let caller = Credential(uid: 5, gid: 6, groups: (0..<16).map { UInt32($0 * 3) })
        var file = FileSecurity(uid: 1, gid: 21, mode: 0o640, isDirectory: false)
        report(
            "access by mode",
            nanoseconds(5_000_000) { index in
                file.mode = UInt16(truncatingIfNeeded: index)
                return Int(file.granted(.readData, to: caller).rawValue)
            }, "ns")
        let entries =
            (0..<20).map { ACL.Entry(.allow, .user(UInt32(1000 + $0)), .all) } + [
                ACL.Entry(.allow, .everyone, .readData)
            ]
        guard let acl = ACL(entries) else { return }
        report(
            "access by a list of 21 entries, the last decides",
            nanoseconds(500_000) { index in
                file.mode = UInt16(truncatingIfNeeded: index)
                return Int(file.granted(.readData, to: caller, acl).rawValue)
            }, "ns")
    }
}
