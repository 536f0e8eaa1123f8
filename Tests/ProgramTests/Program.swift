import CShim
import Foundation
import Runtime
import Synchronization
import TestSupport

/// A run of the program that was built with these tests.
final class Program: @unchecked Sendable {
    static let path = path(of: "proxyfs")

    /// The test bundle's process lies beside it.
    static func path(of program: String) -> String {
        URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath().deletingLastPathComponent()
            .appendingPathComponent(program).path
    }

    private let process = Process()
    /// There as long as the program may be.
    private let folder: Folder
    private let output = Capture()
    private let errors = Capture()

    var pid: Int32 { process.processIdentifier }
    var out: String { output.text }
    var err: String { errors.text }

    init(
        _ words: [String], of program: String = "proxyfs", in folder: Folder, environment: [String: String] = [:]
    ) throws {
        self.folder = folder
        process.executableURL = URL(fileURLWithPath: Self.path(of: program))
        process.arguments = words
        process.currentDirectoryURL = URL(fileURLWithPath: folder.path)
        process.environment = ProcessInfo.processInfo.environment.merging(environment) { _, new in new }
        process.standardInput = FileHandle.nullDevice
        process.standardOutput = output.pipe
        process.standardError = errors.pipe
        try process.run()
    }

    deinit { if process.isRunning { kill(pid, SIGKILL) } }

    /// The exit status, or minus the signal; nil when it still runs after `seconds`.
    func status(within seconds: Double = 30) async -> Int32? {
        guard await eventually(within: seconds, { !process.isRunning }) else { return nil }
        process.waitUntilExit()
        output.finish()
        errors.finish()
        return process.terminationReason == .exit ? process.terminationStatus : -process.terminationStatus
    }

    func isReady() async -> Bool {
        await eventually { out == "proxyfs: ready\n" || !process.isRunning } && process.isRunning
    }
    func logs(_ text: String) async -> Bool { await eventually { err.contains(text) } }
    func signal(_ number: Int32) { kill(pid, number) }
}

/// What comes out of a pipe, as it comes.
private final class Capture: Sendable {
    let pipe = Pipe()
    private let bytes = Mutex<[UInt8]>([])
    private let isDone = Mutex(false)

    /// A thread of its own reads: a handler of Foundation's was seen to sleep with bytes in the pipe.
    init() {
        let (pipe, bytes) = (pipe, Shared(self))
        Thread.detachNewThread {
            let fd = pipe.fileHandleForReading.fileDescriptor
            var buffer = [UInt8](repeating: 0, count: 65_536)
            while true {
                let count = read(fd, &buffer, buffer.count)
                if count < 0, errno == EINTR { continue }
                guard count > 0, let capture = bytes.capture else { break }
                capture.bytes.withLock { $0 += buffer[..<count] }
            }
            bytes.capture?.isDone.withLock { $0 = true }
        }
    }

    private final class Shared: @unchecked Sendable {
        weak var capture: Capture?
        init(_ capture: Capture) { self.capture = capture }
    }

    var text: String { bytes.withLock { String(decoding: $0, as: UTF8.self) } }

    func finish() {
        let deadline = shim_clock_monotonic() + 5_000_000_000
        while !isDone.withLock({ $0 }), shim_clock_monotonic() < deadline { usleep(1000) }
    }
}

/// A temporary folder that goes with the test.
final class Folder: Sendable {
    let path: String

    init() throws {
        path = NSTemporaryDirectory() + "proxyfs-test-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    func write(_ text: String, to name: String) throws -> String {
        let file = path + "/" + name
        try text.write(toFile: file, atomically: true, encoding: .utf8)
        return file
    }
}
