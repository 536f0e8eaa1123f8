// swift-tools-version: 6.1
import PackageDescription

// One place for what every Swift target is compiled with.
let strict: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("MemberImportVisibility"),
    // Own non-escapable readers over RawSpan need it; the standard library's spans are built with it too.
    .enableExperimentalFeature("Lifetimes"),
]

/// A room of the house. `needs` may only name rooms below it; `scripts/check-imports` holds us to that.
func room(_ name: String, _ needs: [Target.Dependency]) -> Target {
    .target(name: name, dependencies: needs, exclude: name == "Runtime" ? ["README.md"] : [], swiftSettings: strict)
}

func tests(_ name: String, _ needs: [Target.Dependency]) -> Target {
    .testTarget(name: name + "Tests", dependencies: needs + [.byName(name: name)], swiftSettings: strict)
}

/// While one works on a module: PROXYFS_TESTS="NFSTests RPCTests" leaves out every other test and benchmark.
let chosen = Context.environment["PROXYFS_TESTS"]?.split(separator: " ").map(String.init)
/// PROXYFS_NARROW=1 leaves out everything that those tests do not need, the programs too: for planted bugs.
let isNarrow = chosen != nil && Context.environment["PROXYFS_NARROW"] == "1"

/// The names of the targets that `roots` need, themselves included.
func needed(by roots: [String], among targets: [Target]) -> Set<String> {
    var found: Set<String> = []
    var open = roots
    while let name = open.popLast() {
        guard found.insert(name).inserted, let target = targets.first(where: { $0.name == name }) else { continue }
        for case .byNameItem(let need, _) in target.dependencies { open.append(need) }
    }
    return found
}

let package = Package(
    name: "proxyfs",
    products: isNarrow
        ? []
        : [
            .executable(name: "proxyfs", targets: ["proxyfs"]),
            .executable(name: "proxyfs-sim", targets: ["proxyfs-sim"]),
        ],
    targets: [
        // Ground floor: Debian's libraries and the one C shim.
        .systemLibrary(
            name: "COpenSSL", path: "Sources/System/COpenSSL", pkgConfig: "openssl", providers: [.apt(["libssl-dev"])]),
        .target(
            name: "CShim", cSettings: [.define("_GNU_SOURCE"), .unsafeFlags(["-O2", "-I/usr/include/tirpc"])],
            linkerSettings: [
                .linkedLibrary("curl"), .linkedLibrary("ssl"), .linkedLibrary("crypto"), .linkedLibrary("tirpc"),
                .linkedLibrary("gssapi_krb5"),
            ]),

        room("Bytes", ["CShim"]),
        room("Crypto", ["Bytes", "COpenSSL"]),
        room("Logging", []),
        room("Metrics", []),
        room("JSON", []),
        room("XML", []),
        room("Configuration", ["Logging"]),
        room("Runtime", ["Bytes", "CShim", "COpenSSL"]),
        room("Simulator", ["Bytes", "Runtime"]),
        room("ObjectStore", ["Bytes", "Runtime"]),
        room("Transfer", ["Bytes", "CShim", "Crypto", "Logging", "Runtime", "ObjectStore"]),
        room("S3Store", ["Bytes", "Crypto", "JSON", "Logging", "ObjectStore", "Runtime", "Transfer", "XML"]),
        room("SwiftStore", ["Bytes", "Crypto", "JSON", "Logging", "ObjectStore", "Runtime", "Transfer"]),
        room("Arbiter", ["Bytes", "Crypto", "JSON", "Logging", "ObjectStore", "Runtime", "Transfer"]),
        room("Headhunter", ["Bytes", "CShim", "Runtime", "ObjectStore"]),
        room("LogFS", ["Bytes", "Runtime", "Headhunter"]),
        room("Namespace", ["Bytes", "Configuration", "Runtime", "ObjectStore", "Headhunter", "LogFS", "Logging"]),
        room("Passthrough", ["CShim", "LogFS", "Namespace", "Runtime"]),
        room("RPC", ["Bytes", "CShim", "Logging", "Metrics", "Runtime"]),
        room("Kerberos", ["CShim", "Runtime"]),
        room("NFS", ["Bytes", "Kerberos", "Logging", "Metrics", "Namespace", "RPC", "Runtime"]),
        room("SMB", ["Bytes", "CShim", "Crypto", "Kerberos", "Logging", "Metrics", "Namespace", "Runtime"]),
        room("HTTP", ["Bytes", "Runtime"]),
        room("S3", ["Bytes", "Crypto", "HTTP", "JSON", "Logging", "Namespace", "Runtime", "XML"]),
        room("Admin", ["Bytes", "HTTP", "Logging", "Metrics", "Runtime"]),

        .executableTarget(
            name: "proxyfs",
            dependencies: [
                "Admin", "Arbiter", "Bytes", "CShim", "Configuration", "HTTP", "Headhunter", "JSON", "Kerberos",
                "LogFS",
                "Logging",
                "Metrics", "NFS", "Namespace", "ObjectStore", "Passthrough", "RPC", "Runtime", "S3", "S3Store", "SMB",
                "SwiftStore", "Transfer",
            ],
            swiftSettings: strict),
        // The engine under the simulator, for the tests and for longer runs by hand.
        room("Trials", ["Bytes", "Runtime", "Simulator", "ObjectStore", "Transfer", "Headhunter", "LogFS"]),
        .executableTarget(name: "proxyfs-sim", dependencies: ["Simulator", "Trials"], swiftSettings: strict),

        // What conformance/engine kills.
        .executableTarget(
            name: "crash-load", dependencies: ["Runtime", "Trials"], path: "conformance/engine/load",
            swiftSettings: strict),

        // Benchmarks stand beside a peer in C.
        .target(name: "CBench", path: "benchmarks/bytes/peer", cSettings: [.unsafeFlags(["-O2"])]),
        .executableTarget(
            name: "benchmark-bytes", dependencies: ["Bytes", "CBench"], path: "benchmarks/bytes",
            exclude: ["peer", "run"], swiftSettings: strict),

        .executableTarget(
            name: "benchmark-headhunter", dependencies: ["Bytes", "Runtime", "ObjectStore", "Headhunter"],
            path: "benchmarks/headhunter", exclude: ["run"], swiftSettings: strict),

        // An RPC server that does nothing, beside libtirpc's.
        .executableTarget(
            name: "benchmark-rpc", dependencies: ["Bytes", "Logging", "RPC", "Runtime"], path: "benchmarks/rpc",
            exclude: ["load.c", "peer.c", "run"], swiftSettings: strict),
        .executableTarget(
            name: "benchmark-namespace", dependencies: ["Headhunter", "LogFS", "Namespace", "ObjectStore", "Runtime"],
            path: "benchmarks/namespace",
            exclude: ["run"],
            swiftSettings: strict),
        .executableTarget(
            name: "benchmark-engine",
            dependencies: ["Bytes", "Runtime", "ObjectStore", "Headhunter", "LogFS", "Trials"],
            path: "benchmarks/engine", exclude: ["run", "crowd", "replay"], swiftSettings: strict),

        .executableTarget(
            name: "benchmark-stores",
            dependencies: [
                "Bytes", "Runtime", "Logging", "ObjectStore", "Transfer", "S3Store", "Headhunter", "LogFS",
            ],
            path: "benchmarks/stores", exclude: ["run"], swiftSettings: strict),

        .executableTarget(
            name: "bench-echo", dependencies: ["CShim", "Runtime"], path: "benchmarks/runtime/echo",
            swiftSettings: strict),

        // What several modules' tests need.
        .target(
            name: "TestSupport", dependencies: ["Bytes", "CShim", "RPC", "Runtime"], path: "Tests/TestSupport",
            swiftSettings: strict),
        // A server for the tests of the stores.
        .target(
            name: "StoreSupport", dependencies: ["Bytes", "HTTP", "Runtime"], path: "Tests/StoreSupport",
            swiftSettings: strict),
        // A client of SMB.
        .target(
            name: "SMBSupport", dependencies: ["Bytes", "Crypto", "Namespace", "Runtime", "SMB", "TestSupport"],
            path: "Tests/SMBSupport", swiftSettings: strict),
        .target(
            name: "WireSamples", dependencies: ["Bytes", "NFS", "RPC"], path: "Tests/WireSamples",
            swiftSettings: strict),
        // What our encoders write, for conformance/xdr to hold it against libtirpc's.
        .executableTarget(
            name: "xdr-samples", dependencies: ["WireSamples"], path: "conformance/xdr/Samples",
            swiftSettings: strict),
        .executableTarget(
            name: "benchmark-store-directory", dependencies: ["Bytes", "ObjectStore", "Runtime"],
            path: "benchmarks/store-directory", exclude: ["run"], swiftSettings: strict),

        tests("Bytes", ["CShim"]),
        tests("Runtime", ["Bytes", "CShim", "Simulator", "bench-echo"]),
        tests("Logging", []),
        tests("Configuration", ["Logging"]),
        tests("Simulator", ["Bytes", "Runtime"]),
        tests("ObjectStore", ["Bytes", "Runtime", "Simulator"]),
        tests("Transfer", ["Bytes", "ObjectStore", "Runtime", "StoreSupport"]),
        tests("S3Store", ["Bytes", "Crypto", "Logging", "ObjectStore", "Runtime", "StoreSupport", "Transfer", "XML"]),
        tests(
            "SwiftStore", ["Bytes", "Crypto", "JSON", "Logging", "ObjectStore", "Runtime", "StoreSupport", "Transfer"]),
        tests(
            "Arbiter",
            [
                "Bytes", "Crypto", "Headhunter", "JSON", "Logging", "ObjectStore", "Runtime", "Simulator",
                "StoreSupport", "Transfer",
            ]),
        tests("LogFS", ["Bytes", "Runtime", "Simulator", "ObjectStore", "Headhunter", "Trials"]),
        tests(
            "Namespace",
            [
                "Bytes", "Configuration", "Headhunter", "LogFS", "Logging", "ObjectStore", "Runtime", "Simulator",
                "TestSupport",
            ]),
        .testTarget(
            name: "PassthroughTests",
            dependencies: [
                "Bytes", "CShim", "Headhunter", "LogFS", "Namespace", "Passthrough", "Runtime", "Simulator",
                "TestSupport",
            ],
            exclude: ["differences.txt"], swiftSettings: strict),
        tests("Headhunter", ["Bytes", "Runtime", "Simulator", "ObjectStore", "Trials"]),
        tests("Metrics", []),
        tests("JSON", []),
        tests("Admin", ["Bytes", "HTTP", "Logging", "Metrics", "Runtime", "Simulator", "TestSupport"]),
        .testTarget(
            name: "ProgramTests",
            dependencies: [
                "Bytes", "CShim", "NFS", "RPC", "Runtime", "SMB", "SMBSupport", "TestSupport", "proxyfs", "proxyfs-sim",
            ],
            swiftSettings: strict),
        tests("RPC", ["Bytes", "CShim", "Logging", "Metrics", "Runtime", "TestSupport"]),
        tests(
            "NFS",
            [
                "Bytes", "CShim", "Kerberos", "Logging", "Namespace", "RPC", "Runtime", "Simulator", "TestSupport",
                "WireSamples",
            ]),
        tests(
            "SMB",
            ["Bytes", "CShim", "Crypto", "Kerberos", "Logging", "Namespace", "Runtime", "SMBSupport", "TestSupport"]),
        tests("HTTP", ["Bytes", "Runtime", "Simulator", "TestSupport"]),
        tests("Crypto", ["Bytes"]),
        tests(
            "S3",
            [
                "Bytes", "CShim", "Crypto", "HTTP", "Headhunter", "LogFS", "Logging", "Namespace", "Runtime",
                "TestSupport", "XML",
            ]),
    ].filter { target in
        guard let chosen else { return true }
        return target.type == .test ? chosen.contains(target.name) : !target.name.hasPrefix("benchmark")
    }
)

if isNarrow, let chosen {
    let names = needed(by: chosen, among: package.targets)
    package.targets.removeAll { !names.contains($0.name) }
}
