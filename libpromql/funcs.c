/* The functions of Prometheus 3.14 with their types, sorted by name. `moves`: evaluated anew at each
 * step even when its arguments are pinned by @. Source: Prometheus' documentation of its functions. */
#include <string.h>

#include "libpromql/ast_priv.h"

static const struct pql_func table[] = {
    /* name, result, arguments, their types, how many more (-1: any), id, moves */
    { "abs", V_VECTOR, 1, { V_VECTOR }, 0, FN_ABS, false },
    { "absent", V_VECTOR, 1, { V_VECTOR }, 0, FN_ABSENT, false },
    { "absent_over_time", V_VECTOR, 1, { V_MATRIX }, 0, FN_ABSENT_OVER_TIME, false },
    { "acos", V_VECTOR, 1, { V_VECTOR }, 0, FN_ACOS, false },
    { "acosh", V_VECTOR, 1, { V_VECTOR }, 0, FN_ACOSH, false },
    { "asin", V_VECTOR, 1, { V_VECTOR }, 0, FN_ASIN, false },
    { "asinh", V_VECTOR, 1, { V_VECTOR }, 0, FN_ASINH, false },
    { "atan", V_VECTOR, 1, { V_VECTOR }, 0, FN_ATAN, false },
    { "atanh", V_VECTOR, 1, { V_VECTOR }, 0, FN_ATANH, false },
    { "avg_over_time", V_VECTOR, 1, { V_MATRIX }, 0, FN_AVG_OVER_TIME, false },
    { "ceil", V_VECTOR, 1, { V_VECTOR }, 0, FN_CEIL, false },
    { "changes", V_VECTOR, 1, { V_MATRIX }, 0, FN_CHANGES, false },
    { "clamp", V_VECTOR, 3, { V_VECTOR, V_SCALAR, V_SCALAR }, 0, FN_CLAMP, false },
    { "clamp_max", V_VECTOR, 2, { V_VECTOR, V_SCALAR }, 0, FN_CLAMP_MAX, false },
    { "clamp_min", V_VECTOR, 2, { V_VECTOR, V_SCALAR }, 0, FN_CLAMP_MIN, false },
    { "cos", V_VECTOR, 1, { V_VECTOR }, 0, FN_COS, false },
    { "cosh", V_VECTOR, 1, { V_VECTOR }, 0, FN_COSH, false },
    { "count_over_time", V_VECTOR, 1, { V_MATRIX }, 0, FN_COUNT_OVER_TIME, false },
    { "day_of_month", V_VECTOR, 1, { V_VECTOR }, 1, FN_DAY_OF_MONTH, true },
    { "day_of_week", V_VECTOR, 1, { V_VECTOR }, 1, FN_DAY_OF_WEEK, true },
    { "day_of_year", V_VECTOR, 1, { V_VECTOR }, 1, FN_DAY_OF_YEAR, true },
    { "days_in_month", V_VECTOR, 1, { V_VECTOR }, 1, FN_DAYS_IN_MONTH, true },
    { "deg", V_VECTOR, 1, { V_VECTOR }, 0, FN_DEG, false },
    { "delta", V_VECTOR, 1, { V_MATRIX }, 0, FN_DELTA, false },
    { "deriv", V_VECTOR, 1, { V_MATRIX }, 0, FN_DERIV, false },
    { "double_exponential_smoothing", V_VECTOR, 3, { V_MATRIX, V_SCALAR, V_SCALAR }, 0, FN_DOUBLE_EXPONENTIAL_SMOOTHING, false },
    { "end", V_SCALAR, 0, { 0 }, 0, FN_END, true },
    { "exp", V_VECTOR, 1, { V_VECTOR }, 0, FN_EXP, false },
    { "first_over_time", V_VECTOR, 1, { V_MATRIX }, 0, FN_FIRST_OVER_TIME, false },
    { "floor", V_VECTOR, 1, { V_VECTOR }, 0, FN_FLOOR, false },
    { "histogram_avg", V_VECTOR, 1, { V_VECTOR }, 0, FN_HISTOGRAM_AVG, false },
    { "histogram_count", V_VECTOR, 1, { V_VECTOR }, 0, FN_HISTOGRAM_COUNT, false },
    { "histogram_fraction", V_VECTOR, 3, { V_SCALAR, V_SCALAR, V_VECTOR }, 0, FN_HISTOGRAM_FRACTION, false },
    { "histogram_quantile", V_VECTOR, 2, { V_SCALAR, V_VECTOR }, 0, FN_HISTOGRAM_QUANTILE, false },
    { "histogram_quantiles", V_VECTOR, 4, { V_VECTOR, V_STRING, V_SCALAR, V_SCALAR }, 9, FN_HISTOGRAM_QUANTILES, false },
    { "histogram_stddev", V_VECTOR, 1, { V_VECTOR }, 0, FN_HISTOGRAM_STDDEV, false },
    { "histogram_stdvar", V_VECTOR, 1, { V_VECTOR }, 0, FN_HISTOGRAM_STDVAR, false },
    { "histogram_sum", V_VECTOR, 1, { V_VECTOR }, 0, FN_HISTOGRAM_SUM, false },
    { "hour", V_VECTOR, 1, { V_VECTOR }, 1, FN_HOUR, true },
    { "idelta", V_VECTOR, 1, { V_MATRIX }, 0, FN_IDELTA, false },
    { "increase", V_VECTOR, 1, { V_MATRIX }, 0, FN_INCREASE, false },
    { "info", V_VECTOR, 2, { V_VECTOR, V_VECTOR }, 1, FN_INFO, false },
    { "irate", V_VECTOR, 1, { V_MATRIX }, 0, FN_IRATE, false },
    { "label_join", V_VECTOR, 4, { V_VECTOR, V_STRING, V_STRING, V_STRING }, -1, FN_LABEL_JOIN, false },
    { "label_replace", V_VECTOR, 5, { V_VECTOR, V_STRING, V_STRING, V_STRING, V_STRING }, 0, FN_LABEL_REPLACE, false },
    { "last_over_time", V_VECTOR, 1, { V_MATRIX }, 0, FN_LAST_OVER_TIME, false },
    { "ln", V_VECTOR, 1, { V_VECTOR }, 0, FN_LN, false },
    { "log10", V_VECTOR, 1, { V_VECTOR }, 0, FN_LOG10, false },
    { "log2", V_VECTOR, 1, { V_VECTOR }, 0, FN_LOG2, false },
    { "mad_over_time", V_VECTOR, 1, { V_MATRIX }, 0, FN_MAD_OVER_TIME, false },
    { "max_of", V_SCALAR, 2, { V_SCALAR, V_SCALAR }, 0, FN_MAX_OF, false },
    { "max_over_time", V_VECTOR, 1, { V_MATRIX }, 0, FN_MAX_OVER_TIME, false },
    { "min_of", V_SCALAR, 2, { V_SCALAR, V_SCALAR }, 0, FN_MIN_OF, false },
    { "min_over_time", V_VECTOR, 1, { V_MATRIX }, 0, FN_MIN_OVER_TIME, false },
    { "minute", V_VECTOR, 1, { V_VECTOR }, 1, FN_MINUTE, true },
    { "month", V_VECTOR, 1, { V_VECTOR }, 1, FN_MONTH, true },
    { "pi", V_SCALAR, 0, { 0 }, 0, FN_PI, false },
    { "predict_linear", V_VECTOR, 2, { V_MATRIX, V_SCALAR }, 0, FN_PREDICT_LINEAR, true },
    { "present_over_time", V_VECTOR, 1, { V_MATRIX }, 0, FN_PRESENT_OVER_TIME, false },
    { "quantile_over_time", V_VECTOR, 2, { V_SCALAR, V_MATRIX }, 0, FN_QUANTILE_OVER_TIME, false },
    { "rad", V_VECTOR, 1, { V_VECTOR }, 0, FN_RAD, false },
    { "range", V_SCALAR, 0, { 0 }, 0, FN_RANGE, true },
    { "rate", V_VECTOR, 1, { V_MATRIX }, 0, FN_RATE, false },
    { "resets", V_VECTOR, 1, { V_MATRIX }, 0, FN_RESETS, false },
    { "round", V_VECTOR, 2, { V_VECTOR, V_SCALAR }, 1, FN_ROUND, false },
    { "scalar", V_SCALAR, 1, { V_VECTOR }, 0, FN_SCALAR, false },
    { "sgn", V_VECTOR, 1, { V_VECTOR }, 0, FN_SGN, false },
    { "sin", V_VECTOR, 1, { V_VECTOR }, 0, FN_SIN, false },
    { "sinh", V_VECTOR, 1, { V_VECTOR }, 0, FN_SINH, false },
    { "sort", V_VECTOR, 1, { V_VECTOR }, 0, FN_SORT, false },
    { "sort_by_label", V_VECTOR, 2, { V_VECTOR, V_STRING }, -1, FN_SORT_BY_LABEL, false },
    { "sort_by_label_desc", V_VECTOR, 2, { V_VECTOR, V_STRING }, -1, FN_SORT_BY_LABEL_DESC, false },
    { "sort_desc", V_VECTOR, 1, { V_VECTOR }, 0, FN_SORT_DESC, false },
    { "sqrt", V_VECTOR, 1, { V_VECTOR }, 0, FN_SQRT, false },
    { "start", V_SCALAR, 0, { 0 }, 0, FN_START, true },
    { "start_timestamp", V_VECTOR, 1, { V_VECTOR }, 0, FN_START_TIMESTAMP, false },
    { "stddev_over_time", V_VECTOR, 1, { V_MATRIX }, 0, FN_STDDEV_OVER_TIME, false },
    { "stdvar_over_time", V_VECTOR, 1, { V_MATRIX }, 0, FN_STDVAR_OVER_TIME, false },
    { "step", V_SCALAR, 0, { 0 }, 0, FN_STEP, true },
    { "sum_over_time", V_VECTOR, 1, { V_MATRIX }, 0, FN_SUM_OVER_TIME, false },
    { "tan", V_VECTOR, 1, { V_VECTOR }, 0, FN_TAN, false },
    { "tanh", V_VECTOR, 1, { V_VECTOR }, 0, FN_TANH, false },
    { "time", V_SCALAR, 0, { 0 }, 0, FN_TIME, true },
    { "timestamp", V_VECTOR, 1, { V_VECTOR }, 0, FN_TIMESTAMP, true },
    { "ts_of_first_over_time", V_VECTOR, 1, { V_MATRIX }, 0, FN_TS_OF_FIRST_OVER_TIME, false },
    { "ts_of_last_over_time", V_VECTOR, 1, { V_MATRIX }, 0, FN_TS_OF_LAST_OVER_TIME, false },
    { "ts_of_max_over_time", V_VECTOR, 1, { V_MATRIX }, 0, FN_TS_OF_MAX_OVER_TIME, false },
    { "ts_of_min_over_time", V_VECTOR, 1, { V_MATRIX }, 0, FN_TS_OF_MIN_OVER_TIME, false },
    { "vector", V_VECTOR, 1, { V_SCALAR }, 0, FN_VECTOR, false },
    { "year", V_VECTOR, 1, { V_VECTOR }, 1, FN_YEAR, true },
};

const char *pql_function_name(size_t i)
{
    return i < sizeof table / sizeof *table ? table[i].name : NULL;
}

const struct pql_func *pql_func_find(struct kl_span name)
{
    size_t low = 0, high = sizeof table / sizeof *table;

    while (low < high) {
        size_t middle = (low + high) / 2;
        int    c = kl_span_cmp(name, kl_span_str(table[middle].name));
        if (c == 0)
            return &table[middle];
        if (c < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}
