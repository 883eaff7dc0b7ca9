/* Whatever an S3 service answers: no read or write outside, and only keys that fit. */
#include "libkoal/store/store_s3_priv.h"

#include <assert.h>
#include <stdlib.h>

static void each_upload(void *ctx, const char *key, const char *id, int64_t begun_ms)
{
    (void)ctx;
    (void)begun_ms;
    assert(strlen(key) <= 3 * 1024 && strlen(id) < 1024);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void each(void *ctx, const char *key, uint64_t size_bytes)
{
    (void)ctx, (void)size_bytes;
    assert(strlen(key) <= 3 * 1024);
    kl_store_key_fit(key);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char             *copy = malloc(size > 0 ? size : 1), text[20];
    struct kl_s3_page page;
    struct kl_err     err;

    memcpy(copy, data, size);
    if (kl_s3_xml_list(kl_span(copy, size), each, NULL, &page, &err) == KL_OK)
        assert(!page.more || page.token[0] != '\0');
    (void)kl_s3_xml_uploads(kl_span(copy, size), each_upload, NULL, &err);
    if (kl_s3_xml_text(kl_span(copy, size), "Code", text, sizeof text))
        assert(strlen(text) < sizeof text);
    free(copy);
    return 0;
}
