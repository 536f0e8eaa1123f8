import Headhunter
import LogFS
import Simulator
import Testing

@Suite struct SettingsTests {
    private func set(_ files: LogFS, _ name: [UInt8], _ value: [UInt8]?) async throws -> FileError? {
        let result = try await outcome(files) { request in
            with(name) { name in
                guard let value else { return files.setSetting(request, name, nil) }
                return with(value) { files.setSetting(request, name, $0) }
            }
        }
        if case .failure(let error) = result { return error }
        return nil
    }

    private func get(_ files: LogFS, _ name: [UInt8]) async throws -> [UInt8]? {
        try await outcome(files) { request in with(name) { files.setting(request, $0) } }.get()
    }

    private func list(_ files: LogFS, _ prefix: String) async throws -> [String] {
        var names: [String] = []
        while true {
            let last = Array((names.last ?? "").utf8)
            let before = names
            var found: [String] = []
            let more = try await outcome(files) { request in
                found = []
                return with(Array(prefix.utf8)) { prefix in
                    with(last) { last in
                        files.listSettings(request, prefix: prefix, after: last, limit: 7) {
                            found.append(String(decoding: $0, as: UTF8.self))
                        }
                    }
                }
            }.get()
            names = before + found
            if !more { return names }
        }
    }

    @Test func whatIsSetIsThereInOrderAndCounted() {
        Bench.files { (files, _) async throws in
            let sizes = [0, 1, 2999, 3000, 3001, 6000, 6001, Limits.settingValueBytesMax]
            for (index, size) in sizes.enumerated() {
                let value = (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ index) }
                #expect(try await set(files, Array("a/\(index)".utf8), value) == nil)
                #expect(try await get(files, Array("a/\(index)".utf8)) == value)
            }
            for index in 0..<20 { #expect(try await set(files, Array("b/\(index)".utf8), [UInt8(index)]) == nil) }
            #expect(try await list(files, "a/") == sizes.indices.map { "a/\($0)" })
            #expect(try await list(files, "b/") == (0..<20).map { "b/\($0)" }.sorted())
            #expect(try await list(files, "c") == [])
            #expect(try await list(files, "").count == sizes.count + 20)
            // A shorter value takes the parts of a longer one away.
            #expect(try await set(files, Array("a/7".utf8), [1]) == nil)
            #expect(try await get(files, Array("a/7".utf8)) == [1])
            #expect(try await set(files, Array("a/6".utf8), nil) == nil)
            #expect(try await set(files, Array("a/6".utf8), nil) == nil)
            #expect(try await get(files, Array("a/6".utf8)) == nil)
            let check = try await Check.run(files)
            #expect(check.differences == [])
        }
    }

    @Test func limitsAreRefusals() {
        Bench.files { (files, _) async throws in
            let long = [UInt8](repeating: 97, count: Limits.settingNameBytesMax)
            #expect(try await set(files, long, [1]) == nil)
            #expect(try await set(files, long + [97], [1]) == .nameTooLong)
            #expect(try await set(files, [], [1]) == .badName)
            #expect(try await set(files, [97, 0], [1]) == .badName)
            let big = [UInt8](repeating: 1, count: Limits.settingValueBytesMax + 1)
            #expect(try await set(files, [97], big) == .settingTooBig)
            #expect(try await get(files, [97]) == nil)
            #expect(try await Check.run(files).differences == [])
        }
    }

    @Test func settingsSurviveACloseAndACrash() {
        for closes in [true, false] {
            let simulation = Simulation(seed: 5)
            Bench.prepare(simulation)
            let value = [UInt8](repeating: 7, count: 10_000)
            let done = simulation.perform { world -> Bool in
                do {
                    let volume = try await Bench.volume(world)
                    let files = try await LogFS.open(volume, world: world, subvolume: 1)
                    let (_, number) = try await files.run { reader in
                        with([97]) { name in
                            with(value) { files.setSetting(Request(reader: reader, now: 1), name, $0) }
                        }
                    }
                    if closes { try await volume.close() } else { try await volume.commit(number, .durable) }
                } catch { Issue.record("\(error)") }
                return true
            }
            #expect(done == true)
            if closes {
                simulation.killAndRestart()
            } else {
                simulation.crash()
                simulation.restart()
            }
            let found = simulation.perform { world -> [UInt8]? in
                do {
                    let volume = try await Bench.volume(world)
                    let files = try await LogFS.open(volume, world: world, subvolume: 1)
                    let found = try await get(files, [97])
                    #expect(try await Check.run(files).differences == [])
                    try await volume.close()
                    return found
                } catch {
                    Issue.record("\(error)")
                    return nil
                }
            }
            #expect(found == .some(value))
        }
    }
}
