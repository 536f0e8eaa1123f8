// Files and directories, by path relative to an open directory. Every call answers 0 or more, or a negative errno;
// interrupted calls are made again.
#ifndef PROXYFS_CSHIM_DISK_H
#define PROXYFS_CSHIM_DISK_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum {
    SHIM_OPEN_WRITE = 1,
    SHIM_OPEN_CREATE = 2,
    SHIM_OPEN_EXCLUSIVE = 4,
    SHIM_OPEN_TRUNCATE = 8,
    SHIM_OPEN_DIRECT = 16,
};

enum { SHIM_KIND_FILE = 0, SHIM_KIND_DIRECTORY = 1, SHIM_KIND_OTHER = 2 };

struct shim_piece {
    const void *base;
    size_t length;
};

struct shim_status {
    int kind;
    uint64_t size;
    int64_t modified;
};

struct shim_listing;

int shim_disk_root(const char *path);
int shim_disk_open(int root, const char *path, unsigned options);
void shim_disk_close(int fd);
/// Reads until the buffer is full or the file ends.
ssize_t shim_disk_read(int fd, void *buffer, size_t count, uint64_t offset);
/// 1: the buffer was filled from the system's memory; 0: that takes a wait, or there is less.
int shim_disk_read_now(int fd, void *buffer, size_t count, uint64_t offset);
/// Writes all pieces, one after the other, at most `at_once` bytes by a system call. With `push` the kernel is asked to begin
/// writing back as the bytes come in, so that the sync that follows finds little left to do.
int shim_disk_write(
    int fd, const struct shim_piece *pieces, size_t count, uint64_t offset, size_t at_once, int push);
int shim_disk_sync(int fd);
int shim_disk_truncate(int fd, uint64_t size);
// Without waiting, and without taking an error that the next sync is to tell.
void shim_disk_start_writing(int fd, uint64_t offset, uint64_t count);
int shim_disk_allocate(int fd, uint64_t size);
int64_t shim_disk_size(int fd);
/// 1: the lock is ours; 0: somebody has it.
int shim_disk_lock(int fd);
int shim_disk_make_directory(int root, const char *path);
int shim_disk_remove(int root, const char *path, int directory);
int shim_disk_rename(int root, const char *from, const char *to);
int shim_disk_link(int root, const char *from, const char *to);
int shim_disk_status(int root, const char *path, struct shim_status *status);
int shim_disk_sync_directory(int root, const char *path);
int shim_disk_space(int root, uint64_t *total, uint64_t *available);
int shim_listing_open(int root, const char *path, struct shim_listing **listing);
/// 1: `name` and `kind` are the next entry, until the next call; 0: the end.
int shim_listing_next(struct shim_listing *listing, const char **name, int *kind);
void shim_listing_close(struct shim_listing *listing);

#endif
