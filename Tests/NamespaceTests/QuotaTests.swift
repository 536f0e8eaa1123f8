import Namespace
import Simulator
import Testing

extension QuotaTable {
    /// Adds to all of them when none refuses, as a volume does behind its guard.
    fileprivate mutating func charge(
        _ subjects: [QuotaSubject], bytes: UInt64, files: UInt64 = 0, now: UInt64
    ) -> QuotaSubject? {
        if let refusal = refusal(subjects, bytes: bytes, files: files, now: now) { return refusal }
        add(subjects, bytes: bytes, files: files, now: now)
        return nil
    }
}

@Suite struct QuotaTests {
    @Test func softAndHard() {
        var table = QuotaTable()
        let user = QuotaSubject.user(1)
        expect(table.setLimit(user, QuotaLimit(softBytes: 100, hardBytes: 200, graceNanoseconds: 50), now: 0))
        expect(table.charge([user], bytes: 150, now: 10) == nil)
        expect(table[user]?.softBytesPassed == 10)
        expect(table.charge([user], bytes: 51, now: 11) == user)
        expect(table.charge([user], bytes: 50, now: 59) == nil)
        expect(table.refund([user], bytes: 50, now: 59))
        expect(table.charge([user], bytes: 1, now: 60) == user)
        expect(table.charge([user], bytes: 0, files: 1, now: 60) == nil)
        // Below the soft limit the grace begins anew.
        expect(table.refund([user], bytes: 60, now: 61))
        expect(table[user]?.softBytesPassed == nil)
        expect(table.charge([user], bytes: 50, now: 70) == nil)
        expect(table.charge([user], bytes: 10, now: 119) == nil)
        // A limit that is lowered below the use takes nothing away.
        expect(table.setLimit(user, QuotaLimit(hardBytes: 10), now: 200))
        expect(table.charge([user], bytes: 1, now: 200) == user)
        expect(table.refund([user], bytes: 145, files: 1, now: 201))
        expect(table.charge([user], bytes: 5, now: 202) == nil)
        expect(!table.refund([user], bytes: 11, now: 203) && table[user]?.usage.bytes == 0)
    }

    @Test func sumsThatDoNotFit() {
        var table = QuotaTable()
        expect(table.setUsage(.volume, QuotaUsage(bytes: .max - 10, files: .max - 1), now: 0))
        expect(table.charge([.volume], bytes: 11, now: 0) == .volume)
        expect(table.charge([.volume], bytes: 10, files: 2, now: 0) == .volume)
        expect(table.charge([.volume], bytes: 10, files: 1, now: 0) == nil)
        expect(table.charge([.volume], bytes: 1, now: 0) == .volume)
        expect(table.charge([.user(9)], bytes: .max, now: 0) == nil && table[.user(9)] == nil)
    }

    @Test func limits() {
        var table = QuotaTable()
        for uid in 0..<UInt32(QuotaTable.subjectsMax) { expect(table.setLimit(.user(uid), QuotaLimit(), now: 0)) }
        expect(!table.setLimit(.volume, QuotaLimit(), now: 0) && !table.setUsage(.volume, QuotaUsage(), now: 0))
        expect(table.setLimit(.user(3), QuotaLimit(hardBytes: 5), now: 0))
        table.remove(.user(4))
        expect(table.setLimit(.volume, QuotaLimit(), now: 0))
    }

    /// Files with owners, groups and places, each counted by going through all of them.
    @Test(arguments: [1, 2, 3, 4] as [UInt64])
    func steps(seed: UInt64) {
        struct File {
            var subjects: [QuotaSubject]
            var bytes: UInt64
        }
        var generator = Generator(seed: seed, stream: "quotas")
        var table = QuotaTable()
        var limits: [QuotaSubject: QuotaLimit] = [:]
        var passed: [QuotaSubject: UInt64] = [:]
        var files: [File] = []
        var now: UInt64 = 0
        var refusals = 0
        var graces = 0
        let tree = FileID(subvolume: 1, inode: 1, generation: 1)
        let subjects: [QuotaSubject] = [.volume, .tree(tree), .user(1), .user(2), .group(1)]
        for subject in subjects {
            let hard = UInt64(20_000 + generator.below(20_000))
            let limit = QuotaLimit(
                softBytes: hard / 2, hardBytes: hard, hardFiles: UInt64(20 + generator.below(20)),
                graceNanoseconds: 3000)
            limits[subject] = limit
            expect(table.setLimit(subject, limit, now: 0))
        }
        func some() -> [QuotaSubject] {
            [.volume] + (generator.once(in: 2) ? [.tree(tree)] : []) + [.user(UInt32(1 + generator.below(3)))]
                + (generator.once(in: 2) ? [.group(1)] : [])
        }
        func used(_ subject: QuotaSubject) -> (bytes: UInt64, files: UInt64) {
            files.filter { $0.subjects.contains(subject) }.reduce((0, 0)) { ($0.0 + $1.bytes, $0.1 + 1) }
        }
        func refusal(_ asked: [QuotaSubject], _ bytes: UInt64, _ count: UInt64) -> QuotaSubject? {
            asked.first { subject in
                guard let limit = limits[subject] else { return false }
                let used = used(subject)
                if bytes > 0, used.bytes + bytes > limit.hardBytes { return true }
                if count > 0, used.files + count > limit.hardFiles { return true }
                if bytes > 0, used.bytes + bytes > limit.softBytes, let since = passed[subject], now - since >= 3000 {
                    graces += 1
                    return true
                }
                return false
            }
        }
        for step in 0..<250_000 {
            now += UInt64(generator.below(20))
            switch generator.below(10) {
            case 0..<3:
                let asked = some()
                let expected = refusal(asked, 0, 1)
                expect(table.charge(asked, bytes: 0, files: 1, now: now) == expected, "seed \(seed) step \(step)")
                if expected == nil { files.append(File(subjects: asked, bytes: 0)) } else { refusals += 1 }
            case 3..<6:
                guard !files.isEmpty else { continue }
                let index = generator.below(files.count)
                let bytes = UInt64(generator.below(3000))
                let expected = refusal(files[index].subjects, bytes, 0)
                let found = table.charge(files[index].subjects, bytes: bytes, now: now)
                expect(found == expected, "seed \(seed) step \(step)")
                if expected == nil {
                    files[index].bytes += bytes
                } else {
                    refusals += 1
                }
            case 6:
                // Cut.
                guard !files.isEmpty else { continue }
                let index = generator.below(files.count)
                let bytes = UInt64(generator.below(Int(files[index].bytes) + 1))
                expect(table.refund(files[index].subjects, bytes: bytes, now: now))
                files[index].bytes -= bytes
            case 7, 8:
                guard !files.isEmpty else { continue }
                let file = files.remove(at: generator.below(files.count))
                expect(table.refund(file.subjects, bytes: file.bytes, files: 1, now: now))
            default:
                guard !files.isEmpty else { continue }
                let index = generator.below(files.count)
                let target = some()
                let coming = target.filter { !files[index].subjects.contains($0) }
                let expected = refusal(coming, files[index].bytes, 1)
                let found = table.charge(coming, bytes: files[index].bytes, files: 1, now: now)
                expect(found == expected, "seed \(seed) step \(step)")
                if expected == nil {
                    let leaving = files[index].subjects.filter { !target.contains($0) }
                    expect(table.refund(leaving, bytes: files[index].bytes, files: 1, now: now))
                    files[index].subjects = target
                } else {
                    refusals += 1
                }
            }
            for subject in subjects {
                let sum = used(subject)
                if let limit = limits[subject] {
                    if sum.bytes > limit.softBytes {
                        passed[subject] = passed[subject] ?? now
                    } else {
                        passed[subject] = nil
                    }
                }
                guard step % 8 == 0 else { continue }
                let found = table[subject]?.usage
                expect(
                    found == QuotaUsage(bytes: sum.bytes, files: sum.files),
                    "seed \(seed) step \(step) \(subject)")
            }
        }
        expect(refusals > 1000 && graces > 100)
    }
}
