/* Remote write 2.0: any bytes are read or refused, and no index leaves the symbols. */
#include <assert.h>
#include <stdint.h>

#include "libtsproto/record.h"
#include "libtsproto/rw2.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void series(const struct tsp_rw2 *r, const struct tsp_rw2_series *s, struct kl_arena *arena)
{
    static struct kl_labels_builder b;
    struct tsp_rw2_metadata meta;
    struct tsp_rw2_walk     walk = tsp_rw2_walk(r, s);
    struct kl_fp   key;
    struct kl_err  err;
    struct kl_hist h;
    struct kl_buf  bytes = { 0 };
    int64_t        times[16], starts[16], time_ms, start_ms;
    double         values[16], value;
    size_t         n, seen = 0;
    enum kl_code   keyed = tsp_rw2_key(r, s, &key, &err);

    kl_labels_start(&b);
    assert(tsp_rw2_labels(r, s, &b, &err) == keyed);
    assert(keyed != KL_OK || b.count * 2 == s->ref_count);
    if (keyed == KL_OK)
        (void)kl_labels_finish(&b, &bytes, &err);
    while ((n = tsp_rw2_walk_samples(&walk, times, values, starts, 16)) > 0)
        seen += n;
    assert(seen == s->sample_count);
    walk = tsp_rw2_walk(r, s);
    for (seen = 0; seen < s->hist_count; seen++)
        if (tsp_rw2_walk_hist(&walk, arena, &time_ms, &start_ms, &h, &err))
            tsp_hist_put(&bytes, &h);                  /* asserts that it is consistent */
    assert(!tsp_rw2_walk_hist(&walk, arena, &time_ms, &start_ms, &h, &err) && err.code == KL_OK);
    walk = tsp_rw2_walk(r, s);
    for (seen = 0; seen < s->exemplar_count; seen++)
        (void)tsp_rw2_walk_exemplar(&walk, &b, &time_ms, &value, &err);
    if (tsp_rw2_metadata(r, s, &meta, &err) == KL_OK)
        assert(meta.help.size <= (size_t)(r->cur.end - r->begin));
    kl_buf_deinit(&bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tsp_rw2        r;
    struct tsp_rw2_series s;
    struct kl_arena       arena;
    struct kl_err         err;
    enum tsp_rw2_item     item;

    kl_arena_init(&arena, 8 << 20);
    if (tsp_rw2_open(&r, kl_span(data, size), &arena, &err) == KL_OK)
        while ((item = tsp_rw2_next(&r, &s, &err)) != TSP_RW2_END)
            if (item == TSP_RW2_SERIES)
                series(&r, &s, &arena);
    kl_arena_deinit(&arena);
    return 0;
}
