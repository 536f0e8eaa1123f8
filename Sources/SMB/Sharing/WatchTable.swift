import Namespace
import Runtime

/// [MS-SMB2] 2.2.35, CompletionFilter.
struct WatchFilter: OptionSet, Sendable {
    let rawValue: UInt32
    init(rawValue: UInt32) { self.rawValue = rawValue }
    static let fileName = WatchFilter(rawValue: 0x1)
    static let directoryName = WatchFilter(rawValue: 0x2)
    static let attributes = WatchFilter(rawValue: 0x4)
    static let size = WatchFilter(rawValue: 0x8)
    static let lastWrite = WatchFilter(rawValue: 0x10)
    static let lastAccess = WatchFilter(rawValue: 0x20)
    static let creation = WatchFilter(rawValue: 0x40)
    static let ea = WatchFilter(rawValue: 0x80)
    static let security = WatchFilter(rawValue: 0x100)
    static let streamName = WatchFilter(rawValue: 0x200)
    static let streamSize = WatchFilter(rawValue: 0x400)
    static let streamWrite = WatchFilter(rawValue: 0x800)
    static let all = WatchFilter(rawValue: 0xFFF)
}

/// [MS-FSCC] 2.7.1, Action.
enum WatchAction: UInt32, Sendable {
    case added = 1
    case removed = 2
    case modified = 3
    case renamedFrom = 4
    case renamedTo = 5
}

/// Who watches which directory. No I/O: the caller guards it, and carries its deliveries to their loops.
struct WatchTable {
    static let watchesMax = 65_536
    static let eventsMax = 4096

    struct Event: Equatable, Sendable {
        var action: WatchAction
        /// Below the watched directory.
        var path: [[UInt8]]
    }

    /// Something has come for a watch.
    struct Delivery: Sendable {
        let loop: EventLoop
        let tell: @Sendable () -> Void
    }

    private struct Watch {
        var directory: FileID
        var filter: WatchFilter
        var isRecursive: Bool
        var loop: EventLoop
        var tell: @Sendable () -> Void
        var events: [Event] = []
        /// Too much happened to say what.
        var isOverrun = false
        var isTold = false
        var isGone = false
    }

    private var watches: [UInt64: Watch] = [:]
    private var byDirectory: [FileID: Set<UInt64>] = [:]
    private var deliveries: [Delivery] = []

    var count: Int { watches.count }

    /// A handle begins to watch; what it is told of stays the same until it is closed.
    mutating func add(
        _ handle: UInt64, _ directory: FileID, _ filter: WatchFilter, isRecursive: Bool, loop: EventLoop,
        tell: @escaping @Sendable () -> Void
    ) -> Bool {
        guard watches[handle] == nil else { return true }
        guard watches.count < Self.watchesMax else { return false }
        watches[handle] = Watch(
            directory: directory, filter: filter, isRecursive: isRecursive, loop: loop, tell: tell)
        byDirectory[directory, default: []].insert(handle)
        return true
    }

    mutating func remove(_ handle: UInt64) {
        guard let watch = watches.removeValue(forKey: handle) else { return }
        byDirectory[watch.directory]?.remove(handle)
        if byDirectory[watch.directory]?.isEmpty == true { byDirectory[watch.directory] = nil }
    }

    /// What has come since the last call; nil: nothing. `isOverrun`: too much.
    mutating func take(_ handle: UInt64) -> (events: [Event], isOverrun: Bool)? {
        guard let watch = watches[handle], !watch.events.isEmpty || watch.isOverrun else { return nil }
        watches[handle]?.events = []
        watches[handle]?.isOverrun = false
        return (watch.events, watch.isOverrun)
    }

    /// The directory is about to go: whoever watches it is told so.
    mutating func end(_ directory: FileID) {
        for handle in byDirectory[directory] ?? [] {
            watches[handle]?.isGone = true
            guard let watch = watches[handle] else { continue }
            deliveries.append(Delivery(loop: watch.loop, tell: watch.tell))
        }
    }

    func isGone(_ handle: UInt64) -> Bool { watches[handle]?.isGone ?? false }

    mutating func told(_ handle: UInt64) { watches[handle]?.isTold = false }

    /// Something happened to the name at the end of `path`.
    mutating func post(_ action: WatchAction, _ filter: WatchFilter, _ path: FilePlace.Path) {
        guard !watches.isEmpty else { return }
        for (depth, directory) in path.ancestors.enumerated() {
            guard let handles = byDirectory[directory] else { continue }
            let isParent = depth == path.ancestors.count - 1
            for handle in handles {
                guard let watch = watches[handle], isParent || watch.isRecursive,
                    !watch.filter.isDisjoint(with: filter)
                else { continue }
                let event = Event(action: action, path: Array(path.components[depth...]))
                if watch.events.last == event { continue }
                if watch.events.count < Self.eventsMax {
                    watches[handle]?.events.append(event)
                } else {
                    watches[handle]?.isOverrun = true
                }
                guard !watch.isTold else { continue }
                watches[handle]?.isTold = true
                deliveries.append(Delivery(loop: watch.loop, tell: watch.tell))
            }
        }
    }

    mutating func takeDeliveries() -> [Delivery] {
        if deliveries.isEmpty { return [] }
        let taken = deliveries
        deliveries = []
        return taken
    }
}
