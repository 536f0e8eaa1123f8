import Configuration
import Headhunter
import JSON
import LogFS
import Logging
import Namespace
import Runtime

/// Reads all of a volume that nobody serves, makes anew what its records should say, and names each difference.
enum FsckCommand {
    static func run(_ words: [String]) throws(CommandFailure) -> ExitStatus {
        var rest: [String] = []
        var name: String?
        var isJSON = false
        var readsData = true
        var words = words[...]
        while let word = words.popFirst() {
            switch word {
            case "--json": isJSON = true
            case "--metadata": readsData = false
            case "--config", "--data":
                guard let value = words.popFirst() else { throw .misuse("fsck: \(word) needs a value") }
                rest += [word, value]
            default:
                guard !word.hasPrefix("-"), name == nil else {
                    throw .misuse("fsck: unknown word \"\(word)\"; see proxyfs fsck --help")
                }
                name = word
            }
        }
        guard let name else { throw .misuse("fsck: VOLUME is missing; see proxyfs fsck --help") }
        let settings = try Settings(Settings.options(rest, of: "fsck"))
        let findings = try check(name, settings, readsData: readsData)
        Terminal.print(isJSON ? json(name, findings) : text(name, findings))
        return findings.count == 0 ? .success : .failure
    }

    private static func check(
        _ name: String, _ settings: Settings, readsData: Bool
    ) throws(CommandFailure) -> HostedVolume.Findings {
        if let fault = Configuration.fault(inVolumeName: name) { throw .misuse("fsck \"\(name)\": \(fault)") }
        let data = settings.configuration.data
        let server: World
        let places: (store: String, log: Configuration.LogPlace, isReadOnly: Bool)
        do throws(Errno) {
            let disk = try RealDisk(path: data)
            places = VolumeHost.places(of: name, settings.configuration, disk)
            server = try World.real(disk: disk, loops: 1)
        } catch {
            throw .failure("fsck \(name): can not open \(data): \(error); name the data directory with --data")
        }
        let store = places.store
        let home = try VolumeHost.home(of: name, places.log, world: server, data: data)
        let (world, folder) = (home.world, home.folder)
        // Nothing is made where there was nothing.
        do throws(Errno) { _ = try world.disk.status(folder + "/log") } catch {
            throw .failure("fsck \(name): can not open \(home.path): \(error); name the data directory with --data")
        }
        let loop = world.loops[0]
        var options = HeadhunterOptions(settings.configuration.engine)
        options.follows = places.isReadOnly
        let checked = options
        let described = try StoreCommand.describe(store, settings.configuration)
        let connected = try described.map { (store) throws(CommandFailure) in
            try ConnectedStore(store, world: world, loop: loop, isReadOnly: true)
        }
        defer { connected?.stop() }
        let progress = Guarded((records: Progress("records", unit: "records"), data: Progress("data", unit: "bytes")))
        let result = Offline.wait(on: loop) { () async -> Result<HostedVolume.Findings, HostingError> in
            do throws(HostingError) {
                let findings = try await HostedVolume.check(
                    name, folder: folder, world: world, loop: loop, options: checked, readsData: readsData,
                    connect: connected?.connect(creates: false)
                ) { step in
                    progress.withLock { progress in
                        switch step {
                        case .records(let count): progress.records.at(count)
                        case .data(let done, let total): progress.data.at(done, of: total)
                        }
                    }
                }
                return .success(findings)
            } catch { return .failure(error) }
        }
        progress.withLock { progress in
            progress.records.finish()
            progress.data.finish()
        }
        switch result {
        case .success(let findings): return findings
        case .failure(.inUse):
            throw .failure("fsck \(name): a server or another command has the volume; stop that first, then try again")
        case .failure(let error): throw .failure("fsck \(name): \(VolumeHost.text(error))")
        }
    }

    private static func text(_ name: String, _ findings: HostedVolume.Findings) -> String {
        if findings.count == 0 { return "volume \(name): no differences\n" }
        var text = findings.differences.map { "\(Terminal.plain($0.path ?? "-"))  \(Terminal.plain($0.what))\n" }
            .joined()
        let rest = findings.count - findings.differences.count
        if rest > 0 { text += "and \(rest) more\n" }
        return text + "volume \(name): \(findings.count) differences\n"
    }

    private static func json(_ name: String, _ findings: HostedVolume.Findings) -> String {
        let list = findings.differences.map { difference -> JSON in
            ["path": difference.path.map { .string($0) } ?? .null, "what": .string(difference.what)]
        }
        let json: JSON = ["volume": .string(name), "count": .number(findings.count), "differences": .array(list)]
        return json.description + "\n"
    }
}
