import Runtime

/// Who watches which directory. No I/O: the caller guards it, and carries its deliveries to their loops.
///
/// Invariants: a watch that has something to tell was told so, once, until it is asked. A queue that is full keeps what it has
/// and says that there was more; so does one that would grow when all of them together hold too much.
struct WatchTable {
    static let watchesMax = 65_536
    static let watchesPerDirectoryMax = 4096
    static let eventsMax = 4096
    /// Of all events that wait, their own size and that of their names.
    static let bytesMax = 64 << 20

    /// Something has come for a watch.
    struct Delivery: Sendable {
        let loop: EventLoop
        let tell: @Sendable () -> Void
    }

    /// A directory on the way from a change up to the root, and the name by which the way goes on downwards.
    struct Step {
        var directory: FileID
        var name: [UInt8]
        /// Who watches this one is told by another.
        var isSilent = false
    }

    private struct Watch {
        var directory: FileID
        var filter: WatchFilter
        var isRecursive: Bool
        var delivery: Delivery
        var events: [WatchEvent] = []
        var bytes = 0
        var isOverrun = false
        var isTold = false
        /// The directory goes.
        var isEnded = false
    }

    private var watches: [UInt64: Watch] = [:]
    private var byDirectory: [FileID: [UInt64]] = [:]
    private var deliveries: [Delivery] = []
    private var next: UInt64 = 1
    private(set) var recursiveCount = 0
    private var bytes = 0

    var count: Int { watches.count }

    /// Nil: there are too many.
    mutating func add(
        _ directory: FileID, _ filter: WatchFilter, isRecursive: Bool, _ delivery: Delivery
    ) -> WatchID? {
        guard watches.count < Self.watchesMax,
            byDirectory[directory]?.count ?? 0 < Self.watchesPerDirectoryMax
        else { return nil }
        let number = next
        next += 1
        watches[number] = Watch(directory: directory, filter: filter, isRecursive: isRecursive, delivery: delivery)
        byDirectory[directory, default: []].append(number)
        if isRecursive { recursiveCount += 1 }
        return WatchID(number: number)
    }

    mutating func remove(_ id: WatchID) {
        guard let watch = watches.removeValue(forKey: id.number) else { return }
        if watch.isRecursive { recursiveCount -= 1 }
        bytes -= watch.bytes
        byDirectory[watch.directory]?.removeAll { $0 == id.number }
        if byDirectory[watch.directory]?.isEmpty == true { byDirectory[watch.directory] = nil }
    }

    /// What has come since the last call; nil: nothing.
    mutating func take(_ id: WatchID) -> WatchEvents? {
        guard let watch = watches[id.number], !watch.events.isEmpty || watch.isOverrun || watch.isEnded else {
            return nil
        }
        bytes -= watch.bytes
        watches[id.number]?.bytes = 0
        watches[id.number]?.events = []
        watches[id.number]?.isOverrun = false
        watches[id.number]?.isTold = false
        return WatchEvents(events: watch.events, isOverrun: watch.isOverrun, isEnded: watch.isEnded)
    }

    /// The directory is about to go, or is gone: whoever watches it is told so.
    mutating func end(_ directory: FileID) {
        for number in byDirectory[directory] ?? [] {
            guard var watch = watches.removeValue(forKey: number) else { continue }
            watch.isEnded = true
            tell(&watch)
            watches[number] = watch
        }
    }

    /// Something happened to a name. `trail` leads from its directory upwards, as far as anybody wants to know.
    mutating func post(_ action: WatchAction, _ filter: WatchFilter, _ trail: [Step]) {
        guard !watches.isEmpty else { return }
        var path: [[UInt8]] = []
        for (height, step) in trail.enumerated() {
            path.insert(step.name, at: 0)
            guard !step.isSilent, let numbers = byDirectory[step.directory] else { continue }
            for number in numbers {
                guard var watch = watches.removeValue(forKey: number) else { continue }
                if height == 0 || watch.isRecursive, !watch.filter.isDisjoint(with: filter) {
                    enqueue(WatchEvent(action, path), &watch)
                }
                watches[number] = watch
            }
        }
    }

    /// Something happened of which nobody knows what.
    mutating func overrun() {
        for number in Array(watches.keys) {
            guard var watch = watches.removeValue(forKey: number) else { continue }
            watch.isOverrun = true
            tell(&watch)
            watches[number] = watch
        }
    }

    private mutating func enqueue(_ event: WatchEvent, _ watch: inout Watch) {
        // One write after the other is one piece of news.
        if event.action == .modified, watch.events.last == event { return }
        let size = event.path.reduce(MemoryLayout<WatchEvent>.stride) { $0 + $1.count + MemoryLayout<[UInt8]>.stride }
        if watch.events.count < Self.eventsMax, bytes + size <= Self.bytesMax {
            watch.events.append(event)
            watch.bytes += size
            bytes += size
        } else {
            watch.isOverrun = true
        }
        tell(&watch)
    }

    private mutating func tell(_ watch: inout Watch) {
        guard !watch.isTold else { return }
        watch.isTold = true
        deliveries.append(watch.delivery)
    }

    mutating func takeDeliveries() -> [Delivery] {
        if deliveries.isEmpty { return [] }
        let taken = deliveries
        deliveries = []
        return taken
    }
}
