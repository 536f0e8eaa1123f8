import Namespace
import Simulator
import TestSupport
import Testing

/// The lock table beside a model that looks at each unit of a file by itself, for a million and more random steps.
@Suite struct LockModelTests {
    @Test(arguments: [1, 2, 3, 4, 5, 6, 7, 8] as [UInt64])
    func steps(seed: UInt64) {
        var run = Run(seed: seed)
        for _ in 0..<modelSteps(150_000) { run.step() }
        #expect(run.failure == nil, "seed \(seed): \(run.failure ?? "")")
        // All kinds of things have happened, or the run proves little.
        #expect(run.grants > 1000 && run.deadlocks > 50 && run.timeouts > 100 && run.queued > 100)
        for owner in run.owners { run.table.release(owner) }
        #expect(run.table.count == 0 && run.table.waitCount == 0 && run.table.entryCount == 0)
    }
}

private struct Run {
    var generator: Generator
    var table = LockTable()
    var model = LockModel()
    var now: UInt64 = 1
    var numbers: [LockWait: Int] = [:]
    var handles: [Int: LockWait] = [:]
    var next = 0
    var failure: String?
    var grants = 0
    var deadlocks = 0
    var timeouts = 0
    var queued = 0
    let owners: [LockOwner]
    let files = (0..<2).map { FileID(subvolume: 1, inode: UInt64(10 + $0), generation: 1) }

    init(seed: UInt64) {
        generator = Generator(seed: seed, stream: "locks")
        // Two processes of one client, two of others; handles of two clients, one of them a process's, too.
        owners = [
            LockOwner(.posix, client: 1, id: 1), LockOwner(.posix, client: 1, id: 2),
            LockOwner(.posix, client: 2, id: 1), LockOwner(.posix, client: 3, id: 1),
            LockOwner(.handle, client: 3, id: 1), LockOwner(.handle, client: 4, id: 1),
            LockOwner(.handle, client: 4, id: 2),
        ]
    }

    mutating func range(_ rules: LockOwner.Rules) -> LockModel.Range {
        let offset = generator.below(LockModel.units)
        if rules == .handle, generator.once(in: 8) { return LockModel.Range(offset: offset, count: 0) }
        let room = LockModel.units - offset
        return LockModel.Range(offset: offset, count: 1 + generator.below(generator.once(in: 3) ? room : min(room, 4)))
    }

    mutating func fail(_ what: String) { if failure == nil { failure = what } }

    mutating func step() {
        if failure != nil { return }
        now += 1
        let file = generator.below(files.count)
        let owner = owners[generator.below(owners.count)]
        let range = range(owner.rules)
        switch generator.below(20) {
        case 0..<9: lock(file, owner, range)
        case 9..<13: unlock(file, owner, range)
        case 13: cancel()
        case 14:
            if generator.once(in: 3) {
                release(owner)
            } else if generator.once(in: 4) {
                table.release(client: owner.client)
                let touched = Set(
                    model.held.filter { $0.owner.client == owner.client }.map(\.file)
                        + model.waits.filter { $0.request.owner.client == owner.client }.map(\.request.file))
                model.held.removeAll { $0.owner.client == owner.client }
                model.waits.removeAll { $0.request.owner.client == owner.client }
                model.settle(touched.sorted())
            }
        case 15: expire()
        default: access(file, owner, range)
        }
        compare()
    }

    private mutating func lock(_ file: Int, _ owner: LockOwner, _ range: LockModel.Range) {
        let mode: LockMode = generator.once(in: 2) ? .shared : .exclusive
        let request = LockModel.Held(file: file, owner: owner, range: range, mode: mode)
        // The model's search goes through all pairs.
        let isFull = model.waits.count >= 6
        let deadline: UInt64? =
            isFull || generator.once(in: 2) ? nil : generator.once(in: 3) ? .max : now + 1 + generator.below(60)
        let isHeld = model.conflict(request)
        let tested = table.test(files[file], range.real, mode, owner)
        if (tested != nil) != isHeld { fail("test said \(String(describing: tested)) of \(request)") }
        let answer = table.lock(files[file], range.real, mode, owner, until: deadline, now: now)
        let wait = LockModel.Waiting(number: next, request: request, deadline: deadline ?? 0)
        let mustQueue = !isHeld && deadline != nil && model.mustQueue(request, before: .max)
        if !isHeld, !mustQueue {
            model.take(request)
            model.settle([file] + model.waits.filter { $0.request.owner == owner }.map(\.request.file), granted: owner)
            if answer != .granted { fail("\(answer) instead of a grant of \(request)") }
            grants += 1
        } else if deadline == nil {
            guard case .refused(.held(let holder)) = answer else { return fail("\(answer) to \(request)") }
            if !model.held.contains(where: { $0.owner == holder.owner && $0.mode == holder.mode }) {
                fail("\(holder) holds nothing")
            }
        } else if model.isCircle(LockModel.Waiting(number: .max, request: request, deadline: 0)) {
            if answer != .refused(.deadlock) { fail("\(answer) to the deadlock \(request)") }
            deadlocks += 1
        } else {
            guard case .waits(let name) = answer else { return fail("\(answer) instead of a wait for \(request)") }
            if mustQueue { queued += 1 }
            next += 1
            model.waits.append(wait)
            numbers[name] = wait.number
            handles[wait.number] = name
        }
    }

    private mutating func unlock(_ file: Int, _ owner: LockOwner, _ range: LockModel.Range) {
        if owner.rules == .posix {
            if !table.unlock(files[file], range.real, process: owner) { fail("an unlock was refused") }
            model.clear(file, owner, range)
        } else {
            // Mostly one that is there.
            var range = range
            let mine = model.held.filter { $0.file == file && $0.owner == owner }
            if !mine.isEmpty, !generator.once(in: 4) { range = mine[generator.below(mine.count)].range }
            let matches = mine.filter { $0.range == range }
            let gone = matches.first { $0.mode == .exclusive } ?? matches.first
            if table.unlock(files[file], range.real, handle: owner) != (gone != nil) { fail("unlock of \(range)") }
            if let gone, let index = model.held.firstIndex(of: gone) { model.held.remove(at: index) }
            if gone == nil { return }
        }
        model.settle([file])
    }

    private mutating func cancel() {
        guard !model.waits.isEmpty else { return }
        let wait = model.waits.remove(at: generator.below(model.waits.count))
        if !table.cancel(handles[wait.number]!) { fail("wait \(wait.number) could not be cancelled") }
        if table.cancel(handles[wait.number]!) { fail("wait \(wait.number) was cancelled twice") }
        model.settle([wait.request.file])
    }

    private mutating func release(_ owner: LockOwner) {
        let touched = Set(
            model.held.filter { $0.owner == owner }.map(\.file)
                + model.waits.filter { $0.request.owner == owner }.map(\.request.file))
        table.release(owner)
        model.held.removeAll { $0.owner == owner }
        model.waits.removeAll { $0.request.owner == owner }
        model.settle(touched.sorted())
    }

    private mutating func expire() {
        now += 20
        let earliest = model.waits.map(\.deadline).min().flatMap { $0 == .max ? nil : $0 }
        if table.nextDeadline() != earliest { fail("next deadline") }
        table.expire(now)
        while let wait = model.waits.filter({ $0.deadline <= now }).min(by: {
            ($0.deadline, $0.number) < ($1.deadline, $1.number)
        }) {
            model.waits.removeAll { $0.number == wait.number }
            model.ended.append((wait.number, "timeout"))
            timeouts += 1
            model.settle([wait.request.file])
        }
    }

    private mutating func access(_ file: Int, _ owner: LockOwner, _ range: LockModel.Range) {
        guard let real = LockRange(accessed: UInt64(range.offset), count: UInt64(range.count)) else { return }
        let isWrite = generator.once(in: 2)
        let handle = owner.rules == .handle ? owner : nil
        let reach = range.last == LockModel.units - 1 ? range.real : real
        let found = table.blocker(files[file], reach, isWrite: isWrite, handle: handle)
        if (found != nil) != model.forbids(file, range, isWrite: isWrite, handle: handle) {
            fail("access \(range) isWrite \(isWrite) by \(String(describing: handle)): \(String(describing: found))")
        }
    }

    private mutating func compare() {
        let outcomes = table.takeOutcomes().map { outcome in
            "\(numbers[outcome.wait] ?? -1) \(outcome.refusal.map { "\($0)" } ?? "granted")"
        }
        let expected = model.ended.map { "\($0.number) \($0.refusal)" }
        model.ended.removeAll()
        if outcomes.sorted() != expected.sorted() { fail("outcomes \(outcomes), expected \(expected)") }
        guard generator.once(in: 64) else { return }
        if table.waitCount != model.waits.count { fail("\(table.waitCount) waits, expected \(model.waits.count)") }
        for (index, file) in files.enumerated() {
            var found: [String] = []
            var merged = true
            var last: [LockOwner: [(LockRange, LockMode)]] = [:]
            table.forEach(on: file) { lock in
                if lock.owner.rules == .handle {
                    found.append("\(lock.owner) \(lock.range) \(lock.mode)")
                    return
                }
                for (range, mode) in last[lock.owner] ?? [] where mode == lock.mode {
                    if range.last != .max, range.last + 1 == lock.range.first { merged = false }
                    if lock.range.last != .max, lock.range.last + 1 == range.first { merged = false }
                }
                last[lock.owner, default: []].append((lock.range, lock.mode))
                for unit in lock.range.first...min(lock.range.last, UInt64(LockModel.units - 1)) {
                    found.append("\(lock.owner) \(unit) \(lock.mode)")
                }
            }
            let expected = model.held.filter { $0.file == index }.map { lock in
                lock.owner.rules == .handle
                    ? "\(lock.owner) \(lock.range.real) \(lock.mode)"
                    : "\(lock.owner) \(lock.range.offset) \(lock.mode)"
            }
            if found.sorted() != expected.sorted() { fail("locks \(found), expected \(expected)") }
            if !merged { fail("locks that touch were not merged") }
        }
    }
}
