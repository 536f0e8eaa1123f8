import Namespace
import Runtime

/// Who writes at the end of a file has that end to himself, from when he asks where it is until his bytes are there: on other loops there may be
/// others who append.
final class AppendTurns: Sendable {
    struct Place: Hashable, Sendable {
        let volume: UInt64
        let file: FileID
    }

    /// Those who wait, by what they wait for.
    private let taken = Guarded([Place: [UnsafeContinuation<Void, Never>]]())

    /// False: somebody has it.
    func take(_ place: Place) -> Bool {
        taken.withLock { taken in
            guard taken[place] == nil else { return false }
            taken[place] = []
            return true
        }
    }

    func give(_ place: Place) {
        for waiter in taken.withLock({ $0.removeValue(forKey: place) ?? [] }) { waiter.resume() }
    }

    /// Returns when it may be free.
    func whenFree(_ place: Place) async {
        await withUnsafeContinuation { (continuation: UnsafeContinuation<Void, Never>) in
            let isFree = taken.withLock { taken -> Bool in
                guard taken[place] != nil else { return true }
                taken[place]?.append(continuation)
                return false
            }
            if isFree { continuation.resume() }
        }
    }
}
