// Who runs: cheap enough to ask on each use of a buffer pool.
#ifndef PROXYFS_CSHIM_THREAD_H
#define PROXYFS_CSHIM_THREAD_H

#include <stdint.h>

/// A number that no other living thread has.
static inline uintptr_t shim_thread(void) { return (uintptr_t)__builtin_thread_pointer(); }

#endif
