import Logging
import Runtime
import S3Store
import StoreSupport
import Testing
import Transfer

@Suite(.serialized) struct CredentialTests {
    @Test func environment() {
        let full = ["AWS_ACCESS_KEY_ID": "K", "AWS_SECRET_ACCESS_KEY": "S", "AWS_SESSION_TOKEN": "T"]
        let found = LocalCredentials.environment { full[$0] }
        #expect(found == S3Credentials(accessKey: "K", secret: Secret("S"), token: Secret("T")))
        #expect(LocalCredentials.environment { ["AWS_ACCESS_KEY_ID": "K"][$0] } == nil)
        #expect(LocalCredentials.environment { full[$0].map { _ in "" } } == nil)
    }

    @Test func sharedFile() {
        let text = """
            # comment
            [default]
            aws_access_key_id = K1
            aws_secret_access_key=S=1

            [ other ]
            AWS_ACCESS_KEY_ID = K2
            aws_secret_access_key = S2
            aws_session_token = T2
            [broken]
            aws_access_key_id = K3
            """
        #expect(
            LocalCredentials.sharedFile(text, profile: "default")
                == S3Credentials(accessKey: "K1", secret: Secret("S=1")))
        #expect(
            LocalCredentials.sharedFile(text, profile: "other")
                == S3Credentials(accessKey: "K2", secret: Secret("S2"), token: Secret("T2")))
        #expect(LocalCredentials.sharedFile(text, profile: "broken") == nil)
        #expect(LocalCredentials.sharedFile(text, profile: "none") == nil)
    }

    private func fetch(
        _ answer: @escaping @Sendable (FakeServer.Request) -> FakeServer.Answer,
        _ make: @escaping @Sendable (Endpoint, TransferPool) -> any S3CredentialSource
    ) async throws -> (Result<S3Credentials, StoreProblem>, [FakeServer.Request]) {
        let server = FakeServer(answer)
        let box = Guarded<Result<S3Credentials, StoreProblem>?>(nil)
        try await server.run { _, port in
            let pool = try TransferPool("test")
            let source = make(Endpoint("http://127.0.0.1:\(port)")!, pool)
            do throws(StoreProblem) {
                let found = try await source.fetch()
                box.withLock { $0 = .success(found) }
            } catch { box.withLock { $0 = .failure(error) } }
            pool.stop()
        }
        return (try #require(box.withLock { $0 }), server.requests)
    }

    @Test func instanceMetadata() async throws {
        let (result, requests) = try await fetch({ request in
            if request.method == "PUT" { return .init(200, "TOKEN") }
            guard request.fields["x-aws-ec2-metadata-token"] == "TOKEN" else { return .init(401) }
            guard request.path.hasSuffix("/role") else { return .init(200, "role\n") }
            return .init(
                200,
                "{\"Code\":\"Success\",\"AccessKeyId\":\"K\",\"SecretAccessKey\":\"S\",\"Token\":\"T\","
                    + "\"Expiration\":\"2013-05-24T00:00:00Z\"}")
        }) { MetadataCredentials($0, over: $1) }
        #expect(
            try result.get()
                == S3Credentials(accessKey: "K", secret: Secret("S"), token: Secret("T"), expires: 1_369_353_600))
        #expect(requests.map(\.method) == ["PUT", "GET", "GET"])
        #expect(requests[0].fields["x-aws-ec2-metadata-token-ttl-seconds"] != nil)
        for bad in [FakeServer.Answer(404), .init(200, "{}"), .init(200, "")] {
            let (result, _) = try await fetch({ _ in bad }) { MetadataCredentials($0, over: $1) }
            guard case .failure(let problem) = result else { return #expect(Bool(false)) }
            #expect(problem.tried.contains("the instance's metadata"))
        }
    }

    @Test func webIdentity() async throws {
        let (result, requests) = try await fetch({ _ in
            .init(
                200,
                "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>K</AccessKeyId>"
                    + "<SecretAccessKey>S</SecretAccessKey><SessionToken>T</SessionToken>"
                    + "<Expiration>2013-05-24T00:00:00Z</Expiration></Credentials></AssumeRoleWithWebIdentityResult>"
                    + "</AssumeRoleWithWebIdentityResponse>")
        }) {
            WebIdentityCredentials(
                .init(endpoint: $0, role: "arn:x", session: "proxyfs", tokenPlace: "file") { Secret("JWT+1") }, over: $1
            )
        }
        #expect(
            try result.get()
                == S3Credentials(accessKey: "K", secret: Secret("S"), token: Secret("T"), expires: 1_369_353_600))
        let body = String(decoding: requests[0].body, as: UTF8.self)
        #expect(body.contains("Action=AssumeRoleWithWebIdentity") && body.contains("WebIdentityToken=JWT%2B1"))
        #expect(body.contains("RoleArn=arn%3Ax") && requests[0].method == "POST")
        let (refused, _) = try await fetch({ _ in
            .init(403, "<ErrorResponse><Error><Code>InvalidIdentityToken</Code></Error></ErrorResponse>")
        }) {
            WebIdentityCredentials(
                .init(endpoint: $0, role: "arn:x", session: "proxyfs", tokenPlace: "file") { Secret("JWT") }, over: $1)
        }
        guard case .failure(let problem) = refused else { return #expect(Bool(false)) }
        #expect(problem.answer == "InvalidIdentityToken" && !"\(problem)".contains("JWT"))
    }
}
