import Glibc
import Headhunter

/// Settings: what is kept with a subvolume beside its files, under names of its keepers' choice. Long values lie in
/// parts behind the record, as those of extended attributes do. One record sums up all of them, so that there is a limit.
extension LogFS {
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
            guard let length = try records.settingLength(name) else { return nil }
            return try records.longValue(0, .setting, .settingPart, name, length)
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
            var sum = try edit.settingsSum()
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
}

extension Records {
    fileprivate func settingLength(_ name: UnsafeRawBufferPointer) throws(Halt) -> Int? {
        guard let value = try get(scratch.key(0, .setting, name)) else { return nil }
        guard let record = LongValue(value, max: Limits.settingValueBytesMax) else { throw .wrong(0, .setting) }
        return record.length
    }

    fileprivate func settingsSum() throws(Halt) -> SettingsSum {
        guard let value = try get(scratch.key(0, .settings)) else { return SettingsSum() }
        guard let sum = SettingsSum(value) else { throw .wrong(0, .settings) }
        return sum
    }
}

extension Editing {
    /// The length of its value, if it was there; the sum is the caller's.
    fileprivate func removeSetting(_ name: UnsafeRawBufferPointer) throws(Halt) -> Int? {
        guard let length = try settingLength(name) else { return nil }
        delete(scratch.key(0, .setting, name))
        for index in 0..<LongValue.parts(length) { delete(scratch.key(0, .settingPart, name, index: UInt8(index))) }
        return length
    }

    fileprivate func putSetting(_ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) {
        putLongValue(0, .setting, .settingPart, name, value)
    }
}
