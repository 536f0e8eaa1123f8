import Bytes
import RPC

/// The network status monitor (X/Open XNFS 11): who restarted.
public enum StatusMonitor {
    public static let program: UInt32 = 100_024
    public static let version: UInt32 = 1
    /// `SM_MAXSTRLEN`.
    public static let nameMax = 1024
    public static let privateBytes = 16
}

/// X/Open XNFS 11.3.
public enum MonitorProcedure: UInt32, Sendable, CaseIterable {
    case null = 0
    case status, monitor, unmonitor, unmonitorAll, simulateCrash, notify
}

/// X/Open XNFS 11.2, `res`.
public enum MonitorAnswer: UInt32, Sendable {
    case success = 0
    case failure
}

/// X/Open XNFS 11.3.1, `sm_name`.
public struct MonitorName: XDRMessage {
    public var name: UnsafeRawBufferPointer

    public init(name: UnsafeRawBufferPointer) {
        self.name = name
    }
    public init(reading reader: inout Reader) throws(BytesError) {
        name = try reader.inPlace(limit: StatusMonitor.nameMax)
    }
    public func write(into writer: inout Writer) {
        writer.opaque(name)
    }
}

/// X/Open XNFS 11.3.1, `sm_stat_res`.
public struct MonitorStatusResult: XDRMessage {
    public var answer: MonitorAnswer
    public var state: Int32

    public init(answer: MonitorAnswer, state: Int32) {
        self.answer = answer
        self.state = state
    }
    public init(reading reader: inout Reader) throws(BytesError) {
        answer = try reader.enumeration(MonitorAnswer.self)
        state = try reader.i32()
    }
    public func write(into writer: inout Writer) {
        writer.u32(answer.rawValue)
        writer.i32(state)
    }
}

/// X/Open XNFS 11.3.2, `my_id`: whom to call when the monitored host restarts.
public struct MonitorCaller: XDRMessage {
    public var name: UnsafeRawBufferPointer
    public var program: Int32
    public var version: Int32
    public var procedure: Int32

    public init(name: UnsafeRawBufferPointer, program: Int32, version: Int32, procedure: Int32) {
        self.name = name
        self.program = program
        self.version = version
        self.procedure = procedure
    }
    public init(reading reader: inout Reader) throws(BytesError) {
        name = try reader.inPlace(limit: StatusMonitor.nameMax)
        program = try reader.i32()
        version = try reader.i32()
        procedure = try reader.i32()
    }
    public func write(into writer: inout Writer) {
        writer.opaque(name)
        writer.i32(program)
        writer.i32(version)
        writer.i32(procedure)
    }
}

/// X/Open XNFS 11.3.2, `mon_id`.
public struct MonitorID: XDRMessage {
    public var name: UnsafeRawBufferPointer
    public var caller: MonitorCaller

    public init(name: UnsafeRawBufferPointer, caller: MonitorCaller) {
        self.name = name
        self.caller = caller
    }
    public init(reading reader: inout Reader) throws(BytesError) {
        name = try reader.inPlace(limit: StatusMonitor.nameMax)
        caller = try MonitorCaller(reading: &reader)
    }
    public func write(into writer: inout Writer) {
        writer.opaque(name)
        caller.write(into: &writer)
    }
}

/// X/Open XNFS 11.3.2, `mon`.
public struct MonitorArguments: XDRMessage {
    public var id: MonitorID
    public var privateData: UnsafeRawBufferPointer

    public init(id: MonitorID, privateData: UnsafeRawBufferPointer) {
        self.id = id
        self.privateData = privateData
    }
    public init(reading reader: inout Reader) throws(BytesError) {
        id = try MonitorID(reading: &reader)
        privateData = try reader.inPlace(fixed: StatusMonitor.privateBytes)
    }
    public func write(into writer: inout Writer) {
        id.write(into: &writer)
        writer.opaque(fixed: privateData)
    }
}

/// X/Open XNFS 11.3.3, `sm_stat`.
public struct MonitorState: XDRMessage {
    public var state: Int32

    public init(state: Int32) {
        self.state = state
    }
    public init(reading reader: inout Reader) throws(BytesError) {
        state = try reader.i32()
    }
    public func write(into writer: inout Writer) {
        writer.i32(state)
    }
}

/// X/Open XNFS 11.3.6, `stat_chge`: a host tells that its state is another now.
public struct MonitorChange: XDRMessage {
    public var name: UnsafeRawBufferPointer
    public var state: Int32

    public init(name: UnsafeRawBufferPointer, state: Int32) {
        self.name = name
        self.state = state
    }
    public init(reading reader: inout Reader) throws(BytesError) {
        name = try reader.inPlace(limit: StatusMonitor.nameMax)
        state = try reader.i32()
    }
    public func write(into writer: inout Writer) {
        writer.opaque(name)
        writer.i32(state)
    }
}

/// X/Open XNFS 11.3.2, `status`: what the monitor calls back with.
public struct MonitorCallback: XDRMessage {
    public var name: UnsafeRawBufferPointer
    public var state: Int32
    public var privateData: UnsafeRawBufferPointer

    public init(name: UnsafeRawBufferPointer, state: Int32, privateData: UnsafeRawBufferPointer) {
        self.name = name
        self.state = state
        self.privateData = privateData
    }
    public init(reading reader: inout Reader) throws(BytesError) {
        name = try reader.inPlace(limit: StatusMonitor.nameMax)
        state = try reader.i32()
        privateData = try reader.inPlace(fixed: StatusMonitor.privateBytes)
    }
    public func write(into writer: inout Writer) {
        writer.opaque(name)
        writer.i32(state)
        writer.opaque(fixed: privateData)
    }
}
