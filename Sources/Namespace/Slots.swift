/// Values under small numbers that are given out again when they are free: so other tables name them in four bytes.
struct Slots<Value> {
    private var values: ContiguousArray<Value> = []
    private var isUsed: ContiguousArray<Bool> = []
    private var free: ContiguousArray<UInt32> = []
    /// What stands in a free place.
    private let vacant: Value

    init(vacant: Value) { self.vacant = vacant }

    var count: Int { values.count - free.count }

    /// The place must be in use.
    subscript(place: UInt32) -> Value {
        @inline(__always) _read {
            precondition(isUsed[Int(place)], "a slot that is not in use")
            yield values[Int(place)]
        }
        @inline(__always) _modify {
            precondition(isUsed[Int(place)], "a slot that is not in use")
            yield &values[Int(place)]
        }
    }

    func contains(_ place: UInt32) -> Bool { Int(place) < values.count && isUsed[Int(place)] }

    /// The place that the next one gets.
    @inline(__always) var next: UInt32 { free.last ?? UInt32(values.count) }

    @inline(__always)
    mutating func insertNext(_ value: Value) {
        if let place = free.popLast() {
            values[Int(place)] = value
            isUsed[Int(place)] = true
        } else {
            values.append(value)
            isUsed.append(true)
        }
    }

    mutating func insert(_ value: Value) -> UInt32 {
        let place = next
        insertNext(value)
        return place
    }

    mutating func remove(_ place: UInt32) {
        precondition(isUsed[Int(place)], "a slot that is not in use")
        values[Int(place)] = vacant
        isUsed[Int(place)] = false
        free.append(place)
    }
}
