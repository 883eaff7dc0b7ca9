/* The list of a backup: any bytes, and the same with the right end behind them, are read or refused. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "koalemos/backup_priv.h"

static enum kl_code manifest(void *ctx, uint32_t partition, uint64_t hash, struct kl_err *err)
{
    (void)partition, (void)hash, (void)err;
    ++*(size_t *)ctx;
    return KL_OK;
}

static enum kl_code fileset(void *ctx, uint64_t hash, const char *path, struct kl_err *err)
{
    (void)hash, (void)err;
    assert(strlen(path) <= KL_STORE_KEY_MAX);
    ++*(size_t *)ctx;
    return KL_OK;
}

static enum kl_code mark(void *ctx, const char *key, struct kl_err *err)
{
    return fileset(ctx, 0, key, err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t                   lines = 0;
    const struct backup_each each = { manifest, fileset, mark, &lines };
    struct kl_buf            b = { 0 };
    char                     cell[128];
    struct kl_err            err;

    (void)backup_list_read(kl_span(data, size), cell, &each, &err);
    kl_buf_add(&b, data, size);
    backup_list_end(&b);
    lines = 0;
    if (backup_list_read(kl_buf_span(&b), cell, &each, &err) == KL_OK)
        assert(lines <= size && strlen(cell) < sizeof cell);
    kl_buf_deinit(&b);
    return 0;
}
