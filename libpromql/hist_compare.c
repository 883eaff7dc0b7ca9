/* Equality, and whether a counter histogram was reset between two samples. */
#include "libpromql/hist_priv.h"

static bool same_bounds(const struct kl_hist *a, const struct kl_hist *b)
{
    if (a->bound_count != b->bound_count)
        return false;
    for (uint32_t i = 0; i < a->bound_count; i++)
        if (a->bounds[i] != b->bounds[i])
            return false;
    return true;
}

static bool same_side(const struct kl_hist *a, const struct kl_hist *b, bool positive)
{
    struct pql_buckets ia, ib;
    struct pql_bucket  x = { .count = 0 }, y = { .count = 0 };

    pql_buckets_side(&ia, a, positive);
    pql_buckets_side(&ib, b, positive);
    for (;;) {
        bool more_a = pql_buckets_next(&ia, &x), more_b = pql_buckets_next(&ib, &y);
        if (more_a != more_b)
            return false;
        if (!more_a)
            return true;
        if (x.index != y.index || kl_f64_bits(x.count) != kl_f64_bits(y.count))
            return false;
    }
}

bool pql_hist_equal(const struct kl_hist *a, const struct kl_hist *b)
{
    return a->schema == b->schema && kl_f64_bits(a->count) == kl_f64_bits(b->count)
           && kl_f64_bits(a->sum) == kl_f64_bits(b->sum)
           && (a->schema != KL_HIST_CUSTOM || same_bounds(a, b))
           && a->zero_threshold == b->zero_threshold
           && kl_f64_bits(a->zero_count) == kl_f64_bits(b->zero_count)
           && same_side(a, b, true) && same_side(a, b, false);
}

/* ---- resets ---- */

/* The next bucket of a working side at or after *i that is above the zero bucket, in `schema`. */
struct walk { const struct pql_side *s; uint32_t i; int shift; int32_t schema; double start; };

static bool walk(struct walk *w, int32_t *index, double *count)
{
    for (;;) {
        if (w->i >= w->s->count)
            return false;
        *index = (int32_t)(((int64_t)w->s->index[w->i] - 1) >> w->shift) + 1;
        *count = 0;
        while (w->i < w->s->count
               && (int32_t)(((int64_t)w->s->index[w->i] - 1) >> w->shift) + 1 == *index)
            *count += w->s->n[w->i++];
        if (w->schema == KL_HIST_CUSTOM || w->start == 0
            || pql_hist_bound_exp(*index, w->schema) > w->start)
            return true;
    }
}

/* A bucket that held observations before holds fewer now. */
static bool side_reset(struct walk now, struct walk before)
{
    int32_t bi, ni = 0;
    double  bn, nn = 0;
    bool    more;

    if (!walk(&before, &bi, &bn))
        return false;
    more = walk(&now, &ni, &nn);
    for (;;) {
        while (more && ni < bi)
            more = walk(&now, &ni, &nn);
        if (!more || ni > bi) {
            if (bn != 0)
                return true;
        } else if (nn < bn) {
            return true;
        }
        if (!walk(&before, &bi, &bn))
            return false;
    }
}

/* The count of zeros `h` would have with a zero bucket as wide as `threshold`, widened where that
 * would cut a bucket. */
static double zero_at(const struct pql_hist *h, double *threshold)
{
    double zero, c;

again:
    zero = h->zero;
    c = 0;
    if (*threshold == h->zero_threshold)
        return zero;
    for (uint32_t i = 0; i < h->pos.count; i++) {
        double upper = pql_hist_bound_exp(h->pos.index[i], h->schema);
        if (pql_hist_bound_exp(h->pos.index[i] - 1, h->schema) >= *threshold)
            break;
        pql_kahan(h->pos.n[i], &zero, &c);
        if (upper > *threshold) {
            if (h->pos.n[i] != 0)
                *threshold = upper;
            break;
        }
    }
    for (uint32_t i = 0; i < h->neg.count; i++) {
        double lower = pql_hist_bound_exp(h->neg.index[i], h->schema);
        if (pql_hist_bound_exp(h->neg.index[i] - 1, h->schema) >= *threshold)
            break;
        pql_kahan(h->neg.n[i], &zero, &c);
        if (lower > *threshold) {
            if (h->neg.n[i] != 0) {
                *threshold = lower;
                goto again;
            }
            break;
        }
    }
    return zero;
}

/* With different custom bounds: what lies between two bounds that both have must not shrink. */
static bool custom_reset(const struct pql_hist *now, const struct pql_hist *before)
{
    uint32_t i = 0, k = 0, in = 0, ib = 0;

    while (i <= now->bound_count && k <= before->bound_count) {
        double a = i < now->bound_count ? now->bounds[i] : INFINITY;
        double b = k < before->bound_count ? before->bounds[k] : INFINITY;
        double sum_now = 0, sum_before = 0;

        if (a < b) {
            i++;
            continue;
        }
        if (b < a) {
            k++;
            continue;
        }
        for (; in < now->pos.count && (uint32_t)now->pos.index[in] <= i; in++)
            sum_now += now->pos.n[in];
        for (; ib < before->pos.count && (uint32_t)before->pos.index[ib] <= k; ib++)
            sum_before += before->pos.n[ib];
        if (sum_now < sum_before)
            return true;
        i++;
        k++;
    }
    return false;
}

static bool buckets_reset(const struct pql_hist *now, const struct pql_hist *before)
{
    double threshold = now->zero_threshold, zero;
    int    shift = 0;

    if (now->schema != KL_HIST_CUSTOM || before->schema != KL_HIST_CUSTOM) {
        if (now->schema > before->schema)
            return true;
        if (now->schema == KL_HIST_CUSTOM || before->schema == KL_HIST_CUSTOM)
            return true;
        shift = before->schema - now->schema;
    }
    if (now->zero_threshold < before->zero_threshold)
        return true;
    zero = zero_at(before, &threshold);
    if (threshold != now->zero_threshold || now->zero < zero)
        return true;
    for (int positive = 1; positive >= 0; positive--) {
        struct walk n = { .s = positive ? &now->pos : &now->neg, .schema = now->schema,
                          .start = now->zero_threshold };
        struct walk b = { .s = positive ? &before->pos : &before->neg, .schema = now->schema,
                          .shift = shift, .start = now->zero_threshold };
        if (side_reset(n, b))
            return true;
    }
    return false;
}

bool pql_hist_is_reset(const struct kl_hist *now, const struct kl_hist *before)
{
    struct pql_hist n, b;
    bool            is;

    if (now->reset == KL_HIST_RESET)
        return true;
    if (now->reset == KL_HIST_NO_RESET)
        return false;
    if (now->count < before->count)
        return true;
    if (now->schema == KL_HIST_CUSTOM && before->schema != KL_HIST_CUSTOM)
        return true;
    pql_hist_init(&n);
    pql_hist_init(&b);
    pql_hist_load(&n, now);
    pql_hist_load(&b, before);
    is = now->schema == KL_HIST_CUSTOM && !same_bounds(now, before) ? custom_reset(&n, &b)
                                                                   : buckets_reset(&n, &b);
    pql_hist_deinit(&n);
    pql_hist_deinit(&b);
    return is;
}
