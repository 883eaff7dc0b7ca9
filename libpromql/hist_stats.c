/* What histogram_quantile, histogram_fraction and histogram_stdvar compute from one native histogram.
 * Interpolation is linear in custom buckets and in the zero bucket, exponential elsewhere. */
#include "libpromql/hist_priv.h"

/* A zero bucket on one side only is taken to lie on the side where the buckets are. */
static void fit_zero(const struct kl_hist *h, struct pql_bucket *b)
{
    if (h->neg_count == 0 && h->pos_count > 0)
        b->lower = 0;
    else if (h->pos_count == 0 && h->neg_count > 0)
        b->upper = 0;
}

static double inside(const struct kl_hist *h, const struct pql_bucket *b, double fraction)
{
    double low, high;

    if (h->schema == KL_HIST_CUSTOM || (b->lower <= 0 && b->upper >= 0))
        return b->lower + (b->upper - b->lower) * fraction;
    low = log2(fabs(b->lower));
    high = log2(fabs(b->upper));
    if (b->lower > 0)
        return exp2(low + (high - low) * fraction);
    return -exp2(high + (low - high) * (1 - fraction));
}

double pql_hist_quantile(struct pql_op *op, uint32_t step, double phi, const struct kl_hist *h,
                         struct kl_span name, int32_t at)
{
    struct pql_buckets it;
    struct pql_bucket  b = { .count = 0 };
    double             count = 0, rank;
    bool               custom = h->schema == KL_HIST_CUSTOM, from_below;

    if (phi < 0)
        return -INFINITY;
    if (phi > 1)
        return INFINITY;
    if (h->count == 0 || isnan(phi))
        return NAN;
    from_below = isnan(h->sum) || phi < 0.5;
    rank = from_below ? phi * h->count : (1 - phi) * h->count;
    pql_buckets_all(&it, h, !from_below);
    for (struct pql_bucket x; pql_buckets_next(&it, &x);) {
        b = x;
        if (b.count == 0)
            continue;
        count += b.count;
        if (count >= rank)
            break;
    }
    if (!custom && b.lower < 0 && b.upper > 0) {
        fit_zero(h, &b);
    } else if (custom && isinf(b.lower) && b.lower < 0) {
        if (b.upper <= 0)
            return b.upper;
        b.lower = 0;
    } else if (custom && isinf(b.upper) && b.upper > 0) {
        return b.lower;
    }
    if (count > h->count)
        count = h->count;
    if (count < rank) {                                /* observations of NaN are in no bucket */
        if (!isnan(h->sum))
            return b.upper;
        pql_note(op, step, A_QUANTILE_NAN, at, name, kl_span("", 0), 0, 0);
        return NAN;
    }
    rank = from_below ? rank - (count - b.count) : count - rank;
    if (isnan(h->sum)) {
        for (struct pql_bucket x; pql_buckets_next(&it, &x);)
            count += x.count;
        if (count < h->count)
            pql_note(op, step, A_QUANTILE_SKEW, at, name, kl_span("", 0), 0, 0);
    }
    return inside(h, &b, rank / b.count);
}

static double fraction_below(const struct pql_bucket *b, double v, bool linear)
{
    double low, high, at;

    if (linear)
        return (v - b->lower) / (b->upper - b->lower);
    low = log2(fabs(b->lower));
    high = log2(fabs(b->upper));
    at = log2(fabs(v));
    return v > 0 ? (at - low) / (high - low) : 1 - (at - high) / (low - high);
}

/* The rank of `v` in bucket b, before which `rank` observations lie. */
static double rank_in(const struct pql_bucket *b, double v, double rank, bool linear)
{
    if (linear && isinf(b->lower) && b->lower < 0)
        return b->count;
    return rank + b->count * fraction_below(b, v, linear);
}

double pql_hist_fraction(struct pql_op *op, uint32_t step, double lower, double upper, const struct kl_hist *h,
                         struct kl_span name, int32_t at)
{
    struct pql_buckets it;
    struct pql_bucket  b;
    double             count = 0, rank = 0, low = 0, high = 0;
    bool               got_low = false, got_high = false;

    if (h->count == 0 || isnan(lower) || isnan(upper))
        return NAN;
    if (lower >= upper)
        return 0;
    pql_buckets_all(&it, h, false);
    while (pql_buckets_next(&it, &b)) {
        bool zero = b.lower <= 0 && b.upper >= 0, linear = zero || h->schema == KL_HIST_CUSTOM;

        count += b.count;
        if (zero)
            fit_zero(h, &b);
        if (!got_low && b.lower >= lower)
            low = rank, got_low = true;
        if (!got_high && b.lower >= upper)
            high = rank, got_high = true;
        if (got_low && got_high)
            break;
        if (!got_low && b.lower < lower && b.upper > lower)
            low = rank_in(&b, lower, rank, linear), got_low = true;
        if (!got_high && b.lower < upper && b.upper > upper)
            high = rank_in(&b, upper, rank, linear), got_high = true;
        if (got_low && got_high)
            break;
        rank += b.count;
    }
    if (isnan(h->sum)) {
        while (pql_buckets_next(&it, &b))
            count += b.count;
        if (count < h->count)
            pql_note(op, step, A_FRACTION_NAN, at, name, kl_span("", 0), 0, 0);
    } else {
        count = h->count;
    }
    if (!got_low || low > count)
        low = count;
    if (!got_high || high > count)
        high = count;
    return (high - low) / h->count;
}

double pql_hist_variance(const struct kl_hist *h)
{
    struct pql_buckets it;
    struct pql_bucket  b;
    double             mean = h->sum / h->count, sum = 0, c = 0;

    pql_buckets_all(&it, h, false);
    while (pql_buckets_next(&it, &b)) {
        double v, delta;
        if (b.count == 0)
            continue;
        if (h->schema == KL_HIST_CUSTOM)
            v = (b.upper + b.lower) / 2.0;
        else if (b.lower <= 0 && b.upper >= 0)
            v = 0;
        else
            v = b.upper < 0 ? -sqrt(b.upper * b.lower) : sqrt(b.upper * b.lower);
        delta = v - mean;
        pql_kahan(b.count * delta * delta, &sum, &c);
    }
    return (sum + c) / h->count;
}

/* ---- trimming: `h </ x` keeps what lies below x, `h >/ x` what lies above ---- */

static double middle(double lower, double upper, bool positive, bool linear)
{
    double geometric;

    if (isinf(lower))
        return isinf(upper) ? 0 : upper > 0 ? upper / 2 : upper;
    if (isinf(upper))
        return lower;
    if (linear)
        return (lower + upper) / 2;
    geometric = sqrt(fabs(lower * upper));
    return positive ? geometric : -geometric;
}

static double zero_if_inf(double x) { return isinf(x) ? 0 : x; }

/* How much of an open-ended bucket stays, and where its middle then is. */
static double trim_open(const struct pql_bucket *b, double x, bool upper, double *mid)
{
    if (isinf(b->lower) && b->lower < 0) {
        bool finite = !(isinf(b->upper) && b->upper > 0);
        if (upper) {
            if (x >= b->upper)
                return *mid = 0, b->count;
            if (x > 0 && b->upper > 0 && finite)
                return *mid = x / 2, b->count * x / b->upper;
            if (b->upper <= 0)
                return *mid = x, b->count;
            return *mid = zero_if_inf(b->upper), 0;
        }
        if (x <= b->lower)
            return *mid = 0, b->count;
        if (x >= 0 && b->upper > x && finite)
            return *mid = (x + b->upper) / 2, b->count * (1 - x / b->upper);
        return *mid = zero_if_inf(b->upper), 0;
    }
    if (!upper && x >= b->lower)
        return *mid = x, b->count;
    return *mid = zero_if_inf(b->lower), 0;
}

static double trim_bucket(const struct pql_bucket *b, double x, bool upper, bool positive,
                          bool linear, double *mid)
{
    double under;

    if (isinf(b->lower) || isinf(b->upper))
        return trim_open(b, x, upper, mid);
    under = x <= b->lower ? 0 : x >= b->upper ? b->count : b->count * fraction_below(b, x, linear);
    *mid = upper ? middle(b->lower, x, positive, linear) : middle(x, b->upper, positive, linear);
    return upper ? under : b->count - under;
}

static double trim_zero(const struct kl_hist *h, double x, bool upper, bool negatives,
                        bool positives, double *mid)
{
    double low = negatives || !positives ? -h->zero_threshold : 0;
    double high = positives || !negatives ? h->zero_threshold : 0;

    *mid = 0;
    if (upper ? x <= low : x >= high)
        return 0;
    if (upper ? x >= high : x <= low)
        return *mid = (low + high) / 2, h->zero_count;
    if (upper) {
        *mid = (low + x) / 2;
        return h->zero_count * ((x - low) / (high - low));
    }
    *mid = (x + high) / 2;
    return h->zero_count * ((high - x) / (high - low));
}

struct trimmed { double count, sum; bool changed, seen[2]; };

static void trim_side(const struct kl_hist *h, struct pql_side *side, double x, bool upper,
                      bool positive, struct trimmed *t)
{
    struct pql_buckets it;
    struct pql_bucket  b;
    bool               linear = h->schema == KL_HIST_CUSTOM;

    pql_buckets_side(&it, h, positive);
    for (uint32_t i = 0; pql_buckets_next(&it, &b) && i < side->count; i++) {
        double keep, mid;

        if (b.count == 0)
            continue;
        t->seen[positive] = true;
        if (upper ? b.upper <= x : b.lower >= x) {
            keep = b.count;
            mid = middle(b.lower, b.upper, positive, linear);
        } else if (upper ? b.lower < x : b.upper > x) {
            keep = trim_bucket(&b, x, upper, positive, linear, &mid);
            t->changed |= side->n[i] != keep;
            side->n[i] = keep;
        } else {
            side->n[i] = 0;
            t->changed = true;
            continue;
        }
        t->count += keep;
        t->sum += mid * keep;
    }
}

const struct kl_hist *pql_hist_trim(struct pql_op *op, unsigned worker, const struct kl_hist *h,
                                    double x, bool upper)
{
    struct pql_hist       w;
    struct trimmed        t = { .count = 0 };
    const struct kl_hist *out;

    pql_hist_init(&w);
    pql_hist_load(&w, h);
    trim_side(h, &w.pos, x, upper, true, &t);
    trim_side(h, &w.neg, x, upper, false, &t);
    if (h->zero_count > 0) {
        double mid, keep = trim_zero(h, x, upper, t.seen[0], t.seen[1], &mid);
        t.changed |= w.zero != keep;
        w.zero = keep;
        t.sum += mid * keep;
        t.count += keep;
    }
    if (t.changed) {
        w.count = t.count;
        w.sum = t.sum;
    }
    out = pql_hist_store(op, worker, &w, t.changed);
    pql_hist_deinit(&w);
    return out;
}
