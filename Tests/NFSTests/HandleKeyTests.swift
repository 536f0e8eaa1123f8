import Bytes
import NFS
import Namespace
import RPC
import Runtime
import Simulator
import TestSupport
import Testing

/// Handles and tokens are the volume's: they are good on each server of it, whatever key that one has itself.
@Suite struct HandleKeyTests {
    /// What a client keeps from one server to the next.
    private final class Kept: @unchecked Sendable {
        var root: [UInt8] = []
        var file: [UInt8] = []
    }

    private static func attributes(_ host: SimulatedHost, _ handle: [UInt8], xid: UInt32) async throws -> NFS3Status {
        let request = NFS3Request.getAttributes(NFS3Handle(host.keep(handle)))
        let reply = try #require(await host.exchange(host.message(.getAttributes, request, xid: xid)))
        return try host.results(reply, NFS3Results.GetAttributes.self).status
    }

    private static func removal(_ host: SimulatedHost, _ root: [UInt8]) -> RPCMessage {
        host.message(.remove, .remove(host.name(root, "gone")), xid: 77)
    }

    /// A server with a key of its own.
    private struct Life {
        let key: HandleKey
        let body: @Sendable (World, SimulatedServer) async throws -> Void

        init(_ key: HandleKey, _ body: @escaping @Sendable (World, SimulatedServer) async throws -> Void) {
            self.key = key
            self.body = body
        }
    }

    private func lives(_ simulation: Simulation, _ lives: [Life]) {
        for (number, life) in lives.enumerated() {
            let (key, body) = (life.key, life.body)
            if number > 0 { simulation.killAndRestart() }
            let done = simulation.perform { world -> Bool in
                do { try await body(world, try await SimulatedServer(world, key: key)) } catch {
                    Issue.record("life \(number): \(error)")
                }
                return true
            }
            #expect(done == true, "life \(number) did not come to an end")
        }
    }

    @Test func anotherServerTakesThem() {
        let simulation = Simulation(seed: 11)
        let kept = Kept()
        lives(
            simulation,
            [
                Life(HandleKey(1, 2)) { _, _ in
                    let host = SimulatedHost(simulation, "client", isStream: true)
                    kept.root = try #require(try await host.root(xid: 1))
                    for (name, xid) in [("file", 2), ("gone", 3)] as [(String, UInt32)] {
                        let how = NFS3CreateHow.guarded(NFS3SetAttributes(mode: 0o644))
                        let create = NFS3CreateArguments(place: host.name(kept.root, name), how: how)
                        let reply = try #require(
                            await host.exchange(host.message(.create, .create(create), xid: xid)))
                        let made = try host.results(reply, NFS3Results.Create.self)
                        kept.file = Array(try #require(made.success?.object).bytes)
                    }
                    let removed = try #require(await host.exchange(Self.removal(host, kept.root)))
                    #expect(try host.results(removed, NFS3Results.Remove.self).status == .ok)
                },
                Life(HandleKey(3, 4)) { _, _ in
                    let host = SimulatedHost(simulation, "client", isStream: true)
                    #expect(try await Self.attributes(host, kept.root, xid: 4) == .ok)
                    #expect(try await Self.attributes(host, kept.file, xid: 5) == .stale)
                    // The request that came again has its first answer here, too.
                    let removed = try #require(await host.exchange(Self.removal(host, kept.root)))
                    #expect(try host.results(removed, NFS3Results.Remove.self).status == .ok)
                    #expect(try await host.root(xid: 6) == kept.root)
                    kept.root[43] ^= 1
                    #expect(try await Self.attributes(host, kept.root, xid: 7) == .badHandle)
                },
            ])
    }

    /// A volume without a key gets one of its own, that tells nothing of the server's; it goes where the volume goes.
    @Test func aVolumeWithoutAKeyGetsOne() {
        let simulation = Simulation(seed: 12)
        let kept = Kept()
        let forget = Life(HandleKey(5, 6)) { world, server in
            let host = SimulatedHost(simulation, "client", isStream: true)
            kept.root = try #require(try await host.root(xid: 1))
            let settings = VolumeSettings(server.volume, clock: world.clock, loop: world.loops[0])
            try await settings.set(VolumeSettings.handleKey, nil)
        }
        lives(
            simulation,
            [
                forget,
                Life(HandleKey(5, 6)) { world, server in
                    let settings = VolumeSettings(server.volume, clock: world.clock, loop: world.loops[0])
                    let written = try #require(try await settings.value(VolumeSettings.handleKey))
                    #expect(written.count == 16 && written != [0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 6])
                    // The same as before: what a server gave out while the volume kept none is good on.
                    let host = SimulatedHost(simulation, "client", isStream: true)
                    #expect(try await Self.attributes(host, kept.root, xid: 2) == .ok)
                },
                Life(HandleKey(7, 8)) { world, server in
                    let host = SimulatedHost(simulation, "client", isStream: true)
                    #expect(try await Self.attributes(host, kept.root, xid: 3) == .ok)
                    let settings = VolumeSettings(server.volume, clock: world.clock, loop: world.loops[0])
                    try await settings.set(VolumeSettings.handleKey, nil)
                },
                Life(HandleKey(7, 8)) { _, _ in
                    // Another server's word for a volume that keeps none is another one.
                    let host = SimulatedHost(simulation, "client", isStream: true)
                    let status = try await Self.attributes(host, kept.root, xid: 4)
                    #expect(status == .badHandle)
                },
            ])
    }

    /// The key is in the store as soon as there is one, before any file: who takes the volume over has it.
    @Test func theKeyIsInTheStoreAtOnce() {
        let simulation = Simulation(seed: 13)
        lives(
            simulation,
            [
                Life(HandleKey(5, 6)) { world, server in
                    let volume = server.volume
                    let number = volume.newestChange
                    let isSafe = Guarded(false)
                    await world.loops[0].sleep(nanoseconds: 5_000_000_000)
                    volume.whenSettled(number, .store, on: world.loops[0]) { failure in
                        isSafe.withLock { $0 = failure == nil }
                    }
                    // At once: nobody else asks for the store here, and no timer of checkpoints has run.
                    await world.loops[0].sleep(nanoseconds: 1)
                    #expect(isSafe.withLock { $0 })
                }
            ])
    }
}
