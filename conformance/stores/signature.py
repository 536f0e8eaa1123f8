"""Signature version 4 of S3 for us-east-1, by Python alone: a second implementation."""

import datetime
import hashlib
import hmac
import urllib.parse


def headers(method, url, body, key, secret):
    """The headers of a signed request."""
    parts = urllib.parse.urlsplit(url)
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    digest = hashlib.sha256(body).hexdigest()
    fields = {"host": parts.netloc, "x-amz-content-sha256": digest, "x-amz-date": now}
    query = "&".join(
        sorted(
            urllib.parse.quote(name, safe="~") + "=" + urllib.parse.quote(value, safe="~")
            for name, value in urllib.parse.parse_qsl(parts.query, keep_blank_values=True)
        )
    )
    signed = ";".join(sorted(fields))
    canonical = "\n".join(
        [method, parts.path or "/", query, *(f"{name}:{fields[name]}" for name in sorted(fields)), "", signed, digest]
    )
    scope = f"{now[:8]}/us-east-1/s3/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", now, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    chain = ("AWS4" + secret).encode()
    for word in scope.split("/"):
        chain = hmac.new(chain, word.encode(), hashlib.sha256).digest()
    signature = hmac.new(chain, text.encode(), hashlib.sha256).hexdigest()
    fields["Authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={key}/{scope}, SignedHeaders={signed}, Signature={signature}"
    )
    return fields
