import Namespace
import Testing

private let file = FileID(subvolume: 1, inode: 7, generation: 1)
private let other = FileID(subvolume: 1, inode: 8, generation: 1)

private func process(_ client: UInt64, _ id: UInt64 = 1) -> LockOwner { LockOwner(.posix, client: client, id: id) }
private func handle(_ client: UInt64, _ id: UInt64 = 1) -> LockOwner { LockOwner(.handle, client: client, id: id) }
private func bytes(_ offset: UInt64, _ length: UInt64) -> LockRange { LockRange(exactly: offset, length: length)! }

@Suite struct LockRangeTests {
    @Test func ranges() {
        expect(LockRange(toEndIfZero: 5, length: 0) == LockRange(toEndIfZero: 5, length: .max))
        expect(LockRange(toEndIfZero: 5, length: 0).last == .max)
        expect(LockRange(toEndIfZero: .max, length: 2).last == .max)
        expect(LockRange(toEndIfZero: 0, length: 0) == .whole)
        expect(LockRange(exactly: 2, length: .max) == nil)
        expect(LockRange(exactly: 1, length: .max)?.last == .max)
        expect(LockRange(exactly: .max, length: 1)?.length == 1)
        expect(LockRange(exactly: .max, length: 2) == nil)
        expect(LockRange(exactly: .max, length: 0)?.isEmpty == true)
        expect(LockRange(accessed: 4, count: 0) == nil)
        expect(LockRange(accessed: .max - 1, count: 10)?.last == .max)
    }

    @Test func emptyRanges() {
        let ten = bytes(10, 10)
        expect(!bytes(10, 0).overlaps(ten) && !ten.overlaps(bytes(10, 0)))
        expect(bytes(11, 0).overlaps(ten) && ten.overlaps(bytes(11, 0)))
        expect(bytes(19, 0).overlaps(ten))
        expect(!bytes(20, 0).overlaps(ten))
        expect(!bytes(15, 0).overlaps(bytes(15, 0)))
        expect(!bytes(0, 0).overlaps(.whole) && !LockRange.whole.overlaps(bytes(0, 0)))
        expect(!bytes(0, 0).overlaps(bytes(0, 0)))
    }
}

@Suite struct LockTests {
    @Test func firstComeFirstServed() {
        var table = LockTable()
        expect(table.lock(file, .whole, .exclusive, process(1), now: 0) == .granted)
        var waits: [LockWait] = []
        for client in 2...5 as ClosedRange<UInt64> {
            guard
                case .waits(let wait) = table.lock(
                    file, .whole, client == 3 ? .exclusive : .shared, process(client), until: .max, now: 0)
            else {
                Issue.record("no wait")
                return
            }
            waits.append(wait)
        }
        expect(table.unlock(file, .whole, process: process(1)))
        // The second waits for the first, so all behind it do, though they could share.
        expect(table.takeOutcomes().map(\.wait) == [waits[0]])
        table.release(client: 2)
        expect(table.takeOutcomes().map(\.wait) == [waits[1]])
        // A newcomer that would wait does not overtake.
        expect(table.lock(file, bytes(0, 1), .shared, process(6), now: 0) != .granted)
        table.release(process(3))
        expect(table.takeOutcomes().map(\.wait) == [waits[2], waits[3]])
    }

    @Test func deadlockOverFiles() {
        var table = LockTable()
        let chain: UInt64 = 200
        for client in 1...chain {
            let own = FileID(subvolume: 1, inode: client, generation: 1)
            expect(table.lock(own, .whole, .exclusive, process(client), now: 0) == .granted)
        }
        for client in 1..<chain {
            let next = FileID(subvolume: 1, inode: client + 1, generation: 1)
            guard case .waits = table.lock(next, .whole, .exclusive, process(client), until: .max, now: 0) else {
                Issue.record("no wait")
                return
            }
        }
        let first = FileID(subvolume: 1, inode: 1, generation: 1)
        expect(table.lock(first, .whole, .exclusive, process(chain), until: .max, now: 0) == .refused(.deadlock))
        // A handle that waits for itself may be unlocked by another thread of its client.
        expect(table.lock(other, bytes(900, 1), .exclusive, handle(9_000), now: 0) != .refused(.deadlock))
    }

    @Test func grace() {
        var table = LockTable(grace: Grace(from: 100, nanoseconds: 50, clients: [1, 2]))
        expect(table.lock(file, .whole, .shared, process(3), now: 110) == .refused(.grace))
        expect(table.lock(file, .whole, .shared, process(3), isReclaim: true, now: 110) == .refused(.noReclaim))
        expect(table.lock(file, .whole, .shared, process(1), isReclaim: true, now: 110) == .granted)
        expect(table.lock(file, .whole, .shared, process(1), now: 110) == .refused(.grace))
        table.grace.finished(1)
        expect(table.lock(file, .whole, .shared, process(1), isReclaim: true, now: 111) == .refused(.noReclaim))
        expect(table.lock(file, .whole, .shared, process(2), now: 149) == .refused(.grace))
        expect(table.lock(file, .whole, .shared, process(2), now: 150) == .granted)
        expect(table.lock(file, .whole, .shared, process(2), isReclaim: true, now: 150) == .refused(.noReclaim))
        var early = Grace(from: 0, nanoseconds: 1000, clients: [5])
        expect(early.isActive(1))
        early.finished(5)
        expect(!early.isActive(1))
        expect(!Grace(from: 0, nanoseconds: 1000, clients: []).isActive(1))
    }

    @Test func locksPerFile() {
        var table = LockTable()
        for index in 0..<UInt64(LockTable.locksPerFileMax) {
            expect(table.lock(file, bytes(index * 2, 1), .exclusive, process(index % 7), now: 0) == .granted)
        }
        let beyond = bytes(1 << 40, 3)
        expect(table.lock(file, beyond, .shared, process(1), now: 0) == .refused(.tooMany))
        expect(table.lock(file, beyond, .shared, handle(1), now: 0) == .refused(.tooMany))
        expect(table.count == LockTable.locksPerFileMax)
        expect(table.unlock(file, bytes(0, 1), process: process(0)))
        expect(table.lock(file, beyond, .shared, process(1), now: 0) == .granted)
        // An unlock in the middle makes two of one: not when there may be no more, and then nothing changes.
        expect(!table.unlock(file, bytes((1 << 40) + 1, 1), process: process(1)))
        expect(table.test(file, bytes((1 << 40) + 1, 1), .exclusive, process(2)) != nil)
        expect(table.unlock(file, beyond, process: process(1)))
        expect(table.lock(file, bytes(0, 1), .exclusive, handle(3), now: 0) == .granted)
        table.release(handle(3))
        for client in 0..<7 as Range<UInt64> { table.release(client: client) }
        expect(table.count == 0 && table.entryCount == 0)
    }

    @Test func locksPerClient() {
        var table = LockTable()
        var taken = 0
        for number in 0..<5 as Range<UInt64> {
            let file = FileID(subvolume: 1, inode: number, generation: 1)
            for index in 0..<UInt64(LockTable.locksPerFileMax) where taken < LockTable.locksPerClientMax {
                if table.lock(file, bytes(index * 2, 1), .shared, handle(1, number), now: 0) == .granted { taken += 1 }
            }
        }
        expect(taken == LockTable.locksPerClientMax)
        expect(table.lock(other, bytes(0, 1), .shared, handle(1, 99), now: 0) == .refused(.tooMany))
        expect(table.lock(other, bytes(0, 1), .shared, handle(2, 99), now: 0) == .granted)
        table.release(client: 1)
        expect(table.count == 1)
    }

    @Test func waitsPerFileAndClient() {
        var table = LockTable()
        expect(table.lock(file, .whole, .exclusive, process(0), now: 0) == .granted)
        expect(table.lock(other, .whole, .exclusive, process(0), now: 0) == .granted)
        for index in 0..<UInt64(LockTable.waitsPerFileMax) {
            guard
                case .waits = table.lock(
                    file, bytes(index, 1), .exclusive, process(index / 2 + 1, index), until: .max, now: 0)
            else {
                Issue.record("wait \(index) was refused")
                return
            }
        }
        expect(table.lock(file, .whole, .shared, process(5000), until: .max, now: 0) == .refused(.tooMany))
        for index in 0..<UInt64(LockTable.waitsPerClientMax) {
            let answer = table.lock(other, bytes(index, 1), .exclusive, process(7000, index), until: .max, now: 0)
            guard case .waits = answer else {
                Issue.record("wait \(index) was refused")
                return
            }
        }
        let third = FileID(subvolume: 1, inode: 9, generation: 1)
        expect(table.lock(third, .whole, .exclusive, process(0), now: 0) == .granted)
        expect(table.lock(third, .whole, .shared, process(7000), until: .max, now: 0) == .refused(.tooMany))
        table.release(process(0))
        expect(table.waitCount == 0)
        expect(table.takeOutcomes().count == LockTable.waitsPerFileMax + LockTable.waitsPerClientMax)
    }

    @Test func aSearchThatIsTooLongMayNotWait() {
        var table = LockTable()
        // Many owners wait, each for many: the search has a bound.
        for index in 0..<UInt64(LockTable.locksPerFileMax) {
            expect(table.lock(file, .whole, .shared, process(index % 1024, index), now: 0) == .granted)
        }
        var refused = 0
        for index in 0..<40 as Range<UInt64> {
            let answer = table.lock(file, .whole, .exclusive, process(index, index), until: .max, now: 0)
            if answer == .refused(.deadlock) { refused += 1 }
        }
        expect(refused == 39)
        for index in 0..<64 as Range<UInt64> {
            expect(table.lock(other, .whole, .shared, process(2000, index), now: 0) == .granted)
            _ = table.lock(file, .whole, .exclusive, process(2000, index), until: .max, now: 0)
        }
        let last = table.lock(other, .whole, .exclusive, process(3000), until: .max, now: 0)
        expect(last == .refused(.tooMany))
    }

    @Test func cancelledWaitsLeaveNoDeadlines() {
        var table = LockTable()
        expect(table.lock(file, .whole, .exclusive, process(1), now: 0) == .granted)
        for _ in 0..<10_000 {
            guard case .waits(let wait) = table.lock(file, .whole, .shared, process(2), until: 1 << 60, now: 0) else {
                Issue.record("no wait")
                return
            }
            expect(table.cancel(wait))
        }
        expect(table.deadlineCount < 200)
        expect(table.nextDeadline() == nil)
    }

    @Test func whatAHandleHolds() {
        var table = LockTable()
        expect(table.lock(file, bytes(0, 0), .shared, handle(1), now: 0) == .granted)
        expect(table.lock(file, bytes(5, 5), .exclusive, handle(1), now: 0) == .granted)
        expect(table.lock(other, bytes(6, 1), .shared, handle(1), now: 0) == .granted)
        expect(table.lock(file, bytes(6, 1), .shared, handle(1), now: 0) == .granted)
        expect(table.locks(of: handle(1)).count == 4)
        expect(table.isLocked(file))
        // The exclusive one goes first when both have the range.
        expect(table.lock(file, bytes(5, 5), .shared, handle(1), now: 0) == .granted)
        expect(table.unlock(file, bytes(5, 5), handle: handle(1)))
        expect(table.test(file, bytes(5, 5), .shared, handle(2)) == nil)
        expect(!table.unlock(file, bytes(5, 4), handle: handle(1)))
        table.release(handle(1), on: file)
        expect(!table.isLocked(file) && table.isLocked(other))
    }
}
