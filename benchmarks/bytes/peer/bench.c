#include "CBench.h"

#include <string.h>

struct cursor {
    const uint8_t *at, *end;
};

static inline int u32(struct cursor *c, uint32_t *value) {
    if (c->end - c->at < 4) return -1;
    memcpy(value, c->at, 4);
    *value = __builtin_bswap32(*value);
    c->at += 4;
    return 0;
}

static inline int opaque(struct cursor *c, uint32_t limit, const uint8_t **bytes, uint32_t *length) {
    if (u32(c, length) || *length > limit) return -1;
    size_t padded = ((size_t)*length + 3) & ~(size_t)3;
    if ((size_t)(c->end - c->at) < padded) return -1;
    *bytes = c->at;
    c->at += padded;
    return 0;
}

uint64_t bench_parse(const void *bytes, size_t count) {
    struct cursor c = {bytes, (const uint8_t *)bytes + count};
    uint32_t xid, type, version, program, program_version, procedure, flavour, length, value;
    if (u32(&c, &xid) || u32(&c, &type) || type != 0 || u32(&c, &version) || version != 2) return 0;
    if (u32(&c, &program) || u32(&c, &program_version) || u32(&c, &procedure)) return 0;
    uint64_t sum = (uint64_t)xid + program + program_version + procedure;
    if (u32(&c, &flavour) || flavour != 1 || u32(&c, &length) || length > 400 || c.end - c.at < length) return 0;
    struct cursor inner = {c.at, c.at + length};
    c.at += length;
    const uint8_t *name;
    if (u32(&inner, &value)) return 0;
    sum += value;
    if (opaque(&inner, 255, &name, &length)) return 0;
    sum += length;
    if (u32(&inner, &value)) return 0;
    sum += value;
    if (u32(&inner, &value)) return 0;
    sum += value;
    uint32_t groups;
    if (u32(&inner, &groups) || groups > 16) return 0;
    for (uint32_t i = 0; i < groups; i++) {
        if (u32(&inner, &value)) return 0;
        sum += value;
    }
    if (u32(&c, &value)) return 0;
    sum += value;
    if (opaque(&c, 400, &name, &length)) return 0;
    if (opaque(&c, 64, &name, &length)) return 0;
    sum += length;
    if (opaque(&c, 255, &name, &length)) return 0;
    return sum + length;
}

size_t bench_encode(void *memory, size_t capacity) {
    uint8_t *at = memory, *end = at + capacity;
    for (uint32_t i = 0; i < 24; i++) {
        if (end - at < 4) return 0;
        uint32_t value = __builtin_bswap32(i);
        memcpy(at, &value, 4);
        at += 4;
    }
    if (end - at < 24) return 0;
    uint32_t length = __builtin_bswap32(18);
    memcpy(at, &length, 4);
    memcpy(at + 4, memory, 18);
    memset(at + 22, 0, 2);
    return (size_t)(at + 24 - (uint8_t *)memory);
}
