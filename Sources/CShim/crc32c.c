// CRC32C: three runs of the processor's instruction side by side, because one run waits three cycles for each
// result, joined by tables that advance a checksum over a fixed number of zero bytes. Tables alone elsewhere.
#include "CShimCRC.h"

#include <pthread.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <nmmintrin.h>
#endif
#if defined(__aarch64__)
#include <arm_acle.h>
#include <sys/auxv.h>
#endif

#define POLYNOMIAL 0x82f63b78u  // reflected
#define LONG_RUN 4096           // bytes of each of the three runs
#define SHORT_RUN 256

static uint32_t bytes_table[8][256];
static uint32_t long_table[4][256], short_table[4][256];
static uint32_t power_of_two[64];  // x^(8 * 2^n) modulo the polynomial, reflected
static int hardware;
static pthread_once_t once = PTHREAD_ONCE_INIT;

// Product of two polynomials modulo ours; bit 31 is the coefficient of x^0.
static uint32_t multiply(uint32_t a, uint32_t b) {
    uint32_t product = 0;
    for (uint32_t bit = 0x80000000u; bit; bit >>= 1) {
        if (a & bit) product ^= b;
        b = b & 1 ? (b >> 1) ^ POLYNOMIAL : b >> 1;
    }
    return product;
}

// x^(8 * bytes) modulo the polynomial.
static uint32_t power(uint64_t bytes) {
    uint32_t result = 0x80000000u;
    for (int n = 0; bytes; bytes >>= 1, n++)
        if (bytes & 1) result = multiply(power_of_two[n], result);
    return result;
}

static void fill_shift(uint32_t table[4][256], uint64_t bytes) {
    uint32_t factor = power(bytes);
    for (int byte = 0; byte < 4; byte++)
        for (uint32_t value = 0; value < 256; value++) table[byte][value] = multiply(factor, value << (8 * byte));
}

static void prepare(void) {
    for (uint32_t value = 0; value < 256; value++) {
        uint32_t crc = value;
        for (int bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >> 1) ^ POLYNOMIAL : crc >> 1;
        bytes_table[0][value] = crc;
    }
    for (int n = 1; n < 8; n++)
        for (int value = 0; value < 256; value++) {
            uint32_t crc = bytes_table[n - 1][value];
            bytes_table[n][value] = bytes_table[0][crc & 0xff] ^ (crc >> 8);
        }
    power_of_two[0] = 0x80000000u >> 8;  // x^8
    for (int n = 1; n < 64; n++) power_of_two[n] = multiply(power_of_two[n - 1], power_of_two[n - 1]);
    fill_shift(long_table, LONG_RUN);
    fill_shift(short_table, SHORT_RUN);
#if defined(__x86_64__)
    unsigned a, b, c, d;
    hardware = __get_cpuid(1, &a, &b, &c, &d) && (c & bit_SSE4_2);
#elif defined(__aarch64__)
    hardware = (getauxval(AT_HWCAP) & (1 << 7)) != 0;
#endif
}

static uint32_t by_table(uint32_t crc, const uint8_t *data, size_t length) {
    while (length && ((uintptr_t)data & 7)) {
        crc = bytes_table[0][(crc ^ *data++) & 0xff] ^ (crc >> 8);
        length--;
    }
    while (length >= 8) {
        uint32_t low, high;
        memcpy(&low, data, 4);
        memcpy(&high, data + 4, 4);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        low = __builtin_bswap32(low);
        high = __builtin_bswap32(high);
#endif
        low ^= crc;
        crc = bytes_table[7][low & 0xff] ^ bytes_table[6][(low >> 8) & 0xff] ^ bytes_table[5][(low >> 16) & 0xff] ^
              bytes_table[4][low >> 24] ^ bytes_table[3][high & 0xff] ^ bytes_table[2][(high >> 8) & 0xff] ^
              bytes_table[1][(high >> 16) & 0xff] ^ bytes_table[0][high >> 24];
        data += 8;
        length -= 8;
    }
    while (length--) crc = bytes_table[0][(crc ^ *data++) & 0xff] ^ (crc >> 8);
    return crc;
}

#if defined(__x86_64__) || defined(__aarch64__)
#if defined(__x86_64__)
#define STEP8(crc, word) _mm_crc32_u64(crc, word)
#define STEP1(crc, byte) _mm_crc32_u8(crc, byte)
#define TARGET __attribute__((target("sse4.2")))
#else
#define STEP8(crc, word) __crc32cd(crc, word)
#define STEP1(crc, byte) __crc32cb(crc, byte)
#define TARGET __attribute__((target("+crc")))
#endif

static inline uint32_t shift(uint32_t table[4][256], uint32_t crc) {
    return table[0][crc & 0xff] ^ table[1][(crc >> 8) & 0xff] ^ table[2][(crc >> 16) & 0xff] ^ table[3][crc >> 24];
}

TARGET static const uint8_t *three_runs(uint32_t *crc, const uint8_t *data, size_t *length, size_t run,
                                        uint32_t table[4][256]) {
    uint64_t first = *crc;
    while (*length >= 3 * run) {
        uint64_t second = 0, third = 0;
        const uint8_t *end = data + run;
        do {
            uint64_t a, b, c;
            memcpy(&a, data, 8);
            memcpy(&b, data + run, 8);
            memcpy(&c, data + 2 * run, 8);
            first = STEP8(first, a);
            second = STEP8(second, b);
            third = STEP8(third, c);
            data += 8;
        } while (data < end);
        first = shift(table, (uint32_t)first) ^ second;
        first = shift(table, (uint32_t)first) ^ third;
        data += 2 * run;
        *length -= 3 * run;
    }
    *crc = (uint32_t)first;
    return data;
}

TARGET static uint32_t by_hardware(uint32_t crc, const uint8_t *data, size_t length) {
    while (length && ((uintptr_t)data & 7)) {
        crc = STEP1(crc, *data++);
        length--;
    }
    data = three_runs(&crc, data, &length, LONG_RUN, long_table);
    data = three_runs(&crc, data, &length, SHORT_RUN, short_table);
    uint64_t wide = crc;
    while (length >= 8) {
        uint64_t word;
        memcpy(&word, data, 8);
        wide = STEP8(wide, word);
        data += 8;
        length -= 8;
    }
    crc = (uint32_t)wide;
    while (length--) crc = STEP1(crc, *data++);
    return crc;
}
#endif

uint32_t shim_crc32c(uint32_t crc, const void *data, size_t length) {
    pthread_once(&once, prepare);
    crc = ~crc;
#if defined(__x86_64__) || defined(__aarch64__)
    if (hardware) return ~by_hardware(crc, data, length);
#endif
    return ~by_table(crc, data, length);
}

uint32_t shim_crc32c_by_table(uint32_t crc, const void *data, size_t length) {
    pthread_once(&once, prepare);
    return ~by_table(~crc, data, length);
}

uint32_t shim_crc32c_combine(uint32_t a, uint32_t b, uint64_t length_b) {
    pthread_once(&once, prepare);
    return multiply(power(length_b), a) ^ b;
}

int shim_crc32c_is_hardware(void) {
    pthread_once(&once, prepare);
    return hardware;
}
