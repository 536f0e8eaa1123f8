import Bytes
import NFS
import RPC
import TestSupport
import Testing
import WireSamples

@Suite struct WireTests {
    private func roundTrip(_ type: WireType, _ message: [UInt8]) -> (consumed: Int, written: [UInt8])? {
        message.withUnsafeBytes { bytes in
            do throws(BytesError) { return try type.roundTrip(bytes) } catch { return nil }
        }
    }

    @Test func messagesAreWrittenAsTheyWereRead() {
        var random = SeededRandom(3)
        for type in WireType.all {
            var found = 0
            for _ in 0..<20_000 where found < 50 {
                guard let message = random.message(type) else { continue }
                found += 1
                let again = roundTrip(type, message)
                #expect(again?.consumed == message.count && again?.written == message, "\(type.name)")
                // No beginning of a message is a message.
                for count in stride(from: 0, to: message.count, by: 3) {
                    #expect(roundTrip(type, Array(message.prefix(count))) == nil, "\(type.name) of \(count) bytes")
                }
            }
            #expect(found > 10, "\(type.name) was not found in random words")
        }
    }

    @Test(arguments: 1...4) func garbageIsReadOrRefused(_ seed: UInt64) {
        var random = SeededRandom(seed)
        for type in WireType.all {
            for round in 0..<400 {
                let bytes = round & 1 == 0 ? random.bytes(round / 3) : random.words(round / 4)
                _ = roundTrip(type, bytes)
            }
        }
    }

    private func reads<Message: XDRMessage>(_ type: Message.Type, _ body: (inout Writer) -> Void) -> BytesError? {
        encoded(body).withUnsafeBytes { bytes in
            var reader = Reader(bytes)
            do throws(BytesError) { _ = try Message(reading: &reader) } catch { return error }
            return nil
        }
    }

    @Test func limitsAreWhatTheySay() {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 16, alignment: 8)
        memory.initializeMemory(as: UInt8.self, repeating: 0)
        defer { memory.deallocate() }
        func zeros(_ count: Int) -> UnsafeRawBufferPointer {
            UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(memory).prefix(count))
        }
        #expect(reads(NFS3Handle.self) { $0.opaque(zeros(64)) } == nil)
        #expect(reads(NFS3Handle.self) { $0.opaque(zeros(65)) } == .tooLong)
        for (count, error) in [(NFS3.nameMax, nil), (NFS3.nameMax + 1, BytesError.tooLong)] {
            #expect(
                reads(NFS3Name.self) {
                    $0.opaque(zeros(4))
                    $0.opaque(zeros(count))
                } == error)
        }
        for (count, error) in [(Mount.pathMax, nil), (Mount.pathMax + 1, BytesError.tooLong)] {
            #expect(reads(MountPath.self) { $0.opaque(zeros(count)) } == error)
        }
        for (count, error) in [(LockManager.objectMax, nil), (LockManager.objectMax + 1, BytesError.tooLong)] {
            #expect(
                reads(LockResult.self) {
                    $0.opaque(zeros(count))
                    $0.u32(0)
                } == error)
        }
        for (count, error) in [(StatusMonitor.nameMax, nil), (StatusMonitor.nameMax + 1, BytesError.tooLong)] {
            #expect(reads(MonitorName.self) { $0.opaque(zeros(count)) } == error)
        }
        for (count, error) in [(RemoteQuota.pathMax, nil), (RemoteQuota.pathMax + 1, BytesError.tooLong)] {
            #expect(
                reads(QuotaArguments.self) {
                    $0.opaque(zeros(count))
                    $0.u32(0)
                } == error)
        }
        for (count, error) in [(NFSACL.entriesMax, nil), (NFSACL.entriesMax + 1, BytesError.tooLong)] {
            #expect(
                reads(ACLPair.self) {
                    $0.zeros(8)
                    $0.u32(UInt32(count))
                    $0.zeros(12 * count)
                    $0.zeros(8)
                } == error)
        }
        for (count, error) in [(Mount.flavorsMax, nil), (Mount.flavorsMax + 1, BytesError.tooLong)] {
            #expect(
                reads(MountResult.self) {
                    $0.zeros(8)
                    $0.u32(UInt32(count))
                    $0.zeros(4 * count)
                } == error)
        }
        for (count, error) in [(Mount.listMax, nil), (Mount.listMax + 1, BytesError.tooLong)] {
            #expect(
                reads(MountExports.self) { writer in
                    for _ in 0..<count {
                        writer.bool(true)
                        writer.zeros(8)
                    }
                    writer.bool(false)
                } == error)
        }
        #expect(reads(NFS3WeakData.self) { $0.u32(2) } == .malformed)
        #expect(reads(NFS3CreateHow.self) { $0.u32(3) } == .malformed)
        #expect(reads(NFS3SetTime.self) { $0.u32(3) } == .malformed)
        #expect(reads(NFS3Results.GetAttributes.self) { $0.u32(3) } == .malformed)
    }

    /// The order of fields as the specification's tables have it, each with a value of its own.
    @Test func fieldsAreInTheOrderOfTheSpecification() {
        let attributes = NFS3Attributes(
            type: .directory, mode: 3, links: 4, uid: 5, gid: 6, size: 7 << 32 | 8, used: 9 << 32 | 10,
            device: NFS3Device(major: 11, minor: 12), fileSystem: 13 << 32 | 14, file: 15 << 32 | 16,
            accessed: NFS3Time(seconds: 17, nanoseconds: 18), modified: NFS3Time(seconds: 19, nanoseconds: 20),
            changed: NFS3Time(seconds: 21, nanoseconds: 22))
        func words(_ body: (inout Writer) -> Void) -> [UInt32] {
            let bytes = encoded(body)
            return stride(from: 0, to: bytes.count, by: 4).map { at in
                bytes[at..<(at + 4)].reduce(0) { $0 << 8 | UInt32($1) }
            }
        }
        #expect(words { attributes.write(into: &$0) } == [2] + Array(3...22))
        let empty = NFS3Handle(UnsafeRawBufferPointer(start: nil, count: 0))
        #expect(
            words { NFS3ReadArguments(file: empty, offset: 1 << 32 | 2, count: 3).write(into: &$0) } == [0, 1, 2, 3])
        #expect(
            words {
                NFS3WriteArguments(file: empty, offset: 1 << 32 | 2, count: 3, stability: .fileSync, data: empty.bytes)
                    .write(into: &$0)
            } == [0, 1, 2, 3, 2, 0])
        #expect(
            words { NFS3CommitArguments(file: empty, offset: 1 << 32 | 2, count: 3).write(into: &$0) } == [0, 1, 2, 3])
        #expect(
            words {
                NFS3ReadDirectoryPlusArguments(
                    directory: empty, cookie: 1 << 32 | 2, verifier: 3 << 32 | 4, directoryCount: 5, countMax: 6
                ).write(into: &$0)
            } == [0, 1, 2, 3, 4, 5, 6])
        let lock = LockDescription<LockWidth64>(
            caller: empty.bytes, file: empty.bytes, owner: empty.bytes, process: 4, offset: 5 << 32 | 6,
            length: 7 << 32 | 8)
        #expect(
            words {
                LockArguments(
                    cookie: empty.bytes, mayBlock: true, isExclusive: false, lock: lock, isReclaim: true, state: 9
                ).write(into: &$0)
            } == [0, 1, 0, 0, 0, 0, 4, 5, 6, 7, 8, 1, 9])
        var narrow = LockDescription<LockWidth32>(
            caller: empty.bytes, file: empty.bytes, owner: empty.bytes, process: 4, offset: 5, length: 6)
        #expect(words { narrow.write(into: &$0) } == [0, 0, 0, 4, 5, 6])
        narrow.length = 1 << 40
        #expect(words { narrow.write(into: &$0) }.last == .max)
        var call = CallHeader(xid: 1, program: 2, version: 3, procedure: 4)
        #expect(words { call.write(into: &$0) } == [1, 0, 2, 2, 3, 4, 0, 0, 0, 0])
        call.credential.flavor = 6
        #expect(words { call.write(into: &$0) }[6] == 6)
    }
}
