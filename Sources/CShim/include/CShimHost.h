// A directory of the host whose files are served as they are: calls relative to open directories, none of which follows a
// symbolic link or leaves the directory that it began in. Every call answers 0 or more, or a negative errno.
#ifndef PROXYFS_CSHIM_HOST_H
#define PROXYFS_CSHIM_HOST_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/// How a file is opened: only to name it, to read its data or entries, to write it too.
enum { SHIM_HOST_NAME = 0, SHIM_HOST_READ = 1, SHIM_HOST_WRITE = 2, SHIM_HOST_DIRECTORY = 3 };
enum { SHIM_HOST_HANDLE_MAX = 128, SHIM_HOST_BLOCK = 32768, SHIM_HOST_NAME_MAX = 255 };

struct shim_host_status {
    uint64_t device;
    uint64_t inode;
    /// Of the kernel's own handle of the file, or of its birth where there is none.
    uint64_t generation;
    uint32_t mode, links, uid, gid;
    uint64_t size, allocated;
    int64_t accessed, modified, changed, born;
    uint32_t major, minor;
};

struct shim_host_new {
    /// S_IFMT and permission bits.
    uint32_t mode;
    uint32_t uid, gid;
    uint32_t major, minor;
    const char *target;
};

struct shim_host_entry {
    uint64_t inode, cookie;
    int type;
    const char *name;
};

enum {
    SHIM_NOTICE_OVERRUN = 1,
    /// The watched directory is gone.
    SHIM_NOTICE_ENDED = 2,
    SHIM_NOTICE_CREATED = 4,
    SHIM_NOTICE_REMOVED = 8,
    SHIM_NOTICE_LEFT = 16,
    SHIM_NOTICE_CAME = 32,
    SHIM_NOTICE_WRITTEN = 64,
    /// Of a directory.
    SHIM_NOTICE_DIRECTORY = 128,
};

struct shim_host_event {
    int watch;
    /// SHIM_NOTICE; none but the last: attributes were changed.
    uint32_t what;
    uint32_t cookie;
    const char *name;
};

/// `path` is relative to `base`. With `cached` only what the kernel has in memory is looked at: EAGAIN says that it would
/// have to wait.
int shim_host_open(int base, const char *path, int how, int cached);
/// The same file again, to be used otherwise.
int shim_host_reopen(int fd, int how);
int shim_host_status(int fd, struct shim_host_status *status);
/// A descriptor of the new file, which has this owner, where the process may give it.
int shim_host_create(int directory, const char *name, const struct shim_host_new *what);
/// A file without a name; ENOTSUP or EISDIR where there are none.
int shim_host_create_nameless(int directory, const struct shim_host_new *what);
int shim_host_remove(int directory, const char *name, int is_directory);
/// 0 replaces, 1 does not, 2 exchanges.
int shim_host_rename(int from, const char *name, int to, const char *new_name, int how);
int shim_host_link(int fd, int directory, const char *name);
int shim_host_chmod(int fd, uint32_t mode);
/// UINT32_MAX leaves one as it is.
int shim_host_chown(int fd, uint32_t uid, uint32_t gid);
/// INT64_MIN leaves one as it is.
int shim_host_times(int fd, int64_t accessed, int64_t modified);
ssize_t shim_host_target(int fd, char *buffer, size_t count);
/// The entries behind `cookie` into a block; answers its bytes, 0 at the end. The position is the descriptor's.
ssize_t shim_host_list(int fd, uint64_t cookie, void *block, size_t count);
/// 1: the entry at `*offset`, which moves on; 0: no more.
int shim_host_next(const void *block, size_t count, size_t *offset, struct shim_host_entry *entry);
ssize_t shim_host_read(int fd, void *buffer, size_t count, uint64_t offset, int cached);
ssize_t shim_host_write(int fd, const void *buffer, size_t count, uint64_t offset);
int shim_host_truncate(int fd, uint64_t size);
int shim_host_punch(int fd, uint64_t offset, uint64_t length);
int64_t shim_host_seek(int fd, uint64_t offset, int data);
/// Copies a range, or lets both files share it.
int shim_host_copy(int from, uint64_t offset, uint64_t length, int to, uint64_t place);
int shim_host_sync(int fd);
int shim_host_sync_all(int fd);
int shim_host_space(int fd, uint64_t *bytes, uint64_t *bytes_free, uint64_t *files, uint64_t *files_free);
ssize_t shim_host_attribute(int fd, const char *name, void *buffer, size_t count);
/// With a null `value` it goes.
int shim_host_set_attribute(int fd, const char *name, const void *value, size_t count);
ssize_t shim_host_attributes(int fd, char *buffer, size_t count);

int shim_host_watcher(void);
int shim_host_watch(int watcher, int fd);
void shim_host_unwatch(int watcher, int watch);
/// Waits so long for one if there is none. -EAGAIN: there is none.
ssize_t shim_host_events(int watcher, void *block, size_t count, int milliseconds);
int shim_host_next_event(const void *block, size_t count, size_t *offset, struct shim_host_event *event);

#endif
