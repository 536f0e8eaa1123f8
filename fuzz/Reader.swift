// modules: Bytes
// with: Tests/BytesTests/ReaderProgram.swift
// covers: Sources/Bytes/Reader.swift
import Bytes

/// The first half is a program of calls, the second the memory that they read.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ data: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let input = UnsafeRawBufferPointer(start: data, count: count)
    runReader(
        program: UnsafeRawBufferPointer(rebasing: input.prefix(count / 2)),
        memory: UnsafeRawBufferPointer(rebasing: input.dropFirst(count / 2)))
    return 0
}
