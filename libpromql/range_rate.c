/* rate, increase, delta with Prometheus' extrapolation; irate and idelta. */
#include <string.h>

#include "libpromql/range_priv.h"

/*
 * Whether the counter was reset between two samples, going by when counting began: it began between
 * them, or exactly at the first one where that itself had a start of its own (a delta sample).
 */
bool pql_start_is_reset(int64_t before_start, int64_t before, int64_t start, int64_t now)
{
    if (start == 0 || start >= now || start < before)
        return false;
    if (start > before)
        return true;
    return before_start <= before && before_start != 0 && before_start != before;
}

bool pql_start_overlaps(int64_t before_start, int64_t before, int64_t start)
{
    return start != 0 && start < before && start != before_start;
}

/* The increase inside the window. Resets are added in order, as a walk over all samples would. */
static double increase(struct pql_range_call *c, const struct pql_samples *f)
{
    double   sum = f->v[f->count - 1] - f->v[0];
    uint32_t last = c->f_from + f->count;

    while (c->reset_from < c->reset_count && c->resets[c->reset_from] <= c->f_from)
        c->reset_from++;
    for (uint32_t i = c->reset_from; i < c->reset_count && c->resets[i] < last; i++)
        sum += c->src->f.v[c->resets[i] - 1];
    for (uint32_t i = 0; i < c->overlap_count; i++)
        if (c->overlaps[i] > c->f_from && c->overlaps[i] < last) {
            pql_range_note(c, A_START_OVERLAP);
            break;
        }
    return sum;
}

bool pql_range_rate(struct pql_range_call *c, const struct pql_window *w, struct pql_val *out)
{
    bool     counter = c->id != FN_DELTA;
    double   v, to_start, to_end, interval, average, threshold, factor = 1;
    uint32_t n = w->f.count;
    int64_t  first, last, start;

    if (n > 0 && w->h.count > 0) {
        pql_range_note(c, A_MIXED_RANGE);
        return false;
    }
    if (n == 0)
        return pql_range_hist_rate(c, w, out);
    first = w->f.t[0];
    last = w->f.t[n - 1];
    v = counter ? increase(c, &w->f) : w->f.v[n - 1] - w->f.v[0];
    to_start = (double)(first - w->start) / 1000;
    to_end = (double)(w->end - last) / 1000;
    interval = (double)(last - first) / 1000;
    average = n > 1 ? interval / (double)(n - 1) : 0;
    threshold = average * 1.1;
    start = counter ? pql_start_at(w->f.st, 0) : 0;
    if (start != 0 && start > w->start && start < first) {
        /* Counting is known to have begun, at zero, inside the window. */
        to_start = 0;
        interval = (double)(last - start) / 1000;
        v += w->f.v[0];
    } else if (n == 1) {
        return false;
    } else {
        if (to_start >= threshold)
            to_start = average / 2;
        if (counter) {
            double to_zero = to_start;
            if (v > 0 && w->f.v[0] >= 0)
                to_zero = interval * (w->f.v[0] / v);
            if (to_zero < to_start)
                to_start = to_zero;
        }
    }
    if (to_end >= threshold)
        to_end = average / 2;
    if (interval != 0)
        factor = (interval + to_start + to_end) / interval;
    if (c->id == FN_RATE)
        factor /= c->range_s;
    out->v = v * factor;
    return true;
}

/*
 * All steps of a series of floats without start times: the same arithmetic, without the call. Samples
 * usually come at equal distances, so the window's proportions are those of the step before, and with
 * them the factor: the same divisions of the same numbers, once.
 */
struct shape {
    int64_t first, last, interval_ms;                  /* from the start, to the end, between */
    uint32_t n;
    double to_start, to_end, interval, factor;
};

static double factor_of(const struct shape *s, double to_start, const struct pql_range_call *c)
{
    double factor = s->interval != 0 ? (s->interval + to_start + s->to_end) / s->interval : 1;

    return c->id == FN_RATE ? factor / c->range_s : factor;
}

static void reshape(struct shape *s, const struct pql_range_call *c, int64_t first, int64_t last,
                    int64_t interval_ms, uint32_t n)
{
    double average, threshold;

    s->first = first;
    s->last = last;
    s->interval_ms = interval_ms;
    s->n = n;
    s->to_start = (double)first / 1000;
    s->to_end = (double)last / 1000;
    s->interval = (double)interval_ms / 1000;
    average = s->interval / (double)(n - 1);
    threshold = average * 1.1;
    if (s->to_start >= threshold)
        s->to_start = average / 2;
    if (s->to_end >= threshold)
        s->to_end = average / 2;
    s->factor = factor_of(s, s->to_start, c);
}

/* Where a series' windows begin and end, from one step to the next. */
struct walk { uint32_t lo, hi, reset; };

static void place(struct walk *w, const struct pql_samples *f, int64_t from, int64_t to)
{
    while (w->hi < f->count && f->t[w->hi] <= to)
        w->hi++;
    while (w->lo < w->hi && f->t[w->lo] <= from)
        w->lo++;
}

/* Steps [from, to), each window looked for; returns how many have a value. `end`: of step 0's. */
static uint32_t step_by_step(struct pql_range_call *c, const struct pql_samples *f, struct walk *w,
                             uint32_t from, uint32_t to, int64_t end, int64_t step, struct pql_row *row)
{
    const int64_t *t = f->t;
    const double  *v = f->v;
    uint32_t       have = 0;
    bool           counter = c->id != FN_DELTA;
    struct shape   s = { .n = 0 };

    end += (int64_t)from * step;
    for (uint32_t i = from; i < to; i++, end += step) {
        double   sum, factor;
        uint32_t lo, hi;

        place(w, f, end - c->range_ms, end);
        lo = w->lo;
        hi = w->hi;
        if (hi - lo < 2)
            continue;
        if (hi - lo != s.n || t[lo] - (end - c->range_ms) != s.first || end - t[hi - 1] != s.last
            || t[hi - 1] - t[lo] != s.interval_ms)
            reshape(&s, c, t[lo] - (end - c->range_ms), end - t[hi - 1], t[hi - 1] - t[lo], hi - lo);
        sum = v[hi - 1] - v[lo];
        factor = s.factor;
        if (counter) {
            while (w->reset < c->reset_count && c->resets[w->reset] <= lo)
                w->reset++;
            for (uint32_t k = w->reset; k < c->reset_count && c->resets[k] < hi; k++)
                sum += v[c->resets[k] - 1];
            /* Most counters are far from zero: that they are is seen without dividing. */
            if (sum > 0 && v[lo] >= 0 &&
                !(sum > 1e-290 && s.interval * v[lo] > 1.0000001 * (s.to_start * sum))) {
                double to_zero = s.interval * (v[lo] / sum);
                if (to_zero < s.to_start)
                    factor = factor_of(&s, to_zero, c);
            }
        }
        row->v[i] = sum * factor;
        row->has[i] = P_FLOAT;
        have++;
    }
    return have;
}

/* The steps [*from, *to) whose windows are cut off at neither end of samples `d` apart. */
static void whole_windows(const struct pql_samples *f, int64_t d, int64_t range, int64_t end, int64_t step,
                          uint32_t count, uint32_t *from, uint32_t *to)
{
    int64_t first = f->t[0] - d + range - end, last = f->t[f->count - 1] + d - 1 - end;

    *from = first <= 0 ? 0 : first > (int64_t)count * step ? count : (uint32_t)((first + step - 1) / step);
    *to = last < 0 ? 0 : last / step >= count ? count : (uint32_t)(last / step) + 1;
    if (*to < *from)
        *to = *from;
}

void pql_rate_series(struct pql_range_call *c, const struct pql_samples *f, struct pql_grid g,
                     int64_t end, int64_t step, struct pql_row *row)
{
    int64_t      d = f->count > 1 ? f->t[1] - f->t[0] : 0;
    struct walk  w = { 0 };
    struct shape s;
    uint32_t     from = 0, to = 0;

    /* A scrape's samples are equally far apart, and a graph's step is a multiple of that: then all
     * windows have one shape, and their ends move by as many samples each step. */
    if (d > 0 && step > 0 && step % d == 0 && step / d <= UINT32_MAX && c->reset_count == 0 &&
        c->range_ms <= INT64_MAX / 4 && end > INT64_MIN / 4 && end < INT64_MAX / 4 &&
        f->t[0] > INT64_MIN / 4 && f->t[f->count - 1] < INT64_MAX / 4 &&
        step <= INT64_MAX / 4 / (g.count + 1) && pql_even_times(f->t, f->count, d))
        whole_windows(f, d, c->range_ms, end, step, g.count, &from, &to);
    row->have = step_by_step(c, f, &w, 0, from, end, step, row);
    if (from < to) {
        int64_t at = end + (int64_t)from * step, begin = at - c->range_ms;

        place(&w, f, begin, at);
        if (w.hi - w.lo >= 2) {
            reshape(&s, c, f->t[w.lo] - begin, at - f->t[w.hi - 1], f->t[w.hi - 1] - f->t[w.lo], w.hi - w.lo);
            if (pql_even_rates(f->v + w.lo, f->v + w.hi - 1, (uint32_t)(step / d), to - from, s.factor,
                               c->id == FN_DELTA ? 0 : s.interval, s.to_start, row->v + from)) {
                memset(row->has + from, P_FLOAT, to - from);
                row->have += to - from;
            } else {                                   /* some began near zero: they are looked at */
                row->have += step_by_step(c, f, &w, from, to, end, step, row);
            }
        }
    }
    row->have += step_by_step(c, f, &w, to, g.count, end, step, row);
}

/* ---- the last two samples ---- */

struct last { int64_t t, st; double v; const struct kl_hist *h; };

static uint32_t last_two(const struct pql_window *w, struct last two[2])
{
    uint32_t i = w->f.count, k = w->h.count, n = 0;

    while (n < 2 && (i > 0 || k > 0)) {
        struct last *l = &two[1 - n++];
        if (k == 0 || (i > 0 && w->f.t[i - 1] > w->h.t[k - 1])) {
            i--;
            *l = (struct last){ w->f.t[i], pql_start_at(w->f.st, i), w->f.v[i], NULL };
        } else {
            k--;
            *l = (struct last){ w->h.t[k], pql_start_at(w->h.st, k), 0, w->h.h[k] };
        }
    }
    return n;
}

static bool instant_hist(struct pql_range_call *c, const struct last *a, const struct last *b,
                         struct pql_val *out)
{
    struct pql_hist      h;
    struct pql_hist_said said = { false, false };
    bool                 rate = c->id == FN_IRATE, fine = true;
    bool                 gauges = a->h->reset == KL_HIST_GAUGE && b->h->reset == KL_HIST_GAUGE;

    if (rate && (a->h->reset == KL_HIST_GAUGE || b->h->reset == KL_HIST_GAUGE))
        pql_range_note(c, A_NOT_COUNTER);
    if (!rate && !gauges)
        pql_range_note(c, A_NOT_GAUGE);
    pql_hist_init(&h);
    pql_hist_load(&h, b->h);
    if (!rate || (!pql_start_is_reset(a->st, a->t, b->st, b->t) && !pql_hist_is_reset(b->h, a->h)))
        fine = pql_hist_add(&h, a->h, H_SUB, &said);
    if (!fine) {
        pql_range_note(c, A_MIXED_SCHEMAS);
    } else {
        pql_range_said(c, &said, "subtraction");
        h.reset = KL_HIST_GAUGE;
        if (rate)
            pql_hist_div(&h, (double)(b->t - a->t) / 1000);
        out->h = pql_hist_store(c->op, c->worker, &h, true);
    }
    pql_hist_deinit(&h);
    return fine && out->h != NULL;
}

bool pql_range_instant(struct pql_range_call *c, const struct pql_window *w, struct pql_val *out)
{
    struct last two[2];

    if (last_two(w, two) < 2 || two[0].t == two[1].t)
        return false;
    if ((two[0].h == NULL) != (two[1].h == NULL)) {
        pql_range_note(c, A_MIXED_RANGE);
        return false;
    }
    if (two[0].h != NULL)
        return instant_hist(c, &two[0], &two[1], out);
    out->v = two[1].v;
    if (c->id == FN_IDELTA)
        out->v -= two[0].v;
    else if (!(two[1].v < two[0].v
               || pql_start_is_reset(two[0].st, two[0].t, two[1].st, two[1].t)))
        out->v -= two[0].v;
    if (c->id == FN_IRATE)
        out->v /= (double)(two[1].t - two[0].t) / 1000;
    return true;
}
