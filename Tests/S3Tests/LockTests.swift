import Foundation
import Namespace
import Runtime
import S3
import Synchronization
import TestSupport
import Testing

@Suite struct LockTests {
    private static let day: Int64 = 86_400
    private static let start: Int64 = 1_900_000_000

    private func set(_ site: Site, _ seconds: Int64) {
        site.clock.fixed.store(seconds * 1_000_000_000, ordering: .relaxed)
    }

    private func retention(_ mode: String, _ seconds: Int64) -> [UInt8] {
        let until = Timestamp.extended(nanoseconds: seconds * 1_000_000_000)
        return Array("<Retention><Mode>\(mode)</Mode><RetainUntilDate>\(until)</RetainUntilDate></Retention>".utf8)
    }

    private func remove(_ site: Site, _ path: String) async throws {
        let names = path.split(separator: "/").map { Array($0.utf8) }
        let home = try await site.find(
            names.dropLast().map { String(decoding: $0, as: UTF8.self) }.joined(separator: "/"))
        let name = names[names.count - 1]
        // As NFS does: with a token, by which a request that comes again gets its first answer.
        let token = RequestToken(client: 1, id: UInt64(site.clock.wall()), digest: 7)
        _ = try await site.files { volume, caller in
            var caller = caller
            caller.request.token = token
            return name.withUnsafeBytes { volume.remove(caller, in: home.file, $0, isDirectory: false) }
        }
    }

    @Test func retentionByMode() async throws {
        let site = try await Site()
        set(site, Self.start)
        try site.versioned("bkt", lock: true)
        #expect(try site.request("GET", "/bkt?object-lock").element("ObjectLockEnabled") == "Enabled")
        #expect(try site.request("GET", "/bkt?versioning").element("Status") == "Enabled")
        let suspend = "<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>"
        #expect(try site.request("PUT", "/bkt?versioning", body: Array(suspend.utf8)).code == "InvalidBucketState")
        for (key, mode) in [("g", "GOVERNANCE"), ("c", "COMPLIANCE")] {
            let id = try site.put("/bkt/\(key)", key)
            #expect(try site.request("GET", "/bkt/\(key)?retention").code == "NoSuchObjectLockConfiguration")
            let until = Self.start + 10 * Self.day
            #expect(try site.request("PUT", "/bkt/\(key)?retention", body: retention(mode, until)).status == 200)
            #expect(try site.request("GET", "/bkt/\(key)?retention").element("Mode") == mode)
            let head = try site.request("HEAD", "/bkt/\(key)")
            #expect(head.field("x-amz-object-lock-mode") == mode)
            // A mark may come, the version may not go.
            #expect(try site.request("DELETE", "/bkt/\(key)?versionId=\(id)").code == "AccessDenied")
            let mark = try #require(try site.request("DELETE", "/bkt/\(key)").field("x-amz-version-id"))
            #expect(try site.request("DELETE", "/bkt/\(key)?versionId=\(id)").code == "AccessDenied")
            #expect(try site.request("DELETE", "/bkt/\(key)?versionId=\(mark)").status == 204)
            // Longer always, shorter not.
            #expect(
                try site.request("PUT", "/bkt/\(key)?retention", body: retention(mode, until + Self.day)).status == 200)
            let shorter = try site.request("PUT", "/bkt/\(key)?retention", body: retention(mode, until - Self.day))
            #expect(shorter.code == "AccessDenied")
            let bypass = [("x-amz-bypass-governance-retention", "true")]
            let forced = try site.request(
                "PUT", "/bkt/\(key)?retention", bypass, body: retention(mode, until - Self.day))
            #expect(forced.status == (key == "g" ? 200 : 403))
            // Over it a new one: the old one stays.
            let next = try site.put("/bkt/\(key)", "next")
            #expect(try site.request("GET", "/bkt/\(key)?versionId=\(id)").text == key)
            #expect(try site.request("DELETE", "/bkt/\(key)?versionId=\(next)").status == 204)
            let end = try site.request("DELETE", "/bkt/\(key)?versionId=\(id)", bypass)
            #expect(end.status == (key == "g" ? 204 : 403))
        }
        let id = try #require(try site.request("HEAD", "/bkt/c").field("x-amz-version-id"))
        set(site, Self.start + 12 * Self.day)
        #expect(try site.request("DELETE", "/bkt/c?versionId=\(id)").status == 204)
        #expect(try site.request("DELETE", "/bkt").status == 204)
        try await site.close()
    }

    @Test func standardRetentionAndHolds() async throws {
        let site = try await Site()
        set(site, Self.start)
        _ = try site.request("PUT", "/plain")
        #expect(try site.request("GET", "/plain?object-lock").code == "ObjectLockConfigurationNotFoundError")
        #expect(
            try site.request("PUT", "/plain/k", [("x-amz-object-lock-legal-hold", "ON")], body: [1]).code
                == "InvalidRequest")
        try site.versioned("bkt", lock: true)
        let rule =
            "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention><Mode>GOVERNANCE</Mode><Days>3</Days></DefaultRetention></Rule></ObjectLockConfiguration>"
        #expect(try site.request("PUT", "/plain?object-lock", body: Array(rule.utf8)).code == "InvalidBucketState")
        #expect(try site.request("PUT", "/bkt?object-lock", body: Array(rule.utf8)).status == 200)
        #expect(try site.request("GET", "/bkt?object-lock").element("Days") == "3")
        let id = try site.put("/bkt/k", "k")
        let until = try #require(try site.request("GET", "/bkt/k?retention").element("RetainUntilDate"))
        #expect(Timestamp.extended(until) == Self.start + 3 * Self.day)
        #expect(try site.request("DELETE", "/bkt/k?versionId=\(id)").code == "AccessDenied")
        let stranger = try site.request(
            "DELETE", "/bkt/k?versionId=\(id)", [("x-amz-bypass-governance-retention", "true")], key: "other",
            secret: "other-secret")
        #expect(stranger.code == "AccessDenied")
        let hold = "<LegalHold><Status>ON</Status></LegalHold>"
        #expect(try site.request("PUT", "/bkt/k?legal-hold", body: Array(hold.utf8)).status == 200)
        set(site, Self.start + 4 * Self.day)
        #expect(try site.request("DELETE", "/bkt/k?versionId=\(id)").code == "AccessDenied")
        #expect(try site.request("GET", "/bkt/k?legal-hold").element("Status") == "ON")
        let off = "<LegalHold><Status>OFF</Status></LegalHold>"
        #expect(try site.request("PUT", "/bkt/k?legal-hold", body: Array(off.utf8)).status == 200)
        #expect(try site.request("DELETE", "/bkt/k?versionId=\(id)").status == 204)
        let wrong = [("x-amz-object-lock-mode", "GOVERNANCE")]
        #expect(try site.request("PUT", "/bkt/x", wrong, body: [1]).code == "InvalidArgument")
        let past = wrong + [("x-amz-object-lock-retain-until-date", "2001-01-01T00:00:00Z")]
        #expect(try site.request("PUT", "/bkt/x", past, body: [1]).code == "InvalidArgument")
        try await site.close()
    }

    /// Who may put an object may not lock it for that alone.
    @Test func locksOfNewObjectsNeedTheirRights() async throws {
        let site = try await Site()
        set(site, Self.start)
        try site.versioned("bkt", lock: true)
        let until = Timestamp.extended(nanoseconds: (Self.start + Self.day) * 1_000_000_000)
        let retention = [
            ("x-amz-object-lock-mode", "COMPLIANCE"), ("x-amz-object-lock-retain-until-date", until),
        ]
        let hold = [("x-amz-object-lock-legal-hold", "ON")]
        func allow(_ actions: String) throws {
            let policy =
                "{\"Version\":\"2012-10-17\",\"Statement\":[{\"Effect\":\"Allow\",\"Principal\":\"*\",\"Action\":[\(actions)],\"Resource\":\"arn:aws:s3:::bkt/*\"}]}"
            #expect(try site.request("PUT", "/bkt?policy", body: Array(policy.utf8)).status == 204)
        }
        func status(_ method: String, _ target: String, _ fields: [(String, String)]) throws -> Int {
            try site.request(
                method, target, fields, body: method == "PUT" ? [1] : [], key: "other", secret: "other-secret"
            ).status
        }
        func anonymous(_ fields: [(String, String)]) throws -> Int {
            let lines = fields.map { "\($0.0): \($0.1)\r\n" }.joined()
            return try site.raw(
                "PUT /bkt/nobody HTTP/1.1\r\nhost: 127.0.0.1\r\n\(lines)content-length: 1\r\n\r\n", [1]
            ).status
        }
        try allow("\"s3:PutObject\"")
        #expect(try status("PUT", "/bkt/o", []) == 200 && anonymous([]) == 200)
        for fields in [retention, hold] {
            #expect(try status("PUT", "/bkt/o", fields) == 403)
            #expect(try status("POST", "/bkt/o?uploads", fields) == 403)
            let copy = [("x-amz-copy-source", "/bkt/o"), ("x-amz-metadata-directive", "REPLACE")]
            #expect(try status("PUT", "/bkt/o", fields + copy) == 403)
            #expect(try anonymous(fields) == 403)
        }
        try allow("\"s3:PutObject\",\"s3:PutObjectRetention\"")
        #expect(try status("PUT", "/bkt/o", hold) == 403 && anonymous(hold) == 403)
        #expect(try status("PUT", "/bkt/o", retention) == 200 && anonymous(retention) == 200)
        #expect(try status("POST", "/bkt/o?uploads", retention) == 200)
        // In their own name, too: what they own they may lock, unless the policy says no.
        #expect(try site.request("PUT", "/bkt/own", retention + hold, body: [1]).status == 200)
        let policy =
            "{\"Version\":\"2012-10-17\",\"Statement\":[{\"Effect\":\"Deny\",\"Principal\":\"*\",\"Action\":\"s3:PutObjectLegalHold\",\"Resource\":\"arn:aws:s3:::bkt/*\"}]}"
        #expect(try site.request("PUT", "/bkt?policy", body: Array(policy.utf8)).status == 204)
        #expect(try site.request("PUT", "/bkt/own", hold, body: [1]).status == 403)
        #expect(try site.request("PUT", "/bkt/own", retention, body: [1]).status == 200)
        try await site.close()
    }

    /// What is locked stays for NFS and SMB, too: not changed, not removed, not moved, and neither is the way to it.
    @Test func fileClientsAreHeldToLocks() async throws {
        let site = try await Site()
        set(site, Self.start)
        try site.versioned("bkt", lock: true)
        _ = try site.put("/bkt/d/k", "content")
        #expect(
            try site.request("PUT", "/bkt/d/k?retention", body: retention("COMPLIANCE", Self.start + Self.day)).status
                == 200)
        let file = try await site.find("bkt/d/k")
        await #expect(throws: FileError.notPermitted) { try await remove(site, "bkt/d/k") }
        await #expect(throws: FileError.notPermitted) {
            _ = try await site.files { volume, caller in
                [UInt8(1)].withUnsafeBytes { volume.write(caller, file.file, at: 0, $0) }
            }
        }
        await #expect(throws: FileError.notPermitted) {
            var new = NewAttributes()
            new.size = 0
            let wanted = new
            _ = try await site.files { volume, caller in volume.mayResize(caller, file.file, wanted) }
        }
        for (from, name) in [("bkt/d", "k"), ("bkt", "d"), ("", "bkt")] {
            let home = try await site.find(from)
            await #expect(throws: FileError.notPermitted, "\(from)/\(name)") {
                _ = try await site.files { volume, caller in
                    Array(name.utf8).withUnsafeBytes { old in
                        Array("moved".utf8).withUnsafeBytes {
                            volume.rename(caller, from: home.file, old, to: home.file, $0)
                        }
                    }
                }
            }
        }
        // Nothing else takes its name.
        _ = try site.put("/bkt/d/other", "other")
        let home = try await site.find("bkt/d")
        await #expect(throws: FileError.notPermitted) {
            _ = try await site.files { volume, caller in
                Array("other".utf8).withUnsafeBytes { old in
                    Array("k".utf8).withUnsafeBytes { volume.rename(caller, from: home.file, old, to: home.file, $0) }
                }
            }
        }
        #expect(try site.request("GET", "/bkt/d/k").text == "content")
        set(site, Self.start + 2 * Self.day)
        try await remove(site, "bkt/d/k")
        #expect(try site.request("GET", "/bkt/d/k").code == "NoSuchKey")
        try await site.close()
    }
}
