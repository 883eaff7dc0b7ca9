/* libblock/manifest: behind the checksum, which the fuzzer cannot guess, so it is put right here. */
#include <stdlib.h>
#include <string.h>

#include "libblock/manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *in, size_t size)
{
    struct blk_manifest m, again;
    struct blk_pointer  p;
    struct kl_err       err;
    struct kl_buf       b = { 0 };
    uint8_t            *copy = malloc(size + 1);
    uint32_t            crc;

    memcpy(copy, in, size);
    if (blk_manifest_decode(kl_span(in, size), &m, &err) == KL_OK)
        blk_manifest_deinit(&m);
    if (size >= 4) {
        crc = kl_crc32c(0, copy, size - 4);
        memcpy(copy + size - 4, &crc, 4);
    }
    blk_pointer_decode(kl_span(copy, size), &p, &err);
    if (blk_manifest_decode(kl_span(copy, size), &m, &err) == KL_OK) {
        blk_manifest_covers(&m, 5, 5);
        blk_manifest_encode(&m, &b);
        if (blk_manifest_decode(kl_buf_span(&b), &again, &err) != KL_OK)
            abort();
        blk_manifest_deinit(&again);
        blk_manifest_deinit(&m);
        kl_buf_deinit(&b);
    }
    free(copy);
    return 0;
}
