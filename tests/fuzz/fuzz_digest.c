/* libtsproto/digest: behind the checksum, which the fuzzer cannot guess, so it is put right here. */
#include <stdlib.h>
#include <string.h>

#include "libkoal/base/hash.h"
#include "libtsproto/digest.h"

static void each(void *ctx, const struct tsp_difference *x)
{
    char words[TSP_DIGEST_WORDS_MAX];

    (void)ctx;
    tsp_difference_words(x, words, sizeof words);
}

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *in, size_t size)
{
    struct tsp_digest   d, again;
    struct tsp_digests *all = tsp_digests_new();
    struct kl_err       err;
    struct kl_buf       b = { 0 };
    uint8_t            *copy = malloc(size + 1);
    uint32_t            crc, partition;

    memcpy(copy, in, size);
    tsp_digest_decode(kl_span(in, size), &d, &err);
    if (size >= 4) {
        crc = kl_crc32c(0, copy, size - 4);
        memcpy(copy + size - 4, &crc, 4);
    }
    if (tsp_digest_decode(kl_span(copy, size), &d, &err) == KL_OK) {
        tsp_digests_put(all, "digest.0001.a", kl_span(copy, size), &partition, &err);
        if (d.count > 0) {
            d.cuts[0].of[TSP_DIGEST_STARTS].hi++;
            d.cuts[d.count - 1].log_hash++;
            tsp_digest_tell(&d, &(struct tsp_digest_cut){ .seq = d.cuts[d.count - 1].seq + 1 });
        }
        tsp_digest_encode(&d, &b);
        if (d.cuts[0].seq != 0 && tsp_digest_decode(kl_buf_span(&b), &again, &err) != KL_OK)
            abort();
        tsp_digests_put(all, "digest.0001.b", kl_buf_span(&b), &partition, &err);
        tsp_digests_differ(all, UINT32_MAX, each, NULL, NULL);
        kl_buf_deinit(&b);
    }
    tsp_digests_free(all);
    free(copy);
    return 0;
}
