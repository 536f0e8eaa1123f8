"""minio's and obstore's clients."""
import io
import os

import obstore
from minio import Minio
from minio.commonconfig import CopySource
from minio.deleteobjects import DeleteObject
from obstore.store import S3Store

from support import ENDPOINT, case, equal, run


@case
def minio():
    client = Minio(
        ENDPOINT.split("//")[1], access_key="alice", secret_key="alice-secret", secure=ENDPOINT.startswith("https"))
    if not client.bucket_exists("minio-lib"):
        client.make_bucket("minio-lib")
    body = os.urandom(6 << 20)
    client.put_object("minio-lib", "small", io.BytesIO(b"hello"), 5, content_type="text/plain", metadata={"a": "b"})
    client.put_object("minio-lib", "d/big", io.BytesIO(body), -1, part_size=5 << 20)
    equal(client.get_object("minio-lib", "d/big").read(), body)
    equal(client.get_object("minio-lib", "d/big", offset=100, length=50).read(), body[100:150])
    stat = client.stat_object("minio-lib", "small")
    equal((stat.size, stat.content_type, stat.metadata["x-amz-meta-a"]), (5, "text/plain", "b"))
    client.copy_object("minio-lib", "copy", CopySource("minio-lib", "small"))
    equal(sorted(o.object_name for o in client.list_objects("minio-lib", recursive=True)), ["copy", "d/big", "small"])
    equal(sorted(o.object_name for o in client.list_objects("minio-lib")), ["copy", "d/", "small"])
    equal(list(client.remove_objects("minio-lib", [DeleteObject(k) for k in ["copy", "d/big", "small"]])), [])
    client.remove_bucket("minio-lib")


@case
def object_store():
    maker = Minio(
        ENDPOINT.split("//")[1], access_key="alice", secret_key="alice-secret", secure=ENDPOINT.startswith("https"))
    if not maker.bucket_exists("obstore"):
        maker.make_bucket("obstore")
    store = S3Store(
        "obstore", endpoint=ENDPOINT, access_key_id="alice", secret_access_key="alice-secret", region="us-east-1",
        client_options={"allow_http": True, "allow_invalid_certificates": ENDPOINT.startswith("https")})
    obstore.put(store, "a/one", b"1")
    obstore.put(store, "a/two", os.urandom(12 << 20))
    equal(bytes(obstore.get(store, "a/one").bytes()), b"1")
    equal(obstore.head(store, "a/two")["size"], 12 << 20)
    equal(bytes(obstore.get_range(store, "a/one", start=0, end=1)), b"1")
    try:
        obstore.put(store, "a/one", b"2", mode="create")
        raise AssertionError("an object was made twice")
    except obstore.exceptions.AlreadyExistsError:
        pass
    obstore.copy(store, "a/one", "b/one")
    found = sorted(o["path"] for page in obstore.list(store) for o in page)
    equal(found, ["a/one", "a/two", "b/one"])
    obstore.delete(store, found)
    equal([o for page in obstore.list(store) for o in page], [])


run()
