import Glibc
import Headhunter

/// What only one change at a time may touch: the totals in memory, the open files, and what the change under way will
/// have done to them. Behind the file system's lock, which is held for one attempt and never over a wait.
final class Writer {
    let scratch = Scratch()
    let foldedHash: FoldedHash
    let changeFloor: UInt64
    var totals = TotalsTable()
    /// How often files are open, by their inode.
    var opens: [UInt64: Int] = [:]
    var effects: [Effect] = []
    var nextSettling = 0

    enum Effect {
        /// Something was added to what lies in a directory.
        case counted(directory: Int32, Totals)
        case unsettled(Int32)
        /// A directory told its parent this.
        case settled(Int32, Totals)
        case made(UInt64, parent: Int32)
        /// What was told to the parent is taken back.
        case removed(UInt64, told: Totals)
        case moved(UInt64, to: Int32, told: Totals, all: Totals)
        case opened(UInt64)
        case closed(UInt64)
    }

    init(foldedHash: FoldedHash, changeFloor: UInt64) {
        self.foldedHash = foldedHash
        self.changeFloor = changeFloor
    }

    deinit { scratch.deallocate() }

    func isOpen(_ inode: UInt64) -> Bool { opens[inode] != nil }

    func close(_ inode: UInt64) {
        guard let count = opens[inode] else { return }
        opens[inode] = count > 1 ? count - 1 : nil
    }

    /// The change went through.
    func apply() {
        for effect in effects {
            switch effect {
            case .counted(let directory, let delta): totals.addAbove(directory, delta)
            case .unsettled(let directory): totals.settle(directory, true)
            case .settled(let directory, let told):
                let parent = totals[directory].parent
                totals.settle(directory, false)
                if parent != TotalsTable.none { totals.add(parent, -told) }
            case .made(let inode, let parent): _ = totals.insert(inode, parent: parent)
            case .removed(let inode, let told):
                guard let slot = totals.slot(inode) else { continue }
                // Nothing is below it any more: what the parent was told of it, and still counts, it told too much.
                let parent = totals[slot].parent
                if parent != TotalsTable.none { totals.add(parent, told) }
                totals.remove(inode)
            case .moved(let inode, let target, let told, let all):
                guard let slot = totals.slot(inode) else { continue }
                let source = totals[slot].parent
                // The parents' trees know what was told; those above them know all through `pending`.
                totals.add(source, told - all)
                totals.addAbove(source, -all)
                totals.move(slot, to: target)
                totals.add(target, all - told)
                totals.addAbove(target, all)
            case .opened(let inode): opens[inode, default: 0] += 1
            case .closed(let inode): close(inode)
            }
        }
    }
}
