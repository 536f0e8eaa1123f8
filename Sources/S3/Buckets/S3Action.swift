/// What a request does, as rights name it.
enum S3Action: String, CaseIterable, Sendable {
    case listAllMyBuckets = "s3:ListAllMyBuckets"
    case createBucket = "s3:CreateBucket"
    case deleteBucket = "s3:DeleteBucket"
    case listBucket = "s3:ListBucket"
    case listBucketMultipartUploads = "s3:ListBucketMultipartUploads"
    case getBucketLocation = "s3:GetBucketLocation"
    case getBucketAcl = "s3:GetBucketAcl"
    case putBucketAcl = "s3:PutBucketAcl"
    case getBucketTagging = "s3:GetBucketTagging"
    case putBucketTagging = "s3:PutBucketTagging"
    case getBucketCORS = "s3:GetBucketCORS"
    case putBucketCORS = "s3:PutBucketCORS"
    case getBucketPolicy = "s3:GetBucketPolicy"
    case getBucketPolicyStatus = "s3:GetBucketPolicyStatus"
    case putBucketPolicy = "s3:PutBucketPolicy"
    case deleteBucketPolicy = "s3:DeleteBucketPolicy"
    case listBucketVersions = "s3:ListBucketVersions"
    case getObject = "s3:GetObject"
    case putObject = "s3:PutObject"
    case deleteObject = "s3:DeleteObject"
    case getObjectTagging = "s3:GetObjectTagging"
    case putObjectTagging = "s3:PutObjectTagging"
    case deleteObjectTagging = "s3:DeleteObjectTagging"
    case getObjectAcl = "s3:GetObjectAcl"
    case putObjectAcl = "s3:PutObjectAcl"
    case abortMultipartUpload = "s3:AbortMultipartUpload"
    case listMultipartUploadParts = "s3:ListMultipartUploadParts"
    // Of parts of a bucket that nothing is kept of: asked for, and answered that there is nothing.
    case getAccelerateConfiguration = "s3:GetAccelerateConfiguration"
    case getAnalyticsConfiguration = "s3:GetAnalyticsConfiguration"
    case getEncryptionConfiguration = "s3:GetEncryptionConfiguration"
    case putEncryptionConfiguration = "s3:PutEncryptionConfiguration"
    case getIntelligentTieringConfiguration = "s3:GetIntelligentTieringConfiguration"
    case getInventoryConfiguration = "s3:GetInventoryConfiguration"
    case getLifecycleConfiguration = "s3:GetLifecycleConfiguration"
    case putLifecycleConfiguration = "s3:PutLifecycleConfiguration"
    case getBucketLogging = "s3:GetBucketLogging"
    case getMetricsConfiguration = "s3:GetMetricsConfiguration"
    case getBucketNotification = "s3:GetBucketNotification"
    case getBucketObjectLockConfiguration = "s3:GetBucketObjectLockConfiguration"
    case getBucketOwnershipControls = "s3:GetBucketOwnershipControls"
    case putBucketOwnershipControls = "s3:PutBucketOwnershipControls"
    case getBucketPublicAccessBlock = "s3:GetBucketPublicAccessBlock"
    case putBucketPublicAccessBlock = "s3:PutBucketPublicAccessBlock"
    case getReplicationConfiguration = "s3:GetReplicationConfiguration"
    case putReplicationConfiguration = "s3:PutReplicationConfiguration"
    case getBucketRequestPayment = "s3:GetBucketRequestPayment"
    case getBucketWebsite = "s3:GetBucketWebsite"
    case deleteBucketWebsite = "s3:DeleteBucketWebsite"
    case getBucketVersioning = "s3:GetBucketVersioning"
    case putBucketVersioning = "s3:PutBucketVersioning"
    case putBucketObjectLockConfiguration = "s3:PutBucketObjectLockConfiguration"
    case getObjectRetention = "s3:GetObjectRetention"
    case putObjectRetention = "s3:PutObjectRetention"
    case getObjectLegalHold = "s3:GetObjectLegalHold"
    case putObjectLegalHold = "s3:PutObjectLegalHold"
    case bypassGovernanceRetention = "s3:BypassGovernanceRetention"

    /// Those that change the policy: it must not lock out the one who could mend it.
    var isOfPolicy: Bool {
        switch self {
        case .getBucketPolicy, .getBucketPolicyStatus, .putBucketPolicy, .deleteBucketPolicy: true
        default: false
        }
    }

    /// What a policy calls the same of a version.
    var nameOfVersion: String? {
        switch self {
        case .getObject: "s3:GetObjectVersion"
        case .deleteObject: "s3:DeleteObjectVersion"
        case .getObjectTagging: "s3:GetObjectVersionTagging"
        case .putObjectTagging: "s3:PutObjectVersionTagging"
        case .deleteObjectTagging: "s3:DeleteObjectVersionTagging"
        case .getObjectAcl: "s3:GetObjectVersionAcl"
        case .putObjectAcl: "s3:PutObjectVersionAcl"
        default: nil
        }
    }

    /// Asking for one of those parts of a bucket.
    static func get(_ part: StaticString) -> S3Action? {
        switch part.description {
        case "accelerate": .getAccelerateConfiguration
        case "analytics": .getAnalyticsConfiguration
        case "encryption": .getEncryptionConfiguration
        case "intelligent-tiering": .getIntelligentTieringConfiguration
        case "inventory": .getInventoryConfiguration
        case "logging": .getBucketLogging
        case "metrics": .getMetricsConfiguration
        case "notification": .getBucketNotification
        case "ownershipControls": .getBucketOwnershipControls
        case "publicAccessBlock": .getBucketPublicAccessBlock
        case "replication": .getReplicationConfiguration
        case "requestPayment": .getBucketRequestPayment
        case "website": .getBucketWebsite
        default: nil
        }
    }

    /// Removing one of them.
    static func delete(_ part: StaticString) -> S3Action? {
        switch part.description {
        case "encryption": .putEncryptionConfiguration
        case "ownershipControls": .putBucketOwnershipControls
        case "publicAccessBlock": .putBucketPublicAccessBlock
        case "replication": .putReplicationConfiguration
        case "website": .deleteBucketWebsite
        default: nil
        }
    }
}
