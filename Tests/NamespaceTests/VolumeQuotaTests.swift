import Namespace
import Runtime
import Simulator
import Testing

/// Quotas through a whole volume.
@Suite struct VolumeQuotaTests {
    static func records(_ limits: [QuotaSubject: QuotaLimit]) -> [QuotaRecord] {
        limits.map { QuotaRecord(subject: $0.key, limit: $0.value) }
    }

    @Test func everythingThatGrowsIsBound() {
        VolumeRig.run { rig in
            let home = try await rig.make("d", type: .directory, mode: 0o777)
            let file = try await rig.make("f", in: home)
            try await rig.write(file, "12345", by: rig.caller())
            try await rig.set(quotas: [
                .volume: QuotaLimit(hardBytes: 100), .tree(home): QuotaLimit(hardBytes: 20, hardFiles: 3),
                .user(7): QuotaLimit(hardBytes: 10, hardFiles: 2), .group(9): QuotaLimit(hardBytes: 5),
            ])
            // What was there, unflushed, counts.
            #expect(rig.volume.quota(.tree(home))?.usage == QuotaUsage(bytes: 5, files: 1))
            #expect(rig.volume.quota(.volume)?.usage == QuotaUsage(bytes: 5, files: 2))
            #expect(await rig.writeError(file, "xxxxxxxxxxxxxxxx", at: 5, by: rig.caller()) == .quotaExceeded)
            try await rig.write(file, "xxxxxxxxxxxxxxx", at: 5, by: rig.caller())
            #expect(await rig.writeError(file, "x", at: 20, by: rig.caller()) == .quotaExceeded)
            // What is there may be written again.
            try await rig.write(file, "y", at: 19, by: rig.caller())
            #expect(await rig.resizeError(file, to: 21) == .quotaExceeded)
            #expect(await rig.resizeError(file, to: 10) == nil)
            #expect(rig.volume.quota(.tree(home))?.usage == QuotaUsage(bytes: 10, files: 1))
            // Users and groups, also by a change of owner.
            var new = NewAttributes()
            new.uid = 7
            _ = try await rig.set(file, new)
            #expect(rig.volume.quota(.user(7))?.usage == QuotaUsage(bytes: 10, files: 1))
            var group = NewAttributes()
            group.gid = 9
            let toNine = group
            #expect(await rig.error { rig.volume.setAttributes(rig.caller(), file, toNine) } == .quotaExceeded)
            #expect(await rig.writeError(file, "x", at: 10, by: rig.caller(7)) == .quotaExceeded)
            // Names.
            _ = try await rig.make("g", in: home)
            _ = try await rig.make("h", in: home)
            let fourth = await rig.error {
                with("i") { rig.volume.create(rig.caller(), in: home, $0, NewFile(type: .file, mode: 0o600)) }
            }
            #expect(fourth == .quotaExceeded)
            // One that is there is opened all the same.
            let there = try await rig.done {
                with("h") {
                    rig.volume.create(rig.caller(), in: home, $0, NewFile(type: .file, mode: 0o600), .openOrCreate)
                }
            }
            #expect(!there.isNew)
            // Into the tree and out of it.
            let other = try await rig.make("o")
            try await rig.write(other, "12345678901", by: rig.caller())
            #expect(await rig.renameError("o", "o", from: rig.root, to: home) == .quotaExceeded)
            _ = try await rig.remove("g", in: home)
            _ = try await rig.remove("h", in: home)
            #expect(await rig.renameError("o", "o", from: rig.root, to: home) == .quotaExceeded)
            #expect(await rig.resizeError(other, to: 10) == nil)
            _ = try await rig.rename("o", "o", from: rig.root, to: home)
            #expect(rig.volume.quota(.tree(home))?.usage == QuotaUsage(bytes: 20, files: 2))
            let space = try await rig.done { rig.volume.space(rig.caller(), at: home) }
            #expect(space.bytes == 20 && space.bytesFree == 0 && space.files == 3 && space.filesFree == 1)
            let all = try await rig.done { rig.volume.space(rig.caller()) }
            #expect(all.bytes == 100 && all.bytesFree == 80)
            // Without quotas nothing binds.
            try await rig.set(quotas: [:])
            try await rig.write(file, "zzzzzzzzzzzzzzzzzzzzzzzzz", at: 10, by: rig.caller())
            #expect(rig.volume.quota(.volume) == nil)
        }
    }

    /// A server that is started again and again enforces soft limits all the same.
    @Test func graceGoesOnOverARestart() {
        let day: UInt64 = 24 * 3600 * 1_000_000_000
        let subjects: [QuotaSubject] = [.volume, .user(7)]
        let limits = [QuotaSubject.volume, .user(7)].reduce(into: [QuotaSubject: QuotaLimit]()) {
            $0[$1] = QuotaLimit(softBytes: 10, graceNanoseconds: 7 * day)
        }
        let done = Simulation(seed: 5).perform { world -> Bool in
            do {
                var ends: [[UInt64?]] = []
                for life in 0..<4 {
                    let hosted = try await HostedVolume.open(
                        "v", folder: "v", durability: .log, world: world, loop: world.loops[0])
                    let rig = VolumeRig(world: world, hosted: hosted)
                    let file =
                        life == 0
                        ? try await rig.make("f")
                        : try await rig.done { with("f") { rig.volume.lookup(rig.caller(), in: rig.root, $0) } }.file
                    if life == 0 {
                        var owner = NewAttributes()
                        owner.uid = 7
                        _ = try await rig.set(file, owner)
                    }
                    try await rig.set(quotas: limits)
                    if life == 0 {
                        try await rig.write(file, "0123456789ab", by: rig.caller())
                    } else if life < 3 {
                        // Three days of it are over with each start.
                        try await rig.write(file, "0123456789abc", by: rig.caller())
                    } else {
                        #expect(await rig.writeError(file, "x", at: 20, by: rig.caller()) == .quotaExceeded)
                        // Once below, it is forgotten.
                        #expect(await rig.resizeError(file, to: 5) == nil)
                        try await rig.write(file, "0123456789ab", by: rig.caller())
                    }
                    ends.append(subjects.map { rig.volume.quota($0)?.bytesGraceEnd })
                    await rig.loop.sleep(nanoseconds: day / 24)
                    try await hosted.close()
                    await rig.loop.sleep(nanoseconds: 3 * day)
                }
                #expect(ends[0].allSatisfy { $0 != nil } && ends[1] == ends[0] && ends[2] == ends[0])
                #expect(zip(ends[3], ends[0]).allSatisfy { $0.0! > $0.1! })
            } catch { Issue.record("\(error)") }
            return true
        }
        #expect(done == true)
    }

    @Test func aDirectoryMovesWithAllThatIsInIt() {
        VolumeRig.run { rig in
            let tree = try await rig.make("t", type: .directory, mode: 0o777)
            let moved = try await rig.make("m", type: .directory, mode: 0o777)
            let below = try await rig.make("b", type: .directory, mode: 0o777, in: moved)
            let file = try await rig.make("f", in: below)
            try await rig.write(file, "1234567890", by: rig.caller())
            try await rig.set(quotas: [.tree(tree): QuotaLimit(hardBytes: 9)])
            #expect(await rig.renameError("m", "m", from: rig.root, to: tree) == .quotaExceeded)
            try await rig.set(quotas: [.tree(tree): QuotaLimit(hardBytes: 12)])
            _ = try await rig.rename("m", "m", from: rig.root, to: tree)
            #expect(rig.volume.quota(.tree(tree))?.usage == QuotaUsage(bytes: 10, files: 3))
            #expect(await rig.writeError(file, "xyz", at: 10, by: rig.caller()) == .quotaExceeded)
            try await rig.write(file, "xy", at: 10, by: rig.caller())
            _ = try await rig.rename("m", "m", from: tree, to: rig.root)
            #expect(rig.volume.quota(.tree(tree))?.usage == QuotaUsage())
            try await rig.write(file, "xyz", at: 10, by: rig.caller())
        }
    }

    @Test func whoMaySeeAQuota() {
        VolumeRig.run { rig in
            try await rig.set(quotas: [.user(7): QuotaLimit(hardBytes: 10), .volume: QuotaLimit(hardFiles: 9)])
            #expect(try rig.volume.quota(rig.caller(7), .user(7))?.limit.hardBytes == 10)
            #expect(try rig.volume.quota(rig.caller(0), .user(7)) != nil)
            #expect(throws: FileError.notPermitted) { try rig.volume.quota(rig.caller(8), .user(7)) }
            #expect(try rig.volume.quota(rig.caller(8), .volume)?.limit.hardFiles == 9)
            #expect(try rig.volume.quota(rig.caller(8), .user(8)) == nil)
        }
    }

    @Test func whatTheServerKeepsIsHiddenAndDoesNotCount() {
        VolumeRig.run { rig in
            var server = rig.caller()
            server.isServer = true
            let own = server
            let made = try await rig.done {
                with(Volume.ownName) {
                    rig.volume.create(own, in: rig.root, $0, NewFile(type: .directory, mode: 0o777))
                }
            }.file.file
            try await rig.write(try await rig.make("part", in: made), "12345", by: rig.caller())
            let before: [QuotaSubject: QuotaLimit] = [
                .volume: QuotaLimit(hardBytes: 10, hardFiles: 3), .user(0): QuotaLimit(hardBytes: 10, hardFiles: 3),
            ]
            try await rig.set(quotas: before)
            for subject in before.keys { #expect(rig.volume.quota(subject)?.usage == QuotaUsage()) }
            let file = try await rig.make("f")
            let part = try await rig.make("more", in: made)
            try await rig.write(part, "1234567890", by: rig.caller())
            // Not more than could have a name one day.
            #expect(await rig.writeError(part, "x", at: 10, by: rig.caller()) == .quotaExceeded)
            for subject in before.keys { #expect(rig.volume.quota(subject)?.usage == QuotaUsage(bytes: 0, files: 1)) }
            let totals = try await rig.done { rig.volume.totals(rig.caller(), below: rig.root) }
            #expect(totals == DirectoryTotals(files: 1, directories: 0, bytes: 0))
            // Nobody sees it, makes it, moves it or takes it away.
            #expect(await rig.exists(Volume.ownName) == false)
            let folded = await rig.error {
                with(".PROXYFS") { rig.volume.lookupFolded(rig.caller(), in: rig.root, $0) { _ in } }
            }
            #expect(folded == .noEntry)
            var names: [String] = []
            _ = try await rig.done {
                rig.volume.list(rig.caller(), rig.root, after: 0, limit: 100, attributes: false) {
                    names.append(String(decoding: $1, as: UTF8.self))
                    return true
                }
            }
            #expect(names == ["f"])
            #expect(await rig.removeError(Volume.ownName) == .noEntry)
            #expect(await rig.renameError(Volume.ownName, "x") == .noEntry)
            #expect(await rig.renameError("f", Volume.ownName) == .accessDenied)
            let taken = await rig.error {
                with(Volume.ownName) { rig.volume.link(rig.caller(), file, in: rig.root, $0) }
            }
            #expect(taken == .accessDenied)
            let making = OpenIntent(.openIf, access: .readData, client: 1)
            #expect(await rig.openError(Volume.ownName, making) == .accessDenied)
        }
    }

    @Test func anObjectTakesAFilesPlace() {
        VolumeRig.run { rig in
            let directory = try await rig.make("b", type: .directory, mode: 0o777)
            let file = try await rig.make("o", in: directory)
            try await rig.write(file, "old", by: rig.caller())
            func place(_ text: String) async -> FileError? {
                await rig.error {
                    with("o") { name in
                        with(text) {
                            rig.volume.place(
                                rig.caller(), in: directory, name, $0, NewFile(type: .file, mode: 0o644), seal: nil)
                        }
                    }
                }
            }
            // Who denies writing is in the way, and nothing has changed.
            let only = OpenIntent(.open, access: .readData, shared: .read, client: 1)
            let denying = try await rig.open("o", only, in: directory)
            #expect(await place("new") == .sharingViolation)
            #expect(try await rig.read(file, by: rig.caller(0, denying.handle)) == "old")
            _ = try await rig.close(denying.handle)
            // Who shares all goes on with the old bytes.
            let open = OpenIntent(.open, access: .readData, client: 1)
            let sharing = try await rig.open("o", open, in: directory)
            #expect(await place("new") == nil)
            #expect(try await rig.read(file, by: rig.caller(0, sharing.handle)) == "old")
            let now = try await rig.open("o", open, in: directory)
            #expect(now.handle.file != file)
            #expect(try await rig.read(now.handle.file, by: rig.caller(0, now.handle)) == "new")
            _ = try await rig.close(sharing.handle)
            _ = try await rig.close(now.handle)
            // A lock is in the way, too.
            let owner = LockOwner(.posix, client: 1, id: 1)
            let there = now.handle.file
            #expect(try await rig.lockAll(there, owner) == .granted)
            #expect(await place("third") == .locked)
            rig.volume.releaseLocks(owner, on: there)
            #expect(await place("third") == nil)
        }
    }

    /// Everything that changes a size, at the same time, in steps that overlap: in the end the sums are what a count finds, and
    /// no limit was ever passed.
    @Test(arguments: [1, 2, 3, 4, 5, 6] as [UInt64])
    func manyAtOnce(seed: UInt64) {
        VolumeRig.run(seed: seed) { rig in
            let tree = try await rig.make("t", type: .directory, mode: 0o777)
            var made: [FileID] = []
            for index in 0..<6 { made.append(try await rig.make("f\(index)", in: index < 3 ? tree : rig.root)) }
            let files = made
            let limits: [QuotaSubject: QuotaLimit] = [
                .volume: QuotaLimit(hardBytes: 400_000), .tree(tree): QuotaLimit(hardBytes: 200_000),
                .user(0): QuotaLimit(hardBytes: 390_000), .user(7): QuotaLimit(hardBytes: 100_000),
            ]
            let seen = Heard<QuotaSubject>()
            // Some work is under way when the quotas come.
            await withTaskGroup(of: Void.self) { group in
                for worker in 0..<4 {
                    group.addTask(executorPreference: rig.loop) {
                        var generator = Generator(seed: seed &+ 1000 &* UInt64(worker + 1), stream: "worker")
                        var within: Set<QuotaSubject> = []
                        for step in 0..<400 {
                            if worker == 0, step == 50 {
                                rig.volume.setQuotas(Self.records(limits), loop: rig.loop)
                            }
                            await Self.change(rig, files, &generator)
                            for (subject, limit) in limits {
                                guard let report = rig.volume.quota(subject), report.isCounted else { continue }
                                // What was more than a limit allows stays; what was within it stays within.
                                let isWithin = report.usage.bytes <= limit.hardBytes
                                #expect(isWithin || !within.contains(subject), "seed \(seed), \(step): \(subject)")
                                if isWithin { within.insert(subject) }
                                if step > 200 { seen.add(subject) }
                            }
                        }
                    }
                }
            }
            while limits.keys.contains(where: { rig.volume.quota($0)?.isCounted != true }) { await rig.settle() }
            #expect(!seen.all.isEmpty, "seed \(seed): the quotas came when all was done")
            var sums: [QuotaSubject: QuotaUsage] = [:]
            for (index, file) in files.enumerated() {
                let found = try await rig.attributes(file)
                var subjects: [QuotaSubject] = [.volume, .user(found.uid)]
                if index < 3 { subjects.append(.tree(tree)) }
                for subject in subjects {
                    sums[subject, default: QuotaUsage()].bytes += found.size
                    sums[subject, default: QuotaUsage()].files += 1
                }
            }
            sums[.volume]?.files += 1
            sums[.user(0), default: QuotaUsage()].files += 1
            for subject in limits.keys {
                #expect(
                    rig.volume.quota(subject)?.usage == sums[subject] ?? QuotaUsage(), "seed \(seed): \(subject)")
            }
        }
    }

    private static func change(_ rig: VolumeRig, _ files: [FileID], _ generator: inout Generator) async {
        let file = files[generator.below(files.count)]
        switch generator.below(8) {
        case 0, 1, 2:
            let offset = UInt64(generator.below(80_000))
            let bytes = [UInt8](repeating: 1, count: generator.below(30_000))
            _ = await rig.error { bytes.withUnsafeBytes { rig.volume.write(rig.caller(), file, at: offset, $0) } }
        case 3, 4: _ = await rig.resizeError(file, to: UInt64(generator.below(100_000)))
        case 5: _ = try? await rig.volume.fileSystem.flush(file)
        case 6:
            let source = files[generator.below(files.count)]
            let length = UInt64(generator.below(40_000))
            let target = UInt64(generator.below(4)) * 32_768
            guard source != file else { return }
            _ = try? await rig.volume.clone(
                rig.caller().request, from: source, at: 0, length: length, to: file, at: target)
        default:
            var new = NewAttributes()
            new.uid = generator.below(2) == 0 ? 0 : 7
            let owner = new
            _ = await rig.error { rig.volume.setAttributes(rig.caller(), file, owner) }
        }
    }
}

extension VolumeRig {
    /// Sets the volume's quotas and waits until they bind.
    func set(quotas limits: [QuotaSubject: QuotaLimit]) async throws {
        volume.setQuotas(VolumeQuotaTests.records(limits), loop: loop)
        while limits.keys.contains(where: { volume.quota($0)?.isCounted != true }) { await settle() }
    }

    func resizeError(_ file: FileID, to size: UInt64) async -> FileError? {
        do throws(FileError) {
            _ = try await volume.resize(caller().request, file, to: size, NewAttributes())
            return nil
        } catch { return error }
    }

    func renameError(
        _ name: String, _ newName: String, from source: FileID, to target: FileID
    ) async -> FileError? {
        do {
            _ = try await rename(name, newName, from: source, to: target)
            return nil
        } catch { return error as? FileError }
    }
}
