#ifndef PROXYFS_CSHIM_CRC_H
#define PROXYFS_CSHIM_CRC_H
#include <stddef.h>
#include <stdint.h>

// CRC32C (Castagnoli, reflected, initial and final complement) of `length` more bytes behind a checksum `crc`;
// 0 is the checksum of nothing.
uint32_t shim_crc32c(uint32_t crc, const void *data, size_t length);
// The checksum of A followed by B, from those of A and of B and the length of B.
uint32_t shim_crc32c_combine(uint32_t a, uint32_t b, uint64_t length_b);
// Whether the processor's own instruction is used.
// The same as shim_crc32c without the instruction: for tests, and for processors that lack it.
uint32_t shim_crc32c_by_table(uint32_t crc, const void *data, size_t length);
int shim_crc32c_is_hardware(void);
#endif
