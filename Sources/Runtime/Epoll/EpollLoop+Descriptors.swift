import CShim

/// Descriptors that are no sockets, such as the kernel's notices of changed files.
extension EpollLoop {
    private final class Reading: EventSource {
        let tell: () -> Void
        init(_ tell: @escaping () -> Void) { self.tell = tell }
        override func ready(_ events: UInt32) { tell() }
    }

    /// Calls `tell` in each round in which something can be read, until `endReading`. False: the system does not take it. On
    /// the loop.
    package func whenReadable(_ descriptor: Int32, _ tell: @escaping () -> Void) -> Bool {
        add(Reading(tell), fd: descriptor, interest: UInt32(SHIM_READABLE)) == 0
    }

    /// On the loop.
    package func endReading(_ descriptor: Int32) { remove(fd: descriptor) }
}
