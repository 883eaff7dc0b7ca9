/* Series of samples at equal distances, and those that only rise: loops without a branch, several at once. */
#include "libpromql/range_priv.h"

/* By the sign of what is between them, which a NaN has, too. */
bool pql_may_fall(const double *v, uint32_t count)
{
    uint64_t signs = 0;

    for (uint32_t i = 1; i < count; i++)
        signs |= kl_f64_bits(v[i] - v[i - 1]);
    return signs >> 63 != 0;
}

bool pql_even_times(const int64_t *t, uint32_t count, int64_t d)
{
    uint64_t odd = 0;

    for (uint32_t i = 1; i < count; i++)
        odd |= (uint64_t)t[i] - (uint64_t)t[i - 1] - (uint64_t)d;
    return odd == 0;
}

/* With `k` known where it is called, steps of one sample are loads side by side. */
static inline bool rates(const double *first, const double *last, size_t k, uint32_t count, double factor,
                         double interval, double to_start, double *out)
{
    uint64_t near = 0;

    for (size_t i = 0; i < count; i++) {
        double v = first[i * k], sum = last[i * k] - v;

        out[i] = sum * factor;
        near |= (uint64_t)((sum > 0) & (v >= 0) &
                           !((sum > 1e-290) & (interval * v > 1.0000001 * (to_start * sum))));
    }
    return near == 0;
}

static bool deltas(const double *first, const double *last, size_t k, uint32_t count, double factor, double *out)
{
    for (size_t i = 0; i < count; i++)
        out[i] = (last[i * k] - first[i * k]) * factor;
    return true;
}

bool pql_even_rates(const double *first, const double *last, uint32_t k, uint32_t count, double factor,
                    double interval, double to_start, double *out)
{
    if (interval == 0)
        return deltas(first, last, k, count, factor, out);
    return k == 1 ? rates(first, last, 1, count, factor, interval, to_start, out)
                  : rates(first, last, k, count, factor, interval, to_start, out);
}
