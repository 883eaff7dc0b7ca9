/*
 * One answer of several, and pieces of one. Segments lie apart in time and each has its series by
 * their labels, so the union of the labels is made by merging two at a time, and each series' points
 * are those of the segments one after another.
 */
#include <stdlib.h>
#include <string.h>

#include "querier/reuse_priv.h"

static uint32_t series_of(const struct qr_segment *s)
{
    return s->piece != NULL ? s->piece->series_count : (uint32_t)s->result->series_count;
}

static struct kl_labels labels_of(const struct qr_segment *s, uint32_t i)
{
    return s->piece != NULL ? s->piece->series[i].labels : s->result->series[i].labels;
}

/* The first point of a result's series that is not before `ms`. */
static uint32_t first_point(const struct pql_out_series *s, int64_t ms)
{
    uint32_t low = 0, high = s->count;

    while (low < high) {
        uint32_t mid = low + (high - low) / 2;

        if (s->points[mid].time_ms < ms)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

/* The points of series i in [from_ms, to_ms]: counted, and written where `out` is not NULL. */
static uint32_t points_of(const struct qr_segment *s, uint32_t i, int64_t from_ms, int64_t to_ms,
                          struct pql_point *out)
{
    uint32_t n = 0;

    if (s->piece == NULL) {
        const struct pql_out_series *x = &s->result->series[i];

        for (uint32_t k = first_point(x, from_ms); k < x->count && x->points[k].time_ms <= to_ms; k++, n++)
            if (out != NULL)
                out[n] = x->points[k];
        return n;
    }
    for (uint32_t k = 0; k < s->piece->series[i].count; k++) {
        const struct qr_piece_series *x = &s->piece->series[i];
        int64_t at = s->piece->first_ms + s->piece->step_ms * (x->steps != NULL ? x->steps[k] : k);

        if (at < from_ms || at > to_ms)
            continue;
        if (out != NULL)
            out[n] = (struct pql_point){ .time_ms = at, .value = x->values[k],
                                         .hist = x->hists != NULL ? x->hists[k] : NULL };
        n++;
    }
    return n;
}

/* The labels of all segments, sorted, each once. malloc'ed. */
static struct kl_labels *all_labels(const struct qr_segment *segments, uint32_t count, uint32_t *total)
{
    struct kl_labels *all = NULL;
    uint32_t          n = 0;

    for (uint32_t g = 0; g < count; g++) {
        const struct qr_segment *s = &segments[g];
        uint32_t                 more = series_of(s), i = 0, k = 0, at = 0;
        struct kl_labels        *both = kl_resize(NULL, ((size_t)n + more + 1) * sizeof *both);

        while (i < n || k < more) {
            int c = i == n ? 1 : k == more ? -1 : kl_labels_cmp(all[i], labels_of(s, k));

            both[at++] = c <= 0 ? all[i] : labels_of(s, k);
            i += c <= 0;
            k += c >= 0;
        }
        free(all);
        all = both;
        n = at;
    }
    *total = n;
    return all;
}

bool qr_compose(const struct qr_segment *segments, uint32_t count, int64_t start_ms, int64_t step_ms,
                struct kl_arena *arena, struct pql_result *out)
{
    uint32_t               total = 0, kept = 0;
    struct kl_labels      *all = all_labels(segments, count, &total);
    uint32_t              *points = kl_new(((size_t)total + 1) * sizeof *points);
    struct pql_out_series *series = kl_arena_alloc(arena, ((size_t)total + 1) * sizeof *series);
    bool                   fits = series != NULL;

    for (int pass = 0; pass < 2 && fits; pass++) {     /* how many; then what */
        for (uint32_t g = 0; g < count; g++) {
            const struct qr_segment *s = &segments[g];
            int64_t from_ms = start_ms + step_ms * (int64_t)s->from, to_ms = start_ms + step_ms * (int64_t)s->to;

            for (uint32_t i = 0, k = 0; k < series_of(s); i++) {
                if (kl_labels_cmp(all[i], labels_of(s, k)) != 0)
                    continue;
                if (pass == 0)
                    points[i] += points_of(s, k, from_ms, to_ms, NULL);
                else
                    series[i].count += points_of(s, k, from_ms, to_ms,
                                                 (struct pql_point *)series[i].points + series[i].count);
                k++;
            }
        }
        for (uint32_t i = 0; i < total && fits && pass == 0; i++) {
            void *labels = kl_arena_copy(arena, all[i].at, all[i].size);
            void *room = kl_arena_alloc(arena, ((size_t)points[i] + 1) * sizeof(struct pql_point));

            fits = room != NULL && (labels != NULL || all[i].size == 0);
            series[i] = (struct pql_out_series){ .labels = { labels, all[i].size }, .points = room };
        }
    }
    for (uint32_t i = 0; i < total && fits; i++)
        if (series[i].count > 0)
            series[kept++] = series[i];
    free(all);
    free(points);
    if (!fits)
        return false;
    out->type = PQL_MATRIX;
    out->series = series;
    out->series_count = kept;
    return true;
}

/* ---- a piece of a result ---- */

static size_t hist_bytes(const struct kl_hist *h)
{
    return sizeof *h + ((size_t)h->pos_span_count + h->neg_span_count) * sizeof(struct kl_hist_span) +
           ((size_t)h->pos_count + h->neg_count + h->bound_count) * sizeof(double);
}

size_t qr_piece_weight(const struct pql_result *r)
{
    size_t bytes = 0;

    for (size_t i = 0; i < r->series_count; i++) {
        const struct kl_hist *last = NULL;

        bytes += r->series[i].labels.size + r->series[i].count * sizeof(double);
        for (uint32_t k = 0; k < r->series[i].count; k++) {
            const struct kl_hist *h = r->series[i].points[k].hist;

            bytes += h != NULL && h != last ? hist_bytes(h) : 0;
            last = h;
        }
    }
    return bytes;
}

/* NULL: no memory, or what was to be copied has none. */
static const void *copy(struct kl_arena *a, const void *bytes, size_t size, bool *fits)
{
    const void *c = size > 0 ? kl_arena_copy(a, bytes, size) : NULL;

    *fits = *fits && (c != NULL || size == 0);
    return c;
}

static const struct kl_hist *copy_hist(struct kl_arena *a, const struct kl_hist *from)
{
    struct kl_hist *h = kl_arena_copy(a, from, sizeof *from);
    bool            fits = h != NULL;

    if (!fits)
        return NULL;
    h->pos_spans = copy(a, from->pos_spans, from->pos_span_count * sizeof *from->pos_spans, &fits);
    h->neg_spans = copy(a, from->neg_spans, from->neg_span_count * sizeof *from->neg_spans, &fits);
    h->pos = copy(a, from->pos, from->pos_count * sizeof *from->pos, &fits);
    h->neg = copy(a, from->neg, from->neg_count * sizeof *from->neg, &fits);
    h->bounds = copy(a, from->bounds, from->bound_count * sizeof *from->bounds, &fits);
    return fits ? h : NULL;
}

/* One that stands at several steps in a row is copied once. */
static bool copy_hists(struct kl_arena *a, const struct pql_point *points, uint32_t n,
                       const struct kl_hist *const **out)
{
    const struct kl_hist **hists = NULL, *last = NULL;

    for (uint32_t k = 0; k < n; k++) {
        const struct kl_hist *h = points[k].hist;

        if (h == NULL)
            continue;
        if (hists == NULL) {
            hists = kl_arena_alloc(a, n * sizeof *hists);
            if (hists == NULL)
                return false;
            memset(hists, 0, n * sizeof *hists);
        }
        hists[k] = h == last ? hists[k - 1] : copy_hist(a, h);
        if (hists[k] == NULL)
            return false;
        last = k + 1 < n && points[k + 1].hist == h ? h : NULL;
    }
    *out = hists;
    return true;
}

static bool cut_series(struct qr_piece *p, const struct pql_out_series *s, int64_t last_ms)
{
    struct qr_piece_series *x = &p->series[p->series_count];
    uint32_t                from = first_point(s, p->first_ms), n = 0;
    double                 *values;
    uint32_t               *steps = NULL;
    const struct kl_hist *const *hists = NULL;
    void                   *labels;

    while (from + n < s->count && s->points[from + n].time_ms <= last_ms)
        n++;
    if (n == 0)
        return true;
    labels = kl_arena_copy(&p->arena, s->labels.at, s->labels.size);
    values = kl_arena_alloc(&p->arena, n * sizeof *values);
    if (n < p->step_count)
        steps = kl_arena_alloc(&p->arena, n * sizeof *steps);
    if (values == NULL || (labels == NULL && s->labels.size > 0) || (n < p->step_count && steps == NULL))
        return false;
    for (uint32_t k = 0; k < n; k++) {
        const struct pql_point *at = &s->points[from + k];

        values[k] = at->value;
        if (steps != NULL)
            steps[k] = (uint32_t)((at->time_ms - p->first_ms) / p->step_ms);
    }
    if (!copy_hists(&p->arena, s->points + from, n, &hists))
        return false;
    *x = (struct qr_piece_series){ { labels, s->labels.size }, n, steps, values, hists };
    p->series_count++;
    return true;
}

struct qr_piece *qr_piece_cut(const struct pql_result *r, int64_t first_ms, int64_t step_ms,
                              uint32_t step_count, size_t bytes_max)
{
    struct qr_piece *p = kl_new(sizeof *p);
    int64_t          last_ms = first_ms + step_ms * ((int64_t)step_count - 1);

    p->refs = 1;
    p->first_ms = first_ms;
    p->step_ms = step_ms;
    p->step_count = step_count;
    kl_arena_init(&p->arena, bytes_max);
    p->series = kl_arena_alloc(&p->arena, (r->series_count + 1) * sizeof *p->series);
    for (size_t i = 0; p->series != NULL && i < r->series_count; i++)
        if (!cut_series(p, &r->series[i], last_ms)) {
            qr_piece_unref(p);
            return NULL;
        }
    if (p->series == NULL) {
        qr_piece_unref(p);
        return NULL;
    }
    p->bytes = sizeof *p + p->arena.used_bytes;
    return p;
}
