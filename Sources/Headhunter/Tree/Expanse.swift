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
    /// Who walks into a large page while it is being zeroed zeroes one of his own first: so near before him they stay small.
    static let nearBytes = 8 << 20
    /// Backed without a pause, with those who need the processor or the address space waiting meanwhile.
    private static let pieceBytes = 128 << 10

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
    /// `reach`: where he is who walks towards them, if anybody does.
    func back(_ bytes: Range<Int>, reach: () -> Int = { -Expanse.nearBytes }) {
        var place = bytes.lowerBound
        while place < bytes.upperBound {
            let end = min(bytes.upperBound, (place / Self.largePage + 1) * Self.largePage)
            // One by one: who comes before us should not have to zero it. Where the system has no large pages to give, small ones do.
            if isWalked, place >= Self.smallBytes, end - place == Self.largePage, place - reach() >= Self.nearBytes {
                madvise(base + place, Self.largePage, MADV_HUGEPAGE)
            }
            Self.inPieces(base + place, end - place) { piece, count in
                shim_touch(piece, count)
                shim_thread_yield()
            }
            place = end
        }
    }

    private static func inPieces(
        _ memory: UnsafeMutableRawPointer, _ count: Int, _ body: (UnsafeMutableRawPointer, Int) -> Void
    ) {
        var place = 0
        while place < count {
            body(memory + place, min(pieceBytes, count - place))
            place += pieceBytes
        }
    }

    /// The same of other memory that begins with a page: met page by page it takes half as long again, but each piece holds up
    /// whoever needs more address space.
    static func back(_ memory: UnsafeMutableRawPointer, _ count: Int) {
        inPieces(memory, count) { madvise($0, $1, populate) }
    }

    /// By a thread of the pool, which lets others have the processor in between.
    static func backPatiently(_ memory: UnsafeMutableRawPointer, _ count: Int) {
        inPieces(memory, count) { piece, count in
            shim_touch(piece, count)
            shim_thread_yield()
        }
    }

    /// MADV_POPULATE_WRITE, which the headers of older systems do not have.
    private static let populate: Int32 = 23

    func release() { munmap(mapped, mappedBytes) }
}
