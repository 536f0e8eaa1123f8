import Bytes
import Glibc
import RPC
import Runtime
import TestSupport
import Testing

/// Ten thousand connections of all bad sorts at once. Takes memory and time: among the heavy tests.
@Suite(.serialized) struct CrowdTests {
    private static let count = 10_000
    private static let countMin = 9_700

    /// Connections whose two ends this process may have.
    private func connectionsMax() -> Int {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return 100 }
        let wanted = rlim_t(2 * Self.count + 500)
        if limit.rlim_cur < wanted {
            var more = rlimit(rlim_cur: wanted, rlim_max: max(limit.rlim_max, wanted))
            if setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &more) != 0 {
                more = rlimit(rlim_cur: limit.rlim_max, rlim_max: limit.rlim_max)
                _ = setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &more)
            }
            _ = getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        }
        return min(Self.count, (Int(clamping: limit.rlim_cur) - 400) / 2)
    }

    private func residentBytes() -> Int {
        guard let file = fopen("/proc/self/statm", "r") else { return 0 }
        defer { fclose(file) }
        var text = [CChar](repeating: 0, count: 200)
        guard fgets(&text, Int32(text.count), file) != nil else { return 0 }
        let words = String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
            .split(separator: " ")
        return (Int(words[1]) ?? 0) * Int(getpagesize())
    }

    @Test func othersAreServedBesideTenThousand() async throws {
        let count = connectionsMax()
        // Both ends are in this process, and a usual limit is 20,000 files. Who has to run them with fewer says so.
        if getenv("PROXYFS_SMALL_CROWD") == nil {
            #expect(count >= Self.countMin, "the limit of open files is too low")
        }
        let rig = try Rig(loops: 2) { $0.recordPatience = 500_000_000 }
        let good = try rig.peer()
        #expect(good.call(message(TestProgram.Procedure.null))?.status == .success)
        let before = residentBytes()
        var crowd: [RPCPeer] = []
        func mark(_ length: Int, isLast: Bool = true) -> [UInt8] {
            encoded(capacity: 4) { $0.u32(RecordMark(length: length, isLast: isLast).word) }
        }
        let call = message(TestProgram.Procedure.null).bytes
        for index in 0..<count {
            let peer = try rig.peer()
            crowd.append(peer)
            switch index % 8 {
            // An honest one that has nothing to ask.
            case 0, 1: peer.peer.send(RPCMessage.record(call))
            case 2: peer.peer.send([0x80, 0])
            // The beginning of a small record, of one in place, and of a large one.
            case 3: peer.peer.send(mark(8000) + [UInt8](repeating: 0, count: 7000))
            case 4: peer.peer.send(mark(32 << 10) + [UInt8](repeating: 0, count: 20_000))
            case 5: peer.peer.send(mark(1 << 20) + [UInt8](repeating: 0, count: 20_000))
            case 6: peer.peer.send(mark(4, isLast: false))
            // Longer than any record; it loses its connection.
            default: peer.peer.send(mark(0x7fff_ffff))
            }
            if index % 1000 == 999 {
                #expect(good.call(message(TestProgram.Procedure.null))?.status == .success, "beside \(index)")
            }
        }
        #expect(await eventually { rig.listener.active <= count - count / 8 + 1 })
        let grown = residentBytes() - before
        // Both ends are in this process. What is accounted for, and some 10 KiB for each of the others.
        print("\(count) connections: \(grown >> 20) MiB")
        #expect(grown < 2 * (256 << 20) + count * (24 << 10))
        let payload = opaque([UInt8](repeating: 3, count: 200_000))
        for _ in 0..<5 {
            let sent = Task.detached { good.send(message(TestProgram.Procedure.echo, payload)) }
            #expect(good.reply(within: 60)?.results == payload)
            _ = await sent.value
        }
        for peer in crowd { peer.peer.close() }
        crowd = []
        #expect(await eventually(within: 30) { rig.listener.active == 1 })
        #expect(good.call(message(TestProgram.Procedure.null))?.status == .success)
    }
}
