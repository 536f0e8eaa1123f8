import Glibc

/// How many steps a model test takes, or as many times that as PROXYFS_MODEL_TIMES says.
public func modelSteps(_ count: Int) -> Int { count * modelTimes }

/// The same in seeds, where one run takes as many steps as the simulator allows, or each step more time than the one before.
public func modelSeeds(_ count: Int, from first: UInt64 = 1) -> [UInt64] {
    (0..<UInt64(count * modelTimes)).map { first + $0 }
}

private let modelTimes = getenv("PROXYFS_MODEL_TIMES").flatMap { Int(String(cString: $0)) } ?? 1
