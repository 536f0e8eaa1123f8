#include "CShimSeal.h"

#include <limits.h>
#include <openssl/evp.h>

int shim_seal(const uint8_t *key, const uint8_t *nonce, const uint8_t *text, size_t count, uint8_t *out) {
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    int done = 0, last = 0, good = 0;
    if (context && count <= INT_MAX) {
        good = EVP_EncryptInit_ex(context, EVP_aes_256_gcm(), NULL, key, nonce) == 1 &&
               EVP_EncryptUpdate(context, out, &done, text, (int)count) == 1 &&
               EVP_EncryptFinal_ex(context, out + done, &last) == 1 &&
               EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_GET_TAG, SHIM_SEAL_TAG, out + count) == 1;
    }
    EVP_CIPHER_CTX_free(context);
    return good ? 0 : -1;
}

int shim_unseal(const uint8_t *key, const uint8_t *nonce, const uint8_t *sealed, size_t count, uint8_t *out) {
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    int done = 0, last = 0, good = 0;
    if (context && count <= INT_MAX) {
        good = EVP_DecryptInit_ex(context, EVP_aes_256_gcm(), NULL, key, nonce) == 1 &&
               EVP_DecryptUpdate(context, out, &done, sealed, (int)count) == 1 &&
               EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_SET_TAG, SHIM_SEAL_TAG, (void *)(sealed + count)) == 1 &&
               EVP_DecryptFinal_ex(context, out + done, &last) == 1;
    }
    EVP_CIPHER_CTX_free(context);
    return good ? 0 : -1;
}
