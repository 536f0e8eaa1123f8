/// Everything outside the process, as the rest of the program may see it.
///
/// The server never reads a clock, draws a random number, opens a file or a socket by itself: it asks its
/// `World`. `World.real(...)` is the machine; the Simulator module makes one from a seed, in which disks tear
/// writes, syncs fail, packets get lost and the power goes at any call, and the same seed gives the same run.
public struct World: Sendable {
    public let clock: any WorldClock
    public let random: any RandomSource
    public let disk: any Disk
    public let network: any Network
    /// Threads for calls that block: file synchronisation, GSSAPI, name look-ups.
    public let blocking: any BlockingPool
    /// One per core. Connections and tasks are pinned to one of them for life.
    public let loops: [EventLoop]

    public init(
        clock: any WorldClock, random: any RandomSource, disk: any Disk, network: any Network,
        blocking: any BlockingPool, loops: [EventLoop]
    ) {
        precondition(!loops.isEmpty, "a world needs at least one event loop")
        self.clock = clock
        self.random = random
        self.disk = disk
        self.network = network
        self.blocking = blocking
        self.loops = loops
    }
}

public protocol WorldClock: AnyObject, Sendable {
    /// Nanoseconds since an arbitrary start; never goes back.
    func monotonic() -> UInt64
    /// Nanoseconds since 1970-01-01 UTC; goes wherever the operator sets it, also back.
    func wall() -> Int64
}

public protocol RandomSource: AnyObject, Sendable {
    /// Unpredictable to an attacker in the real world: handles, nonces and keys are made from it.
    func fill(_ buffer: UnsafeMutableRawBufferPointer)
}

extension RandomSource {
    public func next() -> UInt64 {
        var value: UInt64 = 0
        withUnsafeMutableBytes(of: &value) { fill($0) }
        return value
    }
}

/// A few threads for calls that block. Work must not wait for other work of the same pool.
public protocol BlockingPool: AnyObject, Sendable {
    /// Runs `work` on a thread of the pool, then `completion` on `loop`. Callable from any thread.
    /// The queue is bounded: at the bound the caller's thread waits (real) or the simulation fails (simulated).
    func submit(
        _ work: @escaping @Sendable () -> Void, then completion: @escaping @Sendable () -> Void, on loop: EventLoop)

    /// On a thread of the pool, whose next work may be there in a moment: asks until `isThere`, or until it no longer
    /// pays. It is asked once at least, unless others wait for the thread.
    func linger(until isThere: () -> Bool)
}

extension BlockingPool {
    /// The same for tasks: suspends until `work` has run.
    public func run<Success: Sendable, Failure: Error>(
        on loop: EventLoop, _ work: @escaping @Sendable () throws(Failure) -> Success
    ) async throws(Failure) -> Success {
        // A continuation carries one error type only; the box carries ours without erasing it.
        let box = ResultBox<Success, Failure>()
        await withUnsafeContinuation { (continuation: UnsafeContinuation<Void, Never>) in
            submit({ box.result = Result(catching: work) }, then: { continuation.resume() }, on: loop)
        }
        guard let result = box.result else { preconditionFailure("the pool completed work that it never ran") }
        return try result.get()
    }
}

/// Written by the pool's thread before it completes, read by the task after: ordered by the hand-over.
private final class ResultBox<Success: Sendable, Failure: Error>: @unchecked Sendable {
    var result: Result<Success, Failure>?
}
