#include "ingestor/columns.h"

#include "libblock/fileset.h"
#include "libtsproto/placement.h"

#include <stdlib.h>
#include <string.h>

struct work { struct ing_columns *c; struct kl_arena *arena; uint32_t chunks; uint64_t total; struct kl_err *err; };

static enum kl_code no_room(const struct work *w)
{
    return kl_fail(w->err, KL_ELIMIT, "an aggregate's series need more memory than it may use");
}

static void *take(const struct work *w, size_t size)
{
    return kl_budget_take(w->c->budget, size) ? kl_arena_alloc(w->arena, size) : NULL;
}

void ing_columns_free(struct ing_columns *c)
{
    free(c->series);
    free(c->refs);
    free(c->runs.at);
    free(c->times);
    free(c->start_times);
    free(c->values);
    free(c->index);
    free(c->other);
    free(c->range);
    *c = (struct ing_columns){ 0 };
}

/* Those of its chunks that meet the range; how many samples they have; whether they follow one another. */
static enum kl_code read_chunks(struct work *w, struct kl_cur *items, bool *plain)
{
    struct ing_columns *c = w->c;
    uint64_t            count = kl_cur_v(items);

    w->chunks = 0;
    w->total = 0;
    *plain = true;
    if (items->bad || count > kl_cur_left(items))
        return kl_fail(w->err, KL_ECORRUPT, "a damaged page");
    if (count > c->ref_room) {
        c->ref_room = (uint32_t)count + 16;
        c->refs = kl_resize(c->refs, c->ref_room * sizeof *c->refs);
    }
    for (uint64_t i = 0; i < count; i++) {
        struct blk_chunk_ref *r = &c->refs[w->chunks];

        r->first_ms = kl_cur_z(items);
        r->last_ms = (int64_t)((uint64_t)r->first_ms + kl_cur_v(items));
        r->count = (uint32_t)kl_cur_v(items);
        r->kind = kl_cur_8(items);
        r->bytes = kl_cur_span(items);
        if (items->bad || r->count > BLK_CHUNK_MAX)
            return kl_fail(w->err, KL_ECORRUPT, "a damaged page");
        if (r->last_ms < c->from_ms || r->first_ms > c->to_ms)
            continue;
        if (r->kind != BLK_FLOATS)
            return kl_fail(w->err, KL_EINVAL, "there are native histograms among the samples");
        *plain = *plain && (w->chunks == 0 || r->first_ms > c->refs[w->chunks - 1].last_ms);
        w->total += r->count;
        w->chunks++;
    }
    return KL_OK;
}

/* The chunks one after another; `starts` NULL until one has some, then in the arena. */
static enum kl_code decode(const struct work *w, int64_t *times, double *values, int64_t **starts, bool as_runs)
{
    struct ing_columns *c = w->c;
    uint32_t            at = 0, count;

    for (uint32_t i = 0; i < w->chunks; i++) {
        int64_t all = 0;

        if (c->refs[i].count > w->total - at ||
            blk_chunk_decode(c->refs[i].bytes, times + at, values + at, c->starts, &count, w->err) != KL_OK)
            return w->err->code;
        if (count != c->refs[i].count || count == 0)
            return kl_fail(w->err, KL_ECORRUPT, "a chunk is not what its place says it is");
        for (uint32_t k = 0; k < count; k++)
            all |= c->starts[k];
        if (all != 0 && *starts == NULL) {
            *starts = take(w, w->total * sizeof **starts);
            if (*starts == NULL)
                return no_room(w);
            memset(*starts, 0, w->total * sizeof **starts);
        }
        if (*starts != NULL)
            memcpy(*starts + at, c->starts, count * sizeof **starts);
        if (as_runs)
            blk_runs_add(&c->runs, times, at, at + count);
        at += count;
    }
    return KL_OK;
}

static void scratch(struct ing_columns *c, uint32_t total)
{
    if (total <= c->scratch_room)
        return;
    c->scratch_room = total;
    c->times = kl_resize(c->times, total * sizeof *c->times);
    c->values = kl_resize(c->values, total * sizeof *c->values);
    c->index = kl_resize(c->index, total * sizeof *c->index);
    c->other = kl_resize(c->other, total * sizeof *c->other);
}

static enum kl_code merge(const struct work *w, int64_t *times, double *values, struct pql_series *out)
{
    struct ing_columns *c = w->c;
    int64_t            *starts = NULL, *sorted = NULL;

    scratch(c, (uint32_t)w->total);
    c->runs.count = 0;
    if (decode(w, c->times, c->values, &starts, true) != KL_OK)
        return w->err->code;
    if (starts != NULL && (sorted = take(w, w->total * sizeof *sorted)) == NULL)
        return no_room(w);
    out->count = blk_runs_merge(&c->runs, c->times, (uint32_t)w->total, &c->index, &c->other);
    for (uint32_t i = 0; i < out->count; i++) {
        times[i] = c->times[c->index[i]];
        values[i] = c->values[c->index[i]];
        if (starts != NULL)
            sorted[i] = starts[c->index[i]];
    }
    out->starts_ms = sorted;
    return KL_OK;
}

static void trim(const struct ing_columns *c, struct pql_series *s)
{
    while (s->count > 0 && s->times_ms[s->count - 1] > c->to_ms)
        s->count--;
    while (s->count > 0 && s->times_ms[0] < c->from_ms) {
        s->count--;
        s->times_ms++;
        s->values++;
        s->starts_ms = s->starts_ms != NULL ? s->starts_ms + 1 : NULL;
    }
}

static enum kl_code samples(const struct work *w, bool plain, struct pql_series *out)
{
    int64_t *times, *starts = NULL;
    double  *values;

    if (!pql_charge(w->c->q, w->total, 1))
        return kl_fail(w->err, KL_ELIMIT, "an aggregate's series have more samples than a query may look at");
    times = take(w, w->total * sizeof *times);
    values = take(w, w->total * sizeof *values);
    if (times == NULL || values == NULL)
        return no_room(w);
    if (!plain) {
        if (merge(w, times, values, out) != KL_OK)
            return w->err->code;
    } else {
        if (decode(w, times, values, &starts, false) != KL_OK)
            return w->err->code;
        out->count = (uint32_t)w->total;
        out->starts_ms = starts;
    }
    out->times_ms = times;
    out->values = values;
    trim(w->c, out);
    return KL_OK;
}

static enum kl_code add(struct work *w, struct kl_fp fp, struct kl_span labels, struct pql_series *s)
{
    static const char   name[] = "__name__";
    struct ing_columns *c = w->c;
    uint32_t            place;
    void               *copy;

    s->labels = (struct kl_labels){ labels.at, labels.size };
    place = tsp_placement_place(c->tenant, kl_labels_get(s->labels, kl_span(name, sizeof name - 1)), fp,
                                c->place.spread, c->place.partitions);
    if (place != c->partition)
        return kl_fail(w->err, KL_EINVAL, "the metric is spread otherwise than some of its samples here");
    copy = take(w, labels.size);
    if (copy == NULL)
        return no_room(w);
    s->labels.at = memcpy(copy, labels.at, labels.size);
    if (c->count == c->room) {
        c->room = c->room == 0 ? 256 : c->room * 2;
        c->series = kl_resize(c->series, c->room * sizeof *c->series);
    }
    c->series[c->count++] = *s;
    return KL_OK;
}

enum kl_code ing_columns_page(struct ing_columns *c, struct kl_cur items, struct kl_err *err)
{
    struct work w = { .c = c, .arena = pql_arena(c->q, c->worker), .err = err };

    while (kl_cur_left(&items) > 0) {
        struct pql_series s = { .count = 0 };
        struct kl_fp      fp;
        struct kl_span    labels;
        bool              plain;

        fp.hi = kl_cur_64(&items);
        fp.lo = kl_cur_64(&items);
        labels = kl_cur_span(&items);
        if (items.bad || labels.size > KL_LABELS_BYTES_MAX)
            return kl_fail(err, KL_ECORRUPT, "a damaged page");
        if (read_chunks(&w, &items, &plain) != KL_OK)
            return err->code;
        if (w.total > 0 && samples(&w, plain, &s) != KL_OK)
            return err->code;
        if (s.count > 0 && add(&w, fp, labels, &s) != KL_OK)
            return err->code;
    }
    return KL_OK;
}
