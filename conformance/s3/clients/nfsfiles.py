"""Names over NFS by libnfs: what a mount would do, without one. Errors are the client's negative numbers."""
import ctypes
import ctypes.util

_library = ctypes.util.find_library("nfs")


class _URL(ctypes.Structure):
    _fields_ = [("server", ctypes.c_char_p), ("path", ctypes.c_char_p), ("file", ctypes.c_char_p)]


def is_here():
    return _library is not None


class Files:
    """The volume `default`; not for several threads."""

    def __init__(self, port, uid=10000):
        lib = ctypes.CDLL(_library)
        lib.nfs_init_context.restype = ctypes.c_void_p
        lib.nfs_parse_url_dir.restype = ctypes.POINTER(_URL)
        lib.nfs_parse_url_dir.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
        lib.nfs_mount.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p]
        self.lib = lib
        self.context = lib.nfs_init_context()
        url = f"nfs://127.0.0.1/default?nfsport={port}&mountport={port}&uid={uid}&gid={uid}&auto-traverse-mounts=0"
        place = lib.nfs_parse_url_dir(self.context, url.encode()).contents
        status = lib.nfs_mount(self.context, place.server, place.path)
        if status < 0:
            raise OSError(-status, "mount")

    def _call(self, name, *arguments):
        function = getattr(self.lib, name)
        function.argtypes = [ctypes.c_void_p] + [
            ctypes.c_char_p if isinstance(a, bytes) else ctypes.c_uint64 for a in arguments]
        return function(self.context, *arguments)

    def rename(self, old, new):
        return self._call("nfs_rename", f"/{old}".encode(), f"/{new}".encode())

    def unlink(self, path):
        return self._call("nfs_unlink", f"/{path}".encode())

    def rmdir(self, path):
        return self._call("nfs_rmdir", f"/{path}".encode())

    def truncate(self, path, size):
        return self._call("nfs_truncate", f"/{path}".encode(), size)
