import Glibc

/// Many readers, one writer: each loop has a lock of its own, on a cache line of its own, so readers never touch
/// memory that other readers write. The writer takes all of them, in order.
///
/// Both sides hold it for a short, bounded stretch over memory and never across I/O or another lock's wait.
final class Gate: @unchecked Sendable {
    /// Two lines: processors fetch lines in pairs.
    private static let stride = 128
    private let memory: UnsafeMutableRawPointer
    let count: Int

    init(readers count: Int) {
        precondition(count > 0)
        self.count = count
        memory = .allocate(byteCount: count * Self.stride, alignment: Self.stride)
        for index in 0..<count {
            let result = pthread_mutex_init(lock(index), nil)
            precondition(result == 0)
        }
    }

    deinit {
        for index in 0..<count { pthread_mutex_destroy(lock(index)) }
        memory.deallocate()
    }

    private func lock(_ index: Int) -> UnsafeMutablePointer<pthread_mutex_t> {
        (memory + index * Self.stride).assumingMemoryBound(to: pthread_mutex_t.self)
    }

    /// `reader` is the loop's index; threads without a loop share one that their caller chose.
    func enterRead(_ reader: Int) { pthread_mutex_lock(lock(reader % count)) }
    func leaveRead(_ reader: Int) { pthread_mutex_unlock(lock(reader % count)) }

    func enterWrite() { for index in 0..<count { pthread_mutex_lock(lock(index)) } }
    func leaveWrite() { for index in (0..<count).reversed() { pthread_mutex_unlock(lock(index)) } }
}
