// The process and the machine below it: signals, and what `proxyfs doctor` looks at.
#ifndef PROXYFS_CSHIM_SYSTEM_H
#define PROXYFS_CSHIM_SYSTEM_H

#include <stddef.h>
#include <stdint.h>

enum { SHIM_SIGNAL_NONE = 0, SHIM_SIGNAL_TERMINATE, SHIM_SIGNAL_HANGUP, SHIM_SIGNAL_WAKE };

// Holds back SIGTERM, SIGINT, SIGHUP and SIGUSR1 for `shim_signal_wait` and ignores SIGPIPE. Before any thread begins:
// threads take over what is held back.
void shim_signals_hold(void);
// Waits for one of them, at most `milliseconds`, for ever when negative; SHIM_SIGNAL_NONE when none came.
int shim_signal_wait(int milliseconds);
// Ends a wait with SHIM_SIGNAL_WAKE. Callable from any thread.
void shim_signal_wake(void);

void shim_kernel_release(char *out, size_t size);
// The magic number of the file system that holds `path`, 0 when it can not be told.
uint64_t shim_file_system(const char *path);
// Whether the kernel says that somebody keeps the clock right: 1, 0, or a negative errno.
int shim_clock_is_synchronized(void);
uint64_t shim_memory_bytes(void);
void shim_open_files_limits(uint64_t *soft, uint64_t *hard);
const char *shim_openssl_version(void);

#endif
