/// The names by which something is open, by their numbers.
struct OpenNames {
    struct Entry {
        var place: Sharing.PlaceName
        var opens: Int
    }

    private struct Slot {
        var number: UInt64
        var entry: Entry
    }

    private var slots: Slots<Slot>
    private var index: SlotIndex

    init(seed: UInt64) {
        index = SlotIndex(seed: seed)
        let nowhere = FileID(subvolume: 0, inode: 0, generation: 0)
        slots = Slots(vacant: Slot(number: 0, entry: Entry(place: Sharing.PlaceName(directory: nowhere, name: []), opens: 0)))
    }

    @inline(__always)
    private func place(_ number: UInt64) -> UInt32? { index.find(number) { slots[$0].number == number } }

    subscript(number: UInt64) -> Entry? { place(number).map { slots[$0].entry } }

    /// One open more comes by the name.
    mutating func open(_ number: UInt64, _ name: Sharing.PlaceName) {
        if let place = place(number) {
            slots[place].entry.opens += 1
        } else {
            insert(number, Entry(place: name, opens: 1))
        }
    }

    /// One of them is closed. Answers the name; nil: it is not the file's any more.
    mutating func close(_ number: UInt64) -> Sharing.PlaceName? {
        guard let place = place(number) else { return nil }
        let name = slots[place].entry.place
        slots[place].entry.opens -= 1
        if slots[place].entry.opens == 0 {
            index.remove(number, place)
            slots.remove(place)
        }
        return name
    }

    /// There is none of this number.
    mutating func insert(_ number: UInt64, _ entry: Entry) {
        index.insert(number, slots.insert(Slot(number: number, entry: entry)))
    }

    mutating func remove(_ number: UInt64) -> Entry? {
        guard let place = place(number) else { return nil }
        let entry = slots[place].entry
        index.remove(number, place)
        slots.remove(place)
        return entry
    }

    /// The directories that they are in, and files with streams.
    var homes: Set<FileID> {
        var homes: Set<FileID> = []
        index.visitAll { homes.insert(slots[$0].entry.place.directory) }
        return homes
    }
}
