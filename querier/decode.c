/*
 * Chunks into columns. The found series of all fetches are cut into items of a few series each,
 * which workers take in turn; every worker allocates from an arena of its own.
 *
 * Nearly always the chunks of a series follow one another in time: they are decoded straight into
 * the final columns. Where they overlap (late samples, a flush that the live head still holds) each
 * maximal stretch in order is a run; the runs are merged two by two, and of two samples with one
 * timestamp the later run's stays. Samples outside [from, to] are cut off at both ends.
 */
#include <assert.h>
#include <stdlib.h>

#include "libblock/chunk.h"
#include "libblock/runs.h"
#include "querier/qr_priv.h"

enum { ITEM_SERIES = 64, LATER_MAX = 1 << 20 };

/* A worker's own: grows to the largest series that needed it. */
struct qr_scratch {
    int64_t  starts[BLK_CHUNK_MAX];
    size_t   room;
    int64_t *times, *start_times;
    double  *values;
    const struct kl_hist **hists;
    size_t   unseen_room;                              /* where rows become their ends */
    struct pql_unseen *unseen;
    uint32_t *index, *other;
    struct blk_runs runs;
};

struct work {                                          /* one series, while it is decoded */
    struct qr_decode  *d;
    struct qr_fetch   *f;
    struct kl_arena   *arena;
    struct qr_scratch *s;
    struct kl_err     *err;
};

static enum kl_code no_room(const struct work *w)
{
    return kl_fail(w->err, KL_ELIMIT, "the query needs more memory than its %llu MiB",
                   (unsigned long long)(w->d->job->q->o.query_memory_max_bytes >> 20));
}

static bool in_range(const struct qr_fetch *f, const struct blk_chunk_ref *c)
{
    return c->last_ms >= f->from_ms && c->first_ms <= f->to_ms;
}

/* How many samples at most, and whether the chunks follow one another and are all floats. */
static enum kl_code survey(const struct work *w, const struct qr_found *g, size_t n,
                           uint64_t *total, bool *plain)
{
    int64_t last_ms = INT64_MIN;
    bool    first = true;

    *total = 0;
    *plain = true;
    for (size_t i = 0; i < n; i++)
        for (uint32_t k = 0; k < g[i].chunk_count; k++) {
            const struct blk_chunk_ref *c = &g[i].chunks[k];
            struct blk_chunk_head       head;

            if (!in_range(w->f, c))
                continue;
            if (blk_chunk_peek(c->bytes, &head, w->err) != KL_OK)
                return w->err->code;
            if (head.count == 0 || head.count != c->count || head.kind != c->kind ||
                head.first_ms != c->first_ms || head.last_ms != c->last_ms)
                return kl_fail(w->err, KL_ECORRUPT, "a chunk is not what its place says it is");
            if (head.kind != BLK_FLOATS || g[i].under || (!first && head.first_ms <= last_ms))
                *plain = false;
            first = false;
            last_ms = head.last_ms;
            *total += head.kind != BLK_FLOATS && qr_rows_ends(w->f) ? 2 * (uint64_t)head.count : head.count;
        }
    return KL_OK;
}

static bool any_start(const int64_t *starts, uint32_t count)
{
    int64_t all = 0;

    for (uint32_t i = 0; i < count; i++)
        all |= starts[i];
    return all != 0;
}

static void trim(const struct qr_fetch *f, struct pql_series *out)
{
    uint32_t skip = 0;

    while (skip < out->count && out->times_ms[skip] < f->from_ms)
        skip++;
    if (out->unseen != NULL && skip > 0 && skip < out->count && out->unseen[skip].count > 0)
        skip--;                                        /* what the row that begins there is told by */
    while (out->count > skip && out->times_ms[out->count - 1] > f->to_ms)
        out->count--;
    out->count -= skip;
    out->times_ms += skip;
    out->values += skip;
    if (out->hists != NULL)
        out->hists += skip;
    if (out->starts_ms != NULL)
        out->starts_ms += skip;
    if (out->unseen != NULL)
        out->unseen += skip;
}

/* Into `times` and `values`, which have room for all. */
static enum kl_code decode_into(const struct work *w, const struct qr_found *g, size_t n,
                                size_t total, int64_t *times, double *values,
                                struct pql_series *out)
{
    int64_t *starts = NULL;
    uint32_t at = 0, count;

    for (size_t i = 0; i < n; i++)
        for (uint32_t k = 0; k < g[i].chunk_count; k++) {
            const struct blk_chunk_ref *c = &g[i].chunks[k];

            if (!in_range(w->f, c))
                continue;
            if (blk_chunk_decode(c->bytes, times + at, values + at, w->s->starts, &count,
                                 w->err) != KL_OK)
                return w->err->code;
            assert(at + count <= total);
            if (starts == NULL && any_start(w->s->starts, count)) {
                starts = kl_arena_alloc(w->arena, total * sizeof *starts);
                if (starts == NULL)
                    return no_room(w);
                memset(starts, 0, total * sizeof *starts);
            }
            if (starts != NULL)
                memcpy(starts + at, w->s->starts, count * sizeof *starts);
            at += count;
        }
    out->count = at;
    out->times_ms = times;
    out->values = values;
    out->starts_ms = starts;
    return KL_OK;
}

static enum kl_code decode_plain(const struct work *w, const struct qr_found *g, size_t n,
                                 size_t total, struct pql_series *out)
{
    int64_t *times = kl_arena_alloc(w->arena, total * sizeof *times);
    double  *values = kl_arena_alloc(w->arena, total * sizeof *values);

    return times == NULL || values == NULL ? no_room(w)
                                           : decode_into(w, g, n, total, times, values, out);
}

/* ---- the general way ---- */

static bool scratch_room(const struct work *w, size_t total)
{
    struct qr_scratch *s = w->s;
    size_t             each = 3 * sizeof(int64_t) + sizeof(void *) + 2 * sizeof(uint32_t);

    if (qr_rows_ends(w->f) && total > s->unseen_room) {
        if (!kl_budget_take(&w->d->job->budget, (total - s->unseen_room) * sizeof *s->unseen))
            return false;
        s->unseen_room = total;
        s->unseen = kl_resize(s->unseen, total * sizeof *s->unseen);
    }
    if (total <= s->room)
        return true;
    if (!kl_budget_take(&w->d->job->budget, (total - s->room) * each))
        return false;
    s->room = total;
    s->times = kl_resize(s->times, total * sizeof *s->times);
    s->start_times = kl_resize(s->start_times, total * sizeof *s->start_times);
    s->values = kl_resize(s->values, total * sizeof *s->values);
    s->hists = kl_resize(s->hists, total * sizeof *s->hists);
    s->index = kl_resize(s->index, total * sizeof *s->index);
    s->other = kl_resize(s->other, total * sizeof *s->other);
    return true;
}

/* Rows of counts and samples meet as counts. */
static bool counted(const struct qr_fetch *f) { return f->rows_ms > 0 && f->fold == PQL_FOLD_COUNT; }

static enum kl_code decode_into_scratch(const struct work *w, const struct blk_chunk_ref *c,
                                        uint32_t at, uint32_t *count)
{
    struct qr_scratch *s = w->s;
    struct kl_hist    *hists;

    if (c->kind == BLK_FLOATS) {
        memset(s->hists + at, 0, c->count * sizeof *s->hists);
        if (blk_chunk_decode(c->bytes, s->times + at, s->values + at, s->start_times + at, count, w->err) != KL_OK)
            return w->err->code;
        for (uint32_t i = 0; counted(w->f) && i < *count; i++)
            if (!kl_is_stale(s->values[at + i]))
                s->values[at + i] = 1;
        if (qr_rows_ends(w->f))
            memset(s->unseen + at, 0, *count * sizeof *s->unseen);
        return KL_OK;
    }
    hists = kl_arena_alloc(w->arena, c->count * sizeof *hists);
    if (hists == NULL)
        return no_room(w);
    if (blk_chunk_decode_hists(c->bytes, w->arena, s->times + at, hists, s->start_times + at,
                               count, w->err) != KL_OK)
        return w->err->code;
    if (qr_rows_ends(w->f)) {
        for (uint32_t i = 0; i < *count; i++)
            s->hists[at + i] = &hists[i];
        *count = qr_rows_widen(*count, s->times + at, s->start_times + at, s->values + at, s->hists + at, s->unseen + at);
        return KL_OK;
    }
    for (uint32_t i = 0; i < *count; i++) {
        struct kl_hist *h = &hists[i];

        s->values[at + i] = 0;
        qr_rows_value(w->f, &h, &s->values[at + i]);
        s->hists[at + i] = h;
    }
    return KL_OK;
}

/* What lies under lone rows goes; returns how many are left. */
static uint32_t without_under(const struct work *w, const struct qr_found *g, size_t n, uint32_t at, uint32_t count)
{
    struct qr_scratch *s = w->s;
    uint32_t           to = at;

    for (uint32_t i = at; i < at + count; i++) {
        if (qr_rows_over(g, n, s->times[i]))
            continue;
        s->times[to] = s->times[i];
        s->start_times[to] = s->start_times[i];
        s->values[to] = s->values[i];
        s->hists[to] = s->hists[i];
        if (qr_rows_ends(w->f))
            s->unseen[to] = s->unseen[i];
        to++;
    }
    return to - at;
}

static enum kl_code decode_runs(const struct work *w, const struct qr_found *g, size_t n,
                                size_t total, struct pql_series *out)
{
    struct qr_scratch *s = w->s;
    uint32_t           at = 0, count = 0;
    bool               hists = false, starts = false, unseen = qr_rows_ends(w->f);
    struct pql_unseen *unseen_at = NULL;
    int64_t           *times, *start_times = NULL;
    double            *values;
    const struct kl_hist **hist_at = NULL;

    if (total > UINT32_MAX - BLK_CHUNK_MAX || !scratch_room(w, total))
        return no_room(w);
    s->runs.count = 0;                                 /* a series before it may have failed */
    for (size_t i = 0; i < n; i++)
        for (uint32_t k = 0; k < g[i].chunk_count; k++) {
            const struct blk_chunk_ref *c = &g[i].chunks[k];

            if (!in_range(w->f, c))
                continue;
            if (decode_into_scratch(w, c, at, &count) != KL_OK)
                return w->err->code;
            assert(count > 0 && at + count <= total);
            if (g[i].under && (count = without_under(w, g, n, at, count)) == 0)
                continue;
            for (uint32_t x = 0; c->kind != BLK_FLOATS && x < count && !hists; x++)
                hists = s->hists[at + x] != NULL;
            starts = starts || any_start(s->start_times + at, count);
            blk_runs_add(&s->runs, s->times, at, at + count);
            at += count;
        }
    count = blk_runs_merge(&s->runs, s->times, at, &s->index, &s->other);
    times = kl_arena_alloc(w->arena, count * sizeof *times);
    values = kl_arena_alloc(w->arena, count * sizeof *values);
    if (hists)
        hist_at = kl_arena_alloc(w->arena, count * sizeof *hist_at);
    if (starts)
        start_times = kl_arena_alloc(w->arena, count * sizeof *start_times);
    if (unseen)
        unseen_at = kl_arena_alloc(w->arena, count * sizeof *unseen_at);
    if (times == NULL || values == NULL || (hists && hist_at == NULL) ||
        (starts && start_times == NULL) || (unseen && unseen_at == NULL))
        return no_room(w);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t from = s->index[i];

        times[i] = s->times[from];
        values[i] = s->values[from];
        if (hists)
            hist_at[i] = s->hists[from];
        if (starts)
            start_times[i] = s->start_times[from];
        if (unseen)
            unseen_at[i] = s->unseen[from];
    }
    out->count = count;
    out->times_ms = times;
    out->values = values;
    out->hists = hist_at;
    out->starts_ms = start_times;
    out->unseen = unseen_at;
    return KL_OK;
}

static enum kl_code decode_series(const struct work *w, const struct qr_found *g, size_t n,
                                  struct pql_series *out)
{
    uint64_t total;
    bool     plain;

    if (survey(w, g, n, &total, &plain) != KL_OK)
        return w->err->code;
    if (total == 0)
        return KL_OK;
    if (w->d->job->pql != NULL && !pql_charge(w->d->job->pql, total, 1))
        return kl_fail(w->err, KL_ELIMIT, "query processing would load too many samples into "
                       "memory in query execution");
    plain = plain && !counted(w->f);
    out->part = g[n - 1].partition;                    /* the newest of its places */
    if (plain && w->f->later && total <= LATER_MAX) {
        out->labels = g->labels;
        out->count = (uint32_t)total;
        out->later = g;
        return KL_OK;
    }
    if ((plain ? decode_plain : decode_runs)(w, g, n, (size_t)total, out) != KL_OK)
        return w->err->code;
    trim(w->f, out);
    if (out->count > 0)
        out->labels = g->labels;
    return KL_OK;
}

/* ---- later ---- */

bool qr_decode_later(struct qr_decode *d, struct qr_fetch *f, const struct pql_series *s,
                     unsigned worker, struct pql_series *loaded)
{
    const struct qr_found *g = s->later;
    struct kl_err          err = { 0 };
    struct work            w = { .d = d, .f = f, .err = &err };
    size_t                 n = 1;

    if (d->scratch[worker] == NULL)
        d->scratch[worker] = kl_new(sizeof **d->scratch);
    w.s = d->scratch[worker];
    w.arena = pql_arena(d->job->pql, worker);          /* start times are rare, and stay */
    while (g + n < f->found + f->found_count && kl_fp_cmp(g[n].fp, g->fp) == 0)
        n++;
    if (!scratch_room(&w, s->count)) {
        no_room(&w);
    } else if (decode_into(&w, g, n, s->count, w.s->times, w.s->values, loaded) == KL_OK) {
        trim(f, loaded);
        return true;
    }
    kl_within(&err, "partition %u", (unsigned)g->partition);
    pql_fail(d->job->pql, err.code == KL_ELIMIT ? PQL_EXECUTION : PQL_INTERNAL, "%s", err.text);
    return false;
}

/* ---- the fan ---- */

static void item(struct qr_fan *fan, size_t nth, unsigned worker)
{
    struct qr_decode *d = kl_container_of(fan, struct qr_decode, fan);
    size_t            which = 0, at, end;
    struct work       w = { .d = d, .err = &d->failures[worker] };
    uint64_t          samples = 0;

    if (w.err->code != KL_OK)
        return;
    while (nth >= d->first_item[which + 1])
        which++;
    if (d->scratch[worker] == NULL)
        d->scratch[worker] = kl_new(sizeof **d->scratch);
    w.f = d->fetches[which];
    w.s = d->scratch[worker];
    w.arena = d->job->pql != NULL ? pql_arena(d->job->pql, worker) : &d->arenas[worker];
    at = (nth - d->first_item[which]) * ITEM_SERIES;
    end = at + ITEM_SERIES < w.f->found_count ? at + ITEM_SERIES : w.f->found_count;
    /* A series that began before `at` is the item's before this one. */
    while (at < end && at > 0 && kl_fp_cmp(w.f->found[at].fp, w.f->found[at - 1].fp) == 0)
        at++;
    while (at < end) {
        size_t n = 1;

        while (at + n < w.f->found_count &&
               kl_fp_cmp(w.f->found[at + n].fp, w.f->found[at].fp) == 0)
            n++;
        if (decode_series(&w, &w.f->found[at], n, &w.f->series[at]) != KL_OK) {
            if (w.err->code != KL_ELIMIT)
                kl_within(w.err, "partition %u", (unsigned)w.f->found[at].partition);
            break;
        }
        samples += w.f->series[at].count;
        at += n;
    }
    atomic_fetch_add_explicit(&d->samples, samples, memory_order_relaxed);
    kl_count(d->job->q->m.samples, samples);
}

static void fan_done(struct qr_fan *fan)
{
    struct qr_decode *d = kl_container_of(fan, struct qr_decode, fan);

    d->done(d);
}

/* Is there so little that a hop to a worker would cost more? */
static bool little(const struct qr_decode *d)
{
    uint64_t samples = 0;

    for (size_t i = 0; i < d->fetch_count; i++) {
        const struct qr_fetch *f = d->fetches[i];

        for (size_t k = 0; k < f->found_count; k++) {
            for (uint32_t n = 0; n < f->found[k].chunk_count; n++)
                samples += f->found[k].chunks[n].count;
            if (samples + k * 8 >= QR_INLINE_SAMPLES)
                return false;
        }
    }
    return true;
}

bool qr_decode_run(struct qr_decode *d)
{
    size_t found = 0;

    if (d->failures == NULL)
        d->failures = kl_new(d->job->q->workers * sizeof *d->failures);
    d->first_item = kl_resize(d->first_item, (d->fetch_count + 1) * sizeof *d->first_item);
    d->first_item[0] = 0;
    for (size_t i = 0; i < d->fetch_count; i++) {
        struct qr_fetch *f = d->fetches[i];

        d->first_item[i + 1] = d->first_item[i] + (f->found_count + ITEM_SERIES - 1) / ITEM_SERIES;
        found += f->found_count;
        if (f->found_count == 0)
            continue;
        if (!kl_budget_take(&d->job->budget, f->found_count * sizeof *f->series)) {
            qr_over_budget(d->job, &d->failures[0]);
            return true;
        }
        f->charged += f->found_count * sizeof *f->series;
        f->series = kl_resize(NULL, f->found_count * sizeof *f->series);
        memset(f->series, 0, f->found_count * sizeof *f->series);
    }
    d->fan.job = d->job;
    d->fan.count = d->first_item[d->fetch_count];
    d->fan.item = item;
    d->fan.done = fan_done;
    kl_count(d->job->q->m.series, found);
    return qr_fan_run(&d->fan, little(d));
}

const struct kl_err *qr_decode_failure(const struct qr_decode *d)
{
    for (unsigned i = 0; i < d->job->q->workers; i++)
        if (d->failures[i].code != KL_OK)
            return &d->failures[i];
    return NULL;
}

size_t qr_decode_compact(struct qr_fetch *f, struct kl_fp *key)
{
    size_t n = 0;

    *key = (struct kl_fp){ 0, 0 };
    for (size_t i = 0; i < f->found_count; i++)
        if (f->series != NULL && f->series[i].labels.at != NULL) {
            key->hi = kl_hash64_seed(&f->found[i].fp, sizeof f->found[i].fp, key->hi);
            key->lo = kl_hash64_seed(&f->found[i].fp, sizeof f->found[i].fp, ~key->lo);
            f->sample_count += f->series[i].count;
            f->series[n++] = f->series[i];
        }
    f->series_count = n;
    return n;
}

void qr_decode_deinit(struct qr_decode *d)
{
    free(d->failures);
    d->failures = NULL;
    for (unsigned i = 0; i < PQL_WORKERS_MAX; i++) {
        struct qr_scratch *s = d->scratch[i];

        if (s == NULL)
            continue;
        free(s->times);
        free(s->start_times);
        free(s->values);
        free(s->hists);
        free(s->unseen);
        free(s->index);
        free(s->other);
        free(s->runs.at);
        free(s);
        d->scratch[i] = NULL;
    }
    free(d->first_item);
    d->first_item = NULL;
}
