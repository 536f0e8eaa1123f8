/// What can be wrong with bytes from outside. Without payload, so that throwing one costs no allocation.
public enum BytesError: UInt8, Error, Sendable {
    /// Fewer bytes are left than the value needs.
    case truncated
    /// A length or count goes beyond the limit that the caller named.
    case tooLong
    /// The bytes are there but mean nothing: a boolean that is neither 0 nor 1, a varint in a longer form than it
    /// needs or beyond 64 bits.
    case malformed
    /// What was written does not fit into the writer's memory.
    case overflow
}
