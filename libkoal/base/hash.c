#include "libkoal/base/hash.h"

#include <isa-l/crc.h>
#include <xxhash.h>

struct kl_fp kl_hash128(const void *bytes, size_t size)
{
    XXH128_hash_t h = XXH3_128bits(bytes, size);

    return (struct kl_fp){ .hi = h.high64, .lo = h.low64 };
}

uint64_t kl_hash64(const void *bytes, size_t size) { return XXH3_64bits(bytes, size); }

uint64_t kl_hash64_seed(const void *bytes, size_t size, uint64_t seed)
{
    return XXH3_64bits_withSeed(bytes, size, seed);
}

uint32_t kl_crc32c(uint32_t crc, const void *bytes, size_t size)
{
    const unsigned char *at = bytes;

    while (size > 0) {                                 /* isa-l counts in int, and takes no const */
        int n = size > 1 << 30 ? 1 << 30 : (int)size;
        crc = ~crc32_iscsi((unsigned char *)at, n, ~crc);
        at += n;
        size -= (size_t)n;
    }
    return crc;
}
