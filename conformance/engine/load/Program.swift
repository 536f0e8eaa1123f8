import Glibc
import Runtime
import Synchronization
import Trials

/// The program that conformance/engine kills.
///
/// `crash-load load DIRECTORY SEED` makes a volume and works on it for ever; it writes `ready`, `begun N` and `synced N`
/// lines, `told CALLER N` of those who work beside it, and `full` while its store is away and the stage has no room.
/// `crash-load verify DIRECTORY SEED BEGUN SYNCED TOLD...` says whether all that was promised is there, to each caller, too.
@main
enum Program {
    static func main() {
        let words = CommandLine.arguments
        guard words.count >= 4, let seed = UInt64(words[3]) else { usage() }
        let world: World
        do throws(Errno) { world = try World.real(disk: try RealDisk(path: words[2]), loops: 1) } catch {
            fail("\(words[2]): \(error)")
        }
        let problems = Mutex<[String]?>(nil)
        switch (words[1], words.dropFirst(4).compactMap { Int($0) }) {
        case ("load", let rest) where rest.isEmpty:
            world.loops[0].task {
                do {
                    try await KillTrial.load(world, seed: seed) { event in
                        switch event {
                        case .ready: say("ready")
                        case .begun(let step): say("begun \(step)")
                        case .synced(let step): say("synced \(step)")
                        case .full: say("full")
                        case .told(let caller, let number): say("told \(caller) \(number)")
                        case .failed(let why): say("failed \(why)")
                        }
                    }
                } catch { problems.withLock { $0 = ["the load ended: \(error)"] } }
            }
        case ("verify", let rest) where rest.count == 2 + KillTrial.callers:
            world.loops[0].task {
                let told = Array(rest[2...])
                let found = await KillTrial.verify(world, seed: seed, begun: rest[0], synced: rest[1], told: told)
                problems.withLock { $0 = found }
            }
        default: usage()
        }
        while true {
            if let found = problems.withLock({ $0 }) {
                for problem in found { say(problem) }
                exit(found.isEmpty ? 0 : 1)
            }
            usleep(2_000)
        }
    }

    /// At once: the process may be gone a moment later.
    @Sendable private static func say(_ text: String) {
        let line = Array((text + "\n").utf8)
        _ = write(STDOUT_FILENO, line, line.count)
    }

    private static func fail(_ text: String) -> Never {
        say("crash-load: \(text)")
        exit(2)
    }

    private static func usage() -> Never {
        fail("usage: crash-load load DIRECTORY SEED | crash-load verify DIRECTORY SEED BEGUN SYNCED TOLD...")
    }
}
