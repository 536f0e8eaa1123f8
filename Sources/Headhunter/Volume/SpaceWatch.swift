import Runtime
import Synchronization

/// Watches the space of the disk that holds log and stage.
///
/// What makes files grow is refused while less than a reserve is free. The reserve is for what must go on when the disk
/// is full: records of deletions, checkpoints, and the flushing of what was taken in before.
final class SpaceWatch: Sendable {
    private let short = Atomic(false)
    var isShort: Bool { short.load(ordering: .relaxed) }

    static let intervalNanoseconds: UInt64 = 1_000_000_000
    /// Bytes of data after which it does not wait for the time to come.
    static let bytesBetween: UInt64 = 16 << 20

    /// Between these a twentieth of the disk is held back.
    static let reserveMin: UInt64 = 64 << 20
    static let reserveMax: UInt64 = 256 << 20

    static func reserve(of total: UInt64) -> UInt64 { min(max(total / 20, reserveMin), reserveMax) }

    /// It is over only when there is a quarter of the reserve more: else it would end and begin with each file.
    func note(_ space: DiskSpace) {
        let reserve = Self.reserve(of: space.total)
        let isShort = space.free < (isShort ? reserve + reserve / 4 : reserve)
        short.store(isShort, ordering: .relaxed)
    }
}

extension Headhunter {
    /// The disk of log and stage is nearly full: nothing that grows is taken.
    @inline(__always) public var isShortOfSpace: Bool { space.isShort }

    func startSpaceWatch() {
        checkSpace()
        checkpoints.spaceTimer = loop.schedule(after: SpaceWatch.intervalNanoseconds) { [weak self] in
            guard let self, !self.checkpoints.isClosing else { return }
            self.startSpaceWatch()
        }
    }

    /// One look at a time. On the volume's loop.
    func checkSpace() {
        guard !data.isLookingAtSpace else { return }
        data.isLookingAtSpace = true
        data.bytesSinceLook = 0
        let (disk, space) = (world.disk, space)
        world.blocking.submit(
            {
                // A disk that does not tell has other troubles, which its writes will meet.
                do throws(Errno) { space.note(try disk.space()) } catch { return }
            }, then: { [weak self] in self?.data.isLookingAtSpace = false }, on: loop)
    }
}
