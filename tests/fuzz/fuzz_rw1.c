/* Remote write 1.0: any bytes are read or refused; a histogram that is let in fits a record. */
#include <assert.h>
#include <stdint.h>

#include "libtsproto/record.h"
#include "libtsproto/rw1.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void series(const struct tsp_rw1_series *s, struct kl_arena *arena)
{
    static struct kl_labels_builder b;
    struct kl_buf  canonical = { 0 };
    struct kl_err  err;
    struct kl_cur  walk = tsp_rw1_walk(s);
    struct kl_hist h;
    int64_t        times[16], time_ms;
    double         values[16], value;
    size_t         n, seen = 0;

    kl_labels_start(&b);
    if (tsp_rw1_labels(s, &b, &err) == KL_OK) {
        assert(b.count == s->label_count);
        (void)kl_labels_finish(&b, &canonical, &err);
    }
    kl_buf_deinit(&canonical);
    while ((n = tsp_rw1_walk_samples(&walk, times, values, 16)) > 0)
        seen += n;
    assert(seen == s->sample_count);
    assert(tsp_rw1_samples(s, seen, times, values, 16) == 0);
    walk = tsp_rw1_walk(s);
    for (seen = 0; seen < s->hist_count; seen++) {
        if (tsp_rw1_walk_hist(&walk, arena, &time_ms, &h, &err)) {
            struct kl_buf  bytes = { 0 };
            struct kl_hist again;
            struct kl_cur  c;
            tsp_hist_put(&bytes, &h);
            c = kl_cur(bytes.at, bytes.size);
            assert(tsp_hist_get(&c, arena, &again, &err) != KL_ECORRUPT && again.pos_count == h.pos_count);
            kl_buf_deinit(&bytes);
        } else {
            assert(err.code != KL_OK);
        }
        kl_arena_deinit(arena);
    }
    assert(!tsp_rw1_walk_hist(&walk, arena, &time_ms, &h, &err) && err.code == KL_OK);
    walk = tsp_rw1_walk(s);
    for (seen = 0; seen < s->exemplar_count; seen++)
        (void)tsp_rw1_walk_exemplar(&walk, &b, &time_ms, &value, &err);
    assert(!tsp_rw1_walk_exemplar(&walk, &b, &time_ms, &value, &err) && err.code == KL_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tsp_rw1          r;
    struct tsp_rw1_series   s;
    struct tsp_rw1_metadata m;
    struct kl_arena         arena;
    struct kl_err           err;
    enum tsp_rw1_item       item;

    kl_arena_init(&arena, 8 << 20);
    tsp_rw1_open(&r, kl_span(data, size));
    while ((item = tsp_rw1_next(&r, &s, &m, &err)) != TSP_RW1_END)
        if (item == TSP_RW1_SERIES)
            series(&s, &arena);
    kl_arena_deinit(&arena);
    return 0;
}
