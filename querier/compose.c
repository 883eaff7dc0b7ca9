/*
 * One answer of several. Segments lie apart in time and each has its series by
 * their labels, so the union of the labels is made by merging two at a time, and each series' points
 * are those of the segments one after another.
 */
#include <stdlib.h>
#include <string.h>

#include "querier/reuse_priv.h"

#include "libkoal/base/sorted.h"

static uint32_t series_of(const struct qr_segment *s)
{
    return s->piece != NULL ? s->piece->series_count : (uint32_t)s->result->series_count;
}

static struct kl_labels labels_of(const struct qr_segment *s, uint32_t i)
{
    return s->piece != NULL ? s->piece->series[i].labels : s->result->series[i].labels;
}

uint32_t qr_first_point(const struct pql_out_series *s, int64_t ms)
{
    return KL_FIRST(i, s->count, s->points[i].time_ms >= ms);
}

/* Of those of its points that lie at that step or later, the first. */
static uint32_t first_step(const struct qr_piece_series *x, uint32_t step)
{
    return KL_FIRST(i, x->count, x->steps[i] >= step);
}

/* The points of series i in [from_ms, to_ms]: counted, and written where `out` is not NULL. */
static uint32_t points_of(const struct qr_segment *s, uint32_t i, int64_t from_ms, int64_t to_ms,
                          struct pql_point *out)
{
    uint32_t n = 0;

    if (s->piece == NULL) {
        const struct pql_out_series *x = &s->result->series[i];

        for (uint32_t k = qr_first_point(x, from_ms); k < x->count && x->points[k].time_ms <= to_ms; k++, n++)
            if (out != NULL)
                out[n] = x->points[k];
        return n;
    }
    const struct qr_piece_series *x = &s->piece->series[i];
    uint32_t from = (uint32_t)((from_ms - s->piece->first_ms) / s->piece->step_ms);      /* it has these steps */
    uint32_t to = (uint32_t)((to_ms - s->piece->first_ms) / s->piece->step_ms);

    if (x->steps == NULL && out == NULL)
        return to - from + 1;
    for (uint32_t k = x->steps == NULL ? from : first_step(x, from); k < x->count; k++, n++) {
        uint32_t step = x->steps == NULL ? k : x->steps[k];

        if (step > to)
            break;
        if (out != NULL)
            out[n] = (struct pql_point){ .time_ms = s->piece->first_ms + s->piece->step_ms * step,
                                         .value = x->values[k], .hist = x->hists != NULL ? x->hists[k] : NULL };
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
