#include "libblock/manifest.h"

#include "libkoal/base/hash.h"
#include "libkoal/base/mem.h"

#include <inttypes.h>
#include <stdlib.h>

enum { BYTES_MAX = 256 << 20, TRIES_MAX = 1000 };

static enum kl_code check(struct kl_span bytes, uint32_t partition, struct blk_pointer *at, struct blk_manifest *m,
                          struct kl_err *err)
{
    uint64_t digest = kl_hash64(bytes.at, bytes.size);

    if (at->digest != 0 && digest != at->digest)
        return kl_fail(err, KL_ECORRUPT, "is not the one that the catalogue points at");
    if (blk_manifest_decode(bytes, m, err) != KL_OK)
        return err->code;
    if (m->partition != partition) {
        kl_fail(err, KL_ECORRUPT, "is of partition %" PRIu32, m->partition);
        blk_manifest_deinit(m);
        return err->code;
    }
    if (at->digest == 0)
        at->digest = digest;
    return KL_OK;
}

enum kl_code blk_manifest_read(struct kl_store *store, uint32_t partition, struct blk_pointer *at,
                               struct blk_manifest *m, struct kl_err *err)
{
    char         key[KL_STORE_KEY_MAX + 1];
    uint64_t     size;
    void        *bytes;
    enum kl_code code;

    blk_manifest_key(partition, at->revision, key);
    code = store->head(store, key, &size, err);
    if (code == KL_OK && (size == 0 || size > BYTES_MAX))
        code = kl_fail(err, KL_ECORRUPT, "has %" PRIu64 " bytes", size);
    if (code != KL_OK)
        return kl_within(err, "manifest %s", key);
    bytes = kl_resize(NULL, size);
    code = store->get(store, key, 0, bytes, size, err);
    if (code == KL_OK)
        code = check(kl_span(bytes, size), partition, at, m, err);
    free(bytes);
    return code == KL_OK ? KL_OK : kl_within(err, "manifest %s", key);
}

enum kl_code blk_manifest_put(struct kl_store *store, struct blk_manifest *m, struct blk_pointer *at,
                              struct kl_err *err)
{
    struct kl_buf b = { 0 };
    char          key[KL_STORE_KEY_MAX + 1];
    enum kl_code  code = KL_EEXIST;

    for (int n = 0; n < TRIES_MAX && code == KL_EEXIST; n++) {
        m->revision += n > 0;
        kl_buf_reset(&b);
        blk_manifest_encode(m, &b);
        blk_manifest_key(m->partition, m->revision, key);
        code = store->put(store, key, kl_buf_span(&b), err);
    }
    *at = (struct blk_pointer){ .revision = m->revision, .epoch = m->epoch, .digest = kl_hash64(b.at, b.size) };
    kl_buf_deinit(&b);
    return code == KL_OK ? KL_OK : kl_within(err, "put manifest %s", key);
}
