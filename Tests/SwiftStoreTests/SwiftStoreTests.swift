import Bytes
import Glibc
import Logging
import ObjectStore
import Runtime
import StoreSupport
import SwiftStore
import Testing
import Transfer

@Suite(.serialized) struct SwiftStoreTests {
    @Test func objects() async throws {
        for prefix in ["", "some/where"] {
            let fake = FakeSwift()
            try await fake.run {
                $0.prefix = prefix
            } _: { store, _ in
                #expect(!store.capabilities.createIfAbsent && !store.capabilities.listsConsistently)
                #expect(await store.get("a/b").status == 404)
                // The container is made when it is needed.
                #expect(await store.put("a/b", "hello").status == 201)
                let head = await store.perform(StoreRequest(.object(name("a/b"), .head)))
                #expect(head.status == 200 && head.size == 5)
                #expect(await store.get("a/b").body?.array == Array("hello".utf8))
                let middle = await store.get("a/b", 1..<3)
                #expect(middle.status == 206 && middle.size == 5 && middle.body?.array == Array("el".utf8))
                #expect(await store.get("a/b", 5..<6).status == 416)
                #expect(await store.put("a/b", "again", .absent).status == 412)
                #expect(await store.perform(StoreRequest(.object(name("a/b"), .delete))).status == 204)
                #expect(await store.perform(StoreRequest(.object(name("a/b"), .delete))).status == 404)
                #expect(await store.put("a/b", "again", .absent).status == 201)
            }
            #expect(
                fake.state.withLock { Array($0.containers["vol"]!.keys) } == [prefix.isEmpty ? "a/b" : "some/where/a/b"]
            )
            #expect(fake.state.withLock { $0.tokens } == 1)
        }
    }

    /// Containers that somebody has made before are what the configuration says, or it is told.
    @Test func containersThatAreThereAreLookedAt() async throws {
        for (policy, isGood) in [("gold", true), ("Gold", true), ("tin", false)] {
            let fake = FakeSwift()
            fake.state.withLock { state in
                for container in ["vol-0000", "vol-0002"] {
                    state.containers[container] = [:]
                    state.containerFields[container] = ["x-storage-policy": container == "vol-0002" ? policy : "gold"]
                }
            }
            let problem = Guarded("")
            try await fake.run {
                $0.containers.spread = .hash(3)
                $0.containers.policy = "gold"
                $0.containers.syncTo = "//realm/cluster/account"
                $0.containers.syncKey = Secret("SYNC")
            } _: { store, _ in
                do throws(StoreProblem) { try await store.verify(creates: true) } catch {
                    problem.withLock { $0 = "\(error)" }
                }
            }
            let words = problem.withLock { $0 }
            #expect(isGood == (words == ""), "\(words)")
            #expect(isGood || words.contains("vol-0002") && words.contains("tin"), "\(words)")
            let fields = fake.state.withLock { $0.containerFields["vol-0000"] ?? [:] }
            #expect(fields["x-container-sync-to"] == "//realm/cluster/account/vol-0000", "\(fields)")
            #expect(fields["x-container-sync-key"] == "SYNC")
        }
    }

    @Test func aStoreIsProbed() async throws {
        for (method, words) in [("PUT", "write"), ("DELETE", "delete")] {
            let fake = FakeSwift()
            let problem = Guarded("")
            try await fake.run { _ in
            } _: { store, _ in
                try await store.verify(creates: true)
                try await store.probe()
                fake.state.withLock { state in
                    state.script = Array(repeating: { $0.method == method ? .init(403) : nil }, count: 10)
                }
                do throws(StoreProblem) { try await store.probe() } catch { problem.withLock { $0 = "\(error)" } }
            }
            let said = problem.withLock { $0 }
            #expect(said.contains("let this user \(words)"), "\(said)")
            if method == "PUT" {
                #expect(fake.state.withLock { Array($0.containers["vol"]!.keys) } == ["proxyfs-containers"])
            }
        }
    }

    /// An account's listing shows a new container minutes later.
    @Test func containersThatAreNotListedYet() async throws {
        let fake = FakeSwift()
        try await fake.run {
            $0.containers.spread = .number(perContainer: 10)
        } _: { store, world in
            for number in [1, 12, 25] {
                let digits = String(number, radix: 16)
                let text = "segment/" + String(repeating: "0", count: 16 - digits.count) + digits
                #expect(await store.put(text, "x").status == 201)
            }
        }
        fake.state.withLock { $0.unlisted = ["vol-0001", "vol-0002"] }
        try await fake.run {
            $0.containers.spread = .number(perContainer: 10)
        } _: { store, world in
            let upper = ObjectStore(store, world: world, loop: world.loops[0])
            let names = try await upper.names(prefix: "segment/")
            #expect(names.count == 3)
        }
    }

    /// What tells which objects there are is asked of all copies; ranges of segments are not.
    @Test func wholeObjectsAreTheNewest() async throws {
        let fake = FakeSwift()
        try await fake.run { _ in
        } _: { store, _ in
            _ = await store.put("a", "hello")
            _ = await store.get("a", 0..<2)
            #expect(fake.state.withLock { $0.newest } == 0)
            _ = await store.get("a")
            _ = await store.perform(StoreRequest(.object(name("a"), .head)))
            #expect(fake.state.withLock { $0.newest } == 2)
        }
    }

    @Test func aTokenIsRenewedWhenTheStoreNoLongerTakesIt() async throws {
        let fake = FakeSwift()
        try await fake.run { _ in
        } _: { store, _ in
            #expect(await store.put("a", "x").status == 201)
            fake.state.withLock { $0.token = "another" }
            #expect(await store.put("b", "a body that is sent twice").status == 201)
            #expect(await store.get("b").body?.count == 25)
        }
        #expect(fake.state.withLock { $0.tokens } == 2)
    }

    @Test func aTokenIsRenewedBeforeItsEnd() async throws {
        let fake = FakeSwift()
        fake.state.withLock { $0.tokenSeconds = 0 }
        try await fake.run { _ in
        } _: { store, _ in
            for _ in 0..<3 { #expect(await store.get("a").status == 404) }
        }
        #expect(fake.state.withLock { $0.tokens } == 3)
    }

    @Test func whoIsRefusedTwiceIsRefused() async throws {
        let fake = FakeSwift()
        try await fake.run { _ in
        } _: { store, _ in
            fake.state.withLock { $0.script = Array(repeating: { _ in .init(401) }, count: 2) }
            #expect(await store.get("a").status == 401)
        }
    }

    @Test func acceptedIsNotStored() async throws {
        let fake = FakeSwift()
        try await fake.run { _ in
        } _: { store, world in
            fake.state.withLock { $0.script = [{ _ in .init(202) }] }
            let upper = ObjectStore(store, world: world, loop: world.loops[0])
            await #expect(throws: StoreError.self) { try await upper.put(name("a"), .blocks([block("x")])) }
            let size = try await upper.head(name("a"))
            #expect(size == nil)
        }
    }

    @Test func troubleHasItsOwnWords() async throws {
        for (given, status) in [(413, 507), (422, 503), (498, 429), (499, 503), (500, 500), (404, 503)] {
            let fake = FakeSwift()
            try await fake.run { _ in
            } _: { store, _ in
                _ = await store.put("there", "x")
                // A container that is made again and again.
                let answer = FakeServer.Answer(given, "", [("X-Trans-Id", "tx1")])
                fake.state.withLock { $0.script = [{ _ in answer }, { _ in nil }, { _ in answer }] }
                #expect(await store.put("a", "x").status == status, "\(given)")
            }
        }
        let fake = FakeSwift()
        try await fake.run { _ in
        } _: { store, _ in
            _ = await store.put("there", "x")
            fake.state.withLock { $0.script = [{ _ in .init(201, "", [("ETag", "0000")]) }] }
            #expect(await store.put("a", "x").status == StoreReply.noAnswer)
        }
    }

    /// What stands in front of a store has pages of its own.
    @Test func anObjectIsGoneOnlyWhenTheStoreSaysSo() async throws {
        let kinds: [StoreRequest.Kind] = [
            .object(name("a"), .get(nil)), .object(name("a"), .delete), .object(name("a"), .head),
            .list(prefix: "", after: nil, limit: 1),
        ]
        for kind in kinds {
            let fake = FakeSwift()
            try await fake.run { _ in
            } _: { store, _ in
                #expect(await store.put("a", "x").status == 201)
                fake.state.withLock { $0.script = [{ _ in .init(404, "<html>no such backend</html>") }] }
                #expect(await store.perform(StoreRequest(kind)).status == 503, "\(kind)")
                fake.state.withLock { $0.script = [{ _ in .init(404) }] }
                await #expect(throws: StoreProblem.self) { try await store.verify(creates: true) }
            }
        }
    }

    @Test func aPartThatWasNotAskedForIsNone() async throws {
        let fake = FakeSwift()
        try await fake.run { _ in
        } _: { store, _ in
            #expect(await store.put("a", "right").status == 201)
            fake.state.withLock { $0.script = [{ _ in .init(206, "ri", [("Content-Range", "bytes 0-1/5")]) }] }
            #expect(await store.get("a", 1..<3).status == StoreReply.noAnswer)
            #expect(await store.get("a", 1..<3).body?.array == Array("ig".utf8))
        }
    }

    @Test func onlyWhatWasMadeIsTakenBack() async throws {
        for (there, spread) in [("nothing", SwiftOptions.Containers.Spread.single), ("volume", .hash(2))] {
            let fake = FakeSwift()
            try await fake.run {
                $0.containers.spread = spread
            } _: { store, world in
                let loop = world.loops[0]
                if there == "volume" {
                    try await store.verify(creates: true)
                    _ = await store.put("a", "x")
                    _ = await store.put("b", "x")
                    _ = await store.put("c", "x")
                }
                let before = fake.state.withLock { $0.containers }
                let pool = try TransferPool("test")
                let checking = SwiftStore(store.options, reads: pool, writes: pool, world: world, loop: loop)
                try await checking.verify(creates: true)
                for text in ["a", "b", "c", "d", "e"] { _ = await checking.put("check/\(text)", "x") }
                for text in ["a", "b", "c", "d", "e"] {
                    _ = await checking.perform(StoreRequest(.object(name("check/\(text)"), .delete)))
                }
                await checking.undo()
                #expect(fake.state.withLock { $0.containers } == before, "\(there)")
                // Others' objects under the prefix need the layout; without them it goes, whoever made it.
                await checking.unmake()
                #expect(fake.state.withLock { $0.containers } == before, "\(there)")
                for text in ["a", "b", "c"] { _ = await store.perform(StoreRequest(.object(name(text), .delete))) }
                await checking.unmake()
                #expect(fake.state.withLock { $0.containers.values.allSatisfy(\.isEmpty) })
                #expect(fake.state.withLock { $0.containers.keys.count } == before.count)
                pool.stop()
            }
        }
    }

    @Test func aTokenOfTLSIsNotSentWithoutIt() async throws {
        let certificate = try TLSCertificate.selfSigned(names: ["127.0.0.1", "localhost"])
        let tls = try TLSServer(TLSServerOptions(certificates: [certificate]))
        let server = FakeServer { _ in
            .init(200, "", [("X-Auth-Token", "t"), ("X-Storage-Url", "http://127.0.0.1:1/v1/AUTH_test")])
        }
        try await server.run(tls: tls) { world, port in
            let authority = temporaryFile(certificate.chain)
            defer { unlink(authority) }
            var options = TransferPool.Options()
            options.authoritiesFile = authority
            let pool = try TransferPool("test", options)
            for isAllowed in [false, true] {
                var account = SwiftOptions(
                    .version1(Endpoint("https://localhost:\(port)/auth/v1.0")!, user: "u", key: Secret("k")),
                    SwiftOptions.Containers(name: "vol")!)
                if isAllowed { account.storageURL = Endpoint("http://127.0.0.1:1/v1/AUTH_test") }
                let store = SwiftStore(account, reads: pool, writes: pool, world: world, loop: world.loops[0])
                let problem = await #expect(throws: StoreProblem.self) { try await store.verify(creates: false) }
                #expect(problem?.answer.contains("without TLS") == !isAllowed, "\(problem?.description ?? "")")
            }
            pool.stop()
        }
    }

    @Test func containersAreOneListing() async throws {
        for spread in [SwiftOptions.Containers.Spread.hash(7), .number(perContainer: 3), .single] {
            let fake = FakeSwift()
            // Others' containers, that look nearly like ours.
            fake.state.withLock { state in
                for other in ["vol-x", "vol-12", "vola-0000", "volume"] { state.containers[other] = ["v/seg/zz": []] }
                state.pageMax = 2
            }
            try await fake.run { options in
                options.containers.spread = spread
                options.prefix = "p"
            } _: { store, world in
                let upper = ObjectStore(store, world: world, loop: world.loops[0])
                var names: [String] = []
                for index in 0..<25 {
                    let digits = String(index * 7919 % 25, radix: 16)
                    names.append("v/seg/" + String(repeating: "0", count: 16 - digits.count) + digits)
                }
                for text in names + ["v/head"] { try await upper.put(name(text), .blocks([block("x")])) }
                #expect(try await upper.names(prefix: "v/seg/").map(\.text) == names.sorted(), "\(spread)")
                let page = try await upper.list(prefix: "", after: nil, limit: 1)
                #expect(page.entries == [ListEntry(name: name("v/head"), size: 1)] && page.isTruncated)
                for limit in 1...6 {
                    var found: [String] = []
                    var isTruncated = true
                    while isTruncated {
                        let page = try await upper.list(prefix: "v/seg/", after: found.last, limit: limit)
                        found += page.entries.map(\.name.text)
                        isTruncated = page.isTruncated
                    }
                    #expect(found == names.sorted(), "\(spread) \(limit)")
                }
                for text in names {
                    let block = try await upper.get(name(text))
                    #expect(block.count == 1)
                }
            }
            let ours = fake.state.withLock { $0.containers.filter { !$0.value.keys.contains("v/seg/zz") }.count }
            switch spread {
            case .single: #expect(ours == 1)
            case .hash(let count): #expect(ours <= count && ours > count / 2)
            case .number(let per): #expect(ours == (25 + Int(per) - 1) / Int(per))
            }
        }
    }

    @Test func containersAreMadeAsTheConfigurationSays() async throws {
        let fake = FakeSwift()
        try await fake.run { options in
            options.containers.policy = "gold"
            options.containers.syncTo = "//realm/cluster/AUTH_copy"
            options.containers.syncKey = Secret("sync")
        } _: { store, _ in
            #expect(await store.put("a", "x").status == 201)
        }
        let fields = fake.state.withLock { $0.containerFields["vol"] ?? [:] }
        #expect(fields["x-storage-policy"] == "gold" && fields["x-container-sync-key"] == "sync")
        #expect(fields["x-container-sync-to"] == "//realm/cluster/AUTH_copy/vol")
    }

    @Test func aLayoutIsNotMistaken() async throws {
        let fake = FakeSwift()
        func verify(_ spread: SwiftOptions.Containers.Spread, creates: Bool) async throws -> String {
            let text = Guarded("")
            try await fake.run {
                $0.containers.spread = spread
            } _: { store, _ in
                do throws(StoreProblem) { try await store.verify(creates: creates) } catch {
                    text.withLock { $0 = "\(error)" }
                }
            }
            return text.withLock { $0 }
        }
        #expect(try await verify(.hash(4), creates: false).contains("name a container that there is"))
        #expect(try await verify(.hash(4), creates: true) == "")
        #expect(try await verify(.hash(4), creates: false) == "")
        try await fake.run {
            $0.containers.spread = .hash(4)
        } _: { store, world in
            // It is no object of the volume.
            let names = try await ObjectStore(store, world: world, loop: world.loops[0]).names(prefix: "")
            #expect(names.isEmpty)
        }
        #expect(try await verify(.hash(5), creates: true).contains("\"containers\":4"))
    }

    @Test func keystone() async throws {
        typealias Identity = SwiftOptions.Keystone.Identity
        func problem(_ identity: Identity, region: String? = "one", interface: String = "public") async throws -> String
        {
            let text = Guarded("")
            let fake = FakeSwift()
            let way = FakeSwift.Way { port in
                var keystone = SwiftOptions.Keystone(Endpoint("http://127.0.0.1:\(port)/v3")!, identity)
                keystone.region = region
                keystone.interface = interface
                return .keystone(keystone)
            }
            try await fake.run(as: way) { _ in
            } _: { store, _ in
                do throws(StoreProblem) { try await store.verify(creates: true) } catch {
                    return text.withLock { $0 = "\(error)" }
                }
                #expect(await store.put("a", "x").status == 201)
            }
            return text.withLock { $0 }
        }
        func password(_ secret: String) -> Identity {
            .password(
                user: "tester", userDomain: "default", password: Secret(secret), project: "project",
                projectDomain: "Default")
        }
        #expect(try await problem(password("KEY")) == "")
        #expect(try await problem(.applicationCredential(id: "id", secret: Secret("KEY"))) == "")
        let wrong = try await problem(password("WRONG"))
        #expect(wrong.contains("requires authentication") && !wrong.contains("WRONG"))
        #expect(try await problem(password("KEY"), region: "three").contains("in region three"))
        #expect(try await problem(password("KEY"), interface: "internal").contains("interface internal"))
    }

    @Test func aWrongUserIsToldAtTheStart() async throws {
        let text = Guarded("")
        let way = FakeSwift.Way { port in
            .version1(Endpoint("http://127.0.0.1:\(port)/auth/v1.0")!, user: "test:nobody", key: Secret("HUSH"))
        }
        try await FakeSwift().run(as: way) { _ in
        } _: { store, _ in
            do throws(StoreProblem) { try await store.verify(creates: true) } catch {
                text.withLock { $0 = "\(error)" }
            }
            let reply = await store.get("a")
            #expect(reply.status == StoreReply.noAnswer && reply.reason.contains("test:nobody"))
        }
        let told = text.withLock { $0 }
        #expect(told.contains("status 401") && told.contains("test:nobody") && !told.contains("HUSH"))
    }
}
