import Bytes
import CShim
import Glibc
import ObjectStore
import Runtime

/// A thread of its own that moves many requests at once over libcurl, with connections that live on between them.
///
/// Nothing blocks but the thread's one wait; a connection that hangs holds up its own request alone, and that until its
/// limit. What has ended or was given up leaves the pool with its connection.
public final class TransferPool: Sendable {
    public struct Options: Sendable {
        /// Connections at once, idle ones included.
        public var connectionsMax = 64
        public var connectMilliseconds = 10_000
        /// A request in which nothing moves for this long has failed.
        public var silentSeconds = 20
        /// Certificates of who may sign for servers: a file, a directory. Nil: the system's.
        public var authoritiesFile: String?
        public var authoritiesDirectory: String?
        /// Nil: none, whatever the environment says: what a server does is told in one place.
        public var proxy: String?

        public init() {}
    }

    /// Requests under way and waiting; the store above admits fewer.
    public static let requestsMax = 4_096
    private static let waitMilliseconds: Int32 = 1_000
    /// Between one failure of libcurl's and the next try.
    private static let pauseMicroseconds: UInt32 = 100_000

    private let worker: Worker
    private let thread = Guarded<UInt64?>(nil)
    private let counts = Guarded(ObjectStore.Sent())

    /// Starts the thread.
    public init(_ name: String, _ options: Options = Options()) throws(TransferFailure) {
        guard Self.isReady, let pool = shim_curl_pool_create(options.connectionsMax) else {
            throw TransferFailure(.refused, "libcurl can not begin")
        }
        worker = Worker(pool, options)
        var id: UInt64 = 0
        let context = Unmanaged.passRetained(worker)
        let started = shim_thread_start(
            name,
            { context in
                guard let context else { return }
                Unmanaged<Worker>.fromOpaque(context).takeRetainedValue().run()
            }, context.toOpaque(), &id)
        guard started == 0 else {
            context.release()
            throw TransferFailure(.refused, "no thread for transfers: \(Errno(-started))")
        }
        let thread = id
        self.thread.withLock { $0 = thread }
    }

    deinit { worker.post(.stop) }

    private static let isReady = shim_curl_begin() == 0

    /// Sends a request and waits for its answer. Answers on the caller's executor.
    /// A task that is canceled gives the request up.
    public func perform(_ request: TransferRequest) async -> TransferReply {
        count(request)
        let transfer = Transfer(request)
        let worker = worker
        return await withTaskCancellationHandler {
            await withUnsafeContinuation { (continuation: UnsafeContinuation<TransferReply, Never>) in
                transfer.continuation = continuation
                worker.post(.start(transfer))
            }
        } onCancel: {
            worker.post(.cancel(transfer))
        }
    }

    /// What it was asked to send so far.
    public var sent: ObjectStore.Sent { counts.withLock { $0 } }

    private func count(_ request: TransferRequest) {
        counts.withLock { counts in
            switch (request.purpose, request.method) {
            case (.access, _): counts.tokens += 1
            case (.listing, _): counts.lists += 1
            case (.object, .put): counts.puts += 1
            case (.object, .get): counts.gets += 1
            case (.object, .head): counts.heads += 1
            case (.object, .delete): counts.deletes += 1
            case (.object, .post): counts.posts += 1
            }
        }
    }

    /// Ends what is under way, then the thread, without waiting for it. Idempotent.
    public func end() { worker.post(.stop) }

    /// The same, and waits for the thread. Idempotent.
    public func stop() {
        worker.post(.stop)
        thread.withLock { thread in
            if let id = thread { shim_thread_join(id) }
            thread = nil
        }
    }

    // MARK: The thread

    private enum Order {
        case start(Transfer)
        case resume(Transfer)
        case cancel(Transfer)
        case stop
    }

    private struct Mailbox {
        var orders: [Order] = []
        var isStopped = false
    }

    /// All but `post` is its thread's.
    private final class Worker: @unchecked Sendable {
        private let pool: UnsafeMutableRawPointer
        private let options: Options
        private let mailbox = Guarded(Mailbox())
        private var active: [UnsafeMutableRawPointer: Transfer] = [:]
        private var idle: [Handle] = []
        private var isStopping = false

        init(_ pool: UnsafeMutableRawPointer, _ options: Options) {
            self.pool = pool
            self.options = options
        }

        deinit { shim_curl_pool_destroy(pool) }

        func post(_ order: Order) {
            let isTaken = mailbox.withLock { box in
                guard !box.isStopped else { return false }
                box.orders.append(order)
                // Under the lock: the pool is not taken apart meanwhile.
                shim_curl_pool_wake(pool)
                return true
            }
            if !isTaken, case .start(let transfer) = order {
                transfer.end(failed: TransferFailure(.refused, "transfers have stopped"))
            }
        }

        func run() {
            while !isStopping {
                let code = shim_curl_pool_perform(pool, TransferPool.waitMilliseconds)
                if code != 0 { endAll(code) }
                settle()
                let orders = mailbox.withLock { box in
                    defer { box.orders.removeAll(keepingCapacity: true) }
                    return box.orders
                }
                for order in orders { obey(order) }
            }
            let rest = mailbox.withLock { box in
                box.isStopped = true
                defer { box.orders.removeAll() }
                return box.orders
            }
            for order in rest { obey(order) }
            for transfer in Array(active.values) {
                finish(transfer) { $0.end(failed: TransferFailure(.refused, "transfers have stopped")) }
            }
            for handle in idle { handle.destroy() }
            idle.removeAll()
        }

        /// No memory, no descriptors: what is under way ends, which frees some, and others are not to pay for it with the
        /// whole process.
        private func endAll(_ code: Int32) {
            for transfer in Array(active.values) {
                finish(transfer) { $0.end(failed: TransferFailure(.broken, "libcurl can not go on, code \(code)")) }
            }
            usleep(TransferPool.pauseMicroseconds)
        }

        private func obey(_ order: Order) {
            switch order {
            case .start(let transfer):
                guard !isStopping else {
                    return transfer.end(failed: TransferFailure(.refused, "transfers have stopped"))
                }
                start(transfer)
            case .resume(let transfer):
                if let handle = transfer.handle { shim_curl_transfer_resume(handle.pointer) }
            case .cancel(let transfer):
                // It may come before what it cancels.
                transfer.isCanceled = true
                finish(transfer) { $0.end(failed: Self.canceled) }
            case .stop: isStopping = true
            }
        }

        private static let canceled = TransferFailure(.canceled, "given up")

        private func start(_ transfer: Transfer) {
            guard !transfer.isCanceled else { return transfer.end(failed: Self.canceled) }
            guard active.count < TransferPool.requestsMax else {
                return transfer.end(failed: TransferFailure(.refused, "too many requests wait for a connection"))
            }
            guard let handle = idle.popLast() ?? Handle.make() else {
                return transfer.end(failed: TransferFailure(.refused, "no memory for a request"))
            }
            if case .queue(let queue, _) = transfer.request.body {
                queue.begin { [weak self, weak transfer] in
                    guard let self, let transfer else { return }
                    post(.resume(transfer))
                }
            }
            guard transfer.start(on: handle, pool, options) else {
                idle.append(handle)
                return transfer.end(
                    failed: TransferFailure(.refused, "libcurl refuses the request \(transfer.request)"))
            }
            active[handle.pointer] = transfer
        }

        private func settle() {
            var failure = SHIM_CURL_FINE
            while let pointer = shim_curl_pool_ended(pool, &failure) {
                guard let transfer = active[pointer] else { continue }
                let how = failure
                finish(transfer) { $0.end(how) }
            }
        }

        private func finish(_ transfer: Transfer, _ end: (Transfer) -> Void) {
            guard let handle = transfer.handle else { return }
            shim_curl_transfer_remove(pool, handle.pointer)
            active[handle.pointer] = nil
            end(transfer)
            transfer.handle = nil
            if idle.count < options.connectionsMax { idle.append(handle) } else { handle.destroy() }
        }
    }
}
