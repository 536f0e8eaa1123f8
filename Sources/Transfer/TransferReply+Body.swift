import Bytes
import ObjectStore

extension TransferReply {
    /// What a GET of `range` (nil: of all) brought, in `reply`, which has a status already; or why that is not what was
    /// asked for: then another try may bring it.
    public func body(of range: Range<UInt64>?, _ reply: StoreReply) -> StoreReply {
        guard reply.status == 200 || reply.status == 206 else { return reply }
        var reply = reply
        let body = body ?? Block(capacity: 0)
        let count = UInt64(body.count)
        reply.body = body
        if reply.status == 200 {
            reply.size = count
            guard range == nil || range == 0..<count else {
                return Self.refused("the whole object came where \(range ?? 0..<0) was asked for")
            }
            return reply
        }
        guard let range, let found = headers.contentRange else {
            return Self.refused("a part of an object came, and nobody said which one")
        }
        reply.size = found.size
        // Fewer bytes than were asked for, where the object ends.
        let end = found.size.map { min($0, range.upperBound) } ?? range.upperBound
        guard found.bytes.lowerBound == range.lowerBound, found.bytes.upperBound == end,
            found.bytes.upperBound - found.bytes.lowerBound == count
        else {
            return Self.refused("\(count) bytes of \(found.bytes) came where \(range) was asked for")
        }
        return reply
    }

    private static func refused(_ reason: String) -> StoreReply {
        var reply = StoreReply(status: StoreReply.noAnswer)
        reply.reason = reason
        return reply
    }
}
