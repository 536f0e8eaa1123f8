import Headhunter

/// Forks: extents in their order and inside of their segments, attributes and streams that are whole.
extension Check {
    func takeOfFork(_ kind: KeyLayout.Kind, _ id: UInt64, _ key: [UInt8], _ value: [UInt8]) async throws(Failure) {
        guard id & KeyLayout.forkSpace != 0 else { return wrong(id, kind) }
        let number = id & ~KeyLayout.forkSpace
        if fork != number { try await beginFork(number) }
        switch kind {
        case .inline:
            let isRight = value.withUnsafeBytes { $0.isRecord(atLeast: 1) } && value.count <= 1 + Limits.inlineBytesMax
            if key.count != KeyLayout.prefixCount || !isRight { wrong(id, kind) }
        case .extent: takeExtent(number, key, value)
        case .target: if !value.withUnsafeBytes({ $0.isRecord(atLeast: 1) }) { wrong(id, kind) }
        case .xattr:
            let sizes = value.withUnsafeBytes { value in
                LongValue(value, max: Limits.xattrValueBytesMax).map { (length: $0.length, parts: $0.parts) }
            }
            let name = Array(key[KeyLayout.prefixCount...])
            guard let sizes, name.count <= Limits.xattrNameBytesMax else { return wrong(id, kind) }
            guard sizes.parts > 0 else { return }
            let isWhole = try await look { (records) throws(Halt) in
                try name.withUnsafeBytes { name in
                    Result { () throws(Halt) in
                        try records.longValue(id, .xattr, .xattrPart, name, sizes.length).count == sizes.length
                    }
                }.get()
            }
            if isWhole != true { report(.attributeParts(fork: number)) }
        case .xattrPart:
            if try await !isPart(id, .xattr, key, max: Limits.xattrValueBytesMax) {
                report(.attributeParts(fork: number))
            }
        case .stream:
            guard let stream = value.withUnsafeBytes({ $0.recordNumber }) else { return wrong(id, kind) }
            if try await isMarked(.reclaim, number) {
                // It goes with the file that is gone.
                streamsOwned.add(stream)
            } else if try await inode(stream) == nil {
                report(.streamOfNothing(inode: stream))
            }
        default: break
        }
    }

    private func beginFork(_ number: UInt64) async throws(Failure) {
        fork = number
        lastExtentEnd = 0
        if try await isMarked(.reclaim, number) { return }
        guard number < KeyLayout.forkNumbers else { return forksThere.add(number) }
        if try await inode(number)?.fork != number { report(.forkOfNobody(number)) }
    }

    private func takeExtent(_ number: UInt64, _ key: [UInt8], _ value: [UInt8]) {
        let found = key.withUnsafeBytes { key in value.withUnsafeBytes { Extent(key, $0) } }
        guard let extent = found else { return wrong(number | KeyLayout.forkSpace, .extent) }
        if extent.start < lastExtentEnd { report(.extentsOverlap(fork: number, at: extent.start)) }
        lastExtentEnd = extent.end
        live[extent.segment, default: 0] += extent.length
        if let size = sizes[extent.segment], UInt64(extent.offset) + extent.length > size {
            report(.extentOutsideSegment(fork: number, at: extent.start, segment: extent.segment))
        }
    }
}
