// Values are "reflected": the bit 31 of a checksum is the coefficient of x^0, bit 0 that of x^31.

#include "CShimCRC.h"

#include <string.h>

#define POLYNOMIAL 0x82f63b78u

// Bytes per stream when three run side by side: the crc32 instruction takes three cycles and one can start in
// each, so three streams fill the unit. Four long rounds and 128 bytes make a block of 32 KiB.
#define LONG_STREAM 2720u
#define SHORT_STREAM 64u

static uint32_t table[8][256];
// x^(2^i) for the powers that `combine` needs.
static uint32_t squares[64];

// a * b modulo the polynomial.
static uint32_t multiply(uint32_t a, uint32_t b) {
    uint32_t product = 0;
    for (uint32_t bit = 1u << 31; bit != 0; bit >>= 1) {
        if (a & bit) product ^= b;
        b = (b & 1) ? (b >> 1) ^ POLYNOMIAL : b >> 1;
    }
    return product;
}

// x^exponent modulo the polynomial.
static uint32_t power(uint64_t exponent) {
    uint32_t result = 1u << 31;
    for (int i = 0; exponent != 0; i++, exponent >>= 1)
        if (exponent & 1) result = multiply(squares[i], result);
    return result;
}

uint32_t shim_crc32c_combine(uint32_t crc_a, uint32_t crc_b, uint64_t length_b) {
    // Appending a byte multiplies by x^8. The exponent is taken modulo 2^32 - 1, a multiple of the order of x, so
    // that 8 * length can not overflow.
    uint64_t exponent = (length_b % 0xffffffffu) * 8 % 0xffffffffu;
    return multiply(power(exponent), crc_a) ^ crc_b;
}

uint32_t shim_crc32c_table(uint32_t crc, const void *bytes, size_t length) {
    const uint8_t *p = bytes;
    crc = ~crc;
    for (; length >= 8; p += 8, length -= 8) {
        crc ^= (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
        crc = table[7][crc & 255] ^ table[6][crc >> 8 & 255] ^ table[5][crc >> 16 & 255] ^ table[4][crc >> 24]
            ^ table[3][p[4]] ^ table[2][p[5]] ^ table[1][p[6]] ^ table[0][p[7]];
    }
    for (; length > 0; p++, length--) crc = crc >> 8 ^ table[0][(crc ^ *p) & 255];
    return ~crc;
}

static inline uint64_t load(const uint8_t *p) {
    uint64_t value;
    memcpy(&value, p, 8);
    return value;
}

// The two instruction sets differ in these names only. SHIFT multiplies a checksum by x^(8 * N), given the
// constant for N that `prepare` computed.
#if defined(__x86_64__)

#include <immintrin.h>

#define HARDWARE __attribute__((target("sse4.2,pclmul")))
#define STEP(crc, word) ((uint64_t)_mm_crc32_u64((crc), (word)))
#define STEP_BYTE(crc, byte) ((uint64_t)_mm_crc32_u8((uint32_t)(crc), (byte)))

// The product of two reflected values comes out multiplied by x, and the crc32 instruction multiplies by x^32 and
// reduces: together x^33, which the constant leaves out.
#define SHIFT_CONSTANT(n) power(8ull * (n) - 33)
HARDWARE static inline uint64_t shift(uint64_t crc, uint32_t constant) {
    __m128i product = _mm_clmulepi64_si128(_mm_cvtsi64_si128((int64_t)crc), _mm_cvtsi32_si128((int)constant), 0);
    return STEP(0, (uint64_t)_mm_cvtsi128_si64(product));
}

static int detect(void) { return __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul"); }

#elif defined(__aarch64__)

#include <arm_acle.h>
#include <sys/auxv.h>

#define HARDWARE __attribute__((target("crc")))
#define STEP(crc, word) ((uint64_t)__crc32cd((uint32_t)(crc), (word)))
#define STEP_BYTE(crc, byte) ((uint64_t)__crc32cb((uint32_t)(crc), (byte)))
#define SHIFT_CONSTANT(n) power(8ull * (n))
HARDWARE static inline uint64_t shift(uint64_t crc, uint32_t constant) { return multiply(constant, (uint32_t)crc); }

static int detect(void) { return (getauxval(AT_HWCAP) & (1ul << 7)) != 0; }

#endif

#if defined(HARDWARE)

static int hardware;
static uint32_t long_once, long_twice, short_once, short_twice;

// Three adjacent pieces of `stream` bytes each, then their checksums put together.
HARDWARE static inline uint64_t three(
    uint64_t crc, const uint8_t *p, size_t stream, uint32_t once, uint32_t twice
) {
    uint64_t a = crc, b = 0, c = 0;
    for (size_t i = 0; i < stream; i += 8) {
        a = STEP(a, load(p + i));
        b = STEP(b, load(p + stream + i));
        c = STEP(c, load(p + 2 * stream + i));
    }
    return shift(a, twice) ^ shift(b, once) ^ c;
}

HARDWARE static uint32_t with_instructions(uint32_t initial, const uint8_t *p, size_t length) {
    uint64_t crc = (uint32_t)~initial;
    for (; length > 0 && ((uintptr_t)p & 7) != 0; p++, length--) crc = STEP_BYTE(crc, *p);
    for (; length >= 3 * LONG_STREAM; p += 3 * LONG_STREAM, length -= 3 * LONG_STREAM)
        crc = three(crc, p, LONG_STREAM, long_once, long_twice);
    for (; length >= 3 * SHORT_STREAM; p += 3 * SHORT_STREAM, length -= 3 * SHORT_STREAM)
        crc = three(crc, p, SHORT_STREAM, short_once, short_twice);
    for (; length >= 8; p += 8, length -= 8) crc = STEP(crc, load(p));
    for (; length > 0; p++, length--) crc = STEP_BYTE(crc, *p);
    return ~(uint32_t)crc;
}

uint32_t shim_crc32c(uint32_t crc, const void *bytes, size_t length) {
    return hardware ? with_instructions(crc, bytes, length) : shim_crc32c_table(crc, bytes, length);
}

int shim_crc32c_is_hardware(void) { return hardware; }

#else

uint32_t shim_crc32c(uint32_t crc, const void *bytes, size_t length) {
    return shim_crc32c_table(crc, bytes, length);
}

int shim_crc32c_is_hardware(void) { return 0; }

#endif

// Runs before main, so that no call has to ask whether the tables are there.
__attribute__((constructor)) static void prepare(void) {
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t crc = i;
        for (int bit = 0; bit < 8; bit++) crc = (crc & 1) ? crc >> 1 ^ POLYNOMIAL : crc >> 1;
        table[0][i] = crc;
    }
    for (int k = 1; k < 8; k++)
        for (uint32_t i = 0; i < 256; i++) table[k][i] = table[k - 1][i] >> 8 ^ table[0][table[k - 1][i] & 255];

    squares[0] = 1u << 30;
    for (int i = 1; i < 64; i++) squares[i] = multiply(squares[i - 1], squares[i - 1]);
#if defined(HARDWARE)
    long_once = SHIFT_CONSTANT(LONG_STREAM);
    long_twice = SHIFT_CONSTANT(2 * LONG_STREAM);
    short_once = SHIFT_CONSTANT(SHORT_STREAM);
    short_twice = SHIFT_CONSTANT(2 * SHORT_STREAM);
    hardware = detect();
#endif
}
