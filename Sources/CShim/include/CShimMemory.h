// Hints to the processor.
#ifndef PROXYFS_CSHIM_MEMORY_H
#define PROXYFS_CSHIM_MEMORY_H

#include <stddef.h>

/// The line of memory at `place` is about to be read. No address is too wild for it.
static inline void shim_prefetch(const void *place) { __builtin_prefetch(place); }

/// Has the system put memory behind these bytes, which begin on a page, and changes none of them, also while others do.
/// By page faults: they do not hold up who changes the process's address space, as the calls of madvise for it do for as long as they take.
void shim_touch(void *first, size_t bytes);

#endif
