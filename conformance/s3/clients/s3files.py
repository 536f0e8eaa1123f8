"""Python's s3fs, as data frames and notebooks use it."""
import os

import s3fs

from support import ENDPOINT, case, equal, made_by_files, need, run, same_by_files

options = {"endpoint_url": ENDPOINT}
if ENDPOINT.startswith("https"):
    options["verify"] = os.environ["SSL_CERT_FILE"]
files = s3fs.S3FileSystem(key="alice", secret="alice-secret", client_kwargs=options)


@case
def files_and_directories():
    if not files.exists("s3files"):
        files.mkdir("s3files")
    files.pipe("s3files/a/small", b"hello")
    body = os.urandom(12 << 20)
    with files.open("s3files/a/large", "wb", block_size=5 << 20) as file:
        file.write(body[: 7 << 20])
        file.write(body[7 << 20:])
    equal(files.cat("s3files/a/small"), b"hello")
    same_by_files("s3files/a/small", b"hello")
    same_by_files("s3files/a/large", body)
    for name in made_by_files("s3files/a", body[::-1]):
        files.invalidate_cache()
        equal(files.cat(f"s3files/a/{name}"), body[::-1])
        files.rm(f"s3files/a/{name}")
    with files.open("s3files/a/large", "rb") as file:
        file.seek(6 << 20)
        equal(file.read(1000), body[6 << 20:(6 << 20) + 1000])
    equal(files.info("s3files/a/large")["size"], 12 << 20)
    equal(sorted(files.find("s3files")), ["s3files/a/large", "s3files/a/small"])
    files.copy("s3files/a/small", "s3files/b/copy")
    files.mv("s3files/a/large", "s3files/b/large")
    equal(sorted(files.ls("s3files")), ["s3files/a", "s3files/b"])
    equal(files.cat("s3files/b/large"), body)
    files.setxattr("s3files/b/copy", colour="red")
    equal(files.getxattr("s3files/b/copy", "colour"), "red")
    files.rm("s3files/a", recursive=True)
    equal(files.find("s3files"), ["s3files/b/copy", "s3files/b/large"])
    files.rm("s3files", recursive=True)
    assert not files.exists("s3files")


need("nfs-cat", "nfs-cp", "smbclient")
run()
