import Foundation
import Namespace
import Runtime
import S3
import TestSupport
import Testing

/// Older versions count where their bucket does, as files of their owners.
@Suite struct VersionQuotaTests {
    private func set(_ site: Site, _ limits: [QuotaSubject: QuotaLimit]) async throws {
        let (volume, loop) = (site.volume, site.world.loops[0])
        await loop.task {
            volume.setQuotas(limits.map { QuotaRecord(subject: $0.key, limit: $0.value) }, loop: loop)
        }.value
        let deadline = Date().addingTimeInterval(20)
        for subject in limits.keys {
            while volume.quota(subject)?.isCounted != true {
                try #require(Date() < deadline)
                try await Task.sleep(nanoseconds: 2_000_000)
            }
        }
    }

    @Test func quotasHoldOlderVersions() async throws {
        let site = try await Site()
        try site.versioned("bkt")
        let bucket = try await site.find("bkt").file
        for subject in [QuotaSubject.volume, .user(10_000), .tree(bucket)] {
            try await set(site, [subject: QuotaLimit(hardBytes: 1000)])
            let ids = try (0..<3).map { _ in try site.put("/bkt/k", String(repeating: "x", count: 300)) }
            #expect(site.volume.quota(subject)?.usage.bytes == 900)
            #expect(try site.request("PUT", "/bkt/k", body: [UInt8](repeating: 1, count: 300)).code == "QuotaExceeded")
            #expect(try site.request("DELETE", "/bkt/k?versionId=\(ids[0])").status == 204)
            #expect(site.volume.quota(subject)?.usage.bytes == 600)
            _ = try site.put("/bkt/k", String(repeating: "y", count: 300))
            for entry in try site.versions("/bkt?versions") {
                let id = entry.split(separator: " ")[1].prefix { $0 != "*" }
                #expect(try site.request("DELETE", "/bkt/k?versionId=\(id)").status == 204)
            }
            #expect(site.volume.quota(subject)?.usage.bytes == 0)
        }
        try await site.close()
    }

    /// What was added and taken away step by step is what a count finds.
    @Test func stepsAndCountsAgree() async throws {
        var limits = S3Limits()
        limits.partBytesMin = 0
        let site = try await Site(limits: limits)
        try site.versioned("bkt")
        _ = try site.put("/bkt/d/k", "first")
        let bucket = try await site.find("bkt").file
        let directory = try await site.find("bkt/d").file
        let none = QuotaLimit(hardBytes: 1 << 40)
        let all: [QuotaSubject: QuotaLimit] = [
            .volume: none, .user(10_000): none, .user(0): none, .group(10_000): none, .tree(bucket): none,
            .tree(directory): none,
        ]
        try await set(site, all)
        var random = SystemRandomNumberGenerator()
        let long = String(repeating: "x", count: 230)
        for round in 0..<60 {
            let key = ["d/k", "d/l", "m", "\(long)/\(long)/n"].randomElement(using: &random) ?? "m"
            switch Int.random(in: 0..<7, using: &random) {
            case 0, 1, 2:
                let count = [0, 10, 3000, 300_000].randomElement(using: &random) ?? 0
                #expect(try site.request("PUT", "/bkt/\(key)", body: [UInt8](repeating: 1, count: count)).status == 200)
            case 3: #expect(try site.request("DELETE", "/bkt/\(key)").status == 204)
            case 4:
                let status = round % 2 == 0 ? "Suspended" : "Enabled"
                try site.versioned("bkt", status)
            default:
                guard let entry = try site.versions("/bkt?versions").randomElement(using: &random) else { continue }
                let parts = entry.split(separator: " ")
                let id = parts[1].prefix { $0 != "*" }
                let target = "/bkt/\(parts[0].drop { $0 == "-" })?versionId=\(id)"
                #expect([204, 409].contains(try site.request("DELETE", target).status))
            }
        }
        let steps = all.keys.map { site.volume.quota($0)?.usage }
        try await set(site, [:])
        try await set(site, all)
        for (subject, before) in zip(all.keys, steps) {
            #expect(site.volume.quota(subject)?.usage == before, "\(subject)")
        }
        try await site.close()
    }
}
