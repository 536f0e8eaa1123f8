import Bytes
import Runtime

public final class ObjectStore: Sendable {
    private let transport: any StoreTransport
    public init(_ transport: any StoreTransport) { self.transport = transport }
    public func put(_ name: ObjectName, _ body: ObjectBody, condition: PutCondition = .always) async throws(StoreError) {}
    public func get(_ name: ObjectName, range: Range<UInt64>? = nil) async throws(StoreError) -> Block { Block(capacity: 0) }
    public func delete(_ name: ObjectName) async throws(StoreError) {}
    public func names(prefix: String) async throws(StoreError) -> [ObjectName] { [] }
}
