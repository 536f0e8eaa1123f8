import Foundation
import Namespace
import Runtime
import S3
import TestSupport
import Testing

extension Site {
    /// As a file client would, in the name of this user.
    func files<Value: Sendable>(
        uid: UInt32 = 10_000, _ body: @escaping @Sendable (Volume, Caller) -> Attempt<Value>
    ) async throws -> Value {
        let (volume, clock) = (volume, clock)
        return try await world.loops[1].task { () async throws -> Value in
            while true {
                let caller = Caller(
                    Credential(uid: uid, gid: uid), Request(reader: 1, now: clock.wall()), isStateless: true)
                switch body(volume, caller) {
                case .done(let value, _): return value
                case .refused(let error): throw error
                case .lacks(let lack): try await lack.supplied()
                }
            }
        }.value
    }

    func find(_ path: String) async throws -> Attributes {
        try await files(uid: 0) { volume, caller in
            do throws(Halt) {
                var place = try volume.attributes(caller, volume.root).get()
                for name in path.split(separator: "/") {
                    place = try Array(name.utf8).withUnsafeBytes { volume.lookup(caller, in: place.file, $0) }.get()
                }
                return .done(place, number: 0)
            } catch {
                switch error {
                case .refused(let error): return .refused(error)
                case .lacks(let lack): return .lacks(lack)
                }
            }
        }
    }

    func versioned(_ bucket: String, _ status: String = "Enabled", lock: Bool = false) throws {
        if lock {
            #expect(try request("PUT", "/\(bucket)", [("x-amz-bucket-object-lock-enabled", "true")]).status == 200)
            return
        }
        _ = try request("PUT", "/\(bucket)")
        let xml = "<VersioningConfiguration><Status>\(status)</Status></VersioningConfiguration>"
        #expect(try request("PUT", "/\(bucket)?versioning", body: Array(xml.utf8)).status == 200)
    }

    func put(_ path: String, _ text: String) throws -> String {
        let answer = try request("PUT", path, body: Array(text.utf8))
        #expect(answer.status == 200)
        return answer.field("x-amz-version-id") ?? ""
    }

    /// `key id` of all versions, marks with a minus before them, the newest with a star behind it.
    func versions(_ target: String) throws -> [String] {
        let answer = try request("GET", target)
        #expect(answer.status == 200)
        var found: [String] = []
        var rest = answer.text[...]
        while true {
            let version = rest.range(of: "<Version>")
            let mark = rest.range(of: "<DeleteMarker>")
            guard let next = [version, mark].compactMap({ $0 }).min(by: { $0.lowerBound < $1.lowerBound }) else {
                break
            }
            found.append(Self.entry(&rest, next, isMark: next == mark))
        }
        return found
    }

    private static func entry(_ rest: inout Substring, _ start: Range<Substring.Index>, isMark: Bool) -> String {
        func text(_ name: String, _ part: Substring) -> String {
            part.components(separatedBy: "<\(name)>")[1].components(separatedBy: "</\(name)>")[0]
        }
        let part = rest[start.upperBound...]
        rest = part
        return (isMark ? "-" : "") + text("Key", part) + " " + text("VersionId", part)
            + (text("IsLatest", part) == "true" ? "*" : "")
    }
}

@Suite struct VersionTests {
    @Test func versionsComeAndGo() async throws {
        let site = try await Site()
        _ = try site.request("PUT", "/bkt")
        #expect(try site.put("/bkt/d/k", "before") == "")
        try site.versioned("bkt")
        #expect(try site.request("GET", "/bkt?versioning").element("Status") == "Enabled")
        #expect(try site.request("HEAD", "/bkt/d/k").field("x-amz-version-id") == "null")
        let first = try site.put("/bkt/d/k", "first")
        let second = try site.put("/bkt/d/k", String(repeating: "2", count: 400_000))
        #expect(first != second && first.utf8.count == 32)
        #expect(try site.request("GET", "/bkt/d/k?versionId=\(first)").text == "first")
        #expect(try site.request("GET", "/bkt/d/k?versionId=null").text == "before")
        #expect(try site.request("GET", "/bkt/d/k").body.count == 400_000)
        #expect(try site.versions("/bkt?versions") == ["d/k \(second)*", "d/k \(first)", "d/k null"])
        // A mark hides it.
        let gone = try site.request("DELETE", "/bkt/d/k")
        let mark = try #require(gone.field("x-amz-version-id"))
        #expect(gone.status == 204 && gone.field("x-amz-delete-marker") == "true")
        let get = try site.request("GET", "/bkt/d/k")
        #expect(get.code == "NoSuchKey" && get.field("x-amz-delete-marker") == "true")
        #expect(get.field("x-amz-version-id") == mark)
        let marked = try site.request("GET", "/bkt/d/k?versionId=\(mark)")
        #expect(marked.status == 405 && marked.field("x-amz-delete-marker") == "true")
        #expect(try site.request("GET", "/bkt?list-type=2").elements("Key").isEmpty)
        #expect(
            try site.versions("/bkt?versions") == ["-d/k \(mark)*", "d/k \(second)", "d/k \(first)", "d/k null"])
        // Without the mark it is back, also as a file.
        let back = try site.request("DELETE", "/bkt/d/k?versionId=\(mark)")
        #expect(back.field("x-amz-delete-marker") == "true" && back.field("x-amz-version-id") == mark)
        #expect(try await site.find("bkt/d/k").size == 400_000)
        #expect(try site.versions("/bkt?versions") == ["d/k \(second)*", "d/k \(first)", "d/k null"])
        // The newest goes for good: the one before takes its place, and may be changed by file clients again.
        #expect(try site.request("DELETE", "/bkt/d/k?versionId=\(second)").status == 204)
        #expect(try site.request("GET", "/bkt/d/k").text == "first")
        #expect(try site.request("HEAD", "/bkt/d/k").field("x-amz-version-id") == first)
        #expect(try site.request("GET", "/bkt/d/k?versionId=\(second)").code == "NoSuchVersion")
        #expect(try site.request("GET", "/bkt/d/k?versionId=abc").code == "InvalidArgument")
        #expect(try site.request("DELETE", "/bkt/d/k?versionId=\(second)").status == 204)
        #expect(try site.request("DELETE", "/bkt").code == "BucketNotEmpty")
        for id in [first, "null"] { _ = try site.request("DELETE", "/bkt/d/k?versionId=\(id)") }
        #expect(try site.versions("/bkt?versions").isEmpty)
        #expect(try site.request("DELETE", "/bkt").status == 204)
        try await site.close()
    }

    @Test func suspendedBucketsHaveOneNull() async throws {
        let site = try await Site()
        try site.versioned("bkt")
        let first = try site.put("/bkt/k", "1")
        try site.versioned("bkt", "Suspended")
        #expect(try site.put("/bkt/k", "2") == "null")
        #expect(try site.put("/bkt/k", "3") == "null")
        #expect(try site.versions("/bkt?versions") == ["k null*", "k \(first)"])
        #expect(try site.request("GET", "/bkt/k?versionId=null").text == "3")
        let gone = try site.request("DELETE", "/bkt/k")
        #expect(gone.field("x-amz-version-id") == "null" && gone.field("x-amz-delete-marker") == "true")
        #expect(try site.versions("/bkt?versions") == ["-k null*", "k \(first)"])
        #expect(try site.put("/bkt/k", "4") == "null")
        #expect(try site.versions("/bkt?versions") == ["k null*", "k \(first)"])
        try site.versioned("bkt")
        let fifth = try site.put("/bkt/k", "5")
        #expect(try site.versions("/bkt?versions") == ["k \(fifth)*", "k null", "k \(first)"])
        #expect(try site.request("GET", "/bkt/k?versionId=null").text == "4")
        try site.versioned("bkt", "Suspended")
        _ = try site.request("DELETE", "/bkt/k")
        #expect(try site.versions("/bkt?versions") == ["-k null*", "k \(fifth)", "k \(first)"])
        #expect(try site.request("DELETE", "/bkt/k?versionId=null").field("x-amz-delete-marker") == "true")
        #expect(try site.request("GET", "/bkt/k").text == "5")
        try await site.close()
    }

    /// Pages of any size, with every marker, tell the same as one page; keys in the byte order of whole keys.
    @Test func pagesOfVersions() async throws {
        let site = try await Site()
        try site.versioned("bkt")
        let long = String(repeating: "x", count: 199)
        for round in 0..<3 {
            for key in ["a", "a-b", "a.b", "a/x", "a/x.y", "b", "\(long)/\(long)/z", "\(long)/\(long)0"] {
                // What was a file is a directory next, and back: each has versions.
                _ = try site.request("DELETE", "/bkt/a")
                _ = try site.put("/bkt/\(key)", "\(round)")
                if key.hasPrefix("a/") { _ = try site.request("DELETE", "/bkt/\(key)") }
            }
        }
        let all = try site.versions("/bkt?versions")
        let keys = all.map { $0.split(separator: " ")[0].drop { $0 == "-" } }
        #expect(all.count > 30)
        #expect(keys.map { Array($0.utf8) } == keys.map { Array($0.utf8) }.sorted { $0.lexicographicallyPrecedes($1) })
        for size in [1, 2, 3, 7, 100] {
            var found: [String] = []
            var query = ""
            while true {
                let target = "/bkt?max-keys=\(size)\(query)&versions"
                found += try site.versions(target)
                let page = try site.request("GET", target)
                guard page.element("IsTruncated") == "true" else { break }
                let key = try #require(page.element("NextKeyMarker"))
                query = "&version-id-marker=\(page.element("NextVersionIdMarker") ?? "")"
                query += "&key-marker=\(key.replacingOccurrences(of: "/", with: "%2F"))"
                try #require(found.count <= all.count)
            }
            #expect(found == all, "pages of \(size)")
        }
        let grouped = try site.request("GET", "/bkt?delimiter=%2F&versions")
        #expect(grouped.elements("Prefix").contains("a/") && !grouped.elements("Key").contains("a/x"))
        #expect(grouped.elements("Key").contains("a.b"))
        #expect(
            try Set(site.versions("/bkt?prefix=a%2F&versions").map { $0.split(separator: " ")[0].drop { $0 == "-" } })
                == ["a/x", "a/x.y"])
        try await site.close()
    }

    /// The file of a key is its newest version; what a file client makes or changes is the null version.
    @Test func fileClientsChangeTheNewest() async throws {
        let site = try await Site()
        try site.versioned("bkt")
        let first = try site.put("/bkt/k", "first")
        let second = try site.put("/bkt/k", "second")
        let old = try await site.find("bkt/k")
        _ = try await site.files { volume, caller in
            [UInt8](Array("X".utf8)).withUnsafeBytes { volume.write(caller, old.file, at: 0, $0) }
        }
        #expect(try site.request("GET", "/bkt/k").text == "Xecond")
        #expect(try site.versions("/bkt?versions") == ["k null*", "k \(first)"])
        #expect(try site.request("GET", "/bkt/k?versionId=\(second)").code == "NoSuchVersion")
        let third = try site.put("/bkt/k", "third")
        #expect(try site.versions("/bkt?versions") == ["k \(third)*", "k null", "k \(first)"])
        #expect(try site.request("GET", "/bkt/k?versionId=null").text == "Xecond")
        // Who still has the older one does not change it, and reads it.
        await #expect(throws: FileError.notPermitted) {
            _ = try await site.files { volume, caller in
                [UInt8](Array("Y".utf8)).withUnsafeBytes { volume.write(caller, old.file, at: 0, $0) }
            }
        }
        #expect(try await site.files { volume, caller in volume.mayRead(caller, old.file) }.size == 6)
        // Another null: neither is lost.
        let now = try await site.find("bkt/k")
        _ = try await site.files { volume, caller in
            [UInt8](Array("Z".utf8)).withUnsafeBytes { volume.write(caller, now.file, at: 0, $0) }
        }
        _ = try site.put("/bkt/k", "fourth")
        #expect(try site.versions("/bkt?versions").count == 4)
        #expect(try site.request("GET", "/bkt/k?versionId=null").text == "Xecond")
        // Removed by a file client it has no newest version; the older ones are there.
        let home = try await site.find("bkt")
        _ = try await site.files { volume, caller in
            Array("k".utf8).withUnsafeBytes { volume.remove(caller, in: home.file, $0, isDirectory: false) }
        }
        #expect(try site.request("GET", "/bkt/k").code == "NoSuchKey")
        #expect(try site.request("GET", "/bkt/k?versionId=\(first)").text == "first")
        #expect(try site.versions("/bkt?versions").allSatisfy { !$0.hasSuffix("*") })
        // A bucket with older versions is not empty for file clients either.
        await #expect(throws: FileError.notEmpty) {
            _ = try await site.files { volume, caller in
                Array("bkt".utf8).withUnsafeBytes { volume.remove(caller, in: volume.root, $0, isDirectory: true) }
            }
        }
        // Under another name it keeps them.
        _ = try await site.files { volume, caller in
            Array("bkt".utf8).withUnsafeBytes { old in
                Array("other".utf8).withUnsafeBytes {
                    volume.rename(caller, from: volume.root, old, to: volume.root, $0)
                }
            }
        }
        #expect(try site.request("GET", "/other/k?versionId=\(first)").text == "first")
        try await site.close()
    }

    @Test func copiesUploadsAndTagsOfVersions() async throws {
        var limits = S3Limits()
        limits.partBytesMin = 0
        let site = try await Site(limits: limits)
        try site.versioned("bkt")
        let first = try site.put("/bkt/k", "first")
        let second = try site.put("/bkt/k", "second")
        let copy = try site.request("PUT", "/bkt/c", [("x-amz-copy-source", "/bkt/k?versionId=\(first)")])
        #expect(copy.field("x-amz-copy-source-version-id") == first)
        let copied = try #require(copy.field("x-amz-version-id"))
        #expect(try site.request("GET", "/bkt/c?versionId=\(copied)").text == "first")
        // An older version over the newest: the way to bring it back.
        #expect(try site.request("PUT", "/bkt/k", [("x-amz-copy-source", "/bkt/k?versionId=\(first)")]).status == 200)
        #expect(try site.request("GET", "/bkt/k").text == "first")
        let upload = try #require(try site.request("POST", "/bkt/k?uploads").element("UploadId"))
        let part = try site.request("PUT", "/bkt/k?partNumber=1&uploadId=\(upload)", body: Array("parts".utf8))
        let list =
            "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>\(part.field("etag") ?? "")</ETag></Part></CompleteMultipartUpload>"
        let whole = try site.request("POST", "/bkt/k?uploadId=\(upload)", body: Array(list.utf8))
        let made = try #require(whole.field("x-amz-version-id"))
        // Asked again it is the same version.
        let again = try site.request("POST", "/bkt/k?uploadId=\(upload)", body: Array(list.utf8))
        #expect(again.status == 200 && again.field("x-amz-version-id") == made)
        #expect(try site.request("GET", "/bkt/k?versionId=\(made)").text == "parts")
        let tags = "<Tagging><TagSet><Tag><Key>a</Key><Value>1</Value></Tag></TagSet></Tagging>"
        #expect(try site.request("PUT", "/bkt/k?tagging&versionId=\(second)", body: Array(tags.utf8)).status == 200)
        #expect(try site.request("GET", "/bkt/k?tagging&versionId=\(second)").element("Value") == "1")
        #expect(try site.request("GET", "/bkt/k?tagging").element("Value") == nil)
        #expect(try site.request("PUT", "/bkt/n", [("if-none-match", "*")], body: [1]).status == 200)
        #expect(try site.request("PUT", "/bkt/n", [("if-none-match", "*")], body: [2]).code == "PreconditionFailed")
        _ = try site.request("DELETE", "/bkt/n")
        #expect(try site.request("PUT", "/bkt/n", [("if-none-match", "*")], body: [3]).status == 200)
        try await site.close()
    }

    /// Others' writers lose no version, and each has a number of its own.
    @Test func manyWritersLoseNothing() async throws {
        let site = try await Site()
        try site.versioned("bkt")
        let ids = await withTaskGroup(of: [String].self) { group in
            for writer in 0..<6 {
                group.addTask {
                    (0..<15).compactMap { round in
                        try? site.request("PUT", "/bkt/k", body: Array("\(writer) \(round)".utf8)).field(
                            "x-amz-version-id")
                    }
                }
            }
            return await group.reduce(into: []) { $0 += $1 }
        }
        #expect(ids.count == 90 && Set(ids).count == 90)
        let found = try site.versions("/bkt?versions").map { entry in
            String(entry.split(separator: " ")[1].prefix { $0 != "*" })
        }
        #expect(Set(found) == Set(ids))
        try await site.close()
    }

    /// Of many who would replace what they saw, one does; the others learn that they did not.
    @Test func conditionsHoldWhenManyTry() async throws {
        let site = try await Site()
        _ = try site.request("PUT", "/bkt")
        for method in ["PUT", "DELETE"] {
            for _ in 0..<5 {
                let tag = try #require(try site.request("PUT", "/bkt/k", body: [1]).field("etag"))
                let statuses = await withTaskGroup(of: Int.self) { group in
                    for writer in 0..<6 {
                        group.addTask {
                            (try? site.request(
                                method, "/bkt/k", [("if-match", tag)],
                                body: method == "PUT" ? [UInt8(writer + 2)] : []
                            ).status) ?? 0
                        }
                    }
                    return await group.reduce(into: []) { $0.append($1) }
                }
                #expect(statuses.filter { $0 < 300 }.count == 1, "\(method): \(statuses)")
                #expect(statuses.allSatisfy { [200, 204, 404, 409, 412].contains($0) }, "\(statuses)")
            }
        }
        try await site.close()
    }
}
