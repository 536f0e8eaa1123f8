import Metrics
import Testing

@Suite struct MetricsRegistryTests {
    @Test func textHasFamiliesByNameWithTheirSamples() {
        let registry = MetricsRegistry()
        registry.add("b_total", .counter, "Counts.") {
            [.init(3, [("kind", "a\"b\\c\nd")]), .init(4, [("kind", "x")])]
        }
        registry.add("a_seconds", .gauge, "Measures.") { [.init(0.5)] }
        #expect(
            registry.text() == """
                # HELP a_seconds Measures.
                # TYPE a_seconds gauge
                a_seconds 0.5
                # HELP b_total Counts.
                # TYPE b_total counter
                b_total{kind="a\\"b\\\\c\\nd"} 3
                b_total{kind="x"} 4
                # HELP proxyfs_metrics_left_out_total Samples beyond the limit of their family.
                # TYPE proxyfs_metrics_left_out_total counter
                proxyfs_metrics_left_out_total 0

                """)
    }

    @Test func samplesBeyondTheLimitAreLeftOutAndCounted() {
        for extra in [0, 1] {
            let registry = MetricsRegistry()
            registry.add("many", .gauge, "Many.") {
                (0..<MetricsRegistry.samplesMax + extra).map { .init($0, [("n", "\($0)")]) }
            }
            let lines = registry.text().split(separator: "\n")
            #expect(lines.count { $0.hasPrefix("many{") } == MetricsRegistry.samplesMax)
            #expect(lines.last == "proxyfs_metrics_left_out_total \(extra)")
        }
    }
}
