import CShim
import Namespace

/// An open file of the host; closed with the last who has it.
final class HostFile: Sendable {
    let descriptor: Int32

    /// Takes over what a call of the shim answered.
    init(_ descriptor: Int32) throws(HostError) {
        guard descriptor >= 0 else { throw HostError(-descriptor) }
        self.descriptor = descriptor
    }

    deinit { shim_close(descriptor) }

    /// What lies below this directory, and is no other file system's. With `cached` it throws `.wouldWait` rather than wait.
    func open(_ path: [UInt8], _ how: Int, cached: Bool = false) throws(HostError) -> HostFile {
        try HostFile(path.terminated { shim_host_open(descriptor, $0, Int32(how), cached ? 1 : 0) })
    }

    func find(_ path: [UInt8], cached: Bool) -> Result<HostFile, HostError> {
        Result { () throws(HostError) in try open(path, Int(SHIM_HOST_NAME), cached: cached) }
    }

    func reopen(_ how: Int) throws(HostError) -> HostFile { try HostFile(shim_host_reopen(descriptor, Int32(how))) }

    func status() throws(HostError) -> shim_host_status {
        var status = shim_host_status()
        try check(shim_host_status(descriptor, &status))
        return status
    }

    /// Nil: there is none. With a limit of 0 only whether there is one.
    func attribute(_ name: [UInt8], limit: Int) throws(HostError) -> [UInt8]? {
        var result: Int = 0
        let bytes = [UInt8](unsafeUninitializedCapacity: limit) { buffer, count in
            result = name.terminated { shim_host_attribute(descriptor, $0, buffer.baseAddress, limit) }
            count = min(max(0, result), limit)
        }
        if result >= 0 { return bytes }
        let error = HostError(Int32(truncatingIfNeeded: -result))
        // Not every file system, and no link or device, has attributes.
        if error.code == ENODATA || error.code == ENOTSUP || error.code == EPERM { return nil }
        throw error
    }

    func setAttribute(_ name: [UInt8], _ value: [UInt8]?) throws(HostError) {
        try name.terminated { name throws(HostError) in
            guard let value else { return try check(shim_host_set_attribute(descriptor, name, nil, 0)) }
            // One byte more, so that an empty value is none that is missing.
            let result = (value + [0]).withUnsafeBytes { bytes in
                shim_host_set_attribute(descriptor, name, bytes.baseAddress, value.count)
            }
            try check(result)
        }
    }
}

/// What the host said no with.
struct HostError: Error, Equatable {
    let code: Int32
    init(_ code: Int32) { self.code = code }

    static let wouldWait = HostError(EAGAIN)

    /// The name leads nowhere, or out of the directory: for those who use it there is nothing.
    var isAbsent: Bool { [ENOENT, ELOOP, EXDEV, ENOTDIR].contains(code) }

    var fileError: FileError {
        switch code {
        case ENOENT, ENXIO, EXDEV: .noEntry
        case EEXIST: .exists
        case ENOTDIR: .notDirectory
        case EISDIR: .isDirectory
        case ENOTEMPTY: .notEmpty
        case ENAMETOOLONG: .nameTooLong
        case ESTALE: .stale
        case EACCES: .accessDenied
        case EPERM: .notPermitted
        case EROFS: .readOnly
        case ENOSPC: .noSpace
        case EDQUOT: .quotaExceeded
        case EFBIG, EOVERFLOW: .fileTooBig
        // No link is followed: there was something else at the time of the look.
        case ELOOP: .stale
        case EMLINK: .tooManyLinks
        case ENODATA: .noAttribute
        case E2BIG, ERANGE: .attributeTooBig
        case EINVAL: .invalid
        case EOPNOTSUPP, ENOSYS: .notSupported
        case EBUSY, ETXTBSY, EAGAIN, EMFILE, ENFILE, ENOMEM: .delay
        default: .inputOutput("the host's error \(code)")
        }
    }
}

@discardableResult
func check<Number: SignedInteger>(_ result: Number) throws(HostError) -> Number {
    guard result >= 0 else { throw HostError(Int32(truncatingIfNeeded: -result)) }
    return result
}

func check(_ result: Int32) throws(HostError) {
    guard result >= 0 else { throw HostError(-result) }
}

extension [UInt8] {
    /// As a string of C; names have no zero bytes.
    func terminated<Value, Failure: Error>(
        _ body: (UnsafePointer<CChar>) throws(Failure) -> Value
    ) throws(Failure) -> Value {
        let text = self + [0]
        let result = text.withUnsafeBufferPointer { buffer in
            buffer.withMemoryRebound(to: CChar.self) { chars in
                Result { () throws(Failure) in
                    guard let start = chars.baseAddress else { preconditionFailure("a string has an end") }
                    return try body(start)
                }
            }
        }
        return try result.get()
    }
}
