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

    private func fields(_ message: some XDRMessage) -> [UInt32] {
        let bytes = encoded { message.write(into: &$0) }
        return stride(from: 0, to: bytes.count, by: 4).map { at in
            bytes[at..<(at + 4)].reduce(0) { $0 << 8 | UInt32($1) }
        }
    }

    /// What two of our own fields changed for each other would not show anywhere else.
    @Test func fieldsOfResultsAreInTheOrderOfTheSpecification() {
        func wide(_ low: UInt64) -> UInt64 { low << 32 | low + 1 }
        let space = NFS3FileSystemStatisticsResults(
            attributes: nil, bytes: wide(1), bytesFree: wide(3), bytesAvailable: wide(5), files: wide(7),
            filesFree: wide(9),
            filesAvailable: wide(11), invariantSeconds: 13)
        #expect(fields(space) == [0] + Array(1...13))
        let server = NFS3FileSystemInformationResults(
            attributes: nil, readMax: 1, readPreferred: 2, readMultiple: 3, writeMax: 4, writePreferred: 5,
            writeMultiple: 6,
            directoryPreferred: 7, fileSizeMax: wide(8), timeDelta: NFS3Time(seconds: 10, nanoseconds: 11),
            properties: NFS3.Properties(rawValue: 12))
        #expect(fields(server) == [0] + Array(1...12))
        for place in 0..<4 {
            let flags = (0..<4).map { $0 == place }
            let path = NFS3PathConfigurationResults(
                attributes: nil, linksMax: 8, nameMax: 9, refusesLongNames: flags[0], restrictsOwners: flags[1],
                ignoresCase: flags[2], preservesCase: flags[3])
            #expect(fields(path) == [0, 8, 9] + flags.map { $0 ? 1 : 0 })
        }
        #expect(NFS3.Properties.hardLinks.rawValue == 1 && NFS3.Properties.symbolicLinks.rawValue == 2)
        #expect(NFS3.Properties.isHomogeneous.rawValue == 8 && NFS3.Properties.canSetTime.rawValue == 16)
        let before = NFS3WeakAttributes(
            size: wide(1), modified: NFS3Time(seconds: 3, nanoseconds: 4), changed: NFS3Time(seconds: 5, nanoseconds: 6)
        )
        #expect(fields(NFS3WeakData(before: before)) == [1, 1, 2, 3, 4, 5, 6, 0])
        let weak = NFS3WeakData(before: before)
        let written = NFS3WriteResults(file: weak, count: 7, stability: .fileSync, verifier: wide(8))
        #expect(fields(written) == fields(weak) + [7, 2, 8, 9])
        #expect(fields(NFS3CommitResults(file: weak, verifier: wide(8))) == fields(weak) + [8, 9])
        #expect(fields(NFS3RenameResults(from: weak, to: NFS3WeakData())) == fields(weak) + [0, 0])
        #expect(fields(NFS3LinkResults(attributes: nil, directory: weak)) == [0] + fields(weak))
        #expect(NFS3.Access.read.rawValue == 1 && NFS3.Access.lookup.rawValue == 2 && NFS3.Access.modify.rawValue == 4)
        #expect(
            NFS3.Access.extend.rawValue == 8 && NFS3.Access.delete.rawValue == 16 && NFS3.Access.execute.rawValue == 32)
    }

    @Test func fieldsOfArgumentsAreInTheOrderOfTheSpecification() {
        func named(_ bytes: [UInt8], _ body: (UnsafeRawBufferPointer) -> Void) { bytes.withUnsafeBytes { body($0) } }
        let set = NFS3SetAttributes(
            mode: 2, uid: 3, gid: 4, size: 5 << 32 | 6, accessed: .clientTime(NFS3Time(seconds: 7, nanoseconds: 8)),
            modified: .clientTime(NFS3Time(seconds: 9, nanoseconds: 10)))
        #expect(fields(set) == [1, 2, 1, 3, 1, 4, 1, 5, 6, 2, 7, 8, 2, 9, 10])
        #expect(fields(NFS3SetAttributes(accessed: .serverTime)) == [0, 0, 0, 0, 1, 0])
        named([1, 2, 3, 4]) { one in
            named([5, 6, 7, 8]) { two in
                named([9, 10, 11, 12]) { three in
                    let (a, b, c): (UInt32, UInt32, UInt32) = (0x0102_0304, 0x0506_0708, 0x090a_0b0c)
                    let from = NFS3Name(directory: NFS3Handle(one), name: two)
                    let to = NFS3Name(directory: NFS3Handle(two), name: three)
                    #expect(fields(NFS3RenameArguments(from: from, to: to)) == [4, a, 4, b, 4, b, 4, c])
                    #expect(fields(NFS3LinkArguments(file: NFS3Handle(three), place: from)) == [4, c, 4, a, 4, b])
                    let holder = LockHolder<LockWidth64>(
                        isExclusive: true, process: 2, owner: one, offset: 3 << 32 | 4, length: 5 << 32 | 6)
                    #expect(fields(holder) == [1, 2, 4, a, 3, 4, 5, 6])
                    let share = LockShareArguments(
                        cookie: one, caller: two, file: three, owner: one, deny: .read, access: .write, isReclaim: true)
                    #expect(fields(share) == [4, a, 4, b, 4, c, 4, a, 1, 2, 1])
                    #expect(fields(LockShareResult(cookie: one, status: .granted, sequence: 7)) == [4, a, 0, 7])
                    let lock = LockDescription<LockWidth64>(
                        caller: one, file: two, owner: three, process: 1, offset: 0, length: 0)
                    #expect(fields(lock) == [4, a, 4, b, 4, c, 1, 0, 0, 0, 0])
                    let caller = MonitorCaller(name: two, program: 1, version: 2, procedure: 3)
                    #expect(fields(caller) == [4, b, 1, 2, 3])
                    #expect(fields(MonitorID(name: one, caller: caller)) == [4, a, 4, b, 1, 2, 3])
                    #expect(fields(MonitorChange(name: one, state: 9)) == [4, a, 9])
                    #expect(fields(MonitorStatusResult(answer: .failure, state: 5)) == [1, 5])
                    #expect(fields(QuotaArguments(path: one, uid: 5)) == [4, a, 5])
                    #expect(fields(QuotaArgumentsV2(path: one, kind: .group, id: 5)) == [4, a, 1, 5])
                }
            }
        }
        let limits = QuotaLimits(
            blocksHard: 3, blocksSoft: 4, blocks: 5, filesHard: 6, filesSoft: 7, files: 8, blocksTime: 9, filesTime: 10)
        #expect(
            fields(QuotaResult.ok(QuotaReport(blockSize: 2, isActive: true, limits: limits))) == [1, 2, 1]
                + Array(3...10))
    }
}
