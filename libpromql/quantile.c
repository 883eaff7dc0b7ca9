/* The quantile of a handful of floats, and the operators on two floats. */
#include <stdlib.h>

#include "libpromql/eval_priv.h"

/* NaN first, as Prometheus sorts. */
static int by_value(const void *pa, const void *pb)
{
    double a = *(const double *)pa, b = *(const double *)pb;

    if (isnan(a) || isnan(b))
        return isnan(b) - isnan(a);
    return (a > b) - (a < b);
}

double pql_quantile(double q, double *values, uint32_t count)
{
    double n = count, rank, low, weight;

    if (count == 0 || isnan(q))
        return NAN;
    if (q < 0)
        return -INFINITY;
    if (q > 1)
        return INFINITY;
    qsort(values, count, sizeof *values, by_value);
    rank = q * (n - 1);
    low = pql_max(0, floor(rank));
    weight = rank - floor(rank);
    return values[(uint32_t)low] * (1 - weight) + values[(uint32_t)pql_min(n - 1, low + 1)] * weight;
}

double pql_binop(uint8_t op, double a, double b, bool *keep)
{
    *keep = true;
    switch (op) {
    case T_ADD: return a + b;
    case T_SUB: return a - b;
    case T_MUL: return a * b;
    case T_DIV: return a / b;
    case T_POW: return pow(a, b);
    case T_MOD: return fmod(a, b);
    case T_ATAN2: return atan2(a, b);
    case T_EQLC: *keep = a == b; return a;
    case T_NEQ: *keep = a != b; return a;
    case T_GTR: *keep = a > b; return a;
    case T_LSS: *keep = a < b; return a;
    case T_GTE: *keep = a >= b; return a;
    case T_LTE: *keep = a <= b; return a;
    default: *keep = false; return 0;
    }
}

double pql_scalar_op(uint8_t op, double a, double b)
{
    bool   keep;
    double v = pql_binop(op, a, b, &keep);

    return pql_is_cmp(op) ? (keep ? 1 : 0) : v;
}
