import Bytes
import Namespace
import Runtime
import Simulator
import Testing

/// Opens that outlive the server, against a simple model, over many lives of a machine that loses its power between them.
@Suite struct KeptOpenModelTests {
    /// What has to be there after a restart.
    struct Model: Sendable {
        struct Open: Sendable {
            var file: Int
            var access: DataAccess
            var shared: DataAccess
            var locks: [(first: UInt64, length: UInt64, mode: LockMode)] = []
            var details: [UInt8]
        }

        struct File: Sendable {
            var name: String
            var isPending = false
        }

        var opens: [UInt64: Open] = [:]
        var files: [Int: File] = [:]
        var nextFile = 0
        var nextOpen: UInt64 = 1
        var steps = 0

        func isFree(_ access: DataAccess, _ shared: DataAccess, on file: Int) -> Bool {
            let denied = DataAccess.all.subtracting(shared)
            return opens.values.allSatisfy { open in
                open.file != file
                    || access.isDisjoint(with: DataAccess.all.subtracting(open.shared))
                        && denied.isDisjoint(with: open.access)
            }
        }

        func isFree(_ first: UInt64, _ length: UInt64, _ mode: LockMode, _ number: UInt64) -> Bool {
            guard let mine = opens[number] else { return false }
            return opens.allSatisfy { other, open in
                open.file != mine.file
                    || open.locks.allSatisfy { lock in
                        let overlaps = lock.first < first + length && first < lock.first + lock.length
                        // A shared lock may stand on one's own exclusive one.
                        let isRefused =
                            mode == .exclusive || lock.mode == .exclusive && other != number
                        return !overlaps || !isRefused
                    }
            }
        }
    }

    private final class Run: @unchecked Sendable {
        var model = Model()
        var generator: Generator
        /// Of this life.
        var handles: [UInt64: OpenHandle] = [:]

        init(seed: UInt64) { generator = Generator(seed: seed, stream: "kept opens") }

        func some<Element>(_ all: [Element]) -> Element? { all.isEmpty ? nil : all[generator.below(all.count)] }
        func someAccess() -> DataAccess { DataAccess(rawValue: UInt8(generator.below(8))) }

        private static func mask(_ access: DataAccess) -> AccessMask {
            var mask: AccessMask = [.readAttributes]
            if access.contains(.read) { mask.insert(.readData) }
            if access.contains(.write) { mask.insert(.writeData) }
            if access.contains(.delete) { mask.insert(.delete) }
            return mask
        }

        // MARK: After a start

        func check(_ rig: VolumeRig) async throws {
            let volume = rig.volume
            handles = [:]
            #expect(volume.openCount == model.opens.count)
            for (number, open) in model.opens {
                guard let awaited = volume.awaited(number), let file = model.files[open.file] else {
                    Issue.record("the open \(number) is not there")
                    continue
                }
                let handle = awaited.handle
                handles[number] = handle
                #expect(awaited.wish.details == open.details && handle.granted == Self.mask(open.access))
                #expect(volume.name(of: handle)?.name == Array(file.name.utf8))
                #expect(volume.isDeletePending(handle) == file.isPending)
                // Every lock, and no other.
                for first in 0..<UInt64(Self.placesMax) {
                    guard let range = LockRange(exactly: first, length: 1) else { continue }
                    for (mode, asked) in [(LockMode.exclusive, LockMode.shared), (.shared, .exclusive)] {
                        let isHeld = open.locks.contains {
                            $0.first <= first && first < $0.first + $0.length
                                && ($0.mode == mode || asked == .exclusive)
                        }
                        let others = model.opens.contains { other, its in
                            its.file == open.file && other != number
                                && its.locks.contains {
                                    $0.first <= first && first < $0.first + $0.length
                                        && ($0.mode == mode || asked == .exclusive)
                                }
                        }
                        let stranger = LockOwner(.handle, client: 99, id: 1)
                        #expect((volume.testLock(handle.file, range, asked, stranger) != nil) == (isHeld || others))
                    }
                }
            }
        }

        /// Some come back at once, the others stay away, perhaps over several restarts.
        func comeBack(_ rig: VolumeRig) {
            for number in model.opens.keys.sorted() where generator.below(4) != 0 {
                guard let awaited = rig.volume.reclaim(number, KeptOpenTests.holder(rig), epoch: nil) else {
                    Issue.record("the open \(number) can not be taken up again")
                    continue
                }
                #expect(awaited.handle == handles[number])
            }
        }

        // MARK: Steps

        static let placesMax = 12

        func step(_ rig: VolumeRig) async throws {
            model.steps += 1
            switch generator.below(12) {
            case 0...3: try await open(rig)
            case 4, 5: try await lock(rig)
            case 6: try await unlock(rig)
            case 7: try await close(rig)
            case 8: try await mark(rig)
            case 9: try await rename(rig)
            default: try await note(rig)
            }
        }

        private func present(_ rig: VolumeRig) -> [UInt64] {
            model.opens.keys.filter { rig.volume.awaited($0) == nil }.sorted()
        }

        private func open(_ rig: VolumeRig) async throws {
            let known = model.files.filter { !$0.value.isPending }.keys.sorted()
            let isNew = known.count < 3 || generator.below(6) == 0 && known.count < 12
            let file = isNew ? model.nextFile : some(known) ?? 0
            let (access, shared) = (someAccess(), someAccess())
            // An open that only looks denies nothing.
            guard model.isFree(access, access.isEmpty ? .all : shared, on: file) else { return }
            if isNew {
                model.files[file] = Model.File(name: "file \(file)")
                model.nextFile += 1
            }
            let number = model.nextOpen
            model.nextOpen += 1
            let details = (0..<generator.below(40)).map { UInt8($0) }
            var intent = KeptOpenTests.intent(
                rig, number, Self.mask(access), shared: shared, wanted: [.read, .handle], milliseconds: .max)
            intent.client = UInt64(1 + generator.below(3))
            intent.keep?.details = details
            let opened = try await KeptOpenTests.open(rig, model.files[file]?.name ?? "", intent)
            // Beside locks of others there is no lease, and nothing to be kept by.
            guard rig.volume.isKept(opened.handle) else {
                #expect(opened.lease.isEmpty && model.opens.values.contains { $0.file == file && !$0.locks.isEmpty })
                _ = try await KeptOpenTests.promised(rig) { rig.volume.close(rig.caller(), opened.handle) }
                return
            }
            handles[number] = opened.handle
            model.opens[number] = Model.Open(
                file: file, access: access, shared: access.isEmpty ? .all : shared, details: details)
        }

        private func lock(_ rig: VolumeRig) async throws {
            let able = present(rig).filter { !(model.opens[$0]?.access ?? []).isDisjoint(with: [.read, .write]) }
            guard let number = some(able), let handle = handles[number] else { return }
            let (first, length) = (UInt64(generator.below(8)), UInt64(1 + generator.below(4)))
            let mode: LockMode = generator.below(2) == 0 ? .shared : .exclusive
            guard let range = LockRange(exactly: first, length: length) else { return }
            let isFree = model.isFree(first, length, mode, number)
            let answer = try await KeptOpenTests.promised(rig) {
                rig.volume.lock(rig.caller(0, handle), handle.file, range, mode, handle.lockOwner)
            }
            if isFree {
                #expect(answer == .granted)
                model.opens[number]?.locks.append((first, length, mode))
            } else {
                if case .refused(.held) = answer { return }
                Issue.record("a lock beside another: \(answer)")
            }
        }

        private func unlock(_ rig: VolumeRig) async throws {
            guard let number = some(present(rig).filter { model.opens[$0]?.locks.isEmpty == false }),
                let handle = handles[number], let locks = model.opens[number]?.locks
            else { return }
            let lock = locks[generator.below(locks.count)]
            guard let range = LockRange(exactly: lock.first, length: lock.length) else { return }
            let isDone = try await KeptOpenTests.promised(rig) {
                rig.volume.unlock(rig.caller(0, handle), handle, range)
            }
            #expect(isDone)
            // Of equal ranges an exclusive one goes first.
            let same = locks.indices.filter { locks[$0].first == lock.first && locks[$0].length == lock.length }
            let gone = same.first { locks[$0].mode == .exclusive } ?? same[0]
            model.opens[number]?.locks.remove(at: gone)
        }

        private func close(_ rig: VolumeRig) async throws {
            guard let number = some(present(rig)), let handle = handles[number], let open = model.opens[number] else {
                return
            }
            _ = try await KeptOpenTests.promised(rig) { rig.volume.close(rig.caller(), handle) }
            model.opens[number] = nil
            let isLast = !model.opens.values.contains { $0.file == open.file }
            if isLast, model.files[open.file]?.isPending == true { model.files[open.file] = nil }
        }

        private func mark(_ rig: VolumeRig) async throws {
            let able = present(rig).filter { model.opens[$0]?.access.contains(.delete) == true }
            guard let number = some(able), let handle = handles[number], let open = model.opens[number] else { return }
            let isPending = generator.below(3) != 0
            // Who has a lease of handles would be asked to let go.
            guard !model.opens.contains(where: { $0.key != number && $0.value.file == open.file }) else { return }
            _ = try await KeptOpenTests.promised(rig) {
                rig.volume.setDeletePending(rig.caller(0, handle), handle, isPending)
            }
            model.files[open.file]?.isPending = isPending
        }

        private func rename(_ rig: VolumeRig) async throws {
            let able = present(rig).filter { model.opens[$0]?.access.contains(.delete) == true }
            guard let number = some(able), let handle = handles[number], let open = model.opens[number],
                let name = model.files[open.file]?.name,
                !model.opens.contains(where: { $0.key != number && $0.value.file == open.file })
            else { return }
            let new = "name \(model.steps)"
            _ = try await KeptOpenTests.promised(rig) {
                with(name) { old in
                    with(new) { rig.volume.rename(rig.caller(0, handle), from: rig.root, old, to: rig.root, $0) }
                }
            }
            model.files[open.file]?.name = new
        }

        private func note(_ rig: VolumeRig) async throws {
            guard let number = some(present(rig)), let handle = handles[number] else { return }
            let details = (0..<generator.below(60)).map { _ in UInt8(truncatingIfNeeded: generator.next()) }
            _ = try await KeptOpenTests.promised(rig) { rig.volume.keep(rig.caller(), handle, details: details) }
            model.opens[number]?.details = details
        }

        /// After it all that was done before is safe, what nobody waited for too.
        func seal(_ rig: VolumeRig) async throws {
            var new = NewAttributes()
            new.mode = UInt16(0o700 + generator.below(8))
            let caller = rig.caller()
            _ = try await KeptOpenTests.promised(rig) { rig.volume.setAttributes(caller, rig.root, new) }
        }
    }

    @Test(arguments: [1, 2, 3] as [UInt64]) func manyLives(seed: UInt64) {
        let run = Run(seed: seed)
        let simulation = Simulation(seed: seed)
        for life in 0..<40 {
            KeptOpenTests.live(simulation) { rig in
                try await run.check(rig)
                run.comeBack(rig)
                for _ in 0..<60 { try await run.step(rig) }
                try await run.seal(rig)
            }
            if life % 3 == 0 {
                simulation.crash()
                simulation.restart()
            } else {
                simulation.killAndRestart()
            }
        }
        #expect(run.model.steps == 2400)
    }
}
