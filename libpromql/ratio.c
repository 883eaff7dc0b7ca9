/*
 * Which series limit_ratio takes: those whose hash, as a fraction of 2^64, is below the ratio. It is
 * the hash Prometheus has: XXH64 (seed 0) over {length, name, length, value}..., a length being one
 * byte, or 255 and three bytes little-endian. Source: the xxHash specification by Y. Collet.
 */
#include <string.h>

#include "libpromql/agg_priv.h"

static const uint64_t P1 = 0x9E3779B185EBCA87u, P2 = 0xC2B2AE3D27D4EB4Fu, P3 = 0x165667B19E3779F9u,
                      P4 = 0x85EBCA77C2B2AE63u, P5 = 0x27D4EB2F165667C5u;

static uint64_t rotl(uint64_t x, int r) { return x << r | x >> (64 - r); }
static uint64_t read64(const uint8_t *p) { uint64_t v; memcpy(&v, p, 8); return v; }
static uint64_t read32(const uint8_t *p) { uint32_t v; memcpy(&v, p, 4); return v; }
static uint64_t mix(uint64_t acc, uint64_t in) { return rotl(acc + in * P2, 31) * P1; }
static uint64_t fold(uint64_t h, uint64_t v) { return (h ^ mix(0, v)) * P1 + P4; }

static uint64_t xxh64(const uint8_t *p, size_t size)
{
    const uint8_t *end = p + size;
    uint64_t       h = P5;

    if (size >= 32) {
        uint64_t v1 = P1 + P2, v2 = P2, v3 = 0, v4 = 0 - P1;
        for (; end - p >= 32; p += 32) {
            v1 = mix(v1, read64(p));
            v2 = mix(v2, read64(p + 8));
            v3 = mix(v3, read64(p + 16));
            v4 = mix(v4, read64(p + 24));
        }
        h = rotl(v1, 1) + rotl(v2, 7) + rotl(v3, 12) + rotl(v4, 18);
        h = fold(fold(fold(fold(h, v1), v2), v3), v4);
    }
    h += size;
    for (; end - p >= 8; p += 8)
        h = rotl(h ^ mix(0, read64(p)), 27) * P1 + P4;
    if (end - p >= 4) {
        h = rotl(h ^ read32(p) * P1, 23) * P2 + P3;
        p += 4;
    }
    for (; p < end; p++)
        h = rotl(h ^ *p * P5, 11) * P1;
    h = (h ^ h >> 33) * P2;
    h = (h ^ h >> 29) * P3;
    return h ^ h >> 32;
}

static void put(struct kl_buf *b, struct kl_span s)
{
    if (s.size < 255) {
        kl_buf_add8(b, (uint8_t)s.size);
    } else {
        kl_buf_add8(b, 255);
        kl_buf_add8(b, (uint8_t)s.size);
        kl_buf_add8(b, (uint8_t)(s.size >> 8));
        kl_buf_add8(b, (uint8_t)(s.size >> 16));
    }
    kl_buf_add(b, s.at, s.size);
}

double pql_ratio_of(struct kl_labels l, struct kl_buf *scratch)
{
    struct kl_cur   c = kl_labels_cur(l);
    struct kl_label x;

    kl_buf_reset(scratch);
    while (kl_labels_next(&c, &x)) {
        put(scratch, x.name);
        put(scratch, x.value);
    }
    return (double)xxh64((const uint8_t *)scratch->at, scratch->size) / 18446744073709551615.0;
}

bool pql_ratio_takes(double ratio, double offset)
{
    return (ratio >= 0 && offset < ratio) || (ratio < 0 && offset >= 1.0 + ratio);
}
