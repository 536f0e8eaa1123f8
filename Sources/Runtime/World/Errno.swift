import CShim

/// An operating system's error number: what every call of `Disk` and `Network` throws.
public struct Errno: Error, Equatable, Hashable, Sendable {
    public let code: Int32

    public init(_ code: Int32) { self.code = code }

    public static let noEntry = Errno(ENOENT)
    public static let exists = Errno(EEXIST)
    public static let noSpace = Errno(ENOSPC)
    public static let io = Errno(EIO)
    public static let invalid = Errno(EINVAL)
    public static let notDirectory = Errno(ENOTDIR)
    public static let isDirectory = Errno(EISDIR)
    public static let notEmpty = Errno(ENOTEMPTY)
    public static let wouldBlock = Errno(EAGAIN)
    public static let connectionReset = Errno(ECONNRESET)
    public static let connectionRefused = Errno(ECONNREFUSED)
    public static let addressInUse = Errno(EADDRINUSE)
    public static let timedOut = Errno(ETIMEDOUT)
    public static let readOnly = Errno(EROFS)
    public static let permission = Errno(EACCES)
    public static let quota = Errno(EDQUOT)
    public static let otherDevice = Errno(EXDEV)
    public static let tooManyLinks = Errno(EMLINK)
    public static let notPermitted = Errno(EPERM)
    public static let badDescriptor = Errno(EBADF)
    public static let canceled = Errno(ECANCELED)
}

extension Errno: CustomStringConvertible {
    public var description: String {
        guard let text = strerror(code) else { return "error \(code)" }
        return String(cString: text)
    }
}
