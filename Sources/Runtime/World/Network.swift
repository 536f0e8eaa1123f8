/// Listeners and outgoing connections, real or simulated.
public protocol Network: AnyObject, Sendable {
}
