import ObjectStore
import Runtime
import Transfer

extension SwiftStore {
    /// Listings of containers at once.
    private static let listingsMax = 8
    /// Pages of names that are none of ours.
    private static let pagesMax = 1_000
    private static let pageMax = 10_000

    /// One listing over all containers, in order: each one's next names, put together.
    func list(_ prefix: String, _ marker: String?, _ count: Int, _ limit: UInt64) async -> StoreReply {
        let start = loop.now
        let containers: [String]
        switch await self.containers(limit) {
        case .success(let found): containers = found
        case .failure(let reply): return reply.value
        }
        var reply = StoreReply(status: 200)
        var next = 0
        while next < containers.count {
            let group = Array(containers[next..<min(next + Self.listingsMax, containers.count)])
            next += group.count
            let left = limit - min(loop.now - start, limit)
            guard left > 0 else { return failed("listing took too long") }
            let pages = await withTaskGroup(of: StoreReply.self) { tasks in
                for container in group {
                    tasks.addTask { await self.list(container, prefix, marker, count, left) }
                }
                var pages: [StoreReply] = []
                for await page in tasks { pages.append(page) }
                return pages
            }
            for page in pages {
                // One that is not there is empty.
                if page.status == 404 { continue }
                guard page.status == 200 else { return page }
                // What is behind the end of a page that was cut is not known: nothing behind it may be shown.
                reply.entries += page.entries
                reply.truncated = reply.truncated || page.truncated
            }
            // The smallest names of all are among the smallest of each.
            reply.entries.sort { $0.name < $1.name }
            if reply.entries.count > count {
                reply.entries.removeLast(reply.entries.count - count)
                reply.truncated = true
            }
        }
        return reply
    }

    struct Refused: Error {
        let value: StoreReply
        init(_ value: StoreReply) { self.value = value }
    }

    /// Those that may hold something.
    func containers(_ limit: UInt64) async -> Result<[String], Refused> {
        if let all = map.all { return .success(all) }
        var found: [String] = []
        var marker = ""
        var extras = Extras()
        extras.purpose = .listing
        for _ in 0..<Self.pagesMax {
            let answer = await send(
                .get,
                "?format=json&limit=\(Self.pageMax)&prefix=\(Endpoint.escape(map.lead))&marker=\(Endpoint.escape(marker))",
                limit, over: reads, extras)
            let reply = reply(answer)
            guard reply.status == 200 || reply.status == 204 else { return .failure(Refused(reply)) }
            guard let items = SwiftListing.names(answer.bodyBytes) else {
                return .failure(Refused(failed("the store's listing of containers is none")))
            }
            guard let last = items.last else { return await withNewest(found, limit) }
            found += items.filter { map.owns($0) }
            guard found.count <= SwiftOptions.Containers.countMax else {
                return .failure(Refused(failed("more than \(SwiftOptions.Containers.countMax) containers")))
            }
            marker = last
        }
        return .failure(Refused(failed("too many containers of the account begin with \(map.lead)")))
    }

    /// An account's listing lags behind, by minutes: those that were made since come behind the last one.
    private func withNewest(_ listed: [String], _ limit: UInt64) async -> Result<[String], Refused> {
        var found = Set(listed).union(made.containers)
        var next = (found.compactMap { map.index(of: $0) }.max() ?? -1) + 1
        while found.count <= SwiftOptions.Containers.countMax {
            let container = map.numbered(next)
            let answer = await send(.head, "/\(container)", limit, over: reads)
            if Self.isAbsent(answer) { return .success(found.sorted()) }
            guard answer.status / 100 == 2 else { return .failure(Refused(reply(answer))) }
            found.insert(container)
            next += 1
        }
        return .failure(Refused(failed("more than \(SwiftOptions.Containers.countMax) containers")))
    }

    /// Of one container: `count` names, or all that follow.
    private func list(
        _ container: String, _ prefix: String, _ marker: String?, _ count: Int, _ limit: UInt64
    ) async -> StoreReply {
        let lead = options.prefix.isEmpty ? "" : options.prefix + "/"
        let start = loop.now
        var after = marker.map { lead + $0 } ?? ""
        var reply = StoreReply(status: 200)
        var extras = Extras()
        extras.purpose = .listing
        for _ in 0..<Self.pagesMax {
            let left = limit - min(loop.now - start, limit)
            guard left > 0 else { return failed("listing \(container) took too long") }
            // One more than is wanted tells whether there are more.
            let wanted = min(count + 1 - reply.entries.count, Self.pageMax)
            let answer = await send(
                .get,
                "/\(container)?format=json&limit=\(wanted)&prefix=\(Endpoint.escape(lead + prefix))"
                    + "&marker=\(Endpoint.escape(after))", left, over: reads, extras)
            let status = self.reply(answer)
            guard status.status == 200 || status.status == 204 else { return status }
            guard let items = SwiftListing.objects(answer.bodyBytes) else {
                return failed("the store's listing of \(container) is none")
            }
            guard let last = items.last else { return reply }
            for item in items {
                guard item.name.hasPrefix(lead), let name = ObjectName(String(item.name.dropFirst(lead.count))) else {
                    continue
                }
                // Ours, and no object of whoever asks.
                guard name.text != Self.layoutName else { continue }
                guard reply.entries.count < count else {
                    reply.truncated = true
                    return reply
                }
                reply.entries.append(ListEntry(name: name, size: item.size))
            }
            after = last.name
            // A server may give fewer than were asked for: only an empty page is the end.
        }
        return failed("too many names under \(lead)\(prefix) in \(container) are none of ours")
    }
}
