/* Functions of one sample at a time: mathematics, clamping, rounding, dates, unary minus. */
#include <string.h>

#include "libpromql/eval_priv.h"
#include "libpromql/hist_priv.h"

static double sgn(double v) { return v < 0 ? -1 : v > 0 ? 1 : v; }
static double rad(double v) { return v * M_PI / 180; }
static double deg(double v) { return v * 180 / M_PI; }

static double (*plain_function(uint16_t id))(double)
{
    switch (id) {
    case FN_ABS: return fabs;
    case FN_ACOS: return acos;
    case FN_ACOSH: return acosh;
    case FN_ASIN: return asin;
    case FN_ASINH: return asinh;
    case FN_ATAN: return atan;
    case FN_ATANH: return atanh;
    case FN_CEIL: return ceil;
    case FN_COS: return cos;
    case FN_COSH: return cosh;
    case FN_DEG: return deg;
    case FN_EXP: return exp;
    case FN_FLOOR: return floor;
    case FN_LN: return log;
    case FN_LOG10: return log10;
    case FN_LOG2: return log2;
    case FN_RAD: return rad;
    case FN_SGN: return sgn;
    case FN_SIN: return sin;
    case FN_SINH: return sinh;
    case FN_SQRT: return sqrt;
    case FN_TAN: return tan;
    case FN_TANH: return tanh;
    default: return NULL;
    }
}

static void prepare(struct pql_op *op)
{
    uint32_t rows = op->in[0]->out.count;

    if (pql_out_rows(op, rows) != NULL)
        pql_slice(op, rows, 20 + 8ull * op->grid.count);
}

static void clamped(struct pql_op *op, struct pql_row *r, const struct pql_row *in)
{
    uint16_t id = op->node->func->id;

    for (uint32_t i = 0; i < op->grid.count; i++) {
        double low = id == FN_CLAMP_MAX ? -INFINITY : pql_scalar(op->in[1], i);
        double high = id == FN_CLAMP_MIN ? INFINITY
                    : pql_scalar(op->in[id == FN_CLAMP ? 2 : 1], i);
        if (in->has[i] == P_FLOAT && !(high < low))
            pql_put(r, i, pql_max(low, pql_min(high, in->v[i])));
    }
}

static void rounded(struct pql_op *op, struct pql_row *r, const struct pql_row *in)
{
    for (uint32_t i = 0; i < op->grid.count; i++) {
        double inverse = 1.0 / (op->in_count > 1 ? pql_scalar(op->in[1], i) : 1);
        if (in->has[i] == P_FLOAT)
            pql_put(r, i, floor(in->v[i] * inverse + 0.5) / inverse);
    }
}

/* timestamp() of what is no selector: the time of the step. start_timestamp() knows none. */
static void times(struct pql_op *op, struct pql_row *r, const struct pql_row *in)
{
    for (uint32_t i = 0; i < op->grid.count; i++)
        if (in->has[i] != P_NONE)
            pql_put(r, i, (double)pql_at(op->grid, i) / 1000);
}

static void item(struct pql_op *op, size_t item, unsigned worker)
{
    const struct pql_rows *in = &op->in[0]->out;
    uint16_t               id = op->node->func->id;
    double               (*f)(double) = plain_function(id);
    uint32_t               from, to;

    if (!pql_rows_of_slice(op, item, worker, in, &from, &to))
        return;
    for (uint32_t k = from; k < to; k++) {
        struct pql_row *r = &op->out.at[k], *s = &in->at[k];

        if (id == FN_CLAMP || id == FN_CLAMP_MIN || id == FN_CLAMP_MAX)
            clamped(op, r, s);
        else if (id == FN_ROUND)
            rounded(op, r, s);
        else if (id == FN_TIMESTAMP)
            times(op, r, s);
        else
            for (uint32_t i = 0; f != NULL && i < op->grid.count; i++)
                if (s->has[i] == P_FLOAT)
                    pql_put(r, i, f(s->v[i]));
    }
}

const struct pql_op_kind pql_op_map = { "function", prepare, item, pql_drop_empty };

/* ---- unary minus ---- */

static void negate_prepare(struct pql_op *op)
{
    if (pql_out_rows(op, op->in[0]->out.count) != NULL)
        pql_slice(op, op->out.count, 20 + 4ull * op->grid.count);
}

static void negate(struct pql_op *op, size_t item, unsigned worker)
{
    const struct pql_rows *in = &op->in[0]->out;
    uint32_t               from, to;

    if (!pql_rows_of_slice(op, item, worker, in, &from, &to))
        return;
    for (uint32_t k = from; k < to; k++) {
        struct pql_row *r = &op->out.at[k], *s = &in->at[k];

        if (s->h != NULL && !pql_row_hists(op, worker, r))
            return;
        for (uint32_t i = 0; i < op->grid.count; i++)
            if (s->has[i] == P_FLOAT) {
                pql_put(r, i, -s->v[i]);
            } else if (s->has[i] == P_HIST) {
                const struct kl_hist *h = pql_hist_scaled(op, worker, s->h[i], -1, false, false);
                if (h == NULL)
                    return;
                pql_put_hist(r, i, h);
            }
    }
}
const struct pql_op_kind pql_op_unary = { "minus", negate_prepare, negate, NULL };

/* ---- dates: the civil calendar, also for the ends of int64 as Go's time package counts ---- */

struct civil { int64_t year, month, day, yday, wday, hour, minute; };

static struct civil civil(int64_t seconds)
{
    /* Seconds since the first of January of the year -292277022399, which begins a cycle of 400. */
    uint64_t abs = (uint64_t)seconds + 62135596800u + 9223371966579724800u;
    uint64_t days = abs / 86400, rest = abs % 86400;
    uint64_t era = days / 146097, d = days % 146097, y, leap, month;
    static const uint16_t before[] = { 0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365 };
    struct civil c = { .wday = (int64_t)((days + 1) % 7), .hour = (int64_t)(rest / 3600),
                       .minute = (int64_t)(rest % 3600 / 60) };

    y = (d - d / 1460 + d / 36524 - d / 146096) / 365;
    d -= 365 * y + y / 4 - y / 100;
    c.year = (int64_t)(era * 400 + y) - 292277022399;
    leap = c.year % 4 == 0 && (c.year % 100 != 0 || c.year % 400 == 0);
    c.yday = (int64_t)d + 1;
    for (month = 1; month < 12 && d >= before[month] + (leap && month >= 2 ? 1u : 0u); month++)
        ;
    c.month = (int64_t)month;
    c.day = (int64_t)(d - before[month - 1] - (leap && month >= 3 ? 1u : 0u)) + 1;
    return c;
}

static double date_part(uint16_t id, int64_t seconds)
{
    static const uint8_t days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
    struct civil c = civil(seconds);
    bool         leap = c.year % 4 == 0 && (c.year % 100 != 0 || c.year % 400 == 0);

    switch (id) {
    case FN_DAY_OF_MONTH: return (double)c.day;
    case FN_DAY_OF_WEEK: return (double)c.wday;
    case FN_DAY_OF_YEAR: return (double)c.yday;
    case FN_DAYS_IN_MONTH: return days[c.month - 1] + (leap && c.month == 2 ? 1 : 0);
    case FN_HOUR: return (double)c.hour;
    case FN_MINUTE: return (double)c.minute;
    case FN_MONTH: return (double)c.month;
    default: return (double)c.year;
    }
}

static void dates(struct pql_op *op)
{
    uint16_t               id = op->node->func->id;
    const struct pql_rows *in = op->in_count > 0 ? &op->in[0]->out : NULL;
    struct pql_row        *r = pql_out_rows(op, in != NULL ? in->count : 1);

    if (r == NULL || !pql_rows_new(op, 0, r, op->out.count, false))
        return;
    if (in == NULL) {
        for (uint32_t i = 0; i < op->grid.count; i++)
            pql_put(r, i, date_part(id, pql_at(op->grid, i) / 1000));
        return;
    }
    for (uint32_t k = 0; k < in->count; k++) {
        r[k].labels = in->at[k].labels;
        r[k].drop_name = true;
        for (uint32_t i = 0; i < op->grid.count; i++)
            if (in->at[k].has[i] == P_FLOAT)
                pql_put(&r[k], i, date_part(id, pql_to_i64(in->at[k].v[i])));
    }
}
const struct pql_op_kind pql_op_date = { "date", dates, NULL, pql_drop_empty };
