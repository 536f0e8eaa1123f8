import Glibc
import Headhunter

/// Settings: what is kept with a subvolume beside its files, under names of its keepers' choice. Long values lie in
/// parts behind the record, as those of extended attributes do. One record sums up all of them, so that there is a limit.
extension LogFS {
    /// What lies in the record itself.
    private static let shortSettingBytesMax = 3000
    private static let settingPartBytes = 3000

    private static func checkSetting(_ name: UnsafeRawBufferPointer) throws(Halt) {
        guard name.count <= Limits.settingNameBytesMax else { throw .refused(.nameTooLong) }
        guard let base = name.baseAddress, name.count > 0, memchr(base, 0, name.count) == nil else {
            throw .refused(.badName)
        }
    }

    /// Nil: there is none of that name.
    public func setting(_ request: Request, _ name: UnsafeRawBufferPointer) -> Attempt<[UInt8]?> {
        read(request.reader) { (records) throws(Halt) -> [UInt8]? in
            try Self.checkSetting(name)
            guard let record = try records.get(records.scratch.key(0, .setting, name)) else { return nil }
            let length = Int(record.u32(1))
            var value = Array(record.from(5))
            value.reserveCapacity(length)
            for index in 0..<Self.settingParts(length) {
                guard let part = try records.get(records.scratch.key(0, .settingPart, name, index: UInt8(index))) else {
                    preconditionFailure("a setting lacks a part")
                }
                value.append(contentsOf: part.from(1))
            }
            return value
        }
    }

    /// Nil removes it, if it is there.
    @discardableResult
    public func setSetting(
        _ request: Request, _ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer?
    ) -> Attempt<Void> {
        change(request.reader) { (edit) throws(Halt) -> Void in
            if try edit.answer(request) != nil { return }
            try Self.checkSetting(name)
            if let value, value.count > Limits.settingValueBytesMax { throw .refused(.settingTooBig) }
            var sum = try edit.get(edit.scratch.key(0, .settings)).map { SettingsSum($0) } ?? SettingsSum()
            let old = try edit.removeSetting(name)
            if let old { sum.remove(name.count + old) }
            if let value {
                sum.add(name.count + value.count)
                guard sum.count <= Limits.settingsMax, sum.bytes <= Limits.settingsBytesMax else {
                    throw .refused(.tooManySettings)
                }
                edit.putSetting(name, value)
            }
            guard value != nil || old != nil else { return }
            let key = edit.scratch.key(0, .settings)
            edit.put(key, sum.store(edit.scratch.value))
            try edit.remember(request, 0)
        }
    }

    /// Shows the names that begin with `prefix`, in byte order, behind `name` (empty: from the first on). Answers whether there
    /// may be more.
    public func listSettings(
        _ request: Request, prefix: UnsafeRawBufferPointer, after name: UnsafeRawBufferPointer,
        limit: Int = Limits.listingMax, _ visit: (UnsafeRawBufferPointer) -> Void
    ) -> Attempt<Bool> {
        var found: [[UInt8]] = []
        let attempt = read(request.reader) { (records) throws(Halt) -> Bool in
            found.removeAll(keepingCapacity: true)
            guard prefix.count <= Limits.settingNameBytesMax, name.count <= Limits.settingNameBytesMax else {
                throw .refused(.nameTooLong)
            }
            // Behind the name itself comes the name with a zero.
            var start = records.scratch.key(0, .setting, name.count > 0 ? name : prefix)
            if name.count > 0 {
                records.scratch.base.storeBytes(of: 0, toByteOffset: start.count, as: UInt8.self)
                start = UnsafeRawBufferPointer(start: records.scratch.base, count: start.count + 1)
            }
            var isOver = false
            let more = try records.scan(from: start, budget: min(max(limit, 1), Limits.listingMax)) { key, _ in
                guard key.isKey(0, .setting), key.from(KeyLayout.prefixCount).starts(with: prefix) else {
                    isOver = true
                    return false
                }
                found.append(Array(key.from(KeyLayout.prefixCount)))
                return true
            }
            return more && !isOver
        }
        if case .done = attempt {
            for name in found { name.withUnsafeBytes { visit($0) } }
        }
        return attempt
    }

    static func settingParts(_ length: Int) -> Int {
        length > shortSettingBytesMax ? (length + settingPartBytes - 1) / settingPartBytes : 0
    }

    fileprivate static func settingPart(_ value: UnsafeRawBufferPointer, _ index: Int) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(
            rebasing: value[(index * settingPartBytes)..<min((index + 1) * settingPartBytes, value.count)])
    }
}

/// How many settings there are, and what they take.
struct SettingsSum: Equatable {
    var count: UInt32 = 0
    var bytes: UInt64 = 0

    init() {}

    init(_ record: UnsafeRawBufferPointer) {
        count = record.u32(1)
        bytes = record.u64(5)
    }

    mutating func add(_ size: Int) {
        count += 1
        bytes += UInt64(size)
    }

    mutating func remove(_ size: Int) {
        count -= 1
        bytes -= UInt64(size)
    }

    func store(_ memory: UnsafeMutableRawPointer) -> UnsafeRawBufferPointer {
        memory.put(KeyLayout.version, at: 0)
        memory.put(count, at: 1)
        memory.put(bytes, at: 5)
        return UnsafeRawBufferPointer(start: memory, count: 13)
    }
}

extension Editing {
    /// The length of its value, if it was there; the sum is the caller's.
    fileprivate func removeSetting(_ name: UnsafeRawBufferPointer) throws(Halt) -> Int? {
        guard let length = try get(scratch.key(0, .setting, name)).map({ Int($0.u32(1)) }) else { return nil }
        delete(scratch.key(0, .setting, name))
        for index in 0..<LogFS.settingParts(length) { delete(scratch.key(0, .settingPart, name, index: UInt8(index))) }
        return length
    }

    fileprivate func putSetting(_ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) {
        let memory = scratch.value
        let parts = LogFS.settingParts(value.count)
        memory.put(KeyLayout.version, at: 0)
        memory.put(UInt32(value.count), at: 1)
        if parts == 0, let source = value.baseAddress { memcpy(memory + 5, source, value.count) }
        let key = scratch.key(0, .setting, name)
        put(key, UnsafeRawBufferPointer(start: memory, count: 5 + (parts == 0 ? value.count : 0)))
        for index in 0..<parts {
            let part = LogFS.settingPart(value, index)
            memory.put(KeyLayout.version, at: 0)
            if let source = part.baseAddress { memcpy(memory + 1, source, part.count) }
            let key = scratch.key(0, .settingPart, name, index: UInt8(index))
            put(key, UnsafeRawBufferPointer(start: memory, count: 1 + part.count))
        }
    }
}
