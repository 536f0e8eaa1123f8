import Foundation
import Namespace
import Runtime
import S3
import Synchronization
import TestSupport
import Testing
import XML

@Suite struct LifecycleTests {
    private static let day: Int64 = 86_400
    /// A midnight.
    private static let start: Int64 = 1_900_022_400

    private func rules(_ text: String) throws -> LifecycleRules {
        try LifecycleRules(try XMLElement(Array("<LifecycleConfiguration>\(text)</LifecycleConfiguration>".utf8)))
    }

    private func set(_ site: Site, _ seconds: Int64) {
        site.clock.fixed.store(seconds * 1_000_000_000, ordering: .relaxed)
    }

    private func sweep(_ site: Site) async {
        let (service, loop) = (site.service, site.world.loops[0])
        _ = await loop.task { await service.sweep(on: loop) }.value
    }

    private func put(_ site: Site, _ text: String) throws {
        let xml = "<LifecycleConfiguration>\(text)</LifecycleConfiguration>"
        #expect(try site.request("PUT", "/bkt?lifecycle", body: Array(xml.utf8)).status == 200)
    }

    @Test func rulesSayWhen() throws {
        #expect(Self.start % Self.day == 0)
        let some = try rules(
            """
            <Rule><ID>a</ID><Status>Enabled</Status><Filter><And><Prefix>logs/</Prefix><Tag><Key>k</Key><Value>v</Value></Tag>\
            <ObjectSizeGreaterThan>10</ObjectSizeGreaterThan><ObjectSizeLessThan>20</ObjectSizeLessThan></And></Filter>\
            <Expiration><Days>3</Days></Expiration></Rule>\
            <Rule><ID>b</ID><Status>Enabled</Status><Prefix>tmp/</Prefix><Expiration><Date>2030-01-01T00:00:00Z</Date></Expiration></Rule>\
            <Rule><ID>c</ID><Status>Disabled</Status><Prefix></Prefix><Expiration><Days>1</Days></Expiration></Rule>
            """)
        let key = Array("logs/x".utf8)
        let tags = [Tag(key: "k", value: "v")]
        let noon = (Self.start + Self.day / 2) * 1_000_000_000
        let end = some.end(key, tags: tags, size: 15, modified: noon)
        #expect(end?.seconds == Self.start + 4 * Self.day && end?.rule == "a")
        #expect(some.end(key, tags: tags, size: 10, modified: noon) == nil)
        #expect(some.end(key, tags: tags, size: 20, modified: noon) == nil)
        #expect(some.end(key, tags: [], size: 15, modified: noon) == nil)
        #expect(some.end(Array("x".utf8), tags: tags, size: 15, modified: noon) == nil)
        #expect(some.end(Array("tmp/x".utf8), tags: [], size: 0, modified: noon)?.rule == "b")
        for wrong in [
            "", "<Rule><Status>Enabled</Status></Rule>", "<Rule><Expiration><Days>1</Days></Expiration></Rule>",
            "<Rule><Status>Enabled</Status><Expiration><Days>0</Days></Expiration></Rule>",
            "<Rule><Status>Enabled</Status><Expiration><Days>1</Days><Date>2030-01-01</Date></Expiration></Rule>",
            "<Rule><Status>Enabled</Status><Expiration><Date>2030-01-01T01:00:00Z</Date></Expiration></Rule>",
            "<Rule><Status>On</Status><Expiration><Days>1</Days></Expiration></Rule>",
            "<Rule><Status>Enabled</Status><Transition><Days>1</Days></Transition></Rule>",
            "<Rule><Status>Enabled</Status><Filter><Tag><Key>a</Key><Value>b</Value></Tag></Filter><AbortIncompleteMultipartUpload><DaysAfterInitiation>1</DaysAfterInitiation></AbortIncompleteMultipartUpload></Rule>",
        ] {
            #expect(throws: S3Error.self, "\(wrong)") { _ = try rules(wrong) }
        }
    }

    @Test func objectsAndUploadsEnd() async throws {
        let site = try await Site()
        set(site, Self.start)
        _ = try site.request("PUT", "/bkt")
        #expect(try site.request("GET", "/bkt?lifecycle").code == "NoSuchLifecycleConfiguration")
        try put(
            site,
            """
            <Rule><ID>one day</ID><Status>Enabled</Status><Filter><Prefix>d/</Prefix></Filter><Expiration><Days>1</Days></Expiration></Rule>\
            <Rule><ID>u</ID><Status>Enabled</Status><Filter><Prefix>u</Prefix></Filter><AbortIncompleteMultipartUpload>\
            <DaysAfterInitiation>2</DaysAfterInitiation></AbortIncompleteMultipartUpload></Rule>
            """)
        #expect(try site.request("GET", "/bkt?lifecycle").elements("ID") == ["one day", "u"])
        let answer = try site.request("PUT", "/bkt/d/k", body: [1])
        #expect(answer.field("x-amz-expiration")?.contains("rule-id=\"one%20day\"") == true)
        #expect(try site.request("HEAD", "/bkt/d/k").field("x-amz-expiration") == answer.field("x-amz-expiration"))
        _ = try site.put("/bkt/other", "stays")
        for key in ["u", "v"] { #expect(try site.request("POST", "/bkt/\(key)?uploads").status == 200) }
        await sweep(site)
        #expect(try site.request("GET", "/bkt/d/k").status == 200)
        set(site, Self.start + Self.day)
        await sweep(site)
        #expect(try site.request("GET", "/bkt/d/k").code == "NoSuchKey")
        #expect(try site.request("GET", "/bkt?list-type=2").elements("Key") == ["other"])
        #expect(try site.request("GET", "/bkt?uploads").elements("Key").count == 2)
        set(site, Self.start + 2 * Self.day)
        await sweep(site)
        #expect(try site.request("GET", "/bkt?uploads").elements("Key") == ["v"])
        #expect(try site.request("DELETE", "/bkt?lifecycle").status == 204)
        #expect(try site.request("GET", "/bkt?lifecycle").code == "NoSuchLifecycleConfiguration")
        try await site.close()
    }

    /// What a crash leaves of an upload whose object is there is nobody's, and goes.
    @Test func endedUploadsGo() async throws {
        let site = try await Site()
        set(site, Self.start)
        _ = try site.request("PUT", "/bkt")
        let upload = try #require(try site.request("POST", "/bkt/k?uploads").element("UploadId"))
        let other = try #require(try site.request("POST", "/bkt/other?uploads").element("UploadId"))
        #expect(try site.request("PUT", "/bkt/k?partNumber=1&uploadId=\(upload)", body: [1]).status == 200)
        let bucket = try await site.find("bkt").file
        let name = String(decoding: UploadPlace.name(ofBucket: bucket), as: UTF8.self)
        _ = try await site.files(uid: 0) { volume, caller -> Attempt<Attributes> in
            var caller = caller
            caller.isServer = true
            do throws(Halt) {
                var place = volume.root
                for name in [Volume.ownName, "uploads", name, upload.lowercased()] {
                    place = try Array(name.utf8).withUnsafeBytes { volume.lookup(caller, in: place, $0) }.get().file
                }
                return volume.setExtendedAttribute(caller, place, "proxyfs.upload.key", nil)
            } catch {
                switch error {
                case .refused(let error): return .refused(error)
                case .lacks(let lack): return .lacks(lack)
                }
            }
        }
        #expect(try site.request("GET", "/bkt?uploads").elements("UploadId") == [other])
        #expect(try site.request("GET", "/bkt/k?uploadId=\(upload)").code == "NoSuchUpload")
        // Somebody may be at work on it still.
        set(site, Self.start + 60)
        await sweep(site)
        let before = try await own(site)
        #expect(before.contains { $0.hasSuffix("/00001") })
        set(site, Self.start + 3600)
        await sweep(site)
        let after = try await own(site)
        #expect(!after.contains { $0.hasSuffix("/00001") || $0.contains(upload.lowercased()) })
        #expect(after.contains { $0.contains(other.lowercased()) })
        try await site.close()
    }

    /// The paths of what the server keeps for itself.
    private func own(_ site: Site) async throws -> [String] {
        let home = try await site.files(uid: 0) { volume, caller in
            var caller = caller
            caller.isServer = true
            return Array(Volume.ownName.utf8).withUnsafeBytes { volume.lookup(caller, in: volume.root, $0) }
        }.file
        let found = Guarded<[String]>([])
        _ = try await site.files(uid: 0) { volume, caller in
            volume.listPaths(caller, below: home, from: [], prefix: [], limit: 100) { path, _ in
                found.withLock { $0.append(String(decoding: path, as: UTF8.self)) }
                return true
            }
        }
        return found.withLock { $0 }
    }

    /// A version is older since it left its place: the times that a client gives to the newest one are no matter.
    @Test func timesOfClientsEndNothing() async throws {
        let site = try await Site()
        set(site, Self.start)
        try site.versioned("bkt")
        try put(
            site,
            """
            <Rule><ID>a</ID><Status>Enabled</Status><Filter><Prefix></Prefix></Filter>\
            <NoncurrentVersionExpiration><NoncurrentDays>1</NoncurrentDays></NoncurrentVersionExpiration></Rule>
            """)
        let first = try site.put("/bkt/k", "first")
        _ = try site.put("/bkt/k", "second")
        let file = try await site.find("bkt/k").file
        _ = try await site.files { volume, caller in
            [UInt8(1)].withUnsafeBytes { volume.write(caller, file, at: 0, $0) }
        }
        var old = NewAttributes()
        old.modified = 1
        let times = old
        _ = try await site.files { volume, caller in volume.setAttributes(caller, file, times) }
        set(site, Self.start + 3600)
        await sweep(site)
        #expect(try site.versions("/bkt?versions") == ["k null*", "k \(first)"])
        // The null one keeps its place in the order, too.
        let third = try site.put("/bkt/k", "third")
        #expect(try site.versions("/bkt?versions") == ["k \(third)*", "k null", "k \(first)"])
        #expect(try site.request("DELETE", "/bkt/k?versionId=\(third)").status == 204)
        #expect(try site.request("HEAD", "/bkt/k").field("x-amz-version-id") == "null")
        set(site, Self.start + 2 * Self.day)
        await sweep(site)
        #expect(try site.versions("/bkt?versions") == ["k null*"])
        try await site.close()
    }

    @Test func versionsAndMarksEnd() async throws {
        let site = try await Site()
        set(site, Self.start)
        try site.versioned("bkt", lock: true)
        try put(
            site,
            """
            <Rule><ID>a</ID><Status>Enabled</Status><Filter><Prefix></Prefix></Filter><Expiration><Days>2</Days></Expiration>\
            <NoncurrentVersionExpiration><NoncurrentDays>1</NoncurrentDays><NewerNoncurrentVersions>1</NewerNoncurrentVersions>\
            </NoncurrentVersionExpiration></Rule>\
            <Rule><ID>b</ID><Status>Enabled</Status><Filter><Prefix></Prefix></Filter>\
            <Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration></Rule>
            """)
        let ids = try (0..<4).map { round in
            set(site, Self.start + Int64(round))
            return try site.put("/bkt/k", "\(round)")
        }
        // One of the older ones is held by law.
        let hold = "<LegalHold><Status>ON</Status></LegalHold>"
        #expect(try site.request("PUT", "/bkt/k?legal-hold&versionId=\(ids[0])", body: Array(hold.utf8)).status == 200)
        await sweep(site)
        #expect(try site.versions("/bkt?versions").count == 4)
        // Two days later, by the clock of the rules: what lost its place a day ago goes, but for the newest of those.
        set(site, Self.start + 2 * Self.day)
        await sweep(site)
        #expect(try site.versions("/bkt?versions") == ["k \(ids[3])*", "k \(ids[2])", "k \(ids[0])"])
        // The newest ends with a mark.
        set(site, Self.start + 3 * Self.day)
        await sweep(site)
        let after = try site.versions("/bkt?versions")
        #expect(after.first?.hasPrefix("-k ") == true && after.first?.hasSuffix("*") == true)
        #expect(try site.request("GET", "/bkt/k").code == "NoSuchKey")
        let off = "<LegalHold><Status>OFF</Status></LegalHold>"
        #expect(try site.request("PUT", "/bkt/k?legal-hold&versionId=\(ids[0])", body: Array(off.utf8)).status == 200)
        for round in 5..<8 {
            set(site, Self.start + Int64(round) * Self.day)
            await sweep(site)
        }
        // One older version is kept for good, and the mark with it.
        #expect(try site.versions("/bkt?versions").map { $0.split(separator: " ")[1] }.contains("\(ids[3])"))
        #expect(try site.request("DELETE", "/bkt/k?versionId=\(ids[3])").status == 204)
        await sweep(site)
        #expect(try site.versions("/bkt?versions").isEmpty)
        try await site.close()
    }
}
