import CShim
import Glibc
import Metrics
import Runtime

extension MetricsRegistry {
    /// What the process itself uses.
    func addProcess(_ clock: any WorldClock) {
        let started = clock.monotonic()
        let startedAt = Double(clock.wall()) / 1e9
        add("proxyfs_build_info", .gauge, "Always 1; the labels tell the version.") {
            [Sample(1, [("version", Version.number)])]
        }
        add("process_start_time_seconds", .gauge, "When the process began, in seconds since 1970.") {
            [Sample(startedAt)]
        }
        add("proxyfs_uptime_seconds", .gauge, "Since the process began, whatever the clock did.") {
            [Sample(Double(clock.monotonic() - started) / 1e9)]
        }
        add("process_cpu_seconds_total", .counter, "Processor time that was used.") {
            var usage = rusage()
            getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
            func seconds(_ time: timeval) -> Double { Double(time.tv_sec) + Double(time.tv_usec) / 1e6 }
            return [Sample(seconds(usage.ru_utime) + seconds(usage.ru_stime))]
        }
        add("process_resident_memory_bytes", .gauge, "Memory that is in use now.") { [Sample(Self.residentBytes)] }
        add("process_max_fds", .gauge, "Files and connections that may be open.") {
            var soft: UInt64 = 0
            var hard: UInt64 = 0
            shim_open_files_limits(&soft, &hard)
            return [Sample(soft)]
        }
    }

    private static var residentBytes: Int {
        let file = open("/proc/self/statm", O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { return 0 }
        defer { close(file) }
        var buffer = [UInt8](repeating: 0, count: 128)
        let count = read(file, &buffer, buffer.count)
        let words = String(decoding: buffer.prefix(max(count, 0)), as: UTF8.self).split(separator: " ")
        guard words.count > 1, let pages = Int(words[1]) else { return 0 }
        return pages * sysconf(Int32(_SC_PAGESIZE))
    }
}
