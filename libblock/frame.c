/*
 * A frame: bytes with a checksum, compressed with zstd where that takes a thirty-second off.
 *
 *   u64 check    XXH3-64 of all that follows, seeded with the fileset's identity
 *   u32 raw size   u32 stored size   stored bytes: as they are when the two are equal, else zstd
 *
 * The seed is a hash of tenant, partition, window and id: a frame of another fileset is refused as
 * a flipped bit is.
 */
#include "libblock/fileset_priv.h"

#include <assert.h>
#include <stdlib.h>
#include <zstd.h>

/* Level 6 takes 2.7 % off level 1 for 3 ns a sample, once; reading costs the same (bench/README.md). */
enum { ZSTD_LEVEL = 6 };

struct blk_zip { ZSTD_CCtx *cctx; };

struct blk_zip *blk_zip_new(void)
{
    struct blk_zip *z = kl_new(sizeof *z);

    z->cctx = ZSTD_createCCtx();
    if (z->cctx == NULL)
        abort();                                       /* as kl_new: some hundred kilobytes */
    return z;
}

void blk_zip_free(struct blk_zip *z)
{
    if (z == NULL)
        return;
    ZSTD_freeCCtx(z->cctx);
    free(z);
}

static void put32(uint8_t *at, uint32_t v) { memcpy(at, &v, 4); }
static void put64(uint8_t *at, uint64_t v) { memcpy(at, &v, 8); }
static uint32_t get32(const uint8_t *at) { uint32_t v; memcpy(&v, at, 4); return v; }
static uint64_t get64(const uint8_t *at) { uint64_t v; memcpy(&v, at, 8); return v; }

enum kl_code blk_frame_write(struct blk_zip *z, uint64_t seed, struct kl_span raw,
                             struct kl_buf *out, uint64_t *check, struct kl_err *err)
{
    size_t   bound, stored = raw.size;
    uint8_t *head;

    if (raw.size > BLK_FRAME_RAW_MAX)
        return kl_fail(err, KL_ELIMIT, "a part of %zu bytes; at most %d", raw.size,
                       BLK_FRAME_RAW_MAX);
    bound = ZSTD_compressBound(raw.size);
    if (!kl_buf_reserve(out, BLK_FRAME_HEAD + bound))
        return kl_fail(err, KL_ELIMIT, "no room for a part of %zu bytes", raw.size);
    head = (uint8_t *)out->at + out->size;
    if (raw.size > 0) {
        size_t n = ZSTD_compressCCtx(z->cctx, head + BLK_FRAME_HEAD, bound, raw.at, raw.size,
                                     ZSTD_LEVEL);
        if (!ZSTD_isError(n) && n < raw.size - raw.size / 32)
            stored = n;
        else
            memcpy(head + BLK_FRAME_HEAD, raw.at, raw.size);
    }
    put32(head + 8, (uint32_t)raw.size);
    put32(head + 12, (uint32_t)stored);
    *check = kl_hash64_seed(head + 8, stored + 8, seed);
    put64(head, *check);
    out->size += BLK_FRAME_HEAD + stored;
    return KL_OK;
}

enum kl_code blk_frame_read(struct kl_span frame, uint64_t seed, void **raw, size_t *size,
                            struct kl_err *err)
{
    const uint8_t *at = frame.at;
    uint32_t       raw_size, stored;
    void          *bytes;

    if (frame.size < BLK_FRAME_HEAD)
        return kl_fail(err, KL_ECORRUPT, "cut short");
    raw_size = get32(at + 8);
    stored = get32(at + 12);
    if (stored != frame.size - BLK_FRAME_HEAD ||
        get64(at) != kl_hash64_seed(at + 8, stored + 8, seed))
        return kl_fail(err, KL_ECORRUPT, "checksum does not match");
    if (raw_size > BLK_FRAME_RAW_MAX || stored > raw_size)
        return kl_fail(err, KL_ECORRUPT, "size out of bounds");
    if ((bytes = malloc((size_t)raw_size + 1)) == NULL)
        return kl_fail(err, KL_ELIMIT, "no memory for %u bytes", raw_size);
    if (stored == raw_size) {
        memcpy(bytes, at + BLK_FRAME_HEAD, raw_size);
    } else if (ZSTD_decompress(bytes, raw_size, at + BLK_FRAME_HEAD, stored) != raw_size) {
        free(bytes);
        return kl_fail(err, KL_ECORRUPT, "zstd does not give what it should");
    }
    *raw = bytes;
    *size = raw_size;
    return KL_OK;
}
