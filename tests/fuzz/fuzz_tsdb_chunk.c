/* A chunk's encoding, then its data: any bytes are decoded within bounds, or refused. */
#include <assert.h>
#include <stdlib.h>

#include "libtsproto/tsdb.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int64_t        times[TSP_TSDB_SAMPLES_MAX];
    static double         values[TSP_TSDB_SAMPLES_MAX];
    static struct kl_hist hists[TSP_TSDB_SAMPLES_MAX];
    struct kl_arena       arena;
    struct kl_span        bytes, found;
    struct kl_err         err;
    uint32_t              n = 0;
    uint8_t               encoding;
    enum kl_code          code;

    if (size < 1)
        return 0;
    bytes = kl_span(data + 1, size - 1);
    kl_arena_init(&arena, 64 << 20);
    code = data[0] % 3 == 0 ? tsp_tsdb_floats(bytes, times, values, &n, &err)
                            : tsp_tsdb_hists(bytes, data[0] % 3 == 2, &arena, times, hists, &n, &err);
    assert(code == KL_OK || code == KL_ECORRUPT || code == KL_ELIMIT);
    for (uint32_t i = 0; code == KL_OK && i < n; i++) {
        assert(i == 0 || times[i] > times[i - 1]);
        for (uint32_t k = 0; data[0] % 3 != 0 && k < hists[i].pos_count; k++)
            assert(data[0] % 3 == 2 || hists[i].pos[k] >= 0);
    }
    kl_arena_deinit(&arena);
    if (tsp_tsdb_chunk_size(bytes) == bytes.size)
        (void)tsp_tsdb_chunk_content(bytes, &encoding, &found, &err);
    return 0;
}
