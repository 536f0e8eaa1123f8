import CShim

extension World {
    /// The machine. Starts `loops` event loops and the blocking threads; they live as long as the process, or until
    /// `stop`.
    public static func real(
        disk: any Disk, loops count: Int, blockingThreads: Int = ThreadPool.threadsDefault
    ) throws(Errno) -> World {
        precondition(count > 0, "a world needs at least one event loop")
        var loops: [EventLoop] = []
        for index in 0..<count { loops.append(try EpollLoop(index: index)) }
        return World(
            clock: SystemClock(), random: SystemRandom(), disk: disk, network: EpollNetwork(),
            blocking: try ThreadPool(threads: blockingThreads), loops: loops)
    }

    /// Ends the threads of a real world after what they were given has run. Not on one of them.
    public func stop() {
        (blocking as? ThreadPool)?.stop()
        for loop in loops { (loop as? EpollLoop)?.stop() }
    }
}

public final class SystemClock: WorldClock {
    public init() {}
    public func monotonic() -> UInt64 { shim_clock_monotonic() }
    public func wall() -> Int64 { shim_clock_wall() }
}

public final class SystemRandom: RandomSource {
    public init() {}
    public func fill(_ buffer: UnsafeMutableRawBufferPointer) {
        // A server without randomness would make handles that can be guessed.
        precondition(shim_random(buffer.baseAddress, buffer.count) == 0, "the system gives no random bytes")
    }
}
