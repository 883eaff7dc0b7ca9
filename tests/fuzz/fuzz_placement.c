/* Placement tables, their spreads' keys and censuses: what is understood is understood again when it is
 * written anew. */
#include <assert.h>
#include <stdint.h>

#include "libtsproto/census.h"
#include "libtsproto/layout.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void spreads(struct kl_span bytes)
{
    struct tsp_layout    *l = tsp_layout_new(), *again = tsp_layout_new();
    struct tsp_placement *p = tsp_placement_new(16), *q;
    struct kl_buf         out = { 0 };
    struct kl_err         err;
    size_t                added;
    uint64_t              expect;
    int64_t               next;

    assert(tsp_placement_encode(p, &out, &err) == KL_OK);
    tsp_placement_free(p);
    assert(tsp_layout_see(l, TSP_PLACEMENT_KEY, kl_buf_span(&out), 1, &err));
    assert(tsp_layout_see(again, TSP_PLACEMENT_KEY, kl_buf_span(&out), 1, &err));
    if (tsp_layout_see(l, "placement.spread.03", bytes, 2, &err)) {
        kl_buf_reset(&out);
        if (tsp_layout_add(l, 3, NULL, 0, &out, &added, &expect, &err) == KL_OK)
            assert(added == 0 && expect == 2 &&
                   tsp_layout_see(again, "placement.spread.03", kl_span(out.size > 0 ? out.at : "", out.size), 2, &err));
        p = tsp_layout_table(l);
        q = tsp_layout_table(again);
        if (out.size > 0)
            assert(tsp_placement_steps(p, 0, &next) == tsp_placement_steps(q, 0, &next));
        tsp_placement_free(p);
        tsp_placement_free(q);
    }
    kl_buf_deinit(&out);
    tsp_layout_free(l);
    tsp_layout_free(again);
}

static void census(struct kl_span bytes)
{
    static struct tsp_census c, d;
    struct kl_arena arena;
    struct kl_buf   out = { 0 };
    struct kl_err   err;

    kl_arena_init(&arena, 1 << 20);
    if (tsp_census_decode(bytes, &arena, &c, &err) == KL_OK) {
        assert(tsp_census_encode(&c, &out, &err) == KL_OK);
        assert(tsp_census_decode(kl_buf_span(&out), &arena, &d, &err) == KL_OK);
        assert(d.partition == c.partition && d.since_ms == c.since_ms && d.count <= c.count);
    }
    kl_buf_deinit(&out);
    kl_arena_deinit(&arena);
}

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
    spreads(kl_span(size > 0 ? (const char *)data : "", size));
    census(kl_span(data, size));
    return 0;
}
