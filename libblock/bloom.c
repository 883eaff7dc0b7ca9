/*
 * bloom: which fingerprints are in the fileset, perhaps (Bloom, CACM 1970).
 *
 *   "KOAb" u8 version, 3 zero bytes, then a multiple of 8 bytes: the bits, at least 10 a series
 *
 * Seven bits a series, at (lo + i * (hi | 1)) mod the number of bits (Kirsch and Mitzenmacher 2006);
 * one in a hundred others is taken for present.
 */
#include "libblock/fileset_priv.h"

enum { HEAD = 8, HASHES = 7, BITS_EACH = 10 };

void blk_bloom_write(const struct kl_fp *fps, uint32_t count, struct kl_buf *out)
{
    uint64_t words = ((uint64_t)count * BITS_EACH + 63) / 64, bits;
    uint8_t *at;

    words = words > 0 ? words : 1;
    bits = words * 64;
    kl_buf_add(out, "KOAb", 4);
    kl_buf_add8(out, BLK_VERSION);
    kl_buf_add(out, "\0\0", 3);
    if (!kl_buf_reserve(out, words * 8))
        return;
    at = (uint8_t *)out->at + out->size;
    memset(at, 0, words * 8);
    for (uint32_t i = 0; i < count; i++)
        for (uint64_t h = 0; h < HASHES; h++) {
            uint64_t bit = (fps[i].lo + h * (fps[i].hi | 1)) % bits;
            at[bit / 8] |= (uint8_t)(1u << bit % 8);
        }
    out->size += words * 8;
}

bool blk_bloom_whole(struct kl_span bloom)
{
    return bloom.size >= HEAD + 8 && bloom.size % 8 == 0 &&
           memcmp(bloom.at, "KOAb\1\0\0\0", HEAD) == 0;
}

bool blk_bloom_may_have(struct kl_span bloom, struct kl_fp fp)
{
    const uint8_t *at = (const uint8_t *)bloom.at + HEAD;
    uint64_t       bits = (bloom.size - HEAD) * 8;

    for (uint64_t h = 0; h < HASHES; h++) {
        uint64_t bit = (fp.lo + h * (fp.hi | 1)) % bits;
        if (!(at[bit / 8] >> bit % 8 & 1))
            return false;
    }
    return true;
}
