import Foundation
import Namespace
import S3
import Testing

/// A bucket's word on what its answers promise stands before the volume's.
@Suite(.serialized) struct BucketDurabilityTests {
    /// What the volume's store has, by name.
    private func objects(_ site: Site) -> Set<String> {
        let root = site.folder + "/default/store/objects"
        let all = FileManager.default.enumerator(atPath: root)?.allObjects ?? []
        return Set(all.map { "\($0)" })
    }

    @Test func aPutWaitsForTheBucketsWord() async throws {
        let site = try await Site()
        for (name, word) in [("plain", nil), ("kept", Durability.store)] as [(String, Durability?)] {
            var new = NewFile(type: .directory, mode: 0o777)
            if let word { new.own = [S3Service.setting(word)] }
            let directory = new
            _ = try await site.files { volume, caller in
                Array(name.utf8).withUnsafeBytes { volume.create(caller, in: volume.root, $0, directory) }
            }
        }
        // The first one waits for a checkpoint, the others for a piece of the log, which is in the store before the answer comes.
        for (method, path) in [("PUT", "/kept/one"), ("PUT", "/kept/two"), ("DELETE", "/kept/one")] {
            let before = objects(site)
            let answer = try site.request(method, path, body: method == "PUT" ? Array("text".utf8) : [])
            #expect(answer.status == (method == "PUT" ? 200 : 204))
            #expect(!objects(site).isSubset(of: before), "\(method) \(path)")
        }
        let before = objects(site)
        for index in 0..<5 {
            #expect(try site.request("PUT", "/plain/\(index)", body: Array("text".utf8)).status == 200)
        }
        // They did not wait for the store one after the other; what was under way may have taken some along.
        #expect(objects(site).subtracting(before).count(where: { $0.contains("slot") }) < 5)
        try await site.close()
    }
}
