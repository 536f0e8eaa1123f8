import Bytes
import Glibc
import ObjectStore
import Runtime

/// `benchmark-store-directory FOLDER COUNT [BYTES]`: puts COUNT objects of BYTES (64 MiB) through the object store into
/// a directory store, one after the other as dd would; prints the seconds. `benchmark-store-directory FOLDER crowd
/// COUNT`: see `Crowd`.
@main
enum Program {
    static func main() async throws {
        let arguments = CommandLine.arguments
        if arguments.count == 4, arguments[2] == "crowd", let count = Int(arguments[3]), count >= 20_000 {
            let world = try World.real(disk: RealDisk(path: arguments[1]), loops: 1)
            try await world.loops[0].task { try await Crowd.run(world, count) }.value
            return world.stop()
        }
        guard arguments.count > 2, let count = Int(arguments[2]),
            let size = arguments.count > 3 ? Int(arguments[3]) : 64 << 20
        else {
            print("usage: benchmark-store-directory FOLDER COUNT [BYTES] | FOLDER crowd COUNT")
            exit(2)
        }
        let world = try World.real(disk: RealDisk(path: arguments[1]), loops: 1)
        let seconds = try await world.loops[0].task { try await puts(world, count, size) }.value
        print(seconds)
        world.stop()
    }

    private static func puts(_ world: World, _ count: Int, _ size: Int) async throws -> Double {
        let loop = world.loops[0]
        let store = ObjectStore(
            try await DirectoryStore.open(world: world, loop: loop, root: "store"), world: world, loop: loop)
        // In blocks of the engine's size; the bytes are random once, as a disk may compress.
        let blocks = (0..<(size >> 20)).map { _ in
            let block = Block(capacity: 1 << 20)
            block.count = block.capacity
            world.random.fill(UnsafeMutableRawBufferPointer(start: block.base, count: block.count))
            return block
        }
        let start = world.clock.monotonic()
        for index in 0..<count {
            let digits = String(index, radix: 16)
            let text = "bench/" + String(repeating: "0", count: 16 - digits.count) + digits
            guard let name = ObjectName(text) else { preconditionFailure("the benchmark's own name") }
            try await store.put(name, .blocks(blocks))
        }
        return Double(world.clock.monotonic() - start) / 1e9
    }
}
