import Namespace
import Runtime
import SMB
import SMBSupport
import Synchronization
import TestSupport
import Testing

/// Set once.
private final class Flag: Sendable {
    private let value = Atomic(false)
    var isSet: Bool { value.load(ordering: .acquiring) }
    func set() { value.store(true, ordering: .releasing) }
}

/// SMB beside callers of the same volume who come by other protocols: docs/sharing.md, over a real connection.
@Suite(.serialized) struct AcrossProtocolsTests {
    private static let all: UInt32 = 7

    @Test func aWriteOverNFSBreaksALease() async throws {
        let site = try await Site()
        let file = try await site.make("f")
        let client = try Guest(ready: site.listener.address)
        let opened = try client.open("f", .init(lease: (key: 5, state: Self.all)))
        #expect(opened.status == .success && opened.bytes[66] == 0xFF)
        let ended = Flag()
        // On the loop: the threads of tests may all be waiting for an answer, as this one is.
        let written = site.loop.task { () async throws -> FileError? in
            let error = try await site.write(file, "over NFS")
            ended.set()
            return error
        }
        let message = try client.reply(to: .max)
        #expect(message.header.command == Command.oplockBreak.rawValue && message.u32(64 + 4) == 1)
        #expect(message.u64(64 + 8) == 5 && message.u32(64 + 24) == Self.all && message.u32(64 + 28) == 0)
        // What the client had kept it may still bring.
        #expect(try client.write(opened.handle, "kept", at: 100).status == .success)
        #expect(!ended.isSet)
        #expect(try client.acknowledge(5, 0).status == .success)
        #expect(try await written.value == nil)
        try await site.close()
    }

    @Test func anOpenThatDeniesWritingHoldsNFSOff() async throws {
        let site = try await Site()
        let file = try await site.make("f")
        let client = try Guest(ready: site.listener.address)
        let opened = try client.open("f", .init(share: 1))
        #expect(opened.status == .success)
        #expect(try await site.write(file, "over NFS") == .sharingViolation)
        let other = try Guest(ready: site.listener.address, guid: 2)
        #expect(try other.open("f").status == .sharingViolation)
        #expect(try client.close(opened.handle).status == .success)
        #expect(try await site.write(file, "over NFS") == nil)
        try await site.close()
    }

    @Test func locksOfBothKindsMeet() async throws {
        let site = try await Site()
        let file = try await site.make("f")
        let client = try Guest(ready: site.listener.address)
        let handle = try client.open("f").handle
        let (volume, caller) = (site.volume, site.caller)
        let process = LockOwner(.posix, client: 9, id: 1)
        let range = try #require(LockRange(exactly: 0, length: 10))
        #expect(try await site.done { volume.lock(caller, file, range, .exclusive, process) } == .granted)
        #expect(try client.write(handle, "x").status == .fileLockConflict)
        #expect(try client.write(handle, "x", at: 10).status == .success)
        let immediate: UInt32 = 0x10 | 2
        #expect(try client.ask(.lock, Guest.lock(handle, count: 1, [(5, 1, immediate)])).status == .lockNotGranted)
        // One that may wait gets it when the process lets go.
        let number = client.send(.lock, Guest.lock(handle, count: 1, [(5, 1, 2)]))
        #expect(try client.reply(to: number, pending: true).status == .pending)
        _ = volume.unlock(file, range, process)
        #expect(try client.reply(to: number).status == .success)
        #expect(try await site.write(file, "y", at: 5) == .locked)
        #expect(volume.testLock(file, range, .exclusive, process) != nil)
        #expect(try client.close(handle).status == .success)
        #expect(try await site.write(file, "y", at: 5) == nil)
        try await site.close()
    }

    @Test func othersChangesWakeAWatch() async throws {
        let site = try await Site()
        let client = try Guest(ready: site.listener.address)
        let root = try client.open("", .init(access: 0x12_0089, options: 1)).handle
        var number = client.watch(root)
        #expect(try client.reply(to: number, pending: true).status == .pending)
        let file = try await site.make("made over NFS")
        #expect(try client.reply(to: number).says("made over NFS"))
        // An object takes the place of the file.
        number = client.watch(root)
        #expect(try client.reply(to: number, pending: true).status == .pending)
        let (volume, caller) = (site.volume, site.caller)
        _ = try await site.done { volume.admitReplacement(caller, of: file) }
        Array("made over NFS".utf8).withUnsafeBytes { volume.replaced(caller, in: volume.root, $0, file) }
        let news = try client.reply(to: number)
        #expect(news.status == .success && news.says("made over NFS"))
        try await site.close()
    }

    @Test func aDirectoryThatGoesEndsItsWatch() async throws {
        let site = try await Site()
        _ = try await site.make("d", type: .directory)
        let client = try Guest(ready: site.listener.address)
        let home = try client.open("d", .init(access: 0x12_0089, options: 1)).handle
        let number = client.watch(home)
        #expect(try client.reply(to: number, pending: true).status == .pending)
        let (volume, caller) = (site.volume, site.caller)
        _ = try await site.done {
            Array("d".utf8).withUnsafeBytes { volume.remove(caller, in: volume.root, $0, isDirectory: true) }
        }
        #expect(try client.reply(to: number).status == .deletePending)
        try await site.close()
    }

    @Test func whoWaitsMayGiveUp() async throws {
        let site = try await Site()
        _ = try await site.make("f")
        let keeper = try Guest(ready: site.listener.address)
        let kept = try keeper.open("f", .init(lease: (key: 5, state: Self.all)))
        #expect(kept.status == .success)
        let client = try Guest(ready: site.listener.address, guid: 2)
        let number = client.send(.create, Guest.create("f", .init()))
        #expect(try client.reply(to: number, pending: true).status == .pending)
        #expect(try keeper.reply(to: .max).u64(64 + 8) == 5)
        client.nextMessage = number
        client.send(.cancel, [4, 0, 0, 0])
        client.nextMessage = number + 1
        #expect(try client.reply(to: number).status == .cancelled)
        #expect(try keeper.acknowledge(5, 3).status == .success)
        #expect(site.volume.openCount == 1)
        try await site.close()
    }
}
