import Testing

/// Like `#expect`, for calls that change a structure: the macro may not hold those.
func expect(_ isTrue: Bool, _ comment: Comment? = nil, sourceLocation: SourceLocation = #_sourceLocation) {
    if !isTrue { Issue.record(comment ?? "expected to be true", sourceLocation: sourceLocation) }
}
