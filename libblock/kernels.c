/* The plain kernels, and the choice among all. __builtin_cpu_supports is a load and a test. */
#include "libblock/blk_priv.h"

static inline uint64_t load64(const uint8_t *at)
{
    uint64_t v;
    memcpy(&v, at, 8);                                 /* formats are little-endian, as x86 and arm */
    return v;
}

/* Bits [bit, bit + width) where eight bytes at bit / 8 may not all be there. */
static uint64_t slow_bits(const uint8_t *in, size_t size, size_t bit, unsigned width)
{
    uint64_t v = 0;
    unsigned got = 0;
    size_t   byte = bit / 8;
    unsigned skip = bit % 8;

    while (got < width && byte < size) {
        uint64_t b = in[byte++] >> skip;
        v |= b << got;
        got += 8 - skip;
        skip = 0;
    }
    return width >= 64 ? v : v & ((1ull << width) - 1);
}

static void unpack(const uint8_t *in, unsigned width, uint32_t count, uint64_t base, uint64_t *out)
{
    size_t   size = blk_packed_size(count, width), bit = 0;
    uint64_t mask = width >= 64 ? ~0ull : (1ull << width) - 1;
    uint32_t i = 0;

    if (width == 0) {
        for (; i < count; i++)
            out[i] = base;
        return;
    }
    if (width <= 57)                                   /* then one load of eight bytes holds it */
        for (; i < count && bit / 8 + 8 <= size; i++, bit += width)
            out[i] = base + ((load64(in + bit / 8) >> (bit % 8)) & mask);
    for (; i < count; i++, bit += width)
        out[i] = base + slow_bits(in, size, bit, width);
}

static void prefix(uint64_t *x, uint32_t count, uint64_t first)
{
    for (uint32_t i = 0; i < count; i++)
        x[i] = first += x[i];
}

static void scale(uint64_t *x, uint32_t count, uint64_t factor, uint64_t offset)
{
    for (uint32_t i = 0; i < count; i++)
        x[i] = x[i] * factor + offset;
}

static void line(uint64_t *x, uint32_t count, uint64_t first, uint64_t step)
{
    uint64_t at = 0;

    for (uint32_t i = 0; i < count; i++, at += step)
        x[i] += first + (at >> 16);
}

static void decimal(const uint64_t *x, uint32_t count, unsigned exponent, double *out)
{
    double by = blk_pow10[exponent];

    if (exponent == 0)
        for (uint32_t i = 0; i < count; i++)
            out[i] = (double)(int64_t)x[i];
    else
        for (uint32_t i = 0; i < count; i++)
            out[i] = (double)(int64_t)x[i] / by;
}

static void fill(uint64_t *x, uint32_t count, uint64_t v)
{
    for (uint32_t i = 0; i < count; i++)
        x[i] = v;
}

static bool rising(const int64_t *x, uint32_t count)
{
    bool falls = false;                                /* without a branch a sample */

    for (uint32_t i = 1; i < count; i++)
        falls |= x[i] <= x[i - 1];
    return !falls;
}

const struct blk_kernels blk_kernels_plain = {
    "plain", unpack, prefix, scale, line, decimal, fill, rising,
};

#if defined(__x86_64__)
static bool has_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
static bool has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vbmi");
}
#endif

const struct blk_kernels *blk_kernels(void)
{
#if defined(__x86_64__)
    if (has_avx512())
        return &blk_kernels_avx512;
    if (has_avx2())
        return &blk_kernels_avx2;
#endif
    return &blk_kernels_plain;
}

uint32_t blk_kernels_list(const struct blk_kernels *list[BLK_KERNELS_MAX])
{
    uint32_t n = 0;

    list[n++] = &blk_kernels_plain;
#if defined(__x86_64__)
    if (has_avx2())
        list[n++] = &blk_kernels_avx2;
    if (has_avx512())
        list[n++] = &blk_kernels_avx512;
#endif
    return n;
}
