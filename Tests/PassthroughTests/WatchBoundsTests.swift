import Glibc
import Namespace
import Passthrough
import Runtime
import Testing

/// Changes of the host that are more than anybody keeps: whoever watches learns that he has to look anew.
@Suite struct WatchBoundsTests {
    private struct Place {
        let rig: Rig
        let volume: Volume
        let client: Client
        var caller: Caller { Caller(.root, client.request) }

        init(_ rig: Rig) throws {
            self.rig = rig
            let files = try rig.passthrough()
            volume = Volume("v", identity: 1, files, clock: rig.world.clock, loops: rig.world.loops)
            client = Client(files: files, world: rig.world)
        }

        func watch(_ directory: FileID, _ filter: WatchFilter, isRecursive: Bool) async throws -> WatchID {
            try await client.done {
                volume.watch(caller, directory, filter, isRecursive: isRecursive, on: rig.loop, tell: {})
            }
        }

        /// Returns when the watch is in place: what happens in the directory is told by name, and nothing else is.
        func begun(_ watch: WatchID, _ path: String, from first: Int = 0) async throws {
            for round in first..<(first + 1000) {
                mkdir("\(path)/probe\(round)", 0o755)
                try await Task.sleep(nanoseconds: 20_000_000)
                if let told = volume.takeEvents(watch), !told.isOverrun, !told.events.isEmpty { return }
            }
            Issue.record("nothing is told")
        }

        func isOverrun(_ watch: WatchID) async throws -> Bool {
            for _ in 0..<2000 {
                if volume.takeEvents(watch)?.isOverrun == true { return true }
                try await Task.sleep(nanoseconds: 5_000_000)
            }
            return false
        }
    }

    /// The kernel drops what is not read in time.
    @Test func whatTheKernelDropsIsTold() async throws {
        let rig = try Rig()
        defer { rig.end() }
        let place = try Place(rig)
        let watch = try await place.watch(place.volume.root, .directoryName, isRecursive: false)
        try await place.begun(watch, rig.served)
        for name in ["a", "b"] { rig.put("", rig.served + "/" + name) }
        let queue = Int(rig.get("/proc/sys/fs/inotify/max_queued_events").dropLast()) ?? 16384
        // Nobody reads, and of what comes nothing is for whoever watches.
        let pool = await RepetitionTests.BusyPool(rig)
        for round in 0...queue { chmod(rig.served + (round % 2 == 0 ? "/a" : "/b"), 0o600) }
        await pool.releaseAll()
        #expect(try await place.isOverrun(watch))
        // And it goes on.
        try await place.begun(watch, rig.served, from: 1000)
        place.volume.endWatch(watch)
    }

    /// So many directories are watched; of the others it is told that they are not.
    @Test func directoriesBeyondTheBoundAreTold() async throws {
        let rig = try Rig()
        defer { rig.end() }
        let bound = 8192
        for (name, count) in [("few", 100), ("many", bound)] {
            mkdir(rig.served + "/" + name, 0o755)
            for number in 0..<count { mkdir("\(rig.served)/\(name)/\(number)", 0o755) }
        }
        // What was changed while a watch began is told in the same words.
        try await Task.sleep(nanoseconds: 100_000_000)
        let place = try Place(rig)
        let few = try await place.watch(
            try await place.client.lookup("few").file, .directoryName, isRecursive: true)
        try await place.begun(few, rig.served + "/few")
        let many = try await place.watch(
            try await place.client.lookup("many").file, .directoryName, isRecursive: true)
        #expect(try await place.isOverrun(many))
        for watch in [few, many] { place.volume.endWatch(watch) }
    }
}
