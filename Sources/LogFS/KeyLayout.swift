import Bytes

/// Where the records of a subvolume lie in its tree.
///
/// A key is an id (u64, big-endian), a kind (u8) and a sub-key; a value begins with a version byte, its numbers are
/// little-endian. The id's two highest bits say what it names, so that the inode records of a directory's files lie
/// side by side, and neither names nor data lie between them:
///
/// ```
/// id                 kind        sub-key                 value, behind the version byte
/// 0                  subvolume                           next inode u64, next fork u64, fold key 2 x u64,
///                                                        fold table's version u32
///                    orphan      inode u64               nothing: has no name, was open when it lost the last one
///                    reclaim     fork u64                nothing: belongs to no file, its keys are to be deleted
///                    unsettled   inode u64               nothing: a directory whose sums the parent does not know yet
///                    tail        inode u64               u64: extents from here on are not the file's any more
///                    token       client u64, id u64      see `RequestToken`
///                    tokenAge    client u64, serial u64  id u64
///                    tokenClient client u64              oldest serial u64, next serial u64
///                    setting     name                    length u32, then the value if it is short
///                    settingPart name, 0, index u8       a part of a long value
///                    settings                            count u32, bytes u64: of all settings
/// inode              inode                               see `Inode`
///                    link        directory, cookie u64   nothing: each name of an inode that has had several
/// directory | 1<<62  sums                                see `DirectorySums`
///                    name        name                    inode u64, cookie u64, type u8
///                    cookie      cookie u64              inode u64, type u8, name
///                    folded      hash u64, cookie u64    nothing: hash of the folded name, if the name is another
/// fork | 1<<63       inline                              the file's content, at most 2 KiB
///                    extent      end of the range u64    start u64, segment u64, offset u32
///                    target      index u8                a part of a symbolic link's target
///                    xattr       name                    length u32, then the value if it is short
///                    xattrPart   name, 0, index u8       a part of a long value
///                    stream      name                    inode u64: a file of its own, without a name elsewhere
/// ```
/// Numbers in keys are big-endian. An extent's key is where its range ends: the first key above an offset is the one
/// extent that can hold it.
enum KeyLayout {
    /// Of every value.
    static let version: UInt8 = 1

    static let directorySpace: UInt64 = 1 << 62
    static let forkSpace: UInt64 = 1 << 63
    /// Forks that are not a file's first one. The first one has the inode's number.
    static let forkNumbers: UInt64 = 1 << 61

    enum Kind: UInt8 {
        case subvolume = 1
        case orphan, reclaim, unsettled, tail, token, tokenAge, tokenClient, setting, settingPart, settings
        case inode = 16
        case link
        case sums = 32
        case name, cookie, folded
        case inline = 48
        case extent, target, xattr, xattrPart, stream
    }

    static let prefixCount = 9
    /// Of a key whose sub-key is a number, or two.
    static let numberedCount = 17
    static let doublyNumberedCount = 25
}

/// Builds keys and values in memory of its own: one for each reader, guarded by the reader's lock, and one for the
/// writer. A key is valid until the next one is built.
struct Scratch: @unchecked Sendable {
    static let keyCapacity = 1024
    static let valueCapacity = 4096
    let base: UnsafeMutableRawPointer

    init() {
        base = .allocate(byteCount: Self.keyCapacity + Self.valueCapacity + Self.memoSize, alignment: 64)
        remember(FileID(inode: 0, generation: 0), at: .max)
    }
    func deallocate() { base.deallocate() }

    // MARK: The last directory

    private static let memoSize = 24
    @inline(__always) private var memo: UnsafeMutableRawPointer { base + (Self.keyCapacity + Self.valueCapacity) }

    /// Whether this was a directory when the trees had changed so often.
    @inline(__always) func remembers(_ directory: FileID, at changes: UInt64) -> Bool {
        memo.load(as: UInt64.self) == directory.inode
            && memo.load(fromByteOffset: 8, as: UInt64.self) == directory.generation
            && memo.load(fromByteOffset: 16, as: UInt64.self) == changes
    }

    @inline(__always) func remember(_ directory: FileID, at changes: UInt64) {
        memo.storeBytes(of: directory.inode, as: UInt64.self)
        memo.storeBytes(of: directory.generation, toByteOffset: 8, as: UInt64.self)
        memo.storeBytes(of: changes, toByteOffset: 16, as: UInt64.self)
    }

    var value: UnsafeMutableRawPointer { base + Self.keyCapacity }

    @inline(__always) private func prefix(_ id: UInt64, _ kind: KeyLayout.Kind) {
        base.storeBytes(of: id.bigEndian, as: UInt64.self)
        base.storeBytes(of: kind.rawValue, toByteOffset: 8, as: UInt8.self)
    }

    @inline(__always) func key(_ id: UInt64, _ kind: KeyLayout.Kind) -> UnsafeRawBufferPointer {
        prefix(id, kind)
        return UnsafeRawBufferPointer(start: base, count: 9)
    }

    @inline(__always) func key(_ id: UInt64, _ kind: KeyLayout.Kind, _ number: UInt64) -> UnsafeRawBufferPointer {
        prefix(id, kind)
        base.storeBytes(of: number.bigEndian, toByteOffset: 9, as: UInt64.self)
        return UnsafeRawBufferPointer(start: base, count: 17)
    }

    @inline(__always)
    func key(_ id: UInt64, _ kind: KeyLayout.Kind, _ first: UInt64, _ second: UInt64) -> UnsafeRawBufferPointer {
        prefix(id, kind)
        base.storeBytes(of: first.bigEndian, toByteOffset: 9, as: UInt64.self)
        base.storeBytes(of: second.bigEndian, toByteOffset: 17, as: UInt64.self)
        return UnsafeRawBufferPointer(start: base, count: 25)
    }

    /// `name` is not longer than `Limits.nameBytesMax`.
    @inline(__always)
    func key(_ id: UInt64, _ kind: KeyLayout.Kind, _ name: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
        prefix(id, kind)
        precondition(name.count <= Self.keyCapacity - 16)
        if let source = name.baseAddress { (base + 9).copyMemory(from: source, byteCount: name.count) }
        return UnsafeRawBufferPointer(start: base, count: 9 + name.count)
    }

    func key(_ id: UInt64, _ kind: KeyLayout.Kind, index: UInt8) -> UnsafeRawBufferPointer {
        prefix(id, kind)
        base.storeBytes(of: index, toByteOffset: 9, as: UInt8.self)
        return UnsafeRawBufferPointer(start: base, count: 10)
    }

    /// The 0 keeps the parts of a name apart from those of longer ones: names hold none.
    func key(
        _ id: UInt64, _ kind: KeyLayout.Kind, _ name: UnsafeRawBufferPointer, index: UInt8
    ) -> UnsafeRawBufferPointer {
        let bare = key(id, kind, name)
        base.storeBytes(of: 0, toByteOffset: bare.count, as: UInt8.self)
        base.storeBytes(of: index, toByteOffset: bare.count + 1, as: UInt8.self)
        return UnsafeRawBufferPointer(start: base, count: bare.count + 2)
    }
}

extension UnsafeRawBufferPointer {
    /// Whether a key met in a scan still has this id and kind.
    @inline(__always) func isKey(_ id: UInt64, _ kind: KeyLayout.Kind) -> Bool {
        guard count >= KeyLayout.prefixCount, let base = baseAddress else { return false }
        return UInt64(bigEndian: base.loadUnaligned(as: UInt64.self)) == id
            && base.load(fromByteOffset: 8, as: UInt8.self) == kind.rawValue
    }

    /// A big-endian number of a key's sub-key.
    @inline(__always) func keyNumber(at offset: Int = KeyLayout.prefixCount) -> UInt64 {
        UInt64(bigEndian: loadUnaligned(fromByteOffset: offset, as: UInt64.self))
    }

    @inline(__always) func u64(_ offset: Int) -> UInt64 {
        UInt64(littleEndian: loadUnaligned(fromByteOffset: offset, as: UInt64.self))
    }
    @inline(__always) func i64(_ offset: Int) -> Int64 { Int64(bitPattern: u64(offset)) }
    @inline(__always) func u32(_ offset: Int) -> UInt32 {
        UInt32(littleEndian: loadUnaligned(fromByteOffset: offset, as: UInt32.self))
    }
    @inline(__always) func u16(_ offset: Int) -> UInt16 {
        UInt16(littleEndian: loadUnaligned(fromByteOffset: offset, as: UInt16.self))
    }
    @inline(__always) func from(_ offset: Int) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(rebasing: self[offset...])
    }
}

extension UnsafeMutableRawPointer {
    @inline(__always) func put(_ value: UInt64, at offset: Int) {
        storeBytes(of: value.littleEndian, toByteOffset: offset, as: UInt64.self)
    }
    @inline(__always) func put(_ value: Int64, at offset: Int) { put(UInt64(bitPattern: value), at: offset) }
    @inline(__always) func put(_ value: UInt32, at offset: Int) {
        storeBytes(of: value.littleEndian, toByteOffset: offset, as: UInt32.self)
    }
    @inline(__always) func put(_ value: UInt16, at offset: Int) {
        storeBytes(of: value.littleEndian, toByteOffset: offset, as: UInt16.self)
    }
    @inline(__always) func put(_ value: UInt8, at offset: Int) {
        storeBytes(of: value, toByteOffset: offset, as: UInt8.self)
    }
}
