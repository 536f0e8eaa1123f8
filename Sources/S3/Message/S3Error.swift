import HTTP
import Namespace

/// What S3 answers when it does not do what was asked: `<Error>` with a code, for people a message, for programs
/// further elements.
public struct S3Error: Error, Sendable {
    public let code: Code
    public let message: String
    /// Elements beyond code, message, resource and request id.
    public let details: [(name: String, value: String)]
    /// Of the answer's head.
    var fields: [(name: String, value: String)] = []

    public init(_ code: Code, _ message: String? = nil, details: [(name: String, value: String)] = []) {
        self.code = code
        self.message = message ?? code.message
        self.details = details
    }

    /// A word of the API; its raw value is what clients see.
    public enum Code: String, CaseIterable, Sendable {
        case accessDenied = "AccessDenied"
        case authorizationHeaderMalformed = "AuthorizationHeaderMalformed"
        case authorizationQueryParametersError = "AuthorizationQueryParametersError"
        case badDigest = "BadDigest"
        case bucketAlreadyExists = "BucketAlreadyExists"
        case bucketAlreadyOwnedByYou = "BucketAlreadyOwnedByYou"
        case bucketNotEmpty = "BucketNotEmpty"
        case conditionalRequestConflict = "ConditionalRequestConflict"
        case entityTooLarge = "EntityTooLarge"
        case entityTooSmall = "EntityTooSmall"
        case expiredToken = "ExpiredToken"
        case illegalLocationConstraint = "IllegalLocationConstraintException"
        case incompleteBody = "IncompleteBody"
        case internalError = "InternalError"
        case invalidAccessKeyId = "InvalidAccessKeyId"
        case invalidArgument = "InvalidArgument"
        case invalidBucketName = "InvalidBucketName"
        case invalidBucketState = "InvalidBucketState"
        case invalidDigest = "InvalidDigest"
        case invalidPart = "InvalidPart"
        case invalidPartNumber = "InvalidPartNumber"
        case invalidPartOrder = "InvalidPartOrder"
        case invalidPolicyDocument = "InvalidPolicyDocument"
        case invalidRange = "InvalidRange"
        case invalidRequest = "InvalidRequest"
        case invalidRetentionPeriod = "InvalidRetentionPeriod"
        case invalidTag = "InvalidTag"
        case invalidToken = "InvalidToken"
        case invalidURI = "InvalidURI"
        case keyConflict = "KeyConflict"
        case keyTooLong = "KeyTooLongError"
        case malformedACL = "MalformedACLError"
        case malformedPolicy = "MalformedPolicy"
        case malformedPOST = "MalformedPOSTRequest"
        case malformedXML = "MalformedXML"
        case maxMessageLengthExceeded = "MaxMessageLengthExceeded"
        case metadataTooLarge = "MetadataTooLarge"
        case methodNotAllowed = "MethodNotAllowed"
        case missingContentLength = "MissingContentLength"
        case missingRequestBody = "MissingRequestBodyError"
        case missingSecurityHeader = "MissingSecurityHeader"
        case noSuchBucket = "NoSuchBucket"
        case noSuchBucketPolicy = "NoSuchBucketPolicy"
        case noSuchCORSConfiguration = "NoSuchCORSConfiguration"
        case noSuchEncryption = "ServerSideEncryptionConfigurationNotFoundError"
        case noSuchKey = "NoSuchKey"
        case noSuchLifecycle = "NoSuchLifecycleConfiguration"
        case noSuchObjectLock = "ObjectLockConfigurationNotFoundError"
        case noSuchObjectLockRetention = "NoSuchObjectLockConfiguration"
        case noSuchOwnershipControls = "OwnershipControlsNotFoundError"
        case noSuchPublicAccessBlock = "NoSuchPublicAccessBlockConfiguration"
        case noSuchReplication = "ReplicationConfigurationNotFoundError"
        case noSuchTagSet = "NoSuchTagSet"
        case noSuchUpload = "NoSuchUpload"
        case noSuchVersion = "NoSuchVersion"
        case noSuchWebsite = "NoSuchWebsiteConfiguration"
        case notImplemented = "NotImplemented"
        case notModified = "NotModified"
        case operationAborted = "OperationAborted"
        case preconditionFailed = "PreconditionFailed"
        case quotaExceeded = "QuotaExceeded"
        case requestTimeTooSkewed = "RequestTimeTooSkewed"
        case serviceUnavailable = "ServiceUnavailable"
        case signatureDoesNotMatch = "SignatureDoesNotMatch"
        case slowDown = "SlowDown"
        case storageFull = "StorageFull"
        case xAmzContentSHA256Mismatch = "XAmzContentSHA256Mismatch"

        public var status: Status {
            switch self {
            case .notModified: .notModified
            case .accessDenied, .invalidAccessKeyId, .requestTimeTooSkewed, .signatureDoesNotMatch, .quotaExceeded:
                .forbidden
            case .noSuchBucket, .noSuchBucketPolicy, .noSuchCORSConfiguration, .noSuchEncryption, .noSuchKey,
                .noSuchLifecycle, .noSuchObjectLock, .noSuchObjectLockRetention, .noSuchOwnershipControls,
                .noSuchPublicAccessBlock, .noSuchReplication, .noSuchTagSet, .noSuchUpload, .noSuchVersion,
                .noSuchWebsite:
                .notFound
            case .methodNotAllowed: .methodNotAllowed
            case .bucketAlreadyExists, .bucketAlreadyOwnedByYou, .bucketNotEmpty, .conditionalRequestConflict,
                .invalidBucketState, .keyConflict, .operationAborted:
                .conflict
            case .missingContentLength: .lengthRequired
            case .preconditionFailed: .preconditionFailed
            case .invalidRange, .invalidPartNumber: .rangeNotSatisfiable
            case .internalError: .internalError
            case .notImplemented: .notImplemented
            case .serviceUnavailable, .slowDown: .serviceUnavailable
            case .storageFull: .insufficientStorage
            default: .badRequest
            }
        }

        var message: String {
            switch self {
            case .accessDenied: "Access Denied"
            case .badDigest: "The Content-MD5 or checksum value that you specified did not match what was received."
            case .bucketNotEmpty: "The bucket that you tried to delete is not empty."
            case .bucketAlreadyExists: "The requested bucket name is not available."
            case .bucketAlreadyOwnedByYou: "The bucket that you tried to create already exists, and you own it."
            case .entityTooLarge: "Your proposed upload exceeds the maximum allowed object size."
            case .entityTooSmall: "Your proposed upload is smaller than the minimum allowed object size."
            case .incompleteBody: "The request body ended before the number of bytes that its headers announce."
            case .invalidAccessKeyId: "The access key that you provided does not exist in our records."
            case .invalidBucketName: "The specified bucket is not valid."
            case .invalidDigest: "The Content-MD5 that you specified is not valid."
            case .invalidPart:
                "One or more of the specified parts could not be found, or their entity tags do not match."
            case .invalidPartOrder: "The list of parts was not in ascending order."
            case .invalidRange: "The requested range is not satisfiable."
            case .keyConflict: "A part of this key's path is an object, or the key is a part of other objects' paths."
            case .keyTooLong: "Your key is too long."
            case .malformedXML: "The XML that you provided was not well-formed or did not validate."
            case .missingContentLength: "You must provide the Content-Length HTTP header."
            case .missingSecurityHeader: "Your request was missing a required header."
            case .noSuchBucket: "The specified bucket does not exist."
            case .noSuchBucketPolicy: "The bucket policy does not exist."
            case .noSuchCORSConfiguration: "The CORS configuration does not exist."
            case .noSuchKey: "The specified key does not exist."
            case .noSuchLifecycle: "The lifecycle configuration does not exist."
            case .noSuchTagSet: "The tag set does not exist."
            case .noSuchUpload:
                "The specified upload does not exist. It may have been aborted or completed, or its ID is invalid."
            case .noSuchVersion: "The specified version does not exist."
            case .notImplemented: "A header or a query you provided implies functionality that is not implemented."
            case .preconditionFailed: "At least one of the preconditions that you specified did not hold."
            case .conditionalRequestConflict: "Another request changed the object while this one was under way."
            case .requestTimeTooSkewed: "The difference between the request time and the server's time is too large."
            case .signatureDoesNotMatch:
                "The request signature that we calculated does not match the signature you provided. Check your key and "
                    + "signing method."
            case .slowDown: "Please reduce your request rate."
            case .storageFull: "There is no space left on the volume."
            case .xAmzContentSHA256Mismatch:
                "The provided x-amz-content-sha256 header does not match what was computed."
            default: rawValue
            }
        }
    }

    /// What a file system refused, for a request about an object.
    package init(file error: FileError) {
        switch error {
        case .noEntry, .stale, .deletePending: self.init(.noSuchKey)
        case .exists: self.init(.preconditionFailed)
        case .notDirectory, .isDirectory, .notEmpty, .wrongType: self.init(.keyConflict)
        case .nameTooLong, .tooDeep: self.init(.keyTooLong)
        case .badName: self.init(.invalidArgument, "The key can not be a path.")
        case .accessDenied, .notPermitted: self.init(.accessDenied)
        case .readOnly: self.init(.accessDenied, "The volume or the way to it is read-only.")
        case .noSpace: self.init(.storageFull)
        case .quotaExceeded: self.init(.quotaExceeded, "The quota is exceeded.")
        case .fileTooBig: self.init(.entityTooLarge)
        case .attributeTooBig, .tooManyAttributes: self.init(.metadataTooLarge, "Your metadata is too large.")
        case .sharingViolation, .locked, .deadlock:
            self.init(.operationAborted, "A file client has opened or locked the file. Try again.")
        case .tooManyLocks, .delay, .grace: self.init(.slowDown)
        case .loop, .tooManyLinks, .noAttribute, .invalid, .crossDevice, .notSynchronized, .badCookie, .tokenReused:
            self.init(.internalError, "The file system refused: \(error).")
        case .notSupported: self.init(.notImplemented)
        case .inputOutput: self.init(.internalError, "The volume can not do this now; its operator's log says why.")
        case .offline: self.init(.serviceUnavailable, "The volume is offline.")
        }
    }
}
