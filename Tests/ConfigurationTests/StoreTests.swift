import Configuration
import Logging
import Testing

@Suite struct StoreTests {
    private func load(_ text: String) -> Result<Configuration, Configuration.Invalid> {
        do throws(Configuration.Invalid) {
            return .success(try Configuration.load(Array(text.utf8), file: "p.toml").configuration)
        } catch { return .failure(error) }
    }

    @Test func addresses() throws {
        let store = try Configuration.Store(
            address: "s3://bucket/some/where/?endpoint=https://h:1&region=eu&addressing=path&conditional=false",
            place: "here")
        #expect(store.kind == .s3 && store.bucket == "bucket" && store.prefix == "some/where")
        #expect(store.endpoint == "https://h:1" && store.region == "eu" && store.addressing == .path)
        #expect(!store.createsIfAbsent && store.address == "s3://bucket/some/where")
        let swift = try Configuration.Store(address: "swift://container", place: "here")
        #expect(swift.kind == .swift && swift.bucket == "container" && swift.prefix == "")
        for bad in [
            "", "directory", "s3:bucket", "s3://", "s3:///x", "ftp://x", "s3://b//x", "s3://b/a//b", "s3://b/a b",
            "s3://b?secret_key=x", "s3://b?conditional=maybe", "s3://b?addressing=none", "s3://b?x", "s3://b/\u{e9}",
            "s3://b/" + String(repeating: "x", count: 513),
        ] {
            #expect(throws: Issue.self, "\(bad)") { try Configuration.Store(address: bad, place: "here") }
        }
    }

    @Test func whatIsToldOfABadAddressHasNoSecrets() throws {
        let configuration = try load("").get()
        for bad in [
            "s3://b?secret_key=HUSH", "s3://b?secret_key=HUSH&x", "s3://b?region=eu&HUSH", "s3://KEY:HUSH@bucket/x",
            "s3://KEY:HU/HUSH@bucket/x", "s3://KEY:HUSH@bucket?addressing=none", "ftp://HUSH@x", "HUSH@x", "far?x=HUSH",
            "s3://b/a b?secret_key=HUSH",
        ] {
            let error = #expect(throws: Issue.self, "\(bad)") {
                try Configuration.Store(address: bad, place: "here")
            }
            #expect(error?.message.contains("HUSH") == false, "\(error?.message ?? "")")
            #expect(configuration.fault(inStore: bad)?.contains("HUSH") == false, "\(bad)")
            guard case .failure(let invalid) = load("[[store]]\nname = 'a'\nurl = '\(bad)'\n") else {
                return #expect(Bool(false), "\(bad)")
            }
            #expect(!"\(invalid)".contains("HUSH"), "\(invalid)")
        }
    }

    /// A volume that is only read is somewhere else, and what is its owner's to say is not said here.
    @Test func volumesThatAreOnlyRead() throws {
        let store = "[[store]]\nname = 'far'\nurl = 's3://bucket/x'\n"
        let good = try load(store + "[[volume]]\nname = 'v'\nstore = 'far'\nread_only = true").get()
        #expect(good.volumes[0].isReadOnly)
        #expect(try load(store + "[[volume]]\nname = 'v'\nstore = 'far'").get().volumes[0].isReadOnly == false)
        for bad in [
            "[[volume]]\nname = 'v'\nread_only = true",
            store + "[[volume]]\nname = 'v'\nstore = 'far'\nread_only = true\nlog = 'store'",
            store + "[[volume]]\nname = 'v'\nstore = 'far'\nread_only = true\nlease = '5s'",
            store + "[[volume]]\nname = 'v'\nstore = 'far'\nread_only = 'yes'",
        ] {
            guard case .failure = load(bad) else { return #expect(Bool(false), "\(bad)") }
        }
    }

    @Test func volumesNameTheirStores() throws {
        let good = try load(
            """
            [[store]]
            name = "far"
            url = "s3://bucket/x"
            secret_key = "hush"
            access_key = "KEY"
            [[volume]]
            name = "a"
            store = "far"
            [[volume]]
            name = "b"
            store = "swift://c/p"
            """
        ).get()
        #expect(good.volumes.map(\.store) == ["far", "swift://c/p"] && good.stores.count == 1)
        #expect(try good.store("far", place: "")?.accessKey == "KEY" && good.store("directory", place: "") == nil)
        var shown = "\(good)"
        dump(good, to: &shown)
        #expect(!shown.contains("hush"))
    }

    @Test(arguments: [
        ("[[volume]]\nname = 'a'\nstore = 'fra'\n", "no store"),
        ("[[store]]\nname = 'a'\n", "needs a name and a url"),
        ("[[store]]\nname = 'directory'\nurl = 's3://b'\n", "not directory"),
        ("[[store]]\nname = 'a'\nurl = 's3://b'\n[[store]]\nname = 'a'\nurl = 's3://c'\n", "declared already"),
        ("[[store]]\nname = 'a'\nurl = 's3://b'\nsecret_key = 'x'\nsecret_file = 'y'\n", "not together"),
        ("[[store]]\nname = 'a'\nurl = 'swift://b'\nsync_to = '//r/c/a'\n", "go together"),
        ("[[store]]\nname = 'a'\nurl = 's3://b'\npart_size = '1MiB'\n", "is not in"),
    ]) func faults(_ text: String, _ words: String) {
        guard case .failure(let invalid) = load(text) else { return #expect(Bool(false), "\(text)") }
        #expect("\(invalid)".contains(words), "\(invalid)")
    }

    /// Two volumes never have their objects in one place, nor one's among the other's.
    @Test(arguments: [
        ("s3://b/a", "s3://b/a", true), ("s3://b", "s3://b/a", true), ("s3://b/a/c", "s3://b/a", true),
        ("s3://b/a", "s3://b/ab", false), ("s3://b/a", "s3://c/a", false), ("s3://b/a", "swift://b/a", false),
        ("s3://b/a?endpoint=https://X/", "s3://b/a?endpoint=https://x", true),
        ("s3://b/a?endpoint=https://x", "s3://b/a?endpoint=https://y", false),
    ]) func placesThatOverlap(_ one: String, _ other: String, _ isSo: Bool) throws {
        let stores = try [one, other].map { try Configuration.Store(address: $0, place: "") }
        #expect(stores[0].overlaps(stores[1]) == isSo)
        #expect(stores[1].overlaps(stores[0]) == isSo)
    }

    /// Who else could go on with a volume decides whether it has a lease, and its store whether that proves anything.
    @Test func leasesByThePlaceOfTheLog() throws {
        typealias Lease = Configuration.Lease
        let standard = Lease.standard.nanoseconds
        let five = try #require(Lease("5s"))
        for (lease, log, decides, expected) in [
            (Lease.byLogPlace, Configuration.LogPlace.local, true, 0), (.byLogPlace, .store, true, standard),
            (.byLogPlace, .path("/shared"), true, standard), (.byLogPlace, .path("/shared"), false, 0),
            (.off, .path("/shared"), true, 0), (.off, .store, true, 0),
            (five, .local, true, 5_000_000_000), (five, .path("/shared"), false, 5_000_000_000),
        ] { #expect(lease.nanoseconds(log, storeDecides: decides) == expected, "\(lease) \(log) \(decides)") }
    }
}
