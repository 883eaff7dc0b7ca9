/*
 * `anchored` and `smoothed`: a range's ends carry values of their own. Anchored, the value at the
 * start is the last sample at or before it (looking back further than the range); smoothed, both ends
 * lie on the line between the samples around them (looking ahead too).
 */
#include "libpromql/range_priv.h"

#include "libkoal/base/sorted.h"

/* The first index whose time is above (or, `at_least`, not below) `t`, among the first `count`. */
static uint32_t search(const int64_t *times, uint32_t count, int64_t t, bool at_least)
{
    return KL_FIRST(i, count, times[i] > t || (at_least && times[i] == t));
}

bool pql_range_first(const struct pql_range_call *c, const struct pql_window *w, uint32_t *f,
                     uint32_t *h)
{
    uint32_t nf = search(w->f.t, w->f.count, w->start, false);
    uint32_t nh = search(w->h.t, w->h.count, w->start, false);

    (void)c;
    if (nf >= w->f.count && nh >= w->h.count)          /* nothing inside the range itself */
        return false;
    *f = nf;
    *h = nh;
    /* The later of the last float and the last histogram before the range is where it begins. */
    if (nf == 0 && nh == 0)
        return true;
    if (nh == 0 || (nf > 0 && w->f.t[nf - 1] >= w->h.t[nh - 1]))
        *f = nf - 1;
    else
        *h = nh - 1;
    return true;
}

static double on_line(int64_t t1, double v1, int64_t t2, double v2, int64_t t, bool counter)
{
    if (counter && v2 < v1)
        v1 = 0;
    return v1 + (v2 - v1) * (double)(t - t1) / (double)(t2 - t1);
}

struct span { uint32_t first, last; };

static bool find_span(const struct pql_window *w, const int64_t *t, uint32_t count, bool smoothed,
                      struct span *s)
{
    uint32_t n = search(t, count - 1, w->start, false);

    s->first = n > 0 ? n - 1 : 0;
    s->last = smoothed ? search(t, count - 1, w->end, true) : count - 1;
    return t[s->last] > w->start && !(smoothed && t[s->first] > w->end);
}

static double left_of(const struct pql_samples *f, uint32_t i, int64_t t, bool smoothed, bool counter)
{
    return smoothed && f->t[i] < t ? on_line(f->t[i], f->v[i], f->t[i + 1], f->v[i + 1], t, counter)
                                   : f->v[i];
}

static double right_of(const struct pql_samples *f, uint32_t i, int64_t t, bool smoothed, bool counter)
{
    return smoothed && i > 0 && f->t[i] > t
         ? on_line(f->t[i - 1], f->v[i - 1], f->t[i], f->v[i], t, counter) : f->v[i];
}

bool pql_range_extended(struct pql_range_call *c, const struct pql_window *w, struct pql_val *out)
{
    const struct pql_samples *f = &w->f;
    bool        counter = c->id != FN_DELTA;
    struct span s;
    double      left, right, prev, v;

    if (f->count > 0 && w->h.count > 0) {
        pql_range_note(c, A_MIXED_RANGE);
        return false;
    }
    if (f->count == 0)
        return pql_range_hist_extended(c, w, out);
    if (!find_span(w, f->t, f->count, c->smoothed, &s))
        return false;
    left = left_of(f, s.first, w->start, c->smoothed, counter);
    right = right_of(f, s.last, w->end, c->smoothed, counter);
    v = right - left;
    if (counter) {
        uint32_t i = f->t[s.first] <= w->start ? s.first + 1 : s.first;
        uint32_t end = f->t[s.last] >= w->end ? s.last : s.last + 1;
        double   correction = 0;
        for (prev = left; i < end; i++) {
            if (f->v[i] < prev)
                correction += prev;
            prev = f->v[i];
        }
        if (right < prev)
            correction += prev;
        v += correction;
    }
    out->v = c->id == FN_RATE ? v / c->range_s : v;
    return true;
}

/* ---- histograms ---- */

static bool said_add(struct pql_range_call *c, struct pql_hist *h, const struct kl_hist *other,
                     enum pql_hist_how how)
{
    struct pql_hist_said said = { false, false };

    if (!pql_hist_add(h, other, how, &said)) {
        pql_range_note(c, A_MIXED_SCHEMAS);
        return false;
    }
    pql_range_said(c, &said, how == H_SUB ? "subtraction" : "addition");
    return true;
}

/* The histogram at `t` between two samples. */
static const struct kl_hist *between(struct pql_range_call *c, const struct kl_hist *h1, int64_t t1,
                                     const struct kl_hist *h2, int64_t t2, int64_t t, bool counter)
{
    struct pql_hist       h;
    const struct kl_hist *out = NULL;
    double                fraction = (double)(t - t1) / (double)(t2 - t1);

    if (t == t1)
        return h1;
    if (t == t2)
        return h2;
    if (counter && pql_hist_is_reset(h2, h1))
        return pql_hist_scaled(c->op, c->worker, h2, fraction, false, false);
    pql_hist_init(&h);
    pql_hist_load(&h, h2);
    if (said_add(c, &h, h1, H_SUB)) {
        pql_hist_mul(&h, fraction);
        if (said_add(c, &h, h1, H_ADD))
            out = pql_hist_store(c->op, c->worker, &h, false);
    }
    pql_hist_deinit(&h);
    return out;
}

static bool sound_range(struct pql_range_call *c, const struct pql_hists *h, struct span s, bool counter)
{
    for (uint32_t i = s.first; i <= s.last; i++) {
        if (pql_hist_custom(h->h[i]) != pql_hist_custom(h->h[s.first])) {
            pql_range_note(c, A_MIXED_SCHEMAS);
            return false;
        }
        if (counter && h->h[i]->reset == KL_HIST_GAUGE)
            pql_range_note(c, A_NOT_COUNTER);
    }
    return true;
}

/* Adds to `sum` what was lost in resets between left and right. */
static bool correct(struct pql_range_call *c, const struct pql_window *w, struct span s,
                    const struct kl_hist *left, const struct kl_hist *right, struct pql_hist *sum)
{
    const struct pql_hists *h = &w->h;
    const struct kl_hist   *prev = left;
    struct pql_hist         lost;
    const struct kl_hist   *stored;
    int64_t                 first = (int64_t)s.first + 1, last = (int64_t)s.last - 1;
    bool                    any = false, fine = true;

    /* Where the start lies inside a reset, `left` was computed from the sample after it. */
    if (c->smoothed && h->t[s.first] < w->start && s.first + 1 < h->count
        && pql_hist_is_reset(h->h[s.first + 1], h->h[s.first])) {
        prev = h->h[s.first + 1];
        first++;
    }
    if (first > last + 1)
        return true;
    pql_hist_init(&lost);
    for (int64_t i = first; fine && i <= last + 1; i++) {
        const struct kl_hist *now = i <= last ? h->h[i] : right;
        if (pql_hist_is_reset(now, prev)) {
            if (!any)
                pql_hist_load(&lost, prev);
            else
                fine = said_add(c, &lost, prev, H_ADD);
            any = true;
        }
        prev = now;
    }
    if (fine && any) {
        stored = pql_hist_store(c->op, c->worker, &lost, false);
        fine = stored != NULL && said_add(c, sum, stored, H_ADD);
    }
    pql_hist_deinit(&lost);
    return fine;
}

bool pql_range_hist_extended(struct pql_range_call *c, const struct pql_window *w, struct pql_val *out)
{
    const struct pql_hists *h = &w->h;
    bool                    counter = c->id != FN_DELTA;
    struct span             s;
    const struct kl_hist   *left, *right;
    struct pql_hist         sum;

    if (h->count == 0 || !find_span(w, h->t, h->count, c->smoothed, &s) || !sound_range(c, h, s, counter))
        return false;
    left = h->h[s.first];
    right = h->h[s.last];
    if (c->smoothed && h->t[s.first] < w->start)
        left = between(c, h->h[s.first], h->t[s.first], h->h[s.first + 1], h->t[s.first + 1], w->start,
                       counter);
    if (c->smoothed && s.last > 0 && h->t[s.last] > w->end)
        right = between(c, h->h[s.last - 1], h->t[s.last - 1], h->h[s.last], h->t[s.last], w->end,
                        counter);
    if (left == NULL || right == NULL)
        return false;
    if (!counter && (left->reset != KL_HIST_GAUGE || right->reset != KL_HIST_GAUGE))
        pql_range_note(c, A_NOT_GAUGE);
    pql_hist_init(&sum);
    pql_hist_load(&sum, right);
    if (said_add(c, &sum, left, H_SUB) && (!counter || correct(c, w, s, left, right, &sum))) {
        if (c->id == FN_RATE)
            pql_hist_div(&sum, c->range_s);
        sum.reset = KL_HIST_GAUGE;
        out->h = pql_hist_store(c->op, c->worker, &sum, true);
    }
    pql_hist_deinit(&sum);
    return out->h != NULL;
}

/* ---- an instant selector, smoothed ---- */

struct smooth { struct pql_range_call c; struct pql_source s; };

static void smooth_hist(struct smooth *m, struct pql_row *r, uint32_t step, uint32_t lo, uint32_t hi,
                        int64_t t)
{
    const struct pql_hists *h = &m->s.h;
    uint32_t                i = lo + search(h->t + lo, hi - lo, t, true);
    const struct kl_hist   *at = NULL, *prev, *next;

    if (i < hi && h->t[i] == t) {
        at = h->h[i];
    } else if (i > lo && i < hi) {
        prev = h->h[i - 1];
        next = h->h[i];
        if (pql_hist_custom(prev) != pql_hist_custom(next))
            pql_range_note(&m->c, A_MIXED_SCHEMAS);
        else
            at = between(&m->c, prev, h->t[i - 1], next, h->t[i], t,
                         prev->reset != KL_HIST_GAUGE || next->reset != KL_HIST_GAUGE);
    } else if (i > lo) {
        at = pql_hist_hinted(m->c.op, m->c.worker, h->h[i - 1], KL_HIST_UNKNOWN);
    }
    if (at != NULL && pql_row_hists(m->c.op, m->c.worker, r))
        pql_put_hist(r, step, at);
}

static void smooth_float(const struct pql_samples *f, struct pql_row *r, uint32_t step, uint32_t lo,
                         uint32_t hi, int64_t t)
{
    uint32_t i = lo + search(f->t + lo, hi - lo, t, true);

    if (i < hi && f->t[i] == t)
        pql_put(r, step, f->v[i]);
    else if (i > lo && i < hi)
        pql_put(r, step, on_line(f->t[i - 1], f->v[i - 1], f->t[i], f->v[i], t, false));
    else if (i > lo)
        pql_put(r, step, f->v[i - 1]);
}

void pql_smooth_row(struct pql_op *op, unsigned worker, struct pql_row *r, const struct pql_series *s)
{
    const struct pql_when *when = &op->node->sel->when;
    int64_t         offset = when->offset_ns / 1000000, lookback = op->q->lookback_ms;
    struct smooth   m = { .c = { .op = op, .worker = worker, .at = op->node->from,
                                 .name = pql_metric_name(s->labels) } };
    struct pql_room room = { .room = 0 };
    uint32_t        f_lo = 0, f_hi = 0, h_lo = 0, h_hi = 0;

    pql_source_series(s, &room, &m.s);
    for (uint32_t i = 0; i < op->grid.count; i++) {
        int64_t t = (when->has_at ? when->at_ms : pql_at(op->grid, i)) - offset;

        while (f_hi < m.s.f.count && m.s.f.t[f_hi] <= t + lookback)
            f_hi++;
        while (f_lo < f_hi && m.s.f.t[f_lo] <= t - lookback)
            f_lo++;
        while (h_hi < m.s.h.count && m.s.h.t[h_hi] <= t + lookback)
            h_hi++;
        while (h_lo < h_hi && m.s.h.t[h_lo] <= t - lookback)
            h_lo++;
        if (f_lo < f_hi && h_lo < h_hi)
            pql_range_note(&m.c, A_MIXED_RANGE);
        else if (h_lo < h_hi)
            smooth_hist(&m, r, i, h_lo, h_hi, t);
        else if (f_lo < f_hi)
            smooth_float(&m.s.f, r, i, f_lo, f_hi, t);
    }
    pql_room_free(&room);
}
