import Foundation
import Namespace
import Runtime
import S3
import TestSupport
import Testing

/// Objects below a volume that is mounted in a bucket: its files are made there, whatever their size.
@Suite struct MountTests {
    private func guest(_ site: Site) async throws -> HostedVolume {
        let world = site.world
        return try await world.loops[0].task { () async throws -> HostedVolume in
            try await HostedVolume.open("guest", folder: "guest", durability: .log, world: world, loop: world.loops[0])
        }.value
    }

    @Test func objectsOfEverySizeComeToAMount() async throws {
        var limits = S3Limits()
        limits.partBytesMin = 0
        let site = try await Site(limits: limits)
        let guest = try await guest(site)
        #expect(try site.request("PUT", "/bkt").status == 200)
        #expect(try site.request("PUT", "/bkt/seen/").status == 200)
        var mode = NewAttributes()
        mode.mode = 0o777
        let (open, volume, caller) = (mode, guest.volume, Caller(.root, Request(reader: 0, now: site.clock.wall())))
        try await site.world.loops[0].task { () async throws in
            while case .lacks(let lack) = volume.setAttributes(caller, volume.root, open) { try await lack.supplied() }
        }.value
        try site.hosted.tree.mount(
            guest.volume, guest.tree, root: guest.volume.root, on: try await site.find("bkt/seen").file)
        for size in [10, 262_144, 262_145, 900_000] {
            let body = [UInt8](repeating: UInt8(size % 251), count: size)
            for key in ["k\(size)", "new/way/k\(size)"] {
                #expect(try site.request("PUT", "/bkt/seen/\(key)", body: body).status == 200)
                let got = try site.request("GET", "/bkt/seen/\(key)")
                #expect(got.status == 200 && got.body == body)
                let file = try await site.find("bkt/seen/\(key)")
                #expect(file.uid == 10_000 && file.file.subvolume == guest.volume.root.subvolume)
            }
        }
        // Into it, within, and out of it.
        for (source, target) in [("seen/k900000", "seen/copied"), ("seen/copied", "out"), ("out", "seen/in")] {
            let copied = try site.request("PUT", "/bkt/\(target)", [("x-amz-copy-source", "/bkt/\(source)")])
            #expect(copied.status == 200, "\(copied.text)")
            #expect(try site.request("GET", "/bkt/\(target)").body.count == 900_000)
        }
        // In parts.
        let begun = try site.request("POST", "/bkt/seen/parts?uploads=")
        let id = try #require(begun.element("UploadId"))
        var list = ""
        for number in 1...2 {
            let part = try site.request(
                "PUT", "/bkt/seen/parts?partNumber=\(number)&uploadId=\(id)",
                body: [UInt8](repeating: UInt8(number), count: 300_000))
            list += "<Part><PartNumber>\(number)</PartNumber><ETag>\(part.field("etag") ?? "")</ETag></Part>"
        }
        let whole = try site.request(
            "POST", "/bkt/seen/parts?uploadId=\(id)",
            body: Array("<CompleteMultipartUpload>\(list)</CompleteMultipartUpload>".utf8))
        #expect(whole.status == 200, "\(whole.text)")
        #expect(try site.request("GET", "/bkt/seen/parts").body.count == 600_000)
        _ = try site.hosted.tree.unmount(guest.volume.root.subvolume)
        try await site.world.loops[0].task { () async throws in try await guest.close() }.value
        try await site.close()
    }
}
