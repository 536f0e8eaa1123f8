#ifndef PROXYFS_CSHIM_DISK_H
#define PROXYFS_CSHIM_DISK_H
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

// Each answers a negative error number, or what the call answered.
int shim_open_root(const char *path);
// `flags`: 1 write, 2 create, 4 exclusive, 8 truncate, 16 direct. Stays below the root: no symlink or `..` leads out.
int shim_open_below(int root, const char *path, unsigned flags);
int shim_reserve(int fd, uint64_t size);
// The exclusive lock of the open file: 1 taken, 0 somebody else's.
int shim_lock_file(int fd);
// kind: 0 file, 1 directory, 2 other.
int shim_stat_below(int root, const char *path, int *kind, uint64_t *size, int64_t *modified);
int shim_space(int root, uint64_t *total, uint64_t *free_bytes);
int64_t shim_pwritev(int fd, const struct iovec *vectors, int count, uint64_t offset);
// Opens a directory for listing; the kind of its next entry, or -1 at the end.
void *shim_open_directory(int root, const char *path, int *error);
int shim_next_entry(void *directory, char *name, size_t capacity);
void shim_close_directory(void *directory);
#endif
