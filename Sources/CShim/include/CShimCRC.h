// CRC32C (Castagnoli), as in RFC 3720: the processor's instructions where it has them, else a table.
#ifndef PROXYFS_CSHIM_CRC_H
#define PROXYFS_CSHIM_CRC_H

#include <stddef.h>
#include <stdint.h>

/// Continues `crc` (0 at the beginning) over `length` bytes.
uint32_t shim_crc32c(uint32_t crc, const void *bytes, size_t length);
/// The same by table, whatever the processor has: the fall-back, reachable for its tests.
uint32_t shim_crc32c_table(uint32_t crc, const void *bytes, size_t length);
/// The checksum of A followed by B from the checksums of both and the length of B.
uint32_t shim_crc32c_combine(uint32_t crc_a, uint32_t crc_b, uint64_t length_b);
/// Whether `shim_crc32c` uses the processor's instructions.
int shim_crc32c_is_hardware(void);

#endif
