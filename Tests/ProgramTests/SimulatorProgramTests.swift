import CShim
import Foundation
import TestSupport
import Testing

/// `proxyfs-sim` as a process: what one process can not tell of itself.
@Suite(.serialized) struct SimulatorProgramTests {
    /// What it printed, and the MiB that it took at most.
    private func run(_ words: String...) async throws -> (text: Substring, peak: Int) {
        let program = try Program(words, of: "proxyfs-sim", in: Folder())
        #expect(await program.status(within: 300) == 0, "\(program.out)\(program.err)")
        let parts = program.out.components(separatedBy: ", peak memory ")
        let peak = try #require(parts.last.flatMap { Int($0.prefix { $0.isNumber }) })
        return (parts[0][...], peak)
    }

    /// Hashes are seeded anew in each process: an order that depends on them would show here, and only here.
    @Test func theSameSeedsGiveTheSameRunInEveryProcess() async throws {
        let first = try await run("--seed", "40", "--seeds", "2")
        let second = try await run("--seed", "40", "--seeds", "2")
        #expect(first.text == second.text && first.text.contains("trace "))
        #expect(try await run("--seed", "41", "--seeds", "2").text != first.text)
    }

    /// Lives that have ended leave nothing behind.
    @Test func fourHundredLivesStaySmall() async throws {
        let (text, peak) = try await run("--seed", "1", "--seeds", "30")
        #expect(text.contains("30 seeds, 420 lives, no failure"))
        let isSanitized = dlsym(nil, "__tsan_init") != nil || dlsym(nil, "__asan_init") != nil
        #expect(peak < (isSanitized ? 1000 : 160), "\(peak) MiB")
    }

    @Test(arguments: [["--seed"], ["--seeds", "0"], ["--minutes", "-1"], ["--lives", "3"]])
    func misuseIsStatus2(_ words: [String]) async throws {
        let program = try Program(words, of: "proxyfs-sim", in: Folder())
        #expect(await program.status() == 2)
        #expect(program.err.contains("usage: proxyfs-sim"))
    }
}
