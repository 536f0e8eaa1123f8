import Glibc
import Simulator
import Trials

/// Runs trials of the engine, and of files on it, under the simulator, seed after seed, for as long as asked. The first seed that fails is
/// printed and ends the run: `--seed` with that number does the same again.
@main
enum Program {
    static let usage = """
        usage: proxyfs-sim [--seed N] [--minutes M | --seeds S]
          --seed N      the first seed (default 1); with --minutes 0 the only one
          --minutes M   how long to go on, fractions allowed (default 1)
          --seeds S     how many seeds, however long they take
        example: proxyfs-sim --seed 1000 --minutes 0.5
        """

    static func main() {
        var seed: UInt64 = 1
        var minutes = 1.0
        var seedsWanted: UInt64?
        var words = CommandLine.arguments.dropFirst()
        while let word = words.popFirst() {
            switch (word, words.popFirst()) {
            case ("--seed", let value?):
                guard let number = UInt64(value) else { fail("--seed needs a number, not \(value)") }
                seed = number
            case ("--seeds", let value?):
                guard let number = UInt64(value), number > 0 else { fail("--seeds needs a number, not \(value)") }
                seedsWanted = number
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
        var seeds: UInt64 = 0
        // The same seeds give the same number, in every process.
        var trace: UInt64 = 0
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
            trace = trace &* 31 ^ engine.simulation.trace
            trace = trace &* 31 ^ files.simulation.trace
            seeds += 1
            seed &+= 1
        } while seedsWanted.map { seeds < $0 } ?? (seconds() < end)
        print("\(seeds) seeds, \(lives) lives, no failure; the last seed was \(seed &- 1)")
        print("trace \(String(trace, radix: 16)), peak memory \(peakMebibytes) MiB")
    }

    /// Of this program alone: what `getrusage` tells includes whoever started it.
    private static var peakMebibytes: Int {
        guard let file = fopen("/proc/self/status", "r") else { return 0 }
        defer { fclose(file) }
        var line = [CChar](repeating: 0, count: 256)
        while fgets(&line, 256, file) != nil {
            let text = String(decoding: line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
            guard text.hasPrefix("VmHWM:") else { continue }
            return (Int(text.filter(\.isNumber)) ?? 0) >> 10
        }
        return 0
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
