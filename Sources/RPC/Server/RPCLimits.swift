import Runtime

/// What one server lets its clients use; each bound pushes back, none loses a call that was accepted.
public struct RPCLimits: Sendable {
    /// One record on a stream: 1 MiB of data, and what NFS, RPC and GSS put around it.
    public var recordMax = (1 << 20) + (16 << 10)
    /// Fragments of one record.
    public var fragmentsMax = 1024
    /// Calls of one connection that were accepted and not answered.
    public var heldCallsMax = 256
    /// Their arguments, and the results that they announced.
    public var heldBytesMax = 16 << 20
    /// The same of all connections of one loop, and records that have come in part.
    public var loopBytesMax = 256 << 20
    /// Results of all connections of one loop that their clients have not taken.
    public var outputBytesMax = 256 << 20
    /// How long a record may take to come, and results to be taken, while others wait for that room.
    public var recordPatience: UInt64 = 1_000_000_000
    /// Held calls of one datagram socket; further calls are dropped, the client sends them again.
    public var heldDatagramsMax = 256
    public var connection = ConnectionLimits()

    public init() {
        connection.outputHigh = 2 << 20
        connection.messageTimeout = 30_000_000_000
        // A client comes back when it needs to; a half-open one never does.
        connection.idleTimeout = 3_600_000_000_000
    }

    func check() {
        precondition(recordMax >= CallHeader.bytesMax && fragmentsMax > 0, "a record holds a call")
        precondition(heldCallsMax > 0 && heldBytesMax >= recordMax, "a connection may hold one call at least")
        precondition(loopBytesMax >= recordMax, "a loop may hold one record at least")
        precondition(outputBytesMax >= 2 * recordMax, "a loop may have the results of two calls at least")
    }
}
