import Bytes
import Glibc
import Testing

@Suite struct BufferPoolTests {
    @Test func classesArePowersOfTwo() {
        let pool = BufferPool(leasedBytesMax: .max, freeBytesMax: 0)
        for (count, capacity) in [(0, 4096), (1, 4096), (4096, 4096), (4097, 8192), (8192, 8192), (8 << 20, 8 << 20)] {
            #expect(sizeOfLease(pool, count) == capacity)
        }
        #expect(sizeOfLease(pool, (8 << 20) - 1) == 8 << 20)
        #expect(sizeOfLease(pool, (8 << 20) + 1) == nil)
        #expect(sizeOfLease(pool, .max) == nil)
        #expect(sizeOfLease(pool, -1) == nil)
        #expect(pool.leased == 0)
    }

    @Test func memoryIsUsedAgain() throws {
        let pool = BufferPool(leasedBytesMax: 1 << 20, freeBytesMax: 1 << 20)
        let first = try address(pool, 5000)
        #expect(try address(pool, 8000) == first)
        #expect(pool.misses == 1)
        #expect(pool.freeBytes == 8192)
        // Another class has memory of its own.
        #expect(try address(pool, 100) != first)
        #expect(pool.misses == 2)
        pool.trim()
        #expect(pool.freeBytes == 0)
    }

    @Test func leasesAreCountedAndEndOnce() throws {
        let pool = BufferPool(leasedBytesMax: 1 << 20, freeBytesMax: 1 << 20)
        do {
            let a = try lease(pool, 4096)
            let b = try lease(pool, 10_000)
            #expect(pool.leased == 2)
            #expect(pool.leasedBytes == 4096 + 16_384)
            let sizes = (a.memory.count, b.memory.count)
            #expect(sizes == (4096, 16_384))
            keep(a)
            #expect(pool.leased == 1)
            keep(b)
        }
        #expect(pool.leased == 0)
        #expect(pool.leasedBytes == 0)
        #expect(pool.freeBytes == 4096 + 16_384)
    }

    @Test func bothBoundsHold() throws {
        let pool = BufferPool(leasedBytesMax: 3 * 4096, freeBytesMax: 2 * 4096)
        do {
            let a = try lease(pool, 1)
            let b = try lease(pool, 1)
            let c = try lease(pool, 1)
            #expect(sizeOfLease(pool, 1) == nil)
            #expect(pool.leased == 3)
            keep(a)
            #expect(sizeOfLease(pool, 1) == 4096)
            #expect(sizeOfLease(pool, 8192) == nil)
            keep(b)
            keep(c)
        }
        #expect(pool.freeBytes == 2 * 4096)
    }

    /// Distinct leases never share memory.
    @Test func noOverlap() throws {
        let pool = BufferPool(leasedBytesMax: 1 << 20, freeBytesMax: 1 << 20)
        for _ in 0..<3 {
            let a = try lease(pool, 4096)
            let b = try lease(pool, 4096)
            a.memory.initializeMemory(as: UInt8.self, repeating: 1)
            b.memory.initializeMemory(as: UInt8.self, repeating: 2)
            let untouched = a.memory.allSatisfy { $0 == 1 }
            #expect(untouched == true)
            keep(a)
            keep(b)
        }
        #expect(pool.misses == 2)
    }

    @Test func anotherThreadIsRefused() async {
        await #expect(processExitsWith: .failure) {
            let pool = BufferPool(leasedBytesMax: 1 << 20, freeBytesMax: 1 << 20)
            _ = pool.lease(1)
            onAnotherThread { _ = pool.lease(1) }
        }
    }

    @Test func aDisownedPoolChangesItsThread() {
        let pool = BufferPool(leasedBytesMax: 1 << 20, freeBytesMax: 1 << 20)
        _ = pool.lease(1)
        pool.disown()
        onAnotherThread { _ = pool.lease(1) }
        #expect(pool.misses == 1)
        #expect(pool.leased == 0)
    }

    private func lease(_ pool: BufferPool, _ count: Int) throws -> BufferLease {
        guard let lease = pool.lease(count) else { throw BytesError.overflow }
        return lease
    }

    private func address(_ pool: BufferPool, _ count: Int) throws -> UInt {
        UInt(bitPattern: try lease(pool, count).memory.baseAddress)
    }

    /// The capacity of a lease that ends at once; nil when the pool refuses.
    private func sizeOfLease(_ pool: BufferPool, _ count: Int) -> Int? { pool.lease(count)?.capacity }

    /// Ends a lease here, not where the optimizer likes.
    private func keep(_ lease: consuming BufferLease) {}
}

/// Runs `body` to its end on a thread of its own.
private func onAnotherThread(_ body: @escaping () -> Void) {
    final class Box {
        let body: () -> Void
        init(_ body: @escaping () -> Void) { self.body = body }
    }
    var thread = pthread_t()
    let box = Unmanaged.passRetained(Box(body)).toOpaque()
    let made = pthread_create(
        &thread, nil,
        { box in
            guard let box else { return nil }
            Unmanaged<Box>.fromOpaque(box).takeRetainedValue().body()
            return nil
        }, box)
    precondition(made == 0)
    pthread_join(thread, nil)
}
