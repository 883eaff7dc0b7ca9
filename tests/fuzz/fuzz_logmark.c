/* libtsproto/logmark: behind the checksum, which the fuzzer cannot guess, so it is put right here. */
#include <stdlib.h>
#include <string.h>

#include "libkoal/base/hash.h"
#include "libtsproto/logmark.h"

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *in, size_t size)
{
    struct tsp_logmark m, again;
    struct tsp_logskip skips;
    struct kl_err      err;
    struct kl_buf      b = { 0 };
    uint8_t           *copy = malloc(size + 1);
    char               words[400];
    uint32_t           crc;

    memcpy(copy, in, size);
    tsp_logmark_decode(kl_span(in, size), &m, &err);
    if (size >= 4) {
        crc = kl_crc32c(0, copy, size - 4);
        memcpy(copy + size - 4, &crc, 4);
    }
    if (tsp_logmark_decode(kl_span(copy, size), &m, &err) == KL_OK) {
        if (m.lost_count > 0) {
            tsp_lost_words(&m.lost[0], words, sizeof words);
            tsp_logmark_turn(&m, 1, &(struct tsp_lost){ .from_ms = m.lost[0].to_ms });
        }
        tsp_logmark_encode(&m, &b);
        if (tsp_logmark_decode(kl_buf_span(&b), &again, &err) != KL_OK)
            abort();
        kl_buf_deinit(&b);
    }
    if (tsp_logskip_decode(kl_span(copy, size), &skips, &err) == KL_OK) {
        tsp_logskip_add(&skips, 1, 2, &err);
        tsp_logskip_encode(&skips, &b);
        if (tsp_logskip_decode(kl_buf_span(&b), &skips, &err) != KL_OK)
            abort();
        kl_buf_deinit(&b);
    }
    free(copy);
    return 0;
}
