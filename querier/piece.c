/*
 * A piece of an answer, made to be kept for long: its series and all that they point at lie in one piece
 * of memory of just their size. So the steps are gone through twice: what they take, then what they are.
 */
#include <stdlib.h>
#include <string.h>

#include "querier/reuse_priv.h"

struct room { uint8_t *at; size_t used; };             /* at NULL: it is only counted */

/* NULL while it is counted. */
static void *take(struct room *room, size_t size)
{
    size_t from = room->used;

    room->used += (size + 7) / 8 * 8;
    return room->at != NULL ? room->at + from : NULL;
}

static const void *copy(struct room *room, const void *bytes, size_t size)
{
    void *to = take(room, size);

    return to != NULL && size > 0 ? memcpy(to, bytes, size) : NULL;
}

struct qr_piece *qr_piece_ref(struct qr_piece *p)
{
    p->refs++;
    return p;
}

void qr_piece_unref(struct qr_piece *p)
{
    if (p == NULL || --p->refs > 0)
        return;
    for (uint32_t i = 0; p->seen != NULL && i < p->parts; i++)
        if (i == 0 || p->seen[i] != p->seen[i - 1])
            free(p->seen[i]);
    free(p->seen);
    free((char *)p->info);
    free(p->series);
    free((struct pql_said *)p->said);
    free(p);
}

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

static const struct kl_hist *copy_hist(struct room *room, const struct kl_hist *from)
{
    struct kl_hist *h = take(room, sizeof *h), unused;

    h = h != NULL ? h : &unused;
    *h = *from;
    h->pos_spans = copy(room, from->pos_spans, from->pos_span_count * sizeof *from->pos_spans);
    h->neg_spans = copy(room, from->neg_spans, from->neg_span_count * sizeof *from->neg_spans);
    h->pos = copy(room, from->pos, from->pos_count * sizeof *from->pos);
    h->neg = copy(room, from->neg, from->neg_count * sizeof *from->neg);
    h->bounds = copy(room, from->bounds, from->bound_count * sizeof *from->bounds);
    return h != &unused ? h : NULL;
}

/* One that stands at several steps in a row is copied once. */
static const struct kl_hist *const *copy_hists(struct room *room, const struct pql_point *points, uint32_t n)
{
    const struct kl_hist **hists, *last = NULL, *made = NULL;
    bool                   some = false;

    for (uint32_t k = 0; k < n; k++)
        some = some || points[k].hist != NULL;
    if (!some)
        return NULL;
    hists = take(room, n * sizeof *hists);
    for (uint32_t k = 0; k < n; k++) {
        if (points[k].hist != NULL && points[k].hist != last)
            made = copy_hist(room, points[k].hist);
        last = points[k].hist;
        if (hists != NULL)
            hists[k] = last != NULL ? made : NULL;
    }
    return hists;
}

/* False: it has nothing at these steps. */
static bool copy_series(struct room *room, const struct qr_piece *p, const struct pql_out_series *s,
                        struct qr_piece_series *x)
{
    int64_t   last_ms = p->first_ms + p->step_ms * ((int64_t)p->step_count - 1);
    uint32_t  from = qr_first_point(s, p->first_ms), n = qr_first_point(s, last_ms + 1) - from, *steps = NULL;
    double   *values;

    if (n == 0)
        return false;
    x->labels = (struct kl_labels){ copy(room, s->labels.at, s->labels.size), s->labels.size };
    values = take(room, n * sizeof *values);
    if (n < p->step_count)
        steps = take(room, n * sizeof *steps);
    for (uint32_t k = 0; k < n && values != NULL; k++) {
        values[k] = s->points[from + k].value;
        if (steps != NULL)
            steps[k] = (uint32_t)((s->points[from + k].time_ms - p->first_ms) / p->step_ms);
    }
    x->count = n;
    x->steps = steps;
    x->values = values;
    x->hists = copy_hists(room, s->points + from, n);
    return true;
}

static void copy_all(struct room *room, struct qr_piece *p, const struct pql_result *r, uint32_t count)
{
    struct qr_piece_series *series = take(room, (count + 1) * sizeof *series), unused;

    p->series_count = 0;
    for (size_t i = 0; i < r->series_count; i++)
        p->series_count += copy_series(room, p, &r->series[i],
                                       series != NULL && p->series_count < count ? &series[p->series_count] : &unused);
    p->series = series;
}

struct qr_piece *qr_piece_cut(const struct pql_result *r, int64_t first_ms, int64_t step_ms,
                              uint32_t step_count, size_t bytes_max)
{
    struct qr_piece *p = kl_new(sizeof *p);
    struct room      room = { 0 };
    size_t           size;

    p->refs = p->parts = 1;
    p->first_ms = first_ms;
    p->step_ms = step_ms;
    p->step_count = step_count;
    copy_all(&room, p, r, 0);
    size = room.used + p->series_count * sizeof *p->series;
    room = (struct room){ .at = size <= bytes_max ? malloc(size) : NULL };
    if (room.at == NULL) {
        qr_piece_unref(p);
        return NULL;
    }
    copy_all(&room, p, r, p->series_count);
    p->bytes = sizeof *p + size;
    return p;
}

static struct pql_said *copy_said(struct room *room, const struct qr_piece *p, const struct pql_said *said,
                                  uint32_t count)
{
    struct pql_said *to = take(room, count * sizeof *to), unused;

    for (uint32_t i = 0; i < count; i++) {
        struct pql_said *s = to != NULL ? &to[i] : &unused;

        *s = said[i];
        s->name = copy(room, said[i].name, strlen(said[i].name) + 1);
        s->more = copy(room, said[i].more, strlen(said[i].more) + 1);
        s->steps = copy(room, said[i].steps, (p->step_count + 63) / 64 * sizeof *s->steps);
    }
    return to;
}

bool qr_piece_say(struct qr_piece *p, const struct pql_said *said, uint32_t count)
{
    struct room room = { 0 };

    if (count == 0)
        return true;
    copy_said(&room, p, said, count);
    p->bytes += room.used;
    room = (struct room){ .at = malloc(room.used) };
    p->said = room.at != NULL ? copy_said(&room, p, said, count) : NULL;
    p->said_count = p->said != NULL ? count : 0;
    return p->said != NULL;
}
