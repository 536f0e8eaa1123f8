import Headhunter
import Synchronization

final class FileTable: @unchecked Sendable {
    init(bytesMax: Int) {}
    var hasDirty: Bool { false }
    func overlay(_ inode: inout Inode) {}
    func drop(_ inode: UInt64, _ headhunter: Headhunter) {}
    func setModified(_ inode: Inode) {}
}
