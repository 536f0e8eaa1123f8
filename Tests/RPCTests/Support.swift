import Bytes
import Logging
import RPC
import Runtime
import Synchronization
import TestSupport
import Testing

/// Procedures that do what tests ask for.
final class TestProgram: RPCProgram {
    static let number: UInt32 = 0x2000_0001

    enum Procedure {
        static let null: UInt32 = 0
        static let echo: UInt32 = 1
        static let later: UInt32 = 2
        static let large: UInt32 = 3
        static let overflow: UInt32 = 4
        static let silent: UInt32 = 5
        static let who: UInt32 = 6
        static let hold: UInt32 = 7
    }

    let number: UInt32 = TestProgram.number
    let versions: ClosedRange<UInt32> = 2...3
    let calls = Atomic(0)
    let holding = Atomic(0)
    let isHeld = Atomic(false)

    func serve(_ call: borrowing CallContext, _ arguments: inout Reader, _ results: inout Results) -> Outcome {
        calls.wrappingAdd(1, ordering: .relaxed)
        switch call.procedure {
        case Procedure.null: return .done
        case Procedure.echo: return echo(&arguments, &results)
        case Procedure.later: return later(call)
        case Procedure.large: return large(&arguments, &results)
        case Procedure.overflow:
            results.writer.zeros(results.writer.remaining + 1)
            return .done
        case Procedure.silent: return .dropped
        case Procedure.who: return who(call, &results)
        case Procedure.hold: return hold(call)
        default: return .refused(.procedureUnavailable)
        }
    }

    private func echo(_ arguments: inout Reader, _ results: inout Results) -> Outcome {
        do throws(BytesError) {
            let bytes = try arguments.inPlace(limit: 1 << 20)
            if bytes.count + 8 > results.inPlaceMax {
                guard results.takesBlocks else { return .refused(.systemError) }
                let padded = (bytes.count + 3) & ~3
                let block = results.makeBlock(padded)
                block.append(bytes)
                Array(repeating: 0, count: padded - bytes.count).withUnsafeBytes { block.append($0) }
                results.writer.u32(UInt32(bytes.count))
                results.attach(block, count: padded)
            } else {
                results.provide(bytes.count + 8)
                results.writer.opaque(bytes)
            }
            return .done
        } catch { return .refused(.garbageArguments) }
    }

    /// Echoes after as many milliseconds as the arguments' first byte says.
    private func later(_ call: borrowing CallContext) -> Outcome {
        guard let held = call.hold() else { return .dropped }
        let loop = call.loop
        loop.task { [self] in
            let delay = held.arguments.count > 4 ? UInt64(held.arguments[4]) : 0
            await loop.sleep(nanoseconds: delay * 1_000_000)
            held.reply { results in
                var reader = Reader(held.arguments)
                return echo(&reader, &results)
            }
        }
        return .held
    }

    /// As many words as asked for, in a block.
    private func large(_ arguments: inout Reader, _ results: inout Results) -> Outcome {
        do throws(BytesError) {
            let count = try arguments.count(limit: 1 << 18)
            let block = results.makeBlock(4 * count)
            for word in 0..<count { (block.base + 4 * word).storeBytes(of: UInt32(word).bigEndian, as: UInt32.self) }
            block.count = 4 * count
            results.writer.u32(UInt32(count))
            results.attach(block, count: 4 * count)
            return .done
        } catch { return .refused(.garbageArguments) }
    }

    private func who(_ call: borrowing CallContext, _ results: inout Results) -> Outcome {
        switch call.identity.kind {
        case .anonymous: return .refused(.authError(.tooWeak))
        case .system(let uid, let gid, let groups):
            for number in [uid, gid] + groups { results.writer.u32(number) }
            call.identity.machineName.withUnsafeBytes { results.writer.opaque($0) }
        case .principal(let name): results.writer.text(name)
        }
        return .done
    }

    /// Keeps the call until `isHeld` is false.
    private func hold(_ call: borrowing CallContext) -> Outcome {
        guard let held = call.hold() else { return .dropped }
        holding.wrappingAdd(1, ordering: .relaxed)
        let loop = call.loop
        loop.task { [self] in
            while isHeld.load(ordering: .relaxed) { await loop.sleep(nanoseconds: 1_000_000) }
            held.reply { results in
                results.writer.u32(held.xid)
                return .done
            }
        }
        return .held
    }
}

final class Rig: Sendable {
    let loops: [EventLoop]
    let program = TestProgram()
    let server: RPCServer
    let listener: Listener

    init(
        loops count: Int = 1, flavors: [any SecurityFlavor] = [], _ change: (inout RPCLimits) -> Void = { _ in }
    ) throws {
        var limits = RPCLimits()
        change(&limits)
        loops = try (0..<count).map { try EpollLoop(index: $0) }
        let logger = Logger(level: .off, format: .logfmt, wall: { 0 }, monotonic: { 0 })
        server = RPCServer(programs: [program], flavors: flavors, on: loops, limits: limits, logger: logger)
        listener = try server.listen(on: .loopback(port: 0), network: EpollNetwork())
    }

    deinit { for loop in loops { (loop as? EpollLoop)?.stop() } }

    func peer() throws -> RPCPeer { try RPCPeer(listener.address) }
}

/// A call of the test program.
func message(_ procedure: UInt32, xid: UInt32 = 1, _ arguments: [UInt8] = []) -> RPCMessage {
    RPCMessage(TestProgram.number, 3, procedure, xid: xid, arguments)
}

func opaque(_ bytes: [UInt8]) -> [UInt8] { encoded { writer in bytes.withUnsafeBytes { writer.opaque($0) } } }

/// Random numbers from a seed, so that a failure can be run again.
struct SeededRandom: RandomNumberGenerator {
    private var state: UInt64
    init(_ seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }

    mutating func bytes(_ count: Int) -> [UInt8] { (0..<count).map { _ in UInt8(truncatingIfNeeded: next()) } }
}
