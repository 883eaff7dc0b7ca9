/*
 * A fileset is a function of its samples, so however an ingestor happened to cut a series, here it
 * is cut anew: the window is halved, and halved again, until a piece holds at most BLK_CHUNK_MAX
 * samples (of histograms, also at most BUCKETS_MAX buckets and SHAPES_MAX bytes of bounds and spans,
 * each sample's counted). Boundaries by time, not by count: a
 * series that missed a scrape is still cut where its neighbours are, and shares their time columns.
 * A run of one kind ends where the other begins.
 */
#include "libblock/fileset_priv.h"

#include <assert.h>
#include <stdlib.h>

enum { BUCKETS_MAX = 128 * 1024, UNIT_MS = 2 * 3600 * 1000 };
/* A chunk has these of a run of samples once, but each sample may be a run; a span takes up to ten. */
enum { SHAPES_MAX = BLK_CHUNK_BYTES_MAX / 2, BOUND_BYTES = 8, SPAN_BYTES = 10 };
enum { SERIES_ARENA_MAX = 1 << 30 };

struct blk_rechunk {
    int64_t  origin_ms, unit_ms;
    size_t   count, room;
    int64_t *times, *starts;
    double  *values;                                   /* of a run of floats, or */
    struct kl_hist *hists;                             /* of histograms */
    size_t   hist_room;
    struct kl_arena arena;
    struct kl_buf   out;
    /* The chunks of the run as they came: one that is a piece already is used as it is. */
    const struct blk_chunk_ref *chunks;
    uint32_t chunk_count, chunk_at;
    size_t   chunk_from;                               /* number of the first sample of chunk_at */
    void   (*emit)(void *ctx, const struct blk_parts *parts);
    void    *ctx;
};

struct blk_rechunk *blk_rechunk_new(const struct blk_info *info)
{
    struct blk_rechunk *r = kl_new(sizeof *r);

    r->origin_ms = info->window_ms > 0 ? info->window_start_ms : 0;
    r->unit_ms = info->window_ms > 0 ? info->window_ms : UNIT_MS;
    kl_arena_init(&r->arena, SERIES_ARENA_MAX);
    return r;
}

void blk_rechunk_free(struct blk_rechunk *r)
{
    if (r == NULL)
        return;
    kl_arena_deinit(&r->arena);
    kl_buf_deinit(&r->out);
    free(r->times);
    free(r->starts);
    free(r->values);
    free(r->hists);
    free(r);
}

static void make_room(struct blk_rechunk *r, size_t more, bool hists)
{
    if (r->count + more > r->room) {
        r->room = (r->count + more) * 2;
        r->times = kl_resize(r->times, r->room * sizeof *r->times);
        r->starts = kl_resize(r->starts, r->room * sizeof *r->starts);
        r->values = kl_resize(r->values, r->room * sizeof *r->values);
    }
    if (hists && r->count + more > r->hist_room) {
        r->hist_room = r->room;
        r->hists = kl_resize(r->hists, r->hist_room * sizeof *r->hists);
    }
}

/* Is the piece [from, to) one of the chunks given? They are walked in step with the pieces. */
static bool given(struct blk_rechunk *r, size_t from, size_t to, struct blk_parts *parts)
{
    struct kl_err ignored;

    while (r->chunk_at < r->chunk_count && r->chunk_from < from)
        r->chunk_from += r->chunks[r->chunk_at++].count;
    return r->chunk_at < r->chunk_count && r->chunk_from == from &&
           r->chunks[r->chunk_at].count == to - from &&
           blk_chunk_split(r->chunks[r->chunk_at].bytes, parts, &ignored) == KL_OK;
}

static void emit(struct blk_rechunk *r, size_t from, size_t to, bool hists)
{
    struct blk_parts parts;
    struct kl_err    err;

    if (!given(r, from, to, &parts)) {
        kl_buf_reset(&r->out);
        if (hists)
            blk_chunk_encode_hists(r->times + from, r->hists + from, r->starts + from,
                                   (uint32_t)(to - from), &r->out);
        else
            blk_chunk_encode(r->times + from, r->values + from, r->starts + from,
                             (uint32_t)(to - from), &r->out);
        if (blk_chunk_split(kl_buf_span(&r->out), &parts, &err) != KL_OK)
            abort();                                   /* we cannot read what we wrote: a bug */
    }
    r->emit(r->ctx, &parts);
}

static bool fits(const struct blk_rechunk *r, size_t from, size_t to, bool hists)
{
    uint64_t buckets = 0, shapes = 0;

    if (to - from > BLK_CHUNK_MAX)
        return false;
    for (size_t i = from; hists && i < to; i++) {
        const struct kl_hist *h = &r->hists[i];

        buckets += h->pos_count + h->neg_count;
        shapes += (uint64_t)h->bound_count * BOUND_BYTES +
                  ((uint64_t)h->pos_span_count + h->neg_span_count) * SPAN_BYTES;
    }
    return to - from == 1 || (buckets <= BUCKETS_MAX && shapes <= SHAPES_MAX);
}

/* The samples [from, to) all lie in the `length` ms from `begin`. Each halving halves the length,
 * and 512 ms hold no more than 512 samples, so this ends; a millisecond holds one. */
static void cut(struct blk_rechunk *r, size_t from, size_t to, int64_t begin, int64_t length,
                bool hists)
{
    size_t  middle = from;
    int64_t half = length - length / 2;

    if (from == to)
        return;
    if (fits(r, from, to, hists)) {
        emit(r, from, to, hists);
        return;
    }
    assert(length > 1);
    while (middle < to && (uint64_t)r->times[middle] - (uint64_t)begin < (uint64_t)half)
        middle++;
    cut(r, from, middle, begin, half, hists);
    cut(r, middle, to, (int64_t)((uint64_t)begin + (uint64_t)half), length - half, hists);
}

static int64_t unit_of(const struct blk_rechunk *r, int64_t time_ms)
{
    __int128 from = (__int128)time_ms - r->origin_ms;
    __int128 unit = from / r->unit_ms;

    return (int64_t)(unit - (from % r->unit_ms < 0));
}

static void cut_run(struct blk_rechunk *r, bool hists)
{
    for (size_t from = 0, to; from < r->count; from = to) {
        int64_t  unit = unit_of(r, r->times[from]);
        uint64_t begin = (uint64_t)r->origin_ms + (uint64_t)unit * (uint64_t)r->unit_ms;

        for (to = from + 1; to < r->count && unit_of(r, r->times[to]) == unit; to++)
            ;
        cut(r, from, to, (int64_t)begin, r->unit_ms, hists);
    }
}

static uint64_t chain_hist(uint64_t h, const struct kl_hist *x)
{
    double   numbers[4] = { x->zero_threshold, x->zero_count, x->count, x->sum };
    uint64_t facts[5] = { (uint64_t)(int64_t)x->schema, x->reset, x->was_int,
                          (uint64_t)x->pos_count << 32 | x->neg_count, x->bound_count };

    h = kl_hash64_seed(numbers, sizeof numbers, h);
    h = kl_hash64_seed(facts, sizeof facts, h);
    for (uint32_t i = 0; i < x->pos_span_count; i++)
        h = kl_hash64_seed(&x->pos_spans[i], sizeof x->pos_spans[i], h);
    for (uint32_t i = 0; i < x->neg_span_count; i++)
        h = kl_hash64_seed(&x->neg_spans[i], sizeof x->neg_spans[i], h);
    h = kl_hash64_seed(x->pos, x->pos_count * sizeof *x->pos, h);
    h = kl_hash64_seed(x->neg, x->neg_count * sizeof *x->neg, h);
    return kl_hash64_seed(x->bounds, x->bound_count * sizeof *x->bounds, h);
}

/* Over the whole run, since how it came in chunks must not matter. */
static uint64_t chain_run(const struct blk_rechunk *r, bool hists, uint64_t h)
{
    h = kl_hash64_seed(r->times, r->count * sizeof *r->times, h);
    h = kl_hash64_seed(r->starts, r->count * sizeof *r->starts, h);
    if (!hists)
        return kl_hash64_seed(r->values, r->count * sizeof *r->values, h);
    for (size_t i = 0; i < r->count; i++)
        h = chain_hist(h, &r->hists[i]);
    return h;
}

enum kl_code blk_rechunk_series(struct blk_rechunk *r, const struct blk_chunk_ref *chunks,
                                uint32_t count,
                                void (*each)(void *ctx, const struct blk_parts *parts), void *ctx,
                                uint64_t *content, struct kl_err *err)
{
    r->emit = each;
    r->ctx = ctx;
    for (uint32_t from = 0, to; from < count; from = to) {
        bool hists = chunks[from].kind == BLK_HISTS;

        r->count = 0;
        r->chunks = chunks + from;
        r->chunk_at = 0;
        r->chunk_from = 0;
        for (to = from; to < count && (chunks[to].kind == BLK_HISTS) == hists; to++) {
            struct kl_span bytes = chunks[to].bytes;
            uint32_t       n;
            enum kl_code   code;

            make_room(r, BLK_CHUNK_MAX, hists);
            code = hists ? blk_chunk_decode_hists(bytes, &r->arena, r->times + r->count,
                                                  r->hists + r->count, r->starts + r->count, &n, err)
                         : blk_chunk_decode(bytes, r->times + r->count, r->values + r->count,
                                            r->starts + r->count, &n, err);
            if (code != KL_OK)
                return code;
            assert(n == chunks[to].count);
            assert(r->count == 0 || r->times[r->count] > r->times[r->count - 1]);
            r->count += n;
        }
        r->chunk_count = to - from;
        *content = chain_run(r, hists, *content);
        cut_run(r, hists);
        kl_arena_deinit(&r->arena);
    }
    return KL_OK;
}
