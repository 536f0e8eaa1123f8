import CShim

/// Memory for input and output of the connections of one loop. Two sizes are pooled; the last one given back is the
/// first one taken, so a loop whose connections are quiet works in the same few cache-warm buffers all the time.
@usableFromInline
package final class BufferPool {
    package static var small: Int { 4 << 10 }
    @inlinable package static var large: Int { 64 << 10 }
    package static let smallKept = 1024
    package static let largeKept = 256

    @exclusivity(unchecked) private var smalls: [UnsafeMutableRawPointer] = []
    @exclusivity(unchecked) private var larges: [UnsafeMutableRawPointer] = []
    /// Bytes taken and not given back.
    @exclusivity(unchecked) package private(set) var inUse = 0

    /// Buffers that wait for their next use.
    package var kept: (smalls: Int, larges: Int) { (smalls.count, larges.count) }

    package init() {
        smalls.reserveCapacity(Self.smallKept)
        larges.reserveCapacity(Self.largeKept)
    }

    deinit {
        for buffer in smalls { buffer.deallocate() }
        for buffer in larges { buffer.deallocate() }
    }

    package func take(_ size: Int) -> UnsafeMutableRawPointer {
        inUse += size
        if size == Self.large, let buffer = larges.popLast() { return buffer }
        if size == Self.small, let buffer = smalls.popLast() { return buffer }
        return .allocate(byteCount: size, alignment: 64)
    }

    package func give(_ buffer: UnsafeMutableRawPointer, _ size: Int) {
        inUse -= size
        if size == Self.large, larges.count < Self.largeKept {
            larges.append(buffer)
        } else if size == Self.small, smalls.count < Self.smallKept {
            smalls.append(buffer)
        } else {
            buffer.deallocate()
        }
    }
}
