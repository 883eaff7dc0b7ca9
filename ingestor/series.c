/*
 * A series' samples: taken in any order, sealed into chunks, handed to a cut, let go.
 *
 * The order of precedence is what keeps "of two values for one time the later in the log wins"
 * without looking: chunks stand in the order of sealing, the open tail follows, late samples come
 * last. A sample goes to the tail only above every time seen before, so a late one for the same
 * time is always younger than the tail; and the tail is sealed before late samples are.
 *
 * A start time belongs to its sample: one that comes again, equal or not, has none until it is told again.
 */
#include "ingestor/head_priv.h"

#include "libkoal/base/mem.h"
#include "libtsproto/record.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { HIST_ARENA_MAX = 256 << 20 };

/* What lies in h->encoded, as a chunk in front of *link. */
static struct ing_chunk *chunk_add(struct ing_head *h, struct ing_series *s,
                                   struct ing_chunk **link)
{
    struct blk_chunk_head head;
    struct kl_err         err;
    struct ing_chunk     *c;

    if (blk_chunk_peek(kl_buf_span(&h->encoded), &head, &err) != KL_OK)
        assert(!"a chunk that was just encoded can be read");
    c = ing_chunk_new(h, kl_buf_span(&h->encoded), &head);
    c->next = *link;
    *link = c;
    if (c->next == NULL)
        s->last = c;
    s->chunk_bytes += c->size;
    h->heavy |= s->chunk_bytes > ING_HEAVY_BYTES;
    return c;
}

static struct ing_chunk **end_of(struct ing_series *s)
{
    return s->last == NULL ? &s->first : &s->last->next;
}

static const int64_t *starts_or_null(const int64_t *starts, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (starts[i] != 0)
            return starts;
    return NULL;
}

static int64_t window_of(const struct ing_head *h, int64_t time_ms)
{
    int64_t into = time_ms % h->window_ms, start;

    into += into < 0 ? h->window_ms : 0;
    return __builtin_sub_overflow(time_ms, into, &start) ? INT64_MIN : start;
}

/* The tail's samples and those of the last chunk as one chunk, in its place: so an open tail can be
 * short and chunks are long all the same. */
static bool grow(struct ing_head *h, struct ing_series *s)
{
    struct ing_chunk  *c = s->last, **link = &s->first;
    struct ing_run     run, more;
    struct kl_err      err;
    enum kl_code       code;

    if (c == NULL || s->tail.kind != ING_FLOATS || c->kind != BLK_FLOATS || c->file != 0 || c->at != 0 ||
        c->cut != 0 || c->count >= ING_GROWN || ing_chunk_last(c) >= s->tail.first_ms ||
        (uint64_t)s->tail.last_ms - (uint64_t)c->first_ms > UINT32_MAX ||
        window_of(h, c->first_ms) != window_of(h, s->tail.first_ms) ||
        h->retired_bytes > ING_RETIRED_BYTES_MAX)
        return false;
    code = blk_chunk_decode(kl_span(c->bytes, c->size), run.times, run.values, run.starts, &run.count,
                            &err);
    assert(code == KL_OK);
    ing_tail_floats(&s->tail, &more);
    memcpy(run.times + run.count, more.times, more.count * sizeof *more.times);
    memcpy(run.values + run.count, more.values, more.count * sizeof *more.values);
    memcpy(run.starts + run.count, more.starts, more.count * sizeof *more.starts);
    run.count += more.count;
    kl_buf_reset(&h->encoded);
    blk_chunk_encode(run.times, run.values, starts_or_null(run.starts, run.count), run.count,
                     &h->encoded);
    while (*link != c)
        link = &(*link)->next;
    *link = NULL;
    chunk_add(h, s, link);
    s->chunk_bytes -= c->size;
    ing_chunk_retire(h, c);
    return true;
}

void ing_series_seal_tail(struct ing_head *h, struct ing_series *s)
{
    struct kl_err err;

    if (s->tail.count == 0)
        return;
    if (!grow(h, s)) {
        kl_buf_reset(&h->encoded);
        if (ing_tail_encode(&s->tail, &h->encoded, &err) != KL_OK)
            assert(!"a tail holds what was put into it");
        chunk_add(h, s, end_of(s));
    }
    ing_tail_drop(&s->tail, &h->tails);
}

static void seal_samples(struct ing_head *h, struct ing_series *s,
                         const struct ing_late_sample *at, uint32_t count)
{
    int64_t times[BLK_CHUNK_MAX], starts[BLK_CHUNK_MAX];
    double  values[BLK_CHUNK_MAX];

    assert(count > 0 && count <= BLK_CHUNK_MAX);
    for (uint32_t i = 0; i < count; i++) {
        times[i] = at[i].time_ms;
        starts[i] = at[i].start_ms;
        values[i] = at[i].value;
    }
    kl_buf_reset(&h->encoded);
    blk_chunk_encode(times, values, starts_or_null(starts, count), count, &h->encoded);
    chunk_add(h, s, end_of(s));
}

static void late_free(struct ing_head *h, struct ing_series *s)
{
    h->memory.bytes[ING_MEM_LATE] -= (int64_t)(s->late->room * sizeof *s->late->at);
    free(s->late);
    s->late = NULL;
}

/* Window by window, as chunks keep to windows. */
void ing_series_seal_late(struct ing_head *h, struct ing_series *s)
{
    if (s->late == NULL)
        return;
    ing_series_seal_tail(h, s);
    for (uint32_t i = 0, n; i < s->late->count; i += n) {
        int64_t t = s->late->at[i].time_ms, into = t % h->window_ms;
        int64_t left = h->window_ms - (into < 0 ? into + h->window_ms : into);

        if (left > UINT32_MAX)                         /* what a chunk's bounds can say */
            left = UINT32_MAX;
        for (n = 1; i + n < s->late->count &&
                    (uint64_t)s->late->at[i + n].time_ms - (uint64_t)t < (uint64_t)left; n++)
            ;
        seal_samples(h, s, s->late->at + i, n);
    }
    late_free(h, s);
}

/* The place of time_ms among the late samples. */
static uint32_t late_place(const struct ing_late *l, int64_t time_ms)
{
    uint32_t lo = 0, hi = l == NULL ? 0 : l->count;

    while (lo < hi) {
        uint32_t mid = (lo + hi) / 2;

        if (l->at[mid].time_ms < time_ms)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static bool late_has(const struct ing_late *l, int64_t time_ms)
{
    uint32_t at = late_place(l, time_ms);

    return l != NULL && at < l->count && l->at[at].time_ms == time_ms;
}

static void late_add(struct ing_head *h, struct ing_series *s, struct ing_late_sample sample)
{
    struct ing_late *l = s->late;
    uint32_t         at;

    if (l != NULL && l->count == ING_LATE_MAX)
        ing_series_seal_late(h, s);
    l = s->late;
    at = late_place(l, sample.time_ms);
    if (l != NULL && at < l->count && l->at[at].time_ms == sample.time_ms) {
        l->at[at] = sample;
        return;
    }
    if (l == NULL || l->count == l->room) {
        uint32_t room = l == NULL ? 4 : l->room * 2;

        bool     fresh = l == NULL;

        l = s->late = kl_resize(l, sizeof *l + room * sizeof *l->at);
        if (fresh)
            l->count = l->room = 0;
        h->memory.bytes[ING_MEM_LATE] += (int64_t)((room - l->room) * sizeof *l->at);
        l->room = room;
    }
    memmove(l->at + at + 1, l->at + at, (l->count - at) * sizeof *l->at);
    l->at[at] = sample;
    l->count++;
}

/* Does time_ms lie in the window of the open tail? */
static bool same_window(struct ing_head *h, const struct ing_tail *t, int64_t time_ms)
{
    if (t->count == 0)
        return true;
    if (t->first_ms < h->window_lo || t->first_ms >= h->window_hi) {
        int64_t into = t->first_ms % h->window_ms;

        into += into < 0 ? h->window_ms : 0;
        if (__builtin_sub_overflow(t->first_ms, into, &h->window_lo))
            h->window_lo = INT64_MIN;
        if (__builtin_add_overflow(t->first_ms, h->window_ms - into, &h->window_hi))
            h->window_hi = INT64_MAX;
    }
    return time_ms < h->window_hi;
}

void ing_series_float(struct ing_head *h, struct ing_series *s, int64_t time_ms, double value)
{
    struct ing_blocks *b = &h->tails;

    h->samples++;
    if (time_ms <= s->last_ms) {
        const struct ing_tail *t = &s->tail;

        if (t->count > 0 && t->kind == ING_FLOATS && time_ms == t->last_ms &&
            kl_f64_bits(value) == t->bits && s->late == NULL &&
            (t->end != ING_END_START || ing_tail_start(&s->tail, 0, b))) {
            h->equal_samples++;                        /* it has no start time now, until it is told again */
            return;
        }
        if (h->again && ing_tail_has(t, time_ms, value) && !late_has(s->late, time_ms)) {
            h->equal_samples++;
            return;
        }
        h->late_samples++;
        late_add(h, s, (struct ing_late_sample){ .time_ms = time_ms, .value = value });
        return;
    }
    s->last_ms = time_ms;
    if (!same_window(h, &s->tail, time_ms) || !ing_tail_add(&s->tail, time_ms, value, b)) {
        ing_series_seal_tail(h, s);
        ing_tail_add(&s->tail, time_ms, value, b);
    }
    if (kl_is_stale(value))                            /* it ends here: nothing will need its tail */
        ing_series_seal_tail(h, s);
}

/* One histogram as a chunk of its own: one that comes late, or is too large for a tail. */
static void hist_chunk(struct ing_head *h, struct ing_series *s, int64_t time_ms, int64_t start_ms,
                       struct kl_span bytes)
{
    struct kl_arena arena;
    struct kl_hist  hist;
    struct kl_err   err;
    struct kl_cur   c = kl_cur(bytes.at, bytes.size);

    ing_series_seal_tail(h, s);
    ing_series_seal_late(h, s);
    kl_arena_init(&arena, HIST_ARENA_MAX);
    if (tsp_hist_get(&c, &arena, &hist, &err) != KL_OK)
        assert(!"a histogram that was just put can be got");
    kl_buf_reset(&h->encoded);
    blk_chunk_encode_hists(&time_ms, &hist, start_ms == 0 ? NULL : &start_ms, 1, &h->encoded);
    chunk_add(h, s, end_of(s));
    kl_arena_deinit(&arena);
}

void ing_series_hist(struct ing_head *h, struct ing_series *s, int64_t time_ms, struct kl_span hist)
{
    struct ing_blocks *b = &h->tails;

    h->samples++;
    if (time_ms <= s->last_ms) {
        if (h->again && ing_tail_has_hist(&s->tail, time_ms, hist)) {
            h->equal_samples++;
            return;
        }
        h->late_samples++;
        hist_chunk(h, s, time_ms, 0, hist);
        return;
    }
    s->last_ms = time_ms;
    if (same_window(h, &s->tail, time_ms) && ing_tail_add_hist(&s->tail, time_ms, hist, b))
        return;
    ing_series_seal_tail(h, s);
    if (!ing_tail_add_hist(&s->tail, time_ms, hist, b))
        hist_chunk(h, s, time_ms, 0, hist);
}

/* The sample at time_ms among sealed floats or histograms, given anew with its start time. Not in a chunk that a
 * cut has taken: whether that is in memory still is nothing that all members have alike. */
static bool restart_in_chunk(struct ing_head *h, struct ing_series *s, const struct ing_chunk *c,
                             int64_t time_ms, int64_t start_ms)
{
    struct ing_run  run;
    struct kl_err   err;
    struct kl_arena arena;
    struct kl_hist  hists[BLK_CHUNK_MAX];
    struct kl_span  bytes;
    enum kl_code    code;
    uint32_t        i = 0;

    if (ing_chunk_bytes(h->files, c, &h->spilled, &bytes, &err) != KL_OK)
        return true;                                   /* the partition begins anew, from the log */
    kl_arena_init(&arena, HIST_ARENA_MAX);
    code = c->kind == BLK_FLOATS
         ? blk_chunk_decode(bytes, run.times, run.values, run.starts, &run.count, &err)
         : blk_chunk_decode_hists(bytes, &arena, run.times, hists, run.starts, &run.count, &err);
    assert(code == KL_OK);
    while (i < run.count && run.times[i] != time_ms)
        i++;
    if (i < run.count && run.starts[i] != start_ms && c->kind == BLK_FLOATS) {
        late_add(h, s, (struct ing_late_sample){ time_ms, start_ms, run.values[i] });
    } else if (i < run.count && run.starts[i] != start_ms) {
        struct kl_buf put = { 0 };

        tsp_hist_put(&put, &hists[i]);
        hist_chunk(h, s, time_ms, start_ms, kl_buf_span(&put));
        kl_buf_deinit(&put);
    }
    kl_arena_deinit(&arena);
    return i < run.count;
}

void ing_series_start(struct ing_head *h, struct ing_series *s, int64_t time_ms, int64_t start_ms)
{
    struct ing_chunk *found = NULL;
    uint32_t          at = late_place(s->late, time_ms);

    if (s->late != NULL && at < s->late->count && s->late->at[at].time_ms == time_ms) {
        s->late->at[at].start_ms = start_ms;
        return;
    }
    if (s->tail.count > 0 && s->tail.last_ms == time_ms &&
        ing_tail_start(&s->tail, start_ms, &h->tails))
        return;
    if (s->tail.count > 0 && s->tail.first_ms <= time_ms)
        ing_series_seal_tail(h, s);                    /* rare: many samples of one in a record */
    for (;;) {                                         /* the last chunk that has it is what counts */
        struct ing_chunk *c = s->first, *below = NULL;

        for (; c != found; c = c->next)
            if (c->cut == 0 && c->first_ms <= time_ms && time_ms <= ing_chunk_last(c))
                below = c;
        if (below == NULL || restart_in_chunk(h, s, below, time_ms, start_ms))
            return;
        found = below;
    }
}

/* A chunk that reaches across end_ms becomes two, in its place. */
static void split(struct ing_head *h, struct ing_series *s, struct ing_chunk **link, int64_t end_ms)
{
    struct ing_chunk *c = *link;
    struct ing_run    run;
    struct kl_err     err;
    struct kl_arena   arena;
    struct kl_hist    hists[BLK_CHUNK_MAX];
    struct kl_span    bytes;
    bool              floats = c->kind == BLK_FLOATS;
    enum kl_code      code;
    uint32_t          below = 0, from[2], count[2];

    if (ing_chunk_bytes(h->files, c, &h->spilled, &bytes, &err) != KL_OK)
        return;                                        /* the partition begins anew, from the log */
    kl_arena_init(&arena, HIST_ARENA_MAX);
    code = floats ? blk_chunk_decode(bytes, run.times, run.values, run.starts, &run.count, &err)
                  : blk_chunk_decode_hists(bytes, &arena, run.times, hists, run.starts, &run.count,
                                           &err);
    assert(code == KL_OK);
    while (run.times[below] < end_ms)
        below++;
    assert(below > 0 && below < run.count);
    *link = c->next;
    if (s->last == c)
        s->last = NULL;                                /* chunk_add below sets it again */
    from[0] = 0, count[0] = below;
    from[1] = below, count[1] = run.count - below;
    for (int i = 1; i >= 0; i--) {                     /* the upper part first, then in front of it */
        const int64_t *starts = starts_or_null(run.starts + from[i], count[i]);

        kl_buf_reset(&h->encoded);
        if (floats)
            blk_chunk_encode(run.times + from[i], run.values + from[i], starts, count[i],
                             &h->encoded);
        else
            blk_chunk_encode_hists(run.times + from[i], hists + from[i], starts, count[i],
                                   &h->encoded);
        chunk_add(h, s, link);
    }
    kl_arena_deinit(&arena);
    s->chunk_bytes -= c->size;
    ing_chunk_free(h, c);
}

void ing_series_cut(struct ing_head *h, struct ing_series *s, uint32_t cut, int64_t end_ms,
                    void (*each)(void *ctx, struct ing_series *s, struct ing_chunk *c), void *ctx)
{
    if (s->tail.count > 0 && s->tail.first_ms < end_ms)
        ing_series_seal_tail(h, s);
    if (s->late != NULL && s->late->at[0].time_ms < end_ms) {
        uint32_t below = late_place(s->late, end_ms);

        if (below == s->late->count) {
            struct ing_tail open = s->tail;            /* begins at end_ms or later: no conflict */

            s->tail = (struct ing_tail){ 0 };
            ing_series_seal_late(h, s);
            s->tail = open;
        } else {
            seal_samples(h, s, s->late->at, below);
            s->late->count -= below;
            memmove(s->late->at, s->late->at + below, s->late->count * sizeof *s->late->at);
        }
    }
    for (struct ing_chunk **link = &s->first; *link != NULL; link = &(*link)->next) {
        struct ing_chunk *c = *link;

        if (c->cut != 0 || c->first_ms >= end_ms)
            continue;
        if (ing_chunk_last(c) >= end_ms) {
            split(h, s, link, end_ms);
            c = *link;
        }
        c->cut = cut;
        s->chunk_bytes -= c->size;
        each(ctx, s, c);
    }
}

void ing_series_let_go(struct ing_head *h, struct ing_series *s, uint32_t cut)
{
    struct ing_chunk **link = &s->first, *last = NULL;

    while (*link != NULL) {
        struct ing_chunk *c = *link;

        if (c->cut != cut) {
            last = c;
            link = &c->next;
            continue;
        }
        *link = c->next;
        ing_chunk_free(h, c);
    }
    s->last = last;
}

bool ing_series_meets(const struct ing_series *s, int64_t from_ms, int64_t to_ms)
{
    const struct ing_late *l = s->late;

    if (s->tail.count > 0 && s->tail.first_ms <= to_ms && s->tail.last_ms >= from_ms)
        return true;
    for (const struct ing_chunk *c = s->first; c != NULL; c = c->next)
        if (c->first_ms <= to_ms && ing_chunk_last(c) >= from_ms)
            return true;
    if (l != NULL) {
        uint32_t at = late_place(l, from_ms);

        return at < l->count && l->at[at].time_ms <= to_ms;
    }
    return false;
}
