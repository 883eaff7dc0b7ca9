/* Placement tables: what is understood is understood again when it is written anew. */
#include <assert.h>
#include <stdint.h>

#include "libtsproto/placement.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tsp_placement *p, *q;
    struct kl_buf         out = { 0 };
    struct kl_err         err;
    uint32_t              first, count;

    if (tsp_placement_decode(kl_span(data, size), &p, &err) == KL_OK) {
        assert(tsp_placement_encode(p, &out, &err) == KL_OK);
        assert(tsp_placement_decode(kl_buf_span(&out), &q, &err) == KL_OK);
        assert(tsp_placement_partitions(q) == tsp_placement_partitions(p));
        tsp_placement_range(p, kl_span_str("t"), kl_span_str("up"), &first, &count);
        assert(first < tsp_placement_partitions(p) && count <= tsp_placement_partitions(p));
        tsp_placement_free(p);
        tsp_placement_free(q);
    }
    kl_buf_deinit(&out);
    return 0;
}
