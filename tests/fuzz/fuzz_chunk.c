/* libblock/chunk: any bytes decode or are refused, by every kernel alike; what decodes can be
 * encoded again and comes back. */
#include <assert.h>
#include <string.h>

#include "libblock/blk_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *in, size_t size)
{
    static int64_t            times[BLK_CHUNK_MAX], starts[BLK_CHUNK_MAX], again_t[BLK_CHUNK_MAX];
    static double             values[BLK_CHUNK_MAX], again[BLK_CHUNK_MAX];
    static struct kl_hist     hists[BLK_CHUNK_MAX];
    const struct blk_kernels *list[BLK_KERNELS_MAX];
    uint32_t                  kernels = blk_kernels_list(list), n, m;
    struct kl_span            chunk = kl_span(in, size);
    struct blk_chunk_head     head;
    struct blk_parts          parts;
    struct kl_arena           arena;
    struct kl_err             err;
    enum kl_code              code =
        blk_chunk_decode_by(list[0], chunk, times, values, starts, &n, &err);

    for (uint32_t k = 1; k < kernels; k++) {
        assert(blk_chunk_decode_by(list[k], chunk, again_t, again, NULL, &m, &err) == code);
        if (code == KL_OK)
            assert(m == n && memcmp(times, again_t, n * 8) == 0 && memcmp(values, again, n * 8) == 0);
    }
    if (code == KL_OK) {
        struct kl_buf b = { 0 };

        assert(blk_chunk_peek(chunk, &head, &err) == KL_OK && head.count == n);
        assert(blk_chunk_split(chunk, &parts, &err) == KL_OK);
        blk_chunk_encode(times, values, starts, n, &b);
        assert(blk_chunk_decode(kl_buf_span(&b), again_t, again, NULL, &m, &err) == KL_OK);
        assert(m == n && memcmp(times, again_t, n * 8) == 0 && memcmp(values, again, n * 8) == 0);
        kl_buf_deinit(&b);
    }
    blk_chunk_codec(chunk);
    kl_arena_init(&arena, 8 << 20);
    if (blk_chunk_decode_hists(chunk, &arena, times, hists, starts, &n, &err) == KL_OK) {
        struct kl_buf b = { 0 };

        blk_chunk_encode_hists(times, hists, starts, n, &b);
        kl_arena_deinit(&arena);
        kl_arena_init(&arena, 64 << 20);
        assert(blk_chunk_decode_hists(kl_buf_span(&b), &arena, times, hists, starts, &m, &err) == KL_OK);
        assert(m == n);
        kl_buf_deinit(&b);
    }
    kl_arena_deinit(&arena);
    return 0;
}
