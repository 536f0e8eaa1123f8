import Glibc
import Simulator
import Trials

/// Runs trials of the engine, and of files on it, under the simulator, seed after seed, for as long as asked. The first seed that fails is
/// printed and ends the run: `--seed` with that number does the same again.
@main
enum Program {
    static let usage = """
        usage: proxyfs-sim [--seed N] [--minutes M]
          --seed N      the first seed (default 1); with --minutes 0 the only one
          --minutes M   how long to go on, fractions allowed (default 1)
        example: proxyfs-sim --seed 1000 --minutes 0.5
        """

    static func main() {
        var seed: UInt64 = 1
        var minutes = 1.0
        var words = CommandLine.arguments.dropFirst()
        while let word = words.popFirst() {
            switch (word, words.popFirst()) {
            case ("--seed", let value?):
                guard let number = UInt64(value) else { fail("--seed needs a number, not \(value)") }
                seed = number
            case ("--minutes", let value?):
                guard let number = Double(value), number >= 0, number.isFinite else {
                    fail("--minutes needs a number, not \(value)")
                }
                minutes = number
            case ("--help", _):
                print(usage)
                exit(0)
            default: fail("unknown or incomplete option \(word)")
            }
        }
        let end = seconds() + minutes * 60
        var lives = 0
        var seeds = 0
        repeat {
            var engine = EngineTrial(seed: seed, faults: .default)
            engine.run(lives: 8)
            var files = FileTrial(seed: seed, faults: .default)
            files.run(lives: 6)
            if let problem = engine.problems.first ?? files.model.problems.first {
                print("FAILED seed \(seed): \(problem)\nagain: proxyfs-sim --seed \(seed) --minutes 0")
                exit(1)
            }
            lives += engine.lives + files.lives
            seeds += 1
            seed &+= 1
        } while seconds() < end
        print("\(seeds) seeds, \(lives) lives, no failure; the last seed was \(seed &- 1)")
    }

    private static func seconds() -> Double {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }

    private static func fail(_ message: String) -> Never {
        let text = Array("proxyfs-sim: \(message)\n\(usage)\n".utf8)
        write(STDERR_FILENO, text, text.count)
        exit(2)
    }
}
