import Bytes
import Testing

/// Long blocks take over the memory of those that are gone.
@Suite(.serialized) struct BlockTests {
    private static let capacities = [
        0, 1, 4096, 524_288, 524_289, 1 << 20, 1 << 20 + 1, (1 << 20) + (16 << 10), 3 << 20, (8 << 20) + 200, 17 << 20,
        (17 << 20) + 1,
    ]

    private func fill(_ block: Block, _ byte: UInt8) {
        block.base.initializeMemory(as: UInt8.self, repeating: byte, count: block.capacity)
        block.count = block.capacity
    }

    @Test func noTwoShareTheirMemory() {
        for _ in 0..<3 {
            var blocks: [Block] = []
            for (index, capacity) in (Self.capacities + Self.capacities).enumerated() {
                let block = Block(capacity: capacity)
                #expect(block.count == 0 && block.capacity == capacity && Int(bitPattern: block.base) % 4096 == 0)
                fill(block, UInt8(index + 1))
                blocks.append(block)
            }
            for (index, block) in blocks.enumerated() {
                #expect(block.bytes.first.map { $0 == UInt8(index + 1) } ?? true)
                #expect(block.bytes.last.map { $0 == UInt8(index + 1) } ?? true)
            }
        }
        Block.giveBackMemory()
    }

    @Test func memoryIsUsedAgainUntilItIsGivenBack() {
        func place() -> Int {
            let block = Block(capacity: 3 << 20)
            return Int(bitPattern: block.base)
        }
        let first = place()
        #expect((0..<20).contains { _ in place() == first })
        // More than may be kept for nobody goes back at once.
        var many: [Block] = []
        for _ in 0..<100 {
            many.append(Block(capacity: 1 << 20))
            fill(many[many.count - 1], 1)
        }
        many = []
        let again = (0..<100).map { _ in Block(capacity: 1 << 20) }
        #expect(Set(again.map { Int(bitPattern: $0.base) }).count == 100)
        Block.giveBackMemory()
    }
}
