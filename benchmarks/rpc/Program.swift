import Bytes
import Glibc
import Logging
import RPC
import Runtime

/// A program whose only procedure does nothing: what a call costs by itself.
final class NullProgram: RPCProgram {
    let number: UInt32 = 0x2000_0001
    let versions: ClosedRange<UInt32> = 1...1

    func serve(_ call: borrowing CallContext, _ arguments: inout Reader, _ results: inout Results) -> Outcome {
        call.procedure == 0 ? .done : .refused(.procedureUnavailable)
    }
}

@main enum Program {
    static func main() throws {
        let loop = try EpollLoop(index: 0)
        let logger = Logger(level: .warning, format: .logfmt, wall: { 0 }, monotonic: { 0 })
        let server = RPCServer(programs: [NullProgram()], on: [loop], logger: logger)
        let listener = try server.listen(on: .loopback(port: 0), network: EpollNetwork())
        print("listening \(listener.address.port ?? 0)")
        fflush(nil)
        while true { pause() }
    }
}
