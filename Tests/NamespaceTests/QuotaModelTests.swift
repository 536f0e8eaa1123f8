import Namespace
import Runtime
import Simulator
import TestSupport
import Testing

/// A volume with quotas against a list of files that is counted anew after each step.
@Suite struct QuotaModelTests {
    struct Name: Hashable {
        var directory: Int
        var text: String
    }

    struct File {
        var id: FileID
        var uid: UInt32
        var gid: UInt32
        var size: UInt64
        var isDirectory: Bool
        /// Where its bytes count.
        var home: Name
        var streams: [Int: UInt64] = [:]

        var streamBytes: UInt64 { streams.values.reduce(0, +) }
        var bytes: UInt64 { (isDirectory ? 0 : size) + streamBytes }
    }

    /// A file that is to become an object in a directory.
    struct Draft {
        var id: FileID
        var near: Int
        var uid: UInt32
        var gid: UInt32
        var size: UInt64
    }

    struct Upload {
        var directory: FileID
        var bucket: Int
        var owner: UInt32
        var parts: [(id: FileID, size: UInt64)] = []
    }

    struct Usage: Equatable {
        var bytes: Int64 = 0
        var files: Int64 = 0
    }

    /// What there is, with no shortcut anywhere.
    struct Model {
        var files: [Int: File] = [:]
        var names: [Name: Int] = [:]
        var limits: [QuotaSubject: QuotaLimit] = [:]
        var next = 1
        var drafts: [Int: Draft] = [:]
        var uploads: [Int: Upload] = [:]
        /// Since when soft limits have been passed.
        var passed: [QuotaSubject: (bytes: Int64?, files: Int64?)] = [:]

        init(root: FileID) {
            files[0] = File(
                id: root, uid: 0, gid: 0, size: 0, isDirectory: true, home: Name(directory: 0, text: ""))
        }

        /// What each subject has, from the files alone.
        func counts() -> [QuotaSubject: Usage] {
            var found: [QuotaSubject: Usage] = [:]
            func add(_ subject: QuotaSubject, _ bytes: UInt64, _ files: Int64) {
                guard limits[subject] != nil else { return }
                found[subject, default: Usage()].bytes += Int64(bytes)
                found[subject, default: Usage()].files += files
            }
            func addAround(_ directory: Int, _ bytes: UInt64, _ count: Int64) {
                add(.volume, bytes, count)
                // What was to come to a directory that is gone is left to the root.
                var place = files[directory] == nil ? 0 : directory
                while let above = files[place] {
                    add(.tree(above.id), bytes, count)
                    if place == 0 { break }
                    place = above.home.directory
                }
            }
            for (number, file) in files {
                if file.isDirectory { addAround(number, file.streamBytes, 0) }
                guard number != 0 else { continue }
                add(.user(file.uid), file.bytes, 1)
                add(.group(file.gid), file.bytes, 1)
            }
            for (name, number) in names {
                let file = files[number].flatMap { $0.home == name && !$0.isDirectory ? $0 : nil }
                addAround(name.directory, file?.bytes ?? 0, 1)
            }
            for draft in drafts.values {
                add(.user(draft.uid), draft.size, 0)
                add(.group(draft.gid), draft.size, 0)
                addAround(draft.near, draft.size, 0)
            }
            for upload in uploads.values {
                let size = upload.parts.reduce(0) { $0 + $1.size }
                add(.user(upload.owner), size, 0)
                add(.group(upload.owner), size, 0)
                addAround(upload.bucket, size, 0)
            }
            return found
        }

        /// Whether all limits allow what `after` has more than this.
        func allows(_ after: Model, at time: Int64) -> Bool {
            let (before, now) = (counts(), after.counts())
            return limits.allSatisfy { subject, limit in
                let (old, new) = (before[subject] ?? Usage(), now[subject] ?? Usage())
                func allows(_ old: Int64, _ new: Int64, _ soft: UInt64, _ hard: UInt64, _ since: Int64?) -> Bool {
                    if new <= old { return true }
                    if hard != 0, new > Int64(hard) { return false }
                    guard soft != 0, new > Int64(soft), let since else { return true }
                    return time - since < Int64(limit.graceNanoseconds)
                }
                return allows(old.bytes, new.bytes, limit.softBytes, limit.hardBytes, passed[subject]?.bytes)
                    && allows(old.files, new.files, limit.softFiles, limit.hardFiles, passed[subject]?.files)
            }
        }

        /// Grace begins when a soft limit is passed, and is over when there is less than that again.
        mutating func note(at time: Int64) {
            let now = counts()
            for (subject, limit) in limits {
                let usage = now[subject] ?? Usage()
                let since = passed[subject]
                passed[subject] = (
                    limit.softBytes != 0 && usage.bytes > Int64(limit.softBytes) ? since?.bytes ?? time : nil,
                    limit.softFiles != 0 && usage.files > Int64(limit.softFiles) ? since?.files ?? time : nil
                )
            }
        }

        var withoutSoftLimits: Model {
            var model = self
            for subject in model.limits.keys {
                model.limits[subject]?.softBytes = 0
                model.limits[subject]?.softFiles = 0
            }
            return model
        }

        mutating func unlink(_ name: Name) -> Int? {
            guard let number = names.removeValue(forKey: name) else { return nil }
            if !names.values.contains(number) { files[number] = nil }
            return number
        }
    }

    @Test(arguments: modelSeeds(8))
    func steps(seed: UInt64) {
        VolumeRig.run(seed: seed) { rig in
            var run = Run(rig: rig, seed: seed)
            for step in 0..<13_000 {
                try await run.step()
                guard run.isSame() else {
                    Issue.record("seed \(seed), step \(step), after \(run.steps): \(run.difference)")
                    return
                }
            }
            // A quota that comes now finds the same.
            let subjects = Array(run.model.limits.keys)
            try await rig.set(quotas: [:])
            try await rig.set(quotas: run.model.limits)
            let isSame = run.isSame()
            #expect(isSame, "seed \(seed), counted anew: \(run.difference)")
            #expect(!subjects.isEmpty && run.refusals > 100 && run.changes > 1000)
            #expect(run.ways.count == Run.waysMax, "seed \(seed): only \(run.ways) came about")
        }
    }

    struct Run {
        let rig: VolumeRig
        var model: Model
        var generator: Generator
        var difference = ""
        var refusals = 0
        var changes = 0
        /// The last ones, by what they did.
        var steps: [String] = []
        static let stepsShown = 4
        /// What of streams, drafts and uploads has been done.
        var ways: Set<String> = []
        static let waysMax = 10

        init(rig: VolumeRig, seed: UInt64) {
            self.rig = rig
            model = Model(root: rig.root)
            generator = Generator(seed: seed, stream: "quota model")
        }

        mutating func isSame() -> Bool {
            let counts = model.counts()
            for subject in model.limits.keys {
                let expected = counts[subject] ?? Usage()
                guard let usage = rig.volume.quota(subject)?.usage else {
                    difference = "\(subject) is not there"
                    return false
                }
                if Int64(usage.bytes) != expected.bytes || Int64(usage.files) != expected.files {
                    difference = "\(subject) is \(usage) instead of \(expected)"
                    return false
                }
            }
            return true
        }

        /// What the volume answered must be what the model says, and changes the model if it was done.
        mutating func take(_ after: Model, _ error: FileError?, isPlain: Bool = true, isBound: Bool = true) {
            if let error, !steps.isEmpty { steps[steps.count - 1] += " \(error)" }
            let time = rig.world.clock.wall()
            if error == nil {
                changes += 1
                if isBound, !model.allows(after, at: time) { Issue.record("a change beyond a limit was made") }
                model = after
                model.note(at: time)
            } else if error == .quotaExceeded {
                refusals += 1
                if isPlain, model.allows(after, at: time) { Issue.record("a change within the limits was refused") }
                if isPlain, !model.passed.isEmpty, model.withoutSoftLimits.allows(after, at: time) {
                    ways.insert("grace")
                }
            }
        }

        private mutating func some(_ isWanted: (File) -> Bool) -> Int? {
            let all = model.files.filter { isWanted($0.value) }.keys.sorted()
            return all.isEmpty ? nil : all[generator.below(all.count)]
        }

        private mutating func someName() -> Name? {
            let all = model.names.keys.sorted { ($0.directory, $0.text) < ($1.directory, $1.text) }
            return all.isEmpty ? nil : all[generator.below(all.count)]
        }

        private mutating func newName() -> Name {
            Name(directory: some { $0.isDirectory } ?? 0, text: "n\(generator.below(6))")
        }

        private func id(_ number: Int) -> FileID { model.files[number]?.id ?? rig.root }

        mutating func step() async throws {
            let kind = generator.below(28)
            steps.append("\(kind)")
            if steps.count > Self.stepsShown { steps.removeFirst() }
            switch kind {
            case 0, 1, 2: await make(isDirectory: generator.below(3) == 0)
            case 3, 4, 5, 6: await write()
            case 7, 8: await resize()
            case 9, 10: await remove()
            case 11, 12: await rename()
            case 13: await link()
            case 14, 15: await chown()
            case 16: await clone()
            case 17: await place()
            case 18: if let file = some({ !$0.isDirectory }) { _ = try await rig.volume.fileSystem.flush(id(file)) }
            case 19:
                if generator.below(20) == 0 { try await setLimits() }
                // Longer than any grace, or not at all: a step takes less.
                if generator.below(4) == 0 { await rig.loop.sleep(nanoseconds: 2 * Self.graceNanoseconds) }
            case 20, 21, 22: try await changeStream()
            case 23, 24, 25: try await changeDraft()
            default: try await changeUpload()
            }
        }

        private mutating func setLimits() async throws {
            var limits: [QuotaSubject: QuotaLimit] = [:]
            func limit(_ generator: inout Generator) -> QuotaLimit {
                QuotaLimit(
                    softBytes: UInt64(generator.below(3)) * 20_000, hardBytes: UInt64(generator.below(4)) * 40_000,
                    softFiles: UInt64(generator.below(3)) * 8, hardFiles: UInt64(5 + generator.below(40)),
                    graceNanoseconds: Self.graceNanoseconds)
            }
            for subject in [QuotaSubject.volume, .user(1), .user(2), .group(1), .group(2)]
            where generator.below(3) != 0 {
                limits[subject] = limit(&generator)
            }
            for directory in model.files.values.filter({ $0.isDirectory }).map(\.id).sorted(by: { $0.inode < $1.inode })
            where generator.below(4) == 0 {
                limits[.tree(directory)] = limit(&generator)
            }
            if limits.isEmpty { limits[.volume] = QuotaLimit(hardFiles: 30) }
            model.limits = limits
            model.passed = model.passed.filter { limits[$0.key] != nil }
            try await rig.set(quotas: limits)
            model.note(at: rig.world.clock.wall())
        }

        private static let graceNanoseconds: UInt64 = 3_600_000_000_000

        private mutating func make(isDirectory: Bool) async {
            let name = newName()
            guard model.names[name] == nil else { return }
            var new = NewFile(type: isDirectory ? .directory : .file, mode: 0o777)
            new.uid = UInt32(generator.below(3))
            new.gid = UInt32(generator.below(3))
            let wanted = new
            let directory = id(name.directory)
            var made: FileID?
            let error = await rig.error {
                with(name.text) { bytes -> Attempt<Created> in
                    let attempt = rig.volume.create(rig.caller(), in: directory, bytes, wanted)
                    if case .done(let created, _) = attempt { made = created.file.file }
                    return attempt
                }
            }
            var after = model
            after.files[after.next] = File(
                id: made ?? rig.root, uid: wanted.uid ?? 0, gid: wanted.gid ?? 0, size: 0, isDirectory: isDirectory,
                home: name)
            after.names[name] = after.next
            after.next += 1
            take(after, error)
        }

        private mutating func write() async {
            guard let file = some({ !$0.isDirectory }) else { return }
            let offset = UInt64(generator.below(20_000))
            let bytes = [UInt8](repeating: 7, count: 1 + generator.below(8000))
            let id = id(file)
            let error = await rig.error { bytes.withUnsafeBytes { rig.volume.write(rig.caller(), id, at: offset, $0) } }
            var after = model
            let end = offset + UInt64(bytes.count)
            after.files[file]?.size = max(end, model.files[file]?.size ?? 0)
            take(after, error)
        }

        private mutating func resize() async {
            guard let file = some({ !$0.isDirectory }) else { return }
            let size = UInt64(generator.below(30_000)) * UInt64(generator.below(2))
            let error = await rig.resizeError(id(file), to: size)
            var after = model
            after.files[file]?.size = size
            take(after, error)
        }

        private mutating func remove() async {
            guard let name = someName(), let number = model.names[name], let file = model.files[number] else { return }
            let directory = id(name.directory)
            let error = await rig.error {
                with(name.text) {
                    rig.volume.remove(rig.caller(), in: directory, $0, isDirectory: file.isDirectory)
                }
            }
            guard error == nil else { return #expect(error == .notEmpty) }
            var after = model
            if let gone = after.unlink(name) { await findHome(gone, &after) }
            // Bytes may go to another name's place, however full that is.
            take(after, nil, isBound: false)
        }

        /// Which of several names the bytes count at when the first one is gone is the file system's to say.
        private func findHome(_ number: Int, _ after: inout Model) async {
            guard let file = after.files[number], after.names[file.home] != number else { return }
            let request = rig.caller().request
            guard let place = try? await rig.done({ rig.volume.fileSystem.whereabouts(request, of: file.id) }) else {
                return
            }
            let name = after.names.first { name, other in
                other == number && after.files[name.directory]?.id == place.directory
                    && Array(name.text.utf8) == place.name
            }
            #expect(name != nil, "a file's first name is none of its names")
            if let name { after.files[number]?.home = name.key }
        }

        private mutating func rename() async {
            guard let name = someName(), let number = model.names[name] else { return }
            let target = newName()
            let isExchange = generator.below(4) == 0
            let (source, destination) = (id(name.directory), id(target.directory))
            let error = await rig.error {
                with(name.text) { old in
                    with(target.text) {
                        rig.volume.rename(
                            rig.caller(), from: source, old, to: destination, $0, isExchange ? .exchange : .replace)
                    }
                }
            }
            let other = model.names[target]
            if error == nil, other == number { return }
            // What can not be done for other reasons too may be refused for any of them.
            let isCircle =
                isAbove(number, target.directory) || other.map { isExchange && isAbove($0, name.directory) } == true
            if error != nil, isCircle || isExchange && other == nil { return }
            var after = model
            if isExchange, let other {
                after.names[name] = other
                if after.files[other]?.home == target { after.files[other]?.home = name }
            } else {
                if other != nil, let gone = after.unlink(target), error == nil { await findHome(gone, &after) }
                after.names[name] = nil
            }
            after.names[target] = number
            if model.files[number]?.home == name { after.files[number]?.home = target }
            // What a refused change would have freed of a file with more names is not known here.
            take(
                after, error, isPlain: other == nil || isExchange,
                isBound: isExchange || other.map { after.files[$0] == nil } ?? true)
        }

        private func isAbove(_ number: Int, _ directory: Int) -> Bool {
            var place = directory
            while place != 0 {
                if place == number { return true }
                place = model.files[place]?.home.directory ?? 0
            }
            return false
        }

        private mutating func link() async {
            guard let file = some({ !$0.isDirectory }) else { return }
            let name = newName()
            let (id, directory) = (id(file), id(name.directory))
            let error = await rig.error {
                with(name.text) { rig.volume.link(rig.caller(), id, in: directory, $0) }
            }
            guard model.names[name] == nil else { return #expect(error == .exists || error == .quotaExceeded) }
            var after = model
            after.names[name] = file
            take(after, error)
        }

        private mutating func chown() async {
            guard let file = some({ $0.id != FileID(subvolume: 0, inode: 0, generation: 0) }), file != 0 else { return }
            var new = NewAttributes()
            if generator.below(2) == 0 { new.uid = UInt32(generator.below(3)) }
            if generator.below(2) == 0 { new.gid = UInt32(generator.below(3)) }
            let (wanted, id) = (new, id(file))
            let error = await rig.error { rig.volume.setAttributes(rig.caller(), id, wanted) }
            var after = model
            if let uid = wanted.uid { after.files[file]?.uid = uid }
            if let gid = wanted.gid { after.files[file]?.gid = gid }
            take(after, error)
        }

        private mutating func clone() async {
            guard let source = some({ !$0.isDirectory }), let file = some({ !$0.isDirectory }), source != file,
                let size = model.files[source]?.size, size > 0
            else { return }
            let offset = UInt64(generator.below(3)) * 4096
            var error: FileError?
            do throws(FileError) {
                _ = try await rig.volume.clone(
                    rig.caller().request, from: id(source), at: 0, length: size, to: id(file), at: offset)
            } catch let failure { error = failure }
            var after = model
            after.files[file]?.size = max(offset + size, model.files[file]?.size ?? 0)
            take(after, error)
        }

        private mutating func place() async {
            let name = newName()
            let content = [UInt8](repeating: 1, count: generator.below(20_000))
            let directory = id(name.directory)
            let uid = UInt32(generator.below(3))
            var placed: FileID?
            // As an object client of this user, who may write everywhere.
            let caller = Caller(Credential(uid: uid, gid: uid), rig.caller().request)
            let old = model.names[name]
            if let old, model.files[old]?.isDirectory == true { return }
            let error = await rig.error {
                with(name.text) { bytes in
                    content.withUnsafeBytes { content -> Attempt<PlacedFile> in
                        let attempt = rig.volume.place(
                            caller, in: directory, bytes, content, NewFile(type: .file, mode: 0o666), seal: nil)
                        if case .done(let made, _) = attempt { placed = made.file.file }
                        return attempt
                    }
                }
            }
            var after = model
            if old != nil, let gone = after.unlink(name), error == nil { await findHome(gone, &after) }
            after.files[after.next] = File(
                id: placed ?? rig.root, uid: uid, gid: uid, size: UInt64(content.count), isDirectory: false, home: name)
            after.names[name] = after.next
            after.next += 1
            take(after, error, isPlain: old == nil, isBound: old.map { after.files[$0] == nil } ?? true)
        }
    }
}
