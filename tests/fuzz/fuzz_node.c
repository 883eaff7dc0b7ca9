/* Nodes and leases: what is understood is understood again when it is written anew. */
#include <assert.h>
#include <stdint.h>

#include "libtsproto/node.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tsp_node  n, m;
    struct tsp_lease l;
    struct kl_buf    out = { 0 };
    struct kl_err    err;

    if (tsp_node_decode(kl_span(data, size), &n, &err) == KL_OK) {
        assert(tsp_node_encode(&n, &out, &err) == KL_OK);
        assert(tsp_node_decode(kl_buf_span(&out), &m, &err) == KL_OK);
        assert(m.holding_count == n.holding_count && m.beat == n.beat);
        tsp_node_deinit(&n);
        tsp_node_deinit(&m);
    }
    kl_buf_reset(&out);
    if (tsp_lease_decode(kl_span(data, size), &l, &err) == KL_OK)
        assert(tsp_lease_encode(&l, &out, &err) == KL_OK);
    kl_buf_deinit(&out);
    return 0;
}
