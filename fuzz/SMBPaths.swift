// modules: Bytes
// with: Sources/SMB/Files/SMBPath.swift Sources/SMB/Files/NamePattern.swift Sources/SMB/Message/UTF16Name.swift Sources/SMB/Message/NTStatus.swift Sources/SMB/Message/SMB2.swift
// inputs: 5000000
// lines: 95
// longest: 1024
// covers: Sources/SMB/Files/SMBPath.swift Sources/SMB/Files/NamePattern.swift
import Bytes

enum SMBHalt: Error {
    case status(NTStatus)
}

/// The first byte says how long the pattern is; what follows it is a path, which the pattern is held against.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ data: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let input = UnsafeRawBufferPointer(start: data, count: count)
    guard let first = input.first else { return 0 }
    let pattern = NamePattern(UnsafeRawBufferPointer(rebasing: input.dropFirst().prefix(Int(first))))
    let rest = UnsafeRawBufferPointer(rebasing: input.dropFirst(1 + Int(first)))
    guard let path = try? SMBPath(rest) else { return 0 }
    precondition(path.components.count <= SMBPath.componentsMax)
    for component in path.components {
        precondition(!component.isEmpty && !component.contains(0) && !component.contains(UInt8(ascii: "/")))
        precondition(component != [0x2E] && component != [0x2E, 0x2E], "a way up")
        component.withUnsafeBytes { bytes in
            var units: [UInt16] = []
            UTF16Name.units(of: bytes) { units.append($0) }
            // What a name is shown as is a path of one component, and leads back to it.
            precondition((try? SMBPath(units))?.components == [component], "a name that is another one")
            // It matches itself, and everything.
            precondition(NamePattern(units).matches(bytes), "a name does not match itself")
            precondition(NamePattern([0x2A]).matches(bytes) && NamePattern([0x2A, 0x2A]).matches(bytes))
            if let pattern {
                precondition(pattern.namesPerTurn >= 16)
                _ = pattern.matches(bytes)
            }
        }
    }
    if let stream = path.stream { precondition(!stream.isEmpty && !stream.contains(0) && !stream.contains(0x2F)) }
    return 0
}
