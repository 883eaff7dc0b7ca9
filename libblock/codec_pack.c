/*
 * Bit packing. Value i takes bits [i * width, (i + 1) * width) of the byte string, least significant
 * bit first; so eight values take exactly `width` bytes, and every group of eight begins on a byte:
 * that is what the vector kernels unpack at once. Unused bits of the last byte are zero.
 */
#include "libblock/blk_priv.h"

void blk_pack(const uint64_t *x, uint32_t count, unsigned width, struct kl_buf *out)
{
    size_t   size = blk_packed_size(count, width);
    uint64_t mask = width >= 64 ? ~0ull : (1ull << width) - 1;
    uint64_t acc = 0;                                  /* bits not yet written, `held` of them */
    unsigned held = 0;
    uint8_t *at;

    if (size == 0 || !kl_buf_reserve(out, size + 8))
        return;
    at = (uint8_t *)out->at + out->size;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t v = x[i] & mask;

        acc |= v << held;
        if (held + width < 64) {
            held += width;
            continue;
        }
        memcpy(at, &acc, 8);
        at += 8;
        acc = held == 0 ? 0 : v >> (64 - held);
        held = held + width - 64;
        if (held == 0)
            acc = 0;
    }
    memcpy(at, &acc, 8);                               /* room for these eight was reserved */
    out->size += size;
}
