import Glibc

/// Keeps apart what goes by a bucket's word on versions, or puts something on its shelf, and what changes that word or takes the
/// bucket away: each looks and changes in one step. Those of the first kind go on together.
///
/// It is held over calls that never wait, and comes before every other guard of a volume.
final class ShelfGate: @unchecked Sendable {
    private let lock: UnsafeMutablePointer<pthread_rwlock_t>

    init() {
        lock = .allocate(capacity: 1)
        // Who wants it alone does not wait until nobody else wants it any more. So nobody may take it twice.
        var attributes = pthread_rwlockattr_t()
        pthread_rwlockattr_init(&attributes)
        pthread_rwlockattr_setkind_np(&attributes, Int32(PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP))
        let result = pthread_rwlock_init(lock, &attributes)
        pthread_rwlockattr_destroy(&attributes)
        precondition(result == 0)
    }

    deinit {
        pthread_rwlock_destroy(lock)
        lock.deallocate()
    }

    func together<Value, Problem: Error>(_ body: () throws(Problem) -> Value) throws(Problem) -> Value {
        let result = pthread_rwlock_rdlock(lock)
        precondition(result == 0)
        defer { pthread_rwlock_unlock(lock) }
        return try body()
    }

    func alone<Value, Problem: Error>(_ body: () throws(Problem) -> Value) throws(Problem) -> Value {
        let result = pthread_rwlock_wrlock(lock)
        precondition(result == 0)
        defer { pthread_rwlock_unlock(lock) }
        return try body()
    }
}
