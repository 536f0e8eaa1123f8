import CShim
import Glibc

/// A large run of memory that is the system's until it is used, beginning on a boundary of large pages.
///
/// Walks from place to place in it are mostly misses of the processor's address tables when its pages are small, so it asks
/// for large ones where it is walked in small bits: a look-up among a million files then takes about half the time. Its first bytes stay in small pages,
/// because a volume with little in it should take little. The others become large as they are backed: zeroing one was seen to take 20 ms on a
/// virtual machine, and who meets memory before that should wait for a small one.
struct Expanse {
    static let largePage = 2 << 20
    private static let smallBytes = 4 << 20

    let base: UnsafeMutableRawPointer
    private let mapped: UnsafeMutableRawPointer
    private let mappedBytes: Int
    private let isWalked: Bool

    init(bytes: Int, isWalked: Bool = true) {
        self.isWalked = isWalked
        mappedBytes = bytes + Self.largePage
        guard
            let memory = mmap(
                nil, mappedBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0),
            memory != MAP_FAILED
        else { preconditionFailure("no address space for a cache") }
        mapped = memory
        base = memory.alignedUp(toMultipleOf: Self.largePage)
    }

    /// Has the system put memory behind these bytes now, and not when somebody meets them. What it can not give comes when it is met.
    func back(_ bytes: Range<Int>) {
        var place = bytes.lowerBound
        while place < bytes.upperBound {
            let end = min(bytes.upperBound, (place / Self.largePage + 1) * Self.largePage)
            // One by one: who comes before us should not have to zero it. Where the system has no large pages to give, small ones do.
            if isWalked, place >= Self.smallBytes, end - place == Self.largePage {
                madvise(base + place, Self.largePage, MADV_HUGEPAGE)
            }
            shim_touch(base + place, end - place)
            place = end
        }
    }

    /// The same of other memory that begins with a page, and of no more than a write or two: met page by page it takes half as long again, but
    /// this holds up whoever needs more address space.
    static func back(_ memory: UnsafeMutableRawPointer, _ count: Int) { madvise(memory, count, populate) }

    /// MADV_POPULATE_WRITE, which the headers of older systems do not have.
    private static let populate: Int32 = 23

    func release() { munmap(mapped, mappedBytes) }
}
