// modules: Logging Configuration
// with:
// covers: Sources/Configuration/TOML
import Configuration

/// Any bytes are a configuration that is read or refused; a message and a place can be made of each refusal.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ data: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let input = UnsafeRawBufferPointer(start: data, count: count)
    do throws(Configuration.Invalid) {
        _ = try Configuration.load([UInt8](input), file: "f").report
    } catch {
        _ = error.description
    }
    return 0
}
