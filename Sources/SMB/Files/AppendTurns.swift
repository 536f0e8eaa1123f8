import Namespace
import Runtime

/// Who writes at the end of a file has that end to himself, from when he asks where it is until his bytes are there: on other loops there may be
/// others who append.
final class AppendTurns: Sendable {
    /// Those who wait, by the file: its number tells the volume, too, by whatever share it was reached.
    private let taken = Guarded([FileID: [UnsafeContinuation<Void, Never>]]())

    /// False: somebody has it.
    func take(_ file: FileID) -> Bool {
        taken.withLock { taken in
            guard taken[file] == nil else { return false }
            taken[file] = []
            return true
        }
    }

    func give(_ file: FileID) {
        for waiter in taken.withLock({ $0.removeValue(forKey: file) ?? [] }) { waiter.resume() }
    }

    /// Returns when it may be free.
    func whenFree(_ file: FileID) async {
        await withUnsafeContinuation { (continuation: UnsafeContinuation<Void, Never>) in
            let isFree = taken.withLock { taken -> Bool in
                guard taken[file] != nil else { return true }
                taken[file]?.append(continuation)
                return false
            }
            if isFree { continuation.resume() }
        }
    }
}
