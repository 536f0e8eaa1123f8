// AES-256-GCM: what is sealed can be read and changed by nobody without the key.
#ifndef PROXYFS_CSHIM_SEAL_H
#define PROXYFS_CSHIM_SEAL_H

#include <stddef.h>
#include <stdint.h>

enum { SHIM_SEAL_KEY = 32, SHIM_SEAL_NONCE = 12, SHIM_SEAL_TAG = 16 };

// Writes `count` bytes and then the tag to `out`. 0, or -1 when OpenSSL fails.
int shim_seal(const uint8_t *key, const uint8_t *nonce, const uint8_t *text, size_t count, uint8_t *out);
// `count` is without the tag, which follows. 0; -1 when it was changed, or sealed under another key.
int shim_unseal(const uint8_t *key, const uint8_t *nonce, const uint8_t *sealed, size_t count, uint8_t *out);

#endif
