/*
 * rate and increase where not all samples are there: of a row of many, its first and its last, how many lie
 * between them, and what the counter lost in them (struct pql_unseen).
 *
 *     samples    . . . . . . . . . . . . . . . . . . .
 *     fed        x         x x         x x         x
 *     window           (                     ]              start and end cut a row each
 *
 * A window that cuts no row has its first and last sample, their number and all resets: the value is that of the
 * samples. Only what a row lost is added as one number, so where a counter was reset more than once in it the last
 * digits may differ.
 *
 * A row that is cut is taken to have its samples at equal distances and to rise evenly; those in the window count. So what
 * is scraped regularly has its first and last sample where they are, and is extrapolated by as much; the increase is off by
 * at most what the counter rose in the row that start cuts, and in the row that end cuts.
 *
 * Start times: of a row's first and last sample they are known, and what began anew in between is in what was lost. So
 * where no row is cut, they do what they do for samples; of a row that is cut the last sample's is taken.
 */
#include <math.h>

#include "libpromql/range_priv.h"

struct seen {                                          /* what a window is taken to hold; times in ms */
    double first, last, first_value, count, rise;
};

static bool any_row(const struct pql_samples *f, uint32_t from, uint32_t to)
{
    for (uint32_t i = from; i <= to && i < f->count; i++)
        if (f->u[i].count > 0)
            return true;
    return false;
}

/* The increase from sample i - 1 to sample i. */
static double lost(const struct pql_samples *f, uint32_t i)
{
    if (f->u[i].count > 0)
        return f->u[i].lost;
    return f->v[i] < f->v[i - 1] ||
           (f->st != NULL && pql_start_is_reset(f->st[i - 1], f->t[i - 1], f->st[i], f->t[i])) ? f->v[i - 1] : 0;
}

/* The row that ends at sample `i`: where its samples would be. */
struct spread { double from, to, apart, parts, rise; };

static struct spread spread_of(const struct pql_samples *f, uint32_t i)
{
    struct spread s = { .from = (double)f->t[i - 1], .to = (double)f->t[i], .parts = f->u[i].count + 1,
                        .rise = f->v[i] - f->v[i - 1] + f->u[i].lost };

    s.apart = (s.to - s.from) / s.parts;
    return s;
}

/* Of the row that begins before the window and ends, with sample `i`, in it: the samples behind `start`. */
static void add_before(struct seen *x, const struct pql_samples *f, uint32_t i, int64_t start)
{
    struct spread s = spread_of(f, i);
    double        k = floor(((double)start - s.from) / s.apart) + 1, rise;

    if (!(k >= 0 && k < s.parts))
        return;
    x->first = s.from + k * s.apart;
    x->count += s.parts - k;
    rise = s.rise * (s.parts - k) / s.parts;
    x->rise += rise;
    x->first_value = x->first_value > rise ? x->first_value - rise : 0;
}

/* Of the row that begins in the window and ends, with sample `i`, behind it: the samples up to `end`. */
static void add_behind(struct seen *x, const struct pql_samples *f, uint32_t i, int64_t end)
{
    struct spread s = spread_of(f, i);
    double        k = floor(((double)end - s.from) / s.apart);

    if (!(k >= 1 && k < s.parts))
        return;
    x->last = s.from + k * s.apart;
    x->count += k;
    x->rise += s.rise * k / s.parts;
}

/* Is it known that counting began, at zero, inside the window and before its first sample? */
static bool began(const struct seen *x, const struct pql_window *w, int64_t start)
{
    return start != 0 && start > w->start && (double)start < x->first;
}

/* As pql_range_rate does. */
static double extrapolated(const struct pql_range_call *c, const struct seen *x, const struct pql_window *w, int64_t start)
{
    double to_start = (x->first - (double)w->start) / 1000, to_end = ((double)w->end - x->last) / 1000;
    double interval = (x->last - x->first) / 1000, average = x->count > 1 ? interval / (x->count - 1) : 0, factor = 1;
    double rise = x->rise;

    if (began(x, w, start)) {
        to_start = 0;
        interval = (x->last - (double)start) / 1000;
        rise += x->first_value;
    } else {
        if (to_start >= average * 1.1)
            to_start = average / 2;
        if (rise > 0 && x->first_value >= 0) {
            double to_zero = interval * (x->first_value / rise);

            if (to_zero < to_start)
                to_start = to_zero;
        }
    }
    if (to_end >= average * 1.1)
        to_end = average / 2;
    if (interval != 0)
        factor = (interval + to_start + to_end) / interval;
    if (c->id == FN_RATE)
        factor /= c->range_s;
    return rise * factor;
}

bool pql_range_rate_rows(struct pql_range_call *c, const struct pql_window *w, struct pql_val *out)
{
    const struct pql_samples *f = &c->src->f;
    uint32_t    lo = c->f_from, hi = lo + w->f.count;
    struct seen x;
    bool        overlap = false;

    if (w->f.count == 0 || w->h.count > 0 || !any_row(f, lo, hi))
        return pql_range_rate(c, w, out);
    x = (struct seen){ .first = (double)f->t[lo], .last = (double)f->t[hi - 1], .first_value = f->v[lo], .count = 1,
                       .rise = f->v[hi - 1] - f->v[lo] };
    for (uint32_t i = lo + 1; i < hi; i++) {
        x.count += 1 + f->u[i].count;
        x.rise += lost(f, i);
        overlap = overlap || (f->st != NULL && f->u[i].count == 0 && pql_start_overlaps(f->st[i - 1], f->t[i - 1], f->st[i]));
    }
    if (overlap)
        pql_range_note(c, A_START_OVERLAP);
    if (lo > 0 && f->u[lo].count > 0)
        add_before(&x, f, lo, w->start);
    if (hi < f->count && f->u[hi].count > 0)
        add_behind(&x, f, hi, w->end);
    if (x.count < 2 && !began(&x, w, pql_start_at(f->st, lo)))
        return false;
    out->v = extrapolated(c, &x, w, pql_start_at(f->st, lo));
    return true;
}
