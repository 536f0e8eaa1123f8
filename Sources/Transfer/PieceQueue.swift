import Bytes
import Runtime

/// Pieces of a body on their way from a task to the thread that sends them. Holds few: whoever makes them waits.
public final class PieceQueue: Sendable {
    public static let piecesMax = 2

    private struct State {
        var pieces: [Block] = []
        /// Bytes of the first piece that are sent.
        var offset = 0
        var isEnded = false
        /// Nobody sends any more.
        var isClosed = false
        /// The transfer has paused for want of bytes.
        var isStarved = false
        var waiting: UnsafeContinuation<Void, Never>?
        /// Lets a paused transfer go on.
        var wake: (@Sendable () -> Void)?
    }

    private let state = Guarded(State())

    public init() {}

    /// Waits for room. False: the transfer has ended, and no more is wanted. One task at a time.
    public func push(_ piece: Block) async -> Bool {
        guard piece.count > 0 else { return !state.withLock { $0.isClosed } }
        while true {
            let (isDone, result, wake) = state.withLock { state -> (Bool, Bool, (@Sendable () -> Void)?) in
                if state.isClosed { return (true, false, nil) }
                guard state.pieces.count < Self.piecesMax else { return (false, true, nil) }
                state.pieces.append(piece)
                return (true, true, Self.wake(&state))
            }
            wake?()
            if isDone { return result }
            await withUnsafeContinuation { (continuation: UnsafeContinuation<Void, Never>) in
                let isOpen = state.withLock { state in
                    guard !state.isClosed, state.pieces.count >= Self.piecesMax else { return true }
                    state.waiting = continuation
                    return false
                }
                if isOpen { continuation.resume() }
            }
        }
    }

    /// No piece follows.
    public func end() {
        state.withLock { state in
            state.isEnded = true
            return Self.wake(&state)
        }?()
    }

    private static func wake(_ state: inout State) -> (@Sendable () -> Void)? {
        guard state.isStarved else { return nil }
        state.isStarved = false
        return state.wake
    }

    // MARK: The thread that sends

    func begin(_ wake: @escaping @Sendable () -> Void) { state.withLock { $0.wake = wake } }

    /// Bytes written to `room`; 0 at the end; nil: none now, `wake` is called when there are some.
    package func take(into room: UnsafeMutableRawBufferPointer) -> Int? {
        let (count, waiting) = state.withLock { state -> (Int?, UnsafeContinuation<Void, Never>?) in
            guard let piece = state.pieces.first else {
                state.isStarved = !state.isEnded
                return (state.isEnded ? 0 : nil, nil)
            }
            let count = min(room.count, piece.count - state.offset)
            room.copyMemory(
                from: UnsafeRawBufferPointer(rebasing: piece.bytes[state.offset..<(state.offset + count)]))
            extendLifetime(piece)
            state.offset += count
            guard state.offset == piece.count else { return (count, nil) }
            state.pieces.removeFirst()
            state.offset = 0
            defer { state.waiting = nil }
            return (count, state.waiting)
        }
        waiting?.resume()
        return count
    }

    /// The transfer has ended.
    public func close() {
        let waiting = state.withLock { state in
            state.isClosed = true
            state.pieces.removeAll()
            state.wake = nil
            defer { state.waiting = nil }
            return state.waiting
        }
        waiting?.resume()
    }
}
