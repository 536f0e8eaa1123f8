// The same work in C, as somebody would write it who knows the limits and checks them.
#ifndef CBENCH_H
#define CBENCH_H

#include <stddef.h>
#include <stdint.h>

uint64_t bench_parse(const void *bytes, size_t count);
size_t bench_encode(void *memory, size_t capacity);

#endif
