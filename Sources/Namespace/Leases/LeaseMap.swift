import Bytes

/// Values by lease keys. Clients choose the keys, and there are as many as open files: a dictionary would take twice the memory.
package struct LeaseMap<Value> {
    private struct Entry {
        var key: LeaseKey
        var value: Value
    }

    /// Nil in free places alone.
    private var entries = Slots<Entry?>(vacant: nil)
    private var index: SlotIndex
    private let hash: KeyedHash

    /// `seed` is secret.
    package init(seed: UInt64) {
        index = SlotIndex(seed: seed)
        hash = KeyedHash(seed, ~seed)
    }

    package var count: Int { entries.count }

    /// One of them.
    package var any: Value? { count == 0 ? nil : index.first.flatMap { entries[$0]?.value } }

    private func mixed(_ key: LeaseKey) -> UInt64 { withUnsafeBytes(of: key) { hash($0) } }

    private func place(_ key: LeaseKey, _ mixed: UInt64) -> UInt32? { index.find(mixed) { entries[$0]?.key == key } }

    package subscript(key: LeaseKey) -> Value? {
        get { count == 0 ? nil : place(key, mixed(key)).flatMap { entries[$0]?.value } }
        set {
            let mixed = mixed(key)
            switch (place(key, mixed), newValue) {
            case (let place?, let value?): entries[place] = Entry(key: key, value: value)
            case (nil, let value?): index.insert(mixed, entries.insert(Entry(key: key, value: value)))
            case (let place?, nil):
                index.remove(mixed, place)
                entries.remove(place)
            case (nil, nil): break
            }
        }
    }
}
