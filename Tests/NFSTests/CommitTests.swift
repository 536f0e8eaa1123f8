import NFS
import Namespace
import RPC
import Runtime
import Simulator
import TestSupport
import Testing

/// Many COMMITs at once, over a volume of the engine.
@Suite struct CommitTests {
    /// Files of which nothing is on the disk yet, and a COMMIT of each.
    private static func prepare(_ client: LateClient, _ count: Int) async throws -> [(
        file: [UInt8], commit: RPCMessage
    )] {
        var commits: [(file: [UInt8], commit: RPCMessage)] = []
        for index in 0..<count {
            let file = try await client.made(client.create("\(index)", .guarded(NFS3SetAttributes(mode: 0o644))))
            // Some are kept in the tree, some in segments.
            let data = content(index)
            let write = NFS3WriteArguments(
                file: client.handle(file), offset: 0, count: UInt32(data.count), stability: .unstable,
                data: client.host.keep(data))
            #expect(try await client.status(client.message(.write, .write(write))) == .ok)
            let commit = NFS3CommitArguments(file: client.handle(file), offset: 0, count: 0)
            commits.append((file, client.message(.commit, .commit(commit))))
        }
        return commits
    }

    private static func content(_ index: Int) -> [UInt8] {
        [UInt8](repeating: UInt8(index + 1), count: index % 2 == 0 ? 100 : 20_000)
    }

    private final class Answers: @unchecked Sendable {
        var good: Set<Int> = []
        var count = 0
    }

    /// All at once, on the client's one connection; what is answered is noted as it comes.
    private static func send(_ commits: [(file: [UInt8], commit: RPCMessage)], _ client: LateClient) -> Answers {
        let answers = Answers()
        for (index, (_, commit)) in commits.enumerated() {
            client.host.loop.task {
                guard let reply = await client.host.exchange(commit) else { return }
                answers.count += 1
                if reply.status == .success, reply.results.prefix(4) == [0, 0, 0, 0] { answers.good.insert(index) }
            }
        }
        return answers
    }

    @Test func manyAtOnceTakeFewSyncs() throws {
        try LateClient.run { client in
            let commits = try await Self.prepare(client, 32)
            // A sync takes long beside what calls take to come.
            client.simulation.faults.longDelay = 1
            let before = client.simulation.diskSyncs
            let answers = Self.send(commits, client)
            while answers.count < commits.count { await client.host.loop.sleep(nanoseconds: 1_000_000) }
            #expect(answers.good.count == commits.count)
            let syncs = client.simulation.diskSyncs - before
            // Some of data, some of the log; those that came during one share the next.
            #expect((2...8).contains(syncs), "\(syncs) syncs")
        }
    }

    /// The power goes at each change of the disk in turn, and when all are answered: whoever had an answer by then finds its data.
    @Test func noneIsAnsweredBeforeItIsSafe() throws {
        var step = 0
        var isLast = false
        while !isLast {
            step += 1
            let simulation = Simulation(seed: UInt64(step))
            let host = SimulatedHost(simulation, "client", isStream: true)
            let begun = simulation.perform { world in
                try? await LateClient.begin(simulation, world, host) { try await Self.prepare($0, 4) }
            }
            let (client, commits) = try #require(begun ?? nil)
            simulation.crashAtDiskChange = simulation.diskChanges + step
            let answers = Self.send(commits, client)
            isLast = simulation.run { answers.count == commits.count }
            simulation.crash()
            host.isOver = true
            let answered = answers.good
            simulation.restart()
            let next = SimulatedHost(simulation, "client", isStream: true)
            let found = simulation.perform { world in
                try? await LateClient.begin(simulation, world, next) { client in
                    var found: Set<Int> = []
                    for (index, (file, _)) in commits.enumerated() where answered.contains(index) {
                        let read = NFS3ReadArguments(file: client.handle(file), offset: 0, count: 100_000)
                        let message = client.message(.read, .read(read))
                        let data = try await client.call(message, NFS3Results.Read.self).success.map { Array($0.data) }
                        if data == Self.content(index) { found.insert(index) }
                    }
                    return found
                }.1
            }
            let whole = try #require(found ?? nil, "step \(step)")
            #expect(whole == answered, "step \(step)")
            #expect(!isLast || answered.count == commits.count)
            try #require(step < 1000)
        }
        #expect(step > 3, "\(step) steps")
    }
}
