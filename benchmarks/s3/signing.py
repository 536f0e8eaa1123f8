"""Signed requests of S3, as bytes: UNSIGNED-PAYLOAD, which is what a client over TLS sends."""
import datetime
import hashlib
import hmac


class Signer:
    """For a quarter of an hour."""

    def __init__(self, host, credentials):
        self.host = host
        self.key, secret = credentials.rsplit(":", 1)
        self.now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        self.scope = f"{self.now[:8]}/us-east-1/s3/aws4_request"
        signing = ("AWS4" + secret).encode()
        for part in (self.now[:8], "us-east-1", "s3", "aws4_request"):
            signing = hmac.new(signing, part.encode(), hashlib.sha256).digest()
        self.signing = signing

    def head(self, method, path, query="", length=None, fields=()):
        """`query`: its parameters in order, with their values."""
        sha = "UNSIGNED-PAYLOAD"
        signed = sorted([("host", self.host), ("x-amz-content-sha256", sha), ("x-amz-date", self.now), *fields])
        names = ";".join(name for name, _ in signed)
        canonical = (f"{method}\n{path}\n{query}\n" + "".join(f"{name}:{value}\n" for name, value in signed)
                     + f"\n{names}\n{sha}")
        to_sign = f"AWS4-HMAC-SHA256\n{self.now}\n{self.scope}\n" + hashlib.sha256(canonical.encode()).hexdigest()
        signature = hmac.new(self.signing, to_sign.encode(), hashlib.sha256).hexdigest()
        lines = "".join(f"{name}: {value}\r\n" for name, value in signed)
        if length is not None:
            lines += f"Content-Length: {length}\r\n"
        return (f"{method} {path}{'?' + query if query else ''} HTTP/1.1\r\n{lines}"
                f"Authorization: AWS4-HMAC-SHA256 Credential={self.key}/{self.scope}, "
                f"SignedHeaders={names}, Signature={signature}\r\n\r\n").encode()
