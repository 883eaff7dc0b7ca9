#ifndef KL_HASH_H
#define KL_HASH_H
/* Hashes, over libxxhash and isa-l: pure functions, any thread. */
#include <stddef.h>
#include <stdint.h>

struct kl_fp { uint64_t hi, lo; };                     /* a series' fingerprint: XXH3-128 */

struct kl_fp kl_hash128(const void *bytes, size_t size);
uint64_t     kl_hash64(const void *bytes, size_t size);               /* XXH3-64 */
uint64_t     kl_hash64_seed(const void *bytes, size_t size, uint64_t seed);
/* CRC-32C (Castagnoli, RFC 3720 B.4); start with crc = 0, continue with the last result. */
uint32_t     kl_crc32c(uint32_t crc, const void *bytes, size_t size);

static inline int kl_fp_cmp(struct kl_fp a, struct kl_fp b)
{
    return a.hi != b.hi ? (a.hi < b.hi ? -1 : 1) : a.lo != b.lo ? (a.lo < b.lo ? -1 : 1) : 0;
}
#endif
