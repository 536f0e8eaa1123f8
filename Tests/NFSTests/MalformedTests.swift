import Bytes
import NFS
import RPC
import Runtime
import TestSupport
import Testing
import WireSamples

/// Arguments that are none, of every procedure of every program: each gets an answer, changes nothing, and harms nobody else.
@Suite(.serialized) struct MalformedTests {
    /// Program, version, the numbers of procedures.
    private static let programs: [(UInt32, UInt32, ClosedRange<UInt32>)] = [
        (NFS3.program, 3, 0...22), (Mount.program, 1, 0...7), (Mount.program, 2, 0...8), (Mount.program, 3, 0...6),
        (LockManager.program, 1, 0...16), (LockManager.program, 3, 0...24), (LockManager.program, 4, 0...24),
        (StatusMonitor.program, 1, 0...7), (NFSACL.program, 3, 0...3), (RemoteQuota.program, 1, 0...5),
        (RemoteQuota.program, 2, 0...5),
    ]

    /// What says that this host restarted does so with almost any arguments.
    private static func dropsLocks(_ program: UInt32, _ procedure: UInt32) -> Bool {
        switch program {
        case StatusMonitor.program: procedure >= MonitorProcedure.simulateCrash.rawValue
        case LockManager.program: procedure == LockProcedure.freeAll.rawValue
        default: false
        }
    }

    private func payloads(_ random: inout SeededRandom, _ root: [UInt8]) -> [[UInt8]] {
        let handle = encoded { writer in root.withUnsafeBytes { writer.opaque($0) } }
        var payloads: [[UInt8]] = [[], [0], [0, 0, 0], [UInt8](repeating: 0xff, count: 4)]
        for _ in 0..<6 {
            payloads.append(random.bytes(Int(random.next() % 200)))
            // A good handle, and then anything.
            payloads.append(handle + random.bytes(Int(random.next() % 64)))
            // Lengths that claim more than there is.
            payloads.append(encoded { $0.u32(UInt32(truncatingIfNeeded: random.next())) } + random.bytes(64))
        }
        return payloads
    }

    @Test(arguments: [1, 2, 3] as [UInt64]) func everyProcedureAnswersAnything(_ seed: UInt64) async throws {
        let files = MemoryFileSystem()
        let rig = try LockRig(files, try await FakeHost())
        let client = try rig.client()
        let other = try rig.client("other")
        let root = try client.nfs.root()
        let file = try client.nfs.made(try client.nfs.create(root, "f"))
        #expect(try other.lock(file, 1) == .granted)
        var random = SeededRandom(seed)
        for (program, version, procedures) in Self.programs {
            for procedure in procedures where !Self.dropsLocks(program, procedure) {
                for payload in payloads(&random, Array(root.bytes)) {
                    let reply = client.nfs.peer.call(client.nfs.message(program, version, procedure, payload))
                    #expect(reply != nil, "seed \(seed), program \(program) version \(version) procedure \(procedure)")
                    guard reply != nil else { return }
                }
            }
        }
        // Attributes of the root may have been set by a call that happened to be whole; names and locks are as they were.
        #expect(try client.nfs.lookup(root, "f").status != .serverFault)
        #expect(try client.lock(file, 7) == .denied)
        #expect(try other.unlock(file, 1) == .granted)
    }

    /// What the fuzzers of other decoders found worth keeping, to the server that they were made from.
    @Test(arguments: ["LockCalls", "RPCRecords"]) func inputsOfFuzzersHarmNobody(_ name: String)
        async throws
    {
        let rig = try LockRig(MemoryFileSystem(), try await FakeHost())
        let (client, other) = (try rig.client(), try rig.client("other"))
        let root = try client.nfs.root()
        let file = try client.nfs.made(try client.nfs.create(root, "f"))
        #expect(try other.lock(file, 1) == .granted)
        let inputs = fuzzCorpus(name)
        #expect(inputs.count > 5)
        for input in inputs {
            // As they come, and as a record.
            for bytes in [input, encoded { $0.u32(1 << 31 | UInt32(input.count)) } + input] {
                let peer = try Peer(rig.listener.address)
                _ = peer.send(bytes)
                peer.close()
            }
            #expect(try client.nfs.lookup(root, "f").status == .ok)
            guard name == "LockCalls", let choice = input.first else { continue }
            let (rest, procedure) = (Array(input.dropFirst()), UInt32(choice & 31))
            let message: RPCMessage
            if choice >= 128 {
                message = client.nfs.message(NFS3.program, 3, 1, encoded { w in rest.withUnsafeBytes { w.opaque($0) } })
            } else {
                guard !Self.dropsLocks(LockManager.program, procedure) else { continue }
                message = client.nfs.message(LockManager.program, [1, 3, 4, 4][Int(choice >> 5)], procedure, rest)
            }
            #expect(client.nfs.peer.call(message) != nil, "procedure \(procedure)")
        }
        #expect(try client.nfs.lookup(root, "f").status == .ok)
        #expect(try client.lock(file, 7) == .denied)
        #expect(try other.unlock(file, 1) == .granted)
    }

    /// Of a whole message each beginning is refused as such.
    @Test func wholeCallsCutShortAreGarbage() async throws {
        let rig = try LockRig(MemoryFileSystem(), try await FakeHost())
        let client = try rig.client()
        let root = try client.nfs.root()
        let file = try client.nfs.made(try client.nfs.create(root, "f"))
        let lock = client.description(file, 1, 0, 0, LockWidth64.self)
        let cookie = client.nfs.keep("cook")
        let whole: [(UInt32, UInt32, UInt32, [UInt8])] = [
            (
                LockManager.program, 4, LockProcedure.lock.rawValue,
                encoded {
                    LockArguments(
                        cookie: cookie, mayBlock: false, isExclusive: true, lock: lock, isReclaim: false, state: 0
                    ).write(into: &$0)
                }
            ),
            (
                LockManager.program, 4, LockProcedure.test.rawValue,
                encoded { LockTestArguments(cookie: cookie, isExclusive: true, lock: lock).write(into: &$0) }
            ),
            (
                LockManager.program, 4, LockProcedure.unlock.rawValue,
                encoded { LockUnlockArguments(cookie: cookie, lock: lock).write(into: &$0) }
            ),
            (
                NFSACL.program, 3, ACLProcedure.getACL.rawValue,
                encoded { ACLGetArguments(file: file, mask: [.access]).write(into: &$0) }
            ),
            (
                RemoteQuota.program, 1, 1,
                encoded { QuotaArguments(path: client.nfs.keep("/default"), uid: 1).write(into: &$0) }
            ),
            (
                StatusMonitor.program, 1, MonitorProcedure.notify.rawValue,
                encoded { MonitorChange(name: client.nfs.keep("host"), state: 1).write(into: &$0) }
            ),
            (Mount.program, 3, 1, encoded { MountPath(path: client.nfs.keep("/default")).write(into: &$0) }),
        ]
        for (program, version, procedure, bytes) in whole {
            let good = client.nfs.peer.call(client.nfs.message(program, version, procedure, bytes))
            #expect(good?.status == .success)
            for count in stride(from: 0, to: bytes.count, by: 4) {
                let cut = client.nfs.message(program, version, procedure, Array(bytes.prefix(count)))
                #expect(client.nfs.peer.call(cut)?.status == .garbageArguments, "\(program) of \(count) bytes")
            }
        }
    }
}
