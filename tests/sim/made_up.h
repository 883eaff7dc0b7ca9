#ifndef TESTS_SIM_MADE_UP_H
#define TESTS_SIM_MADE_UP_H
/*
 * Queries that a seed makes up, for comparisons of two ways to answer one. Mostly aggregates over selectors and
 * over functions of a range; around these arithmetic, subqueries, other aggregates, functions; matchers of all kinds,
 * offsets, @. Nearly all are in order; a few fail when they are evaluated (many-to-many), which both must, alike.
 * The metrics are those of the caller; their labels `host`, "h0" and up, and `code`, "0" to "4".
 */
#include "tests/sim/kit.h"

struct made_up {
    uint64_t *draws;
    const char *const *names; unsigned name_count;
    int64_t now_ms;
    struct kl_buf *out;
};

static void mu_expr(struct made_up *m, unsigned depth);

static inline uint64_t mu_draw(struct made_up *m, uint64_t below) { return kit_draw(m->draws) % below; }
static inline void     mu_add(struct made_up *m, const char *text) { kl_buf_adds(m->out, text); }

#define MU_ONE_OF(m, list) (list)[mu_draw(m, sizeof(list) / sizeof *(list))]

static inline void mu_selector(struct made_up *m)
{
    static const char *const nameless[] = { "{__name__=~\"a_total|b\"", "{__name__=~\"[cd].*\"", "{code=\"1\"", "{host=~\"h1.\"",
                                            "{__name__=\"b\"", "nothing{code=\"1\"" };
    static const char *const more[] = { "code=~\"1|2\"", "code!~\"3|4\"", "host!=\"h7\"", "code=\"2\"", "host=~\"h[0-9]\"",
                                        "absent=\"\"", "host=~\".*3.*\"", "code!=\"\"", "code=~\"\"", "host!~\"(h1)+|h2.?\"" };
    bool named = mu_draw(m, 12) != 0, braces = !named;

    kl_buf_addf(m->out, "%s", named ? m->names[mu_draw(m, m->name_count)] : MU_ONE_OF(m, nameless));
    while (mu_draw(m, 4) == 0) {
        mu_add(m, braces ? "," : "{");
        mu_add(m, MU_ONE_OF(m, more));
        braces = true;
    }
    mu_add(m, braces ? "}" : "");
}

static inline void mu_modifiers(struct made_up *m)
{
    static const char *const offsets[] = { " offset 20s", " offset 1m", " offset -10s", " offset 3s" };

    if (mu_draw(m, 6) == 0)
        mu_add(m, MU_ONE_OF(m, offsets));
    if (mu_draw(m, 8) == 0) {
        int64_t at = m->now_ms - (int64_t)mu_draw(m, 150000);

        kl_buf_addf(m->out, " @ %" PRId64 ".%03d", at / 1000, (int)(at % 1000));
    } else if (mu_draw(m, 20) == 0) {
        mu_add(m, mu_draw(m, 2) ? " @ end()" : " @ start()");
    }
}

static inline void mu_leaf(struct made_up *m)
{
    static const char *const funcs[] = { "rate", "increase", "delta", "irate", "idelta", "sum_over_time", "avg_over_time",
        "max_over_time", "min_over_time", "count_over_time", "last_over_time", "first_over_time", "changes", "resets",
        "stddev_over_time", "stdvar_over_time", "present_over_time", "absent_over_time", "deriv", "mad_over_time" };

    if (mu_draw(m, 3) == 0) {
        mu_selector(m);
        mu_modifiers(m);
        return;
    }
    if (mu_draw(m, 12) == 0)
        mu_add(m, "quantile_over_time(0.7, ");
    else
        kl_buf_addf(m->out, "%s(", MU_ONE_OF(m, funcs));
    mu_selector(m);
    kl_buf_addf(m->out, "[%ds]", 4 + (int)mu_draw(m, mu_draw(m, 2) ? 20 : 140));
    mu_modifiers(m);
    mu_add(m, ")");
}

static inline void mu_aggregate(struct made_up *m, unsigned depth)
{
    static const char *const aggs[] = { "sum", "avg", "min", "max", "count", "group", "sum", "avg", "topk", "bottomk" };
    static const char *const others[] = { "stddev", "stdvar", "quantile", "count_values", "limitk" };
    static const char *const by[] = { "", "", " by (code)", " without (host)", " by (code, host)", " by (__name__)", " by (absent)",
                                      " without ()", " without (code, __name__)", " by (host)" };
    const char *agg = mu_draw(m, 15) == 0 ? MU_ONE_OF(m, others) : MU_ONE_OF(m, aggs);

    kl_buf_addf(m->out, "%s%s(", agg, MU_ONE_OF(m, by));
    if (strchr(agg, 'k') != NULL)
        kl_buf_addf(m->out, "%d, ", (int)mu_draw(m, 6));
    else if (strcmp(agg, "quantile") == 0)
        mu_add(m, "0.3, ");
    else if (strcmp(agg, "count_values") == 0)
        mu_add(m, "\"value\", ");
    if (depth > 0 && mu_draw(m, 6) == 0)
        mu_expr(m, depth - 1);
    else
        mu_leaf(m);
    mu_add(m, ")");
}

static inline void mu_pair(struct made_up *m, unsigned depth)
{
    static const char *const ops[] = { " + ", " - ", " / ", " * ", " % ", " ^ ", " == bool ", " > ", " <= bool ", " != " };
    static const char *const sets[] = { " and ", " or ", " unless " };
    static const char *const match[] = { "", "", "on () ", "on (code) ", "ignoring (host) ", "on (code) group_left () ",
                                         "on () group_right () " };

    mu_add(m, "(");
    mu_expr(m, depth - 1);
    if (mu_draw(m, 3) == 0) {
        mu_add(m, MU_ONE_OF(m, sets));
        mu_add(m, mu_draw(m, 2) ? "" : "on (code) ");
    } else {
        mu_add(m, MU_ONE_OF(m, ops));
        mu_add(m, MU_ONE_OF(m, match));
    }
    mu_expr(m, depth - 1);
    mu_add(m, ")");
}

static void mu_expr(struct made_up *m, unsigned depth)
{
    static const char *const scalars[] = { " / 3", " > 0", " or vector(1)", " * -1", " ^ 2", " % 7", " != bool 0" };
    static const char *const around[] = { "abs(", "-(", "sort(", "timestamp(", "vector(scalar(", "absent(", "sgn(", "clamp_max(" };
    static const char *const over[] = { "max_over_time", "sum_over_time", "rate", "count_over_time", "last_over_time" };
    unsigned what = depth == 0 ? 0 : (unsigned)mu_draw(m, 16);

    if (what < 8) {
        mu_aggregate(m, depth);
    } else if (what < 10) {
        mu_add(m, "(");
        mu_expr(m, depth - 1);
        kl_buf_addf(m->out, "%s)", MU_ONE_OF(m, scalars));
    } else if (what < 13) {
        mu_pair(m, depth);
    } else if (what == 13) {
        const char *f = MU_ONE_OF(m, around);

        mu_add(m, f);
        mu_expr(m, depth - 1);
        mu_add(m, f[0] == 'v' ? "))" : f[0] == 'c' ? ", 5)" : ")");
    } else if (what == 14) {
        kl_buf_addf(m->out, "%s((", MU_ONE_OF(m, over));
        mu_expr(m, depth - 1);
        kl_buf_addf(m->out, ")[%ds:%ds]", 10 + (int)mu_draw(m, 50), 2 + (int)mu_draw(m, 9));
        mu_modifiers(m);
        mu_add(m, ")");
    } else {
        mu_leaf(m);
    }
}

/* A query, with a NUL behind it. */
static inline void mu_query(struct made_up *m)
{
    mu_expr(m, (unsigned)mu_draw(m, 4));
    kl_buf_add8(m->out, 0);
}
#endif
