/*
 * digests: what each file of a fileset must weigh and hash to; checkpoint: what digests must.
 *
 *   digests      "KOAd" u8 version, 7 times { u64 size, u64 digest }          (enum blk_file)
 *   checkpoint   "KOAc" u8 version, u64 digest of `digests`, u32 crc32c of what precedes
 *
 * Digests are XXH3-64 seeded with the fileset's identity, over the file's bytes; for data and index,
 * which are read by the frame, over the list of their frames' checksums.
 */
#include "libblock/fileset_priv.h"

void blk_digests_write(const struct blk_digest d[BLK_FILES], struct kl_buf *out)
{
    kl_buf_add(out, "KOAd", 4);
    kl_buf_add8(out, BLK_VERSION);
    for (unsigned i = 0; i < BLK_FILES; i++) {
        kl_buf_add64(out, d[i].size);
        kl_buf_add64(out, d[i].check);
    }
}

enum kl_code blk_digests_read(struct kl_span bytes, struct blk_digest d[BLK_FILES],
                              struct kl_err *err)
{
    struct kl_cur  c = kl_cur(bytes.at, bytes.size);
    struct kl_span magic = kl_cur_bytes(&c, 4);
    uint8_t        version = kl_cur_8(&c);

    if (c.bad || memcmp(magic.at, "KOAd", 4) != 0)
        return kl_fail(err, KL_ECORRUPT, "digests: not a digests file");
    if (version != BLK_VERSION)
        return kl_fail(err, KL_ECORRUPT, "digests: version %u, which this program does not know",
                       version);
    for (unsigned i = 0; i < BLK_FILES; i++) {
        d[i].size = kl_cur_64(&c);
        d[i].check = kl_cur_64(&c);
    }
    if (c.bad || kl_cur_left(&c) != 0)
        return kl_fail(err, KL_ECORRUPT, "digests: of the wrong size");
    return KL_OK;
}

void blk_checkpoint_write(struct kl_span digests, uint64_t seed, struct kl_buf *out)
{
    size_t from = out->size;

    kl_buf_add(out, "KOAc", 4);
    kl_buf_add8(out, BLK_VERSION);
    kl_buf_add64(out, kl_hash64_seed(digests.at, digests.size, seed));
    kl_buf_add32(out, kl_crc32c(0, out->at + from, out->size - from));
}

bool blk_checkpoint_whole(struct kl_span checkpoint)
{
    uint32_t crc;

    if (checkpoint.size != BLK_CHECKPOINT_SIZE || memcmp(checkpoint.at, "KOAc", 4) != 0)
        return false;
    memcpy(&crc, (const char *)checkpoint.at + 13, 4);
    return crc == kl_crc32c(0, checkpoint.at, 13);
}

enum kl_code blk_checkpoint_check(struct kl_span checkpoint, struct kl_span digests, uint64_t seed,
                                  struct kl_err *err)
{
    uint64_t digest;

    if (!blk_checkpoint_whole(checkpoint))
        return kl_fail(err, KL_ECORRUPT, "checkpoint: checksum does not match");
    if (((const uint8_t *)checkpoint.at)[4] != BLK_VERSION)
        return kl_fail(err, KL_ECORRUPT, "checkpoint: version %u, which this program does not know",
                       ((const uint8_t *)checkpoint.at)[4]);
    memcpy(&digest, (const char *)checkpoint.at + 5, 8);
    if (digest != kl_hash64_seed(digests.at, digests.size, seed))
        return kl_fail(err, KL_ECORRUPT, "digests: not what the checkpoint vouches for");
    return KL_OK;
}
