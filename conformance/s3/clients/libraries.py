"""minio's and obstore's clients."""
import io
import os

import obstore
from minio import Minio
from minio.commonconfig import CopySource
from minio.deleteobjects import DeleteObject
from obstore.store import S3Store

from support import ENDPOINT, case, equal, made_by_files, need, run, same_by_files


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
    same_by_files("minio-lib/d/big", body)
    same_by_files("minio-lib/small", b"hello")
    for name in made_by_files("minio-lib/d", body[::-1]):
        equal(client.get_object("minio-lib", f"d/{name}").read(), body[::-1])
        client.remove_object("minio-lib", f"d/{name}")
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
    body = os.urandom(12 << 20)
    obstore.put(store, "a/two", body)
    same_by_files("obstore/a/one", b"1")
    same_by_files("obstore/a/two", body)
    for name in made_by_files("obstore/a", body[::-1]):
        equal(bytes(obstore.get(store, f"a/{name}").bytes()), body[::-1])
        obstore.delete(store, f"a/{name}")
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


need("nfs-cat", "nfs-cp", "smbclient")
run()
