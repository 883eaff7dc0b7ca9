/* The *_over_time family and its kin, over floats. */
#include <string.h>

#include "libpromql/range_priv.h"

static double extreme(const struct pql_samples *f, uint16_t id)
{
    bool     max = id == FN_MAX_OVER_TIME || id == FN_TS_OF_MAX_OVER_TIME;
    bool     time = id == FN_TS_OF_MAX_OVER_TIME || id == FN_TS_OF_MIN_OVER_TIME;
    double   v = f->v[0];
    uint32_t at = 0;

    /* For its time the last of equals counts. */
    for (uint32_t i = 0; i < f->count; i++)
        if (isnan(v) || (max ? f->v[i] > v : f->v[i] < v) || (time && f->v[i] == v)) {
            v = f->v[i];
            at = i;
        }
    return time ? (double)f->t[at] / 1000 : v;
}

static double variance(const struct pql_samples *f)
{
    double count = 0, mean = 0, mean_c = 0, sum = 0, sum_c = 0;

    for (uint32_t i = 0; i < f->count; i++) {
        double delta = f->v[i] - (mean + mean_c);
        count++;
        pql_kahan(delta / count, &mean, &mean_c);
        pql_kahan(delta * (f->v[i] - (mean + mean_c)), &sum, &sum_c);
    }
    return (sum + sum_c) / count;
}

static double mad(const struct pql_samples *f, double *scratch)
{
    double median;

    for (uint32_t i = 0; i < f->count; i++)
        if (isnan(f->v[i]))
            return NAN;
    memcpy(scratch, f->v, f->count * sizeof *scratch);
    median = pql_quantile(0.5, scratch, f->count);
    for (uint32_t i = 0; i < f->count; i++)
        scratch[i] = fabs(scratch[i] - median);
    return pql_quantile(0.5, scratch, f->count);
}

bool pql_range_float(struct pql_range_call *c, const struct pql_window *w, struct pql_val *out)
{
    if (w->f.count == 0)
        return false;
    if (c->id == FN_QUANTILE_OVER_TIME && !(c->p[0] >= 0 && c->p[0] <= 1))
        pql_note(c->op, c->step, A_INVALID_QUANTILE, c->at, kl_span("", 0), kl_span("", 0), c->p[0], 0);
    if (w->h.count > 0)
        pql_range_note(c, A_IGNORED_IN_RANGE);
    switch (c->id) {
    case FN_QUANTILE_OVER_TIME:
        memcpy(c->scratch, w->f.v, w->f.count * sizeof *c->scratch);
        out->v = pql_quantile(c->p[0], c->scratch, w->f.count);
        break;
    case FN_MAD_OVER_TIME:
        out->v = mad(&w->f, c->scratch);
        break;
    case FN_STDVAR_OVER_TIME:
        out->v = variance(&w->f);
        break;
    case FN_STDDEV_OVER_TIME:
        out->v = sqrt(variance(&w->f));
        break;
    default:
        out->v = extreme(&w->f, c->id);
    }
    return true;
}

/* ---- first, last, how many ---- */

bool pql_range_ends(struct pql_range_call *c, const struct pql_window *w, struct pql_val *out)
{
    uint32_t nf = w->f.count, nh = w->h.count;
    bool     hist;

    switch (c->id) {
    case FN_COUNT_OVER_TIME:
        out->v = (double)nf + (double)nh;
        return true;
    case FN_PRESENT_OVER_TIME:
        out->v = 1;
        return true;
    case FN_FIRST_OVER_TIME: case FN_TS_OF_FIRST_OVER_TIME:
        hist = nf == 0 || (nh > 0 && w->h.t[0] <= w->f.t[0]);
        if (c->id == FN_TS_OF_FIRST_OVER_TIME)
            out->v = (double)(hist ? w->h.t[0] : w->f.t[0]) / 1000;
        else if (hist)
            out->h = w->h.h[0];
        else
            out->v = w->f.v[0];
        return true;
    default:
        hist = nf == 0 || (nh > 0 && w->h.t[nh - 1] >= w->f.t[nf - 1]);
        if (c->id == FN_TS_OF_LAST_OVER_TIME)
            out->v = (double)(hist ? w->h.t[nh - 1] : w->f.t[nf - 1]) / 1000;
        else if (hist)
            out->h = w->h.h[nh - 1];
        else
            out->v = w->f.v[nf - 1];
        return true;
    }
}

/* ---- sums ---- */

static double average(const struct pql_samples *f)
{
    double   sum = f->v[0], c = 0, mean = 0, count = 1;
    uint32_t i = 1;

    for (; i < f->count; i++) {
        double s = sum, k = c;
        count = (double)(i + 1);
        pql_kahan(f->v[i], &s, &k);
        if (isinf(s)) {
            /* The sum left the range of doubles: from here on a running mean. */
            mean = sum / (count - 1);
            c /= count - 1;
            break;
        }
        sum = s;
        c = k;
    }
    if (i == f->count)
        return sum / count + c / count;
    for (; i < f->count; i++) {
        double q;
        count = (double)(i + 1);
        q = (count - 1) / count;
        mean *= q;
        c *= q;
        pql_kahan(f->v[i] / count, &mean, &c);
    }
    return mean + c;
}

bool pql_range_sum(struct pql_range_call *c, const struct pql_window *w, struct pql_val *out)
{
    double sum = 0, comp = 0;

    if (w->f.count > 0 && w->h.count > 0) {
        pql_range_note(c, A_MIXED_RANGE);
        return false;
    }
    if (w->f.count == 0)
        return pql_range_hist_sum(c, w, out);
    if (c->id == FN_AVG_OVER_TIME) {
        out->v = average(&w->f);
        return true;
    }
    for (uint32_t i = 0; i < w->f.count; i++)
        pql_kahan(w->f.v[i], &sum, &comp);
    out->v = isinf(sum) ? sum : sum + comp;
    return true;
}

/* ---- lines and smoothing ---- */

struct line { double slope, at; };

static struct line regression(const struct pql_samples *f, int64_t at_ms)
{
    double n = f->count, x_sum = 0, x_c = 0, y_sum = 0, y_c = 0, xy_sum = 0, xy_c = 0, xx_sum = 0,
           xx_c = 0, cov, var, slope;
    bool   flat = true;

    for (uint32_t i = 0; i < f->count; i++) {
        double x = (double)(f->t[i] - at_ms) / 1e3, y = f->v[i];
        flat = flat && !(i > 0 && y != f->v[0]);
        pql_kahan(x, &x_sum, &x_c);
        pql_kahan(y, &y_sum, &y_c);
        pql_kahan(x * y, &xy_sum, &xy_c);
        pql_kahan(x * x, &xx_sum, &xx_c);
    }
    if (flat)
        return isinf(f->v[0]) ? (struct line){ NAN, NAN } : (struct line){ 0, f->v[0] };
    x_sum += x_c;
    y_sum += y_c;
    xy_sum += xy_c;
    xx_sum += xx_c;
    cov = xy_sum - x_sum * y_sum / n;
    var = xx_sum - x_sum * x_sum / n;
    slope = cov / var;
    return (struct line){ slope, y_sum / n - slope * x_sum / n };
}

static double smoothed(const struct pql_samples *f, double sf, double tf)
{
    double s0 = 0, s1 = f->v[0], b = f->v[1] - f->v[0];

    for (uint32_t i = 1; i < f->count; i++) {
        double x = sf * f->v[i], y;
        if (i > 1)
            b = tf * (s1 - s0) + (1 - tf) * b;
        y = (1 - sf) * (s1 + b);
        s0 = s1;
        s1 = x + y;
    }
    return s1;
}

bool pql_range_trend(struct pql_range_call *c, const struct pql_window *w, struct pql_val *out)
{
    struct line l;

    if (c->id == FN_DOUBLE_EXPONENTIAL_SMOOTHING) {
        if (c->p[0] <= 0 || c->p[0] >= 1) {
            pql_fail(c->op->q, PQL_EXECUTION,
                     "invalid smoothing factor. Expected: 0 < sf < 1, got: %f", c->p[0]);
            return false;
        }
        if (c->p[1] <= 0 || c->p[1] >= 1) {
            pql_fail(c->op->q, PQL_EXECUTION,
                     "invalid trend factor. Expected: 0 < tf < 1, got: %f", c->p[1]);
            return false;
        }
    }
    if (w->h.count > 0 && w->f.count > 0)
        pql_range_note(c, A_IGNORED_IN_RANGE);
    if (w->f.count < 2)
        return false;
    if (c->id == FN_DOUBLE_EXPONENTIAL_SMOOTHING) {
        out->v = smoothed(&w->f, c->p[0], c->p[1]);
        return true;
    }
    l = regression(&w->f, c->id == FN_DERIV ? w->f.t[0] : w->ts);
    out->v = c->id == FN_DERIV ? l.slope : l.slope * c->p[0] + l.at;
    return true;
}

/* ---- changes and resets: floats and histograms in the order of time ---- */

bool pql_range_changes(struct pql_range_call *c, const struct pql_window *w, struct pql_val *out)
{
    uint32_t i = 0, k = 0, count = 0;
    bool     first = true, before_hist = false;
    double   before_v = 0;
    int64_t  before_t = 0, before_st = 0;
    const struct kl_hist *before_h = NULL;

    if (c->anchored && !pql_range_first(c, w, &i, &k))
        return false;
    while (i < w->f.count || k < w->h.count) {
        bool    hist = i >= w->f.count || (k < w->h.count && w->h.t[k] < w->f.t[i]);
        double  v = hist ? 0 : w->f.v[i];
        int64_t t = hist ? w->h.t[k] : w->f.t[i];
        int64_t st = hist ? pql_start_at(w->h.st, k) : pql_start_at(w->f.st, i);
        const struct kl_hist *h = hist ? w->h.h[k] : NULL;

        if (hist)
            k++;
        else
            i++;
        if (first) {
            first = false;
        } else if (hist != before_hist) {
            count++;
        } else if (c->id == FN_RESETS) {
            count += pql_start_is_reset(before_st, before_t, st, t)
                     || (hist ? pql_hist_is_reset(h, before_h) : v < before_v);
        } else if (hist) {
            count += !pql_hist_equal(h, before_h);
        } else {
            count += v != before_v && !(isnan(v) && isnan(before_v));
        }
        before_hist = hist;
        before_v = v;
        before_h = h;
        before_t = t;
        before_st = st;
    }
    out->v = count;
    return true;
}
