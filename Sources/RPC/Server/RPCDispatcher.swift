import Bytes
import Runtime

/// Takes a record apart, finds out who calls and whom, and lets the program answer. The same for streams and
/// datagrams. Immutable; all that changes belongs to a connection.
struct RPCDispatcher: Sendable {
    let registry: Registry

    /// Answers one record. `block` is what it lies in, when that can be kept for a call that is held.
    func dispatch(
        _ record: UnsafeRawBufferPointer, in block: Block?, _ sink: ReplySink, _ identities: inout IdentityCache
    ) {
        sink.state.counters.calls.count()
        var reader = Reader(record)
        let header: CallHeader
        do throws(CallFault) {
            header = try CallHeader(reading: &reader)
        } catch { return refuse(error, sink) }
        switch header.credential.flavor {
        case AuthFlavor.system:
            do throws(AuthError) {
                let identity = try identities.identity(of: header.credential.body)
                serve(header, identity, rest(of: reader, in: record), block, sink, nil)
            } catch { sink.refuse(header.xid, .authError(error)) }
        case AuthFlavor.none:
            serve(header, .anonymous, rest(of: reader, in: record), block, sink, nil)
        default: admit(header, record, reader.position, block, sink)
        }
    }

    @inline(__always)
    private func rest(of reader: borrowing Reader, in record: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(rebasing: record[reader.position...])
    }

    private func refuse(_ fault: CallFault, _ sink: ReplySink) {
        switch fault {
        case .notACall: sink.state.counters.dropped.count()
        case .rpcVersion(let xid):
            sink.refuse(xid, .rpcMismatch(low: CallHeader.rpcVersion, high: CallHeader.rpcVersion))
        case .authenticator(let xid, let error): sink.refuse(xid, .authError(error))
        }
    }

    private func serve(
        _ header: CallHeader, _ identity: Identity, _ arguments: UnsafeRawBufferPointer, _ block: Block?,
        _ sink: ReplySink, _ protection: (any CallProtection)?
    ) {
        let program: any RPCProgram
        switch registry.find(header.program, header.version) {
        case .program(let found): program = found
        case .nothing(let status): return sink.refuse(header.xid, status, protection)
        }
        let call = CallContext(
            xid: header.xid, program: header.program, version: header.version, procedure: header.procedure,
            identity: identity, arguments: arguments, sink: sink, protection: protection, block: block)
        var results = Results(sink, protection)
        var reader = Reader(arguments)
        switch program.serve(call, &reader, &results) {
        case .done:
            if !results.send(header.xid) { sink.refuse(header.xid, .systemError, protection) }
        case .refused(let status): sink.refuse(header.xid, status, protection)
        case .held: break
        case .dropped: sink.state.counters.dropped.count()
        }
    }

    /// Calls of the flavors that protect what they carry.
    @inline(never)
    private func admit(
        _ header: CallHeader, _ record: UnsafeRawBufferPointer, _ position: Int, _ block: Block?, _ sink: ReplySink
    ) {
        guard let flavor = registry.flavors.first(where: { $0.number == header.credential.flavor }) else {
            return sink.refuse(header.xid, .authError(.badCredential))
        }
        // Six numbers, the credential's flavor and length, its body filled up to a multiple of four.
        let signed = 8 * 4 + (header.credential.body.count + 3) & ~3
        let secured = SecuredCall(
            header: header, signedHeader: UnsafeRawBufferPointer(rebasing: record.prefix(signed)),
            arguments: UnsafeRawBufferPointer(rebasing: record[position...]))
        switch flavor.admit(secured) {
        case .accepted(let identity, let protection):
            let isOurs = protection.unwrap(secured.arguments) { plain in
                // The memory is the flavor's: a call that is held copies it.
                serve(header, identity, plain, nil, sink, protection)
            }
            if !isOurs { sink.refuse(header.xid, .garbageArguments, protection) }
        case .rejected(let error): sink.refuse(header.xid, .authError(error))
        case .dropped: sink.state.counters.dropped.count()
        case .handshake(let answer):
            let call = CallContext(
                xid: header.xid, program: header.program, version: header.version, procedure: header.procedure,
                identity: .anonymous, arguments: secured.arguments, sink: sink, protection: nil, block: block)
            guard let held = call.hold() else { return sink.state.counters.dropped.count() }
            answer(held)
        }
    }
}
