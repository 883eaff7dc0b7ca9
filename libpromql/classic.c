/* Quantiles and fractions of classic histograms, by linear interpolation inside a bucket. */
#include "libpromql/classic_priv.h"

#include <math.h>
#include <stdlib.h>

static int by_bound(const void *pa, const void *pb)
{
    const struct pql_classic *a = pa, *b = pb;

    return (a->le > b->le) - (a->le < b->le);
}

static void sort(struct pql_classic *b, uint32_t count)
{
    for (uint32_t i = 1; i < count; i++)
        if (b[i].le < b[i - 1].le) {                   /* they usually come in order */
            qsort(b, count, sizeof *b, by_bound);
            return;
        }
}

/* Buckets of equal bounds (1 and 1.0) are one. */
static uint32_t coalesce(struct pql_classic *b, uint32_t count)
{
    uint32_t n = 0;

    for (uint32_t i = 1; i < count; i++)
        if (b[i].le == b[n].le)
            b[n].count += b[i].count;
        else
            b[++n] = b[i];
    return n + 1;
}

static bool nearly_equal(double a, double b)
{
    const double least_normal = 2.2250738585072014e-308, most = 1.7976931348623157e308, e = 1e-12;
    double       sum = fabs(a) + fabs(b), diff = fabs(a - b);

    if ((isnan(a) && isnan(b)) || a == b)
        return true;
    if (a == 0 || b == 0 || sum < least_normal)
        return diff < e * least_normal;
    return diff / (sum < most ? sum : most) < e;
}

static void make_monotonic(struct pql_classic *b, uint32_t count, struct pql_forced *f)
{
    double prev = b[0].count;

    *f = (struct pql_forced){ .least = INFINITY, .most = -INFINITY };
    for (uint32_t i = 1; i < count; i++) {
        double now = b[i].count;
        if (now == prev)
            continue;
        if (nearly_equal(prev, now)) {
            b[i].count = prev;
        } else if (now < prev) {
            b[i].count = prev;
            f->is = true;
            f->least = b[i].le < f->least ? b[i].le : f->least;
            f->most = b[i].le > f->most ? b[i].le : f->most;
            f->diff = prev - now > f->diff ? prev - now : f->diff;
        } else {
            prev = now;
        }
    }
}

double pql_classic_quantile(double q, struct pql_classic *b, uint32_t count, struct pql_forced *forced)
{
    double   rank, start = 0, inside;
    uint32_t i = 0;

    forced->is = false;
    if (isnan(q))
        return NAN;
    if (q < 0)
        return -INFINITY;
    if (q > 1)
        return INFINITY;
    sort(b, count);
    if (!(isinf(b[count - 1].le) && b[count - 1].le > 0))
        return NAN;
    count = coalesce(b, count);
    make_monotonic(b, count, forced);
    if (count < 2 || b[count - 1].count == 0)
        return NAN;
    rank = q * b[count - 1].count;
    for (uint32_t low = 0, high = count - 1; ; ) {     /* the first bucket that reaches the rank */
        uint32_t middle = low + (high - low) / 2;
        i = low;
        if (low >= high)
            break;
        if (b[middle].count >= rank)
            high = middle;
        else
            low = middle + 1;
    }
    if (i == count - 1)
        return b[count - 2].le;
    if (i == 0 && b[0].le <= 0)
        return b[0].le;
    inside = b[i].count;
    if (i > 0) {
        start = b[i - 1].le;
        inside -= b[i - 1].count;
        rank -= b[i - 1].count;
    }
    return start + (b[i].le - start) * (rank / inside);
}

double pql_classic_fraction(double lower, double upper, struct pql_classic *b, uint32_t count)
{
    double total, rank = 0, low = 0, high = 0, begin;
    bool   got_low = false, got_high = false;

    sort(b, count);
    if (!(isinf(b[count - 1].le) && b[count - 1].le > 0))
        return NAN;
    count = coalesce(b, count);
    total = b[count - 1].count;
    if (total == 0 || isnan(lower) || isnan(upper))
        return NAN;
    if (lower >= upper)
        return 0;
    begin = b[0].le <= 0 ? -INFINITY : 0;
    for (uint32_t i = 0; i < count; i++) {
        double end = b[i].le, n = b[i].count;

        if (i > 0)
            begin = b[i - 1].le;
        if (!got_low && begin >= lower)
            low = rank, got_low = true;
        if (!got_high && begin >= upper)
            high = rank, got_high = true;
        if (got_low && got_high)
            break;
        if (!got_low && begin < lower && end > lower) {
            low = isinf(begin) ? n : rank + (n - rank) * (lower - begin) / (end - begin);
            got_low = true;
        }
        if (!got_high && begin < upper && end > upper) {
            high = isinf(begin) ? n : rank + (n - rank) * (upper - begin) / (end - begin);
            got_high = true;
        }
        if (got_low && got_high)
            break;
        rank = n;
    }
    if (!got_low || low > total)
        low = total;
    if (!got_high || high > total)
        high = total;
    return (high - low) / total;
}
