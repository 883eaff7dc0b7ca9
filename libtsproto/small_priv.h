#ifndef TSP_SMALL_PRIV_H
#define TSP_SMALL_PRIV_H
/*
 * What small values of the KV have alike:
 *
 *   two letters  u8 version  u8 count  ...  and the CRC-32C of all before, u32
 */
#include <string.h>

#include "libkoal/base/buf.h"
#include "libkoal/base/err.h"
#include "libkoal/base/hash.h"

enum { TSP_SMALL_LEAST = 8 };

/* Where it begins in `out`, for _end. */
static inline size_t tsp_small_begin(struct kl_buf *out, const char *letters, uint8_t version, uint32_t count)
{
    size_t begin = out->size;

    kl_buf_add(out, letters, 2);
    kl_buf_add8(out, version);
    kl_buf_add8(out, (uint8_t)count);
    return begin;
}

static inline void tsp_small_end(struct kl_buf *out, size_t begin)
{
    kl_buf_add32(out, kl_crc32c(0, out->at + begin, out->size - begin));
}

/* `rest`: between the count and the checksum, which is right. `what` it is, for the words. */
static inline enum kl_code tsp_small_open(struct kl_span bytes, const char *letters, uint8_t newest, const char *what,
                                          struct kl_cur *rest, uint8_t *version, uint32_t *count, struct kl_err *err)
{
    struct kl_cur c = kl_cur(bytes.at, bytes.size), sum;

    if (bytes.size < TSP_SMALL_LEAST || memcmp(bytes.at, letters, 2) != 0)
        return kl_fail(err, KL_ECORRUPT, "%zu bytes that are not %s", bytes.size, what);
    kl_cur_16(&c);
    *version = kl_cur_8(&c);
    *count = kl_cur_8(&c);
    if (*version == 0 || *version > newest)
        return kl_fail(err, KL_ECORRUPT, "%s of version %u, which this version does not know", what, *version);
    sum = kl_cur((const uint8_t *)bytes.at + bytes.size - 4, 4);
    if (kl_cur_32(&sum) != kl_crc32c(0, bytes.at, bytes.size - 4))
        return kl_fail(err, KL_ECORRUPT, "%s: damaged", what);
    *rest = kl_cur((const uint8_t *)bytes.at + 4, bytes.size - TSP_SMALL_LEAST);
    return KL_OK;
}
#endif
