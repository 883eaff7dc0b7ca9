#ifndef TEST_PROMQL_SCRIPT_JUDGE_H
#define TEST_PROMQL_SCRIPT_JUDGE_H
/* Of a script: whether an answer is what was expected, asked as it is written and in other ways. */
#include "tests/unit/libpromql/script_load.h"

/* ---- judging ---- */

static bool close_to(double a, double b)
{
    double sum = fabs(a) + fabs(b), diff = fabs(a - b), least = 2.2250738585072014e-308;

    if (kl_is_stale(a) || kl_is_stale(b))
        return kl_is_stale(a) && kl_is_stale(b);
    if ((isnan(a) && isnan(b)) || a == b)
        return true;
    if (a == 0 || b == 0 || sum < least)
        return diff < 1e-6 * least;
    return diff / (sum < 1.7976931348623157e308 ? sum : 1.7976931348623157e308) < 1e-6;
}

static bool next_full(struct pql_buckets *it, struct pql_bucket *b)
{
    while (pql_buckets_next(it, b))
        if (b->count != 0)
            return true;
    return false;
}

static bool same_hist(const struct kl_hist *want, const struct kl_hist *got, bool hint)
{
    if (want->schema != got->schema || !close_to(want->count, got->count) || !close_to(want->sum, got->sum)
        || want->zero_threshold != got->zero_threshold || !close_to(want->zero_count, got->zero_count)
        || (hint && want->reset != got->reset))
        return false;
    if (want->schema == KL_HIST_CUSTOM
        && (want->bound_count != got->bound_count
            || (want->bound_count > 0 && memcmp(want->bounds, got->bounds,
                                                 want->bound_count * sizeof *want->bounds) != 0)))
        return false;
    for (int positive = 0; positive < 2; positive++) {
        struct pql_buckets a, b;
        struct pql_bucket  x = { .count = 0 }, y = { .count = 0 };
        pql_buckets_side(&a, want, positive);
        pql_buckets_side(&b, got, positive);
        for (;;) {
            bool more = next_full(&a, &x);
            if (more != next_full(&b, &y))
                return false;
            if (!more)
                break;
            if (x.index != y.index || !close_to(x.count, y.count))
                return false;
        }
    }
    return true;
}

static bool no(struct script *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static bool no(struct script *s, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(s->why, sizeof s->why, fmt, ap);
    va_end(ap);
    return false;
}

static bool same_point(const struct point *want, const struct pql_point *got)
{
    if ((want->h != NULL) != (got->hist != NULL))
        return false;
    return want->h != NULL ? same_hist(want->h, got->hist, want->hint_set) : close_to(want->v, got->value);
}

static const char *text_of(struct script *s, const struct pql_result *r)
{
    struct kl_buf b;
    char         *text;

    kl_buf_init(&b, 1500);
    pql_result_json(r, 0, r->series_count, &b);
    kl_buf_add8(&b, '\0');
    text = kl_arena_copy(&s->arena, b.at, b.size);
    text[b.size - 1] = '\0';
    kl_buf_deinit(&b);
    return text;
}

static bool regex_matches(const char *pattern, const char *text)
{
    regex_t re;
    char    copy[4096];
    size_t  n = 0;
    bool    is;

    for (; *pattern != '\0' && n + 2 < sizeof copy; pattern++) {   /* non-capturing groups: plain ones */
        if (strncmp(pattern, "(?:", 3) == 0) {
            copy[n++] = '(';
            pattern += 2;
        } else if (strncmp(pattern, "\\d", 2) == 0) {
            n += (size_t)snprintf(copy + n, sizeof copy - n, "[0-9]");
            pattern++;
        } else {
            copy[n++] = *pattern;
        }
    }
    copy[n] = '\0';
    if (regcomp(&re, copy, REG_EXTENDED | REG_NOSUB) != 0)
        return false;
    is = regexec(&re, text, 0, NULL, 0) == 0;
    regfree(&re);
    return is;
}

static bool annotations(struct script *s, struct eval *e, const struct pql_result *r, bool warn)
{
    size_t             count = warn ? r->warning_count : r->info_count;
    const char *const *got = warn ? r->warnings : r->infos;
    size_t             wants = warn ? e->warn_count : e->info_count;

    if ((warn ? e->no_warn : e->no_info) && count > 0)
        return no(s, "unexpected: %s", got[0]);
    if ((warn ? e->want_warn : e->want_info) && count == 0)
        return no(s, "expected a %s, got none", warn ? "warning" : "info");
    for (size_t w = 0; w < wants; w++) {
        bool found = false;
        bool regex = warn ? e->warns[w].regex : e->infos[w].regex;
        const char *text = warn ? e->warns[w].text : e->infos[w].text;
        for (size_t i = 0; i < count; i++)
            found |= regex ? regex_matches(text, got[i]) : strcmp(text, got[i]) == 0;
        if (!found)
            return no(s, "expected %s, got %s", text, count > 0 ? got[0] : "none");
    }
    for (size_t i = 0; wants > 0 && i < count; i++) {
        bool found = false;
        for (size_t w = 0; w < wants; w++) {
            bool regex = warn ? e->warns[w].regex : e->infos[w].regex;
            const char *text = warn ? e->warns[w].text : e->infos[w].text;
            found |= regex ? regex_matches(text, got[i]) : strcmp(text, got[i]) == 0;
        }
        if (!found)
            return no(s, "unexpected: %s", got[i]);
    }
    return true;
}

static struct expected *expected_of(struct eval *e, struct kl_labels l)
{
    for (size_t i = 0; i < e->count; i++)
        if (pql_labels_eq(e->series[i].labels, l))
            return &e->series[i];
    return NULL;
}

static bool judge_series(struct script *s, struct eval *e, const struct pql_result *r)
{
    bool matrix = r->type == PQL_MATRIX;

    for (size_t i = 0; i < e->count; i++)
        e->series[i].seen = false;
    for (size_t k = 0; k < r->series_count; k++) {
        const struct pql_out_series *o = &r->series[k];
        struct expected             *x = expected_of(e, o->labels);
        uint32_t                     n = 0;
        if (x == NULL)
            return no(s, "unexpected series in %s", text_of(s, r));
        if (!matrix && e->ordered && x != &e->series[k])
            return no(s, "order differs: %s", text_of(s, r));
        if (matrix && k > 0 && kl_labels_cmp(r->series[k - 1].labels, o->labels) >= 0)
            return no(s, "not sorted");
        x->seen = true;
        for (size_t i = 0; i < x->points.count; i++) {
            if (x->points.at[i].omitted)
                continue;
            if (n >= o->count || (matrix && o->points[n].time_ms != e->start + (int64_t)i * e->step)
                || !same_point(&x->points.at[i], &o->points[n]))
                return no(s, "point %zu differs: %s", i, text_of(s, r));
            n++;
        }
        if (n != o->count)
            return no(s, "too many points: %s", text_of(s, r));
    }
    for (size_t i = 0; i < e->count; i++)
        if (!e->series[i].seen && !(matrix && e->series[i].points.count == 0))
            return no(s, "a series is missing (number %zu): %s", i + 1, text_of(s, r));
    return true;
}

static bool judge(struct script *s, struct eval *e, struct pql_query *q, const struct pql_failure *early)
{
    const struct pql_result *r = q != NULL ? pql_result(q) : NULL;
    const struct pql_failure *f = q != NULL ? &r->failure : early;

    if (f->kind != PQL_OK) {
        if (!e->fails)
            return no(s, "failed: %s", f->text);
        if (e->fail_text != NULL && strcmp(e->fail_text, f->text) != 0)
            return no(s, "expected failure %s, got %s", e->fail_text, f->text);
        if (e->fail_regex != NULL && !regex_matches(e->fail_regex, f->text))
            return no(s, "expected failure like %s, got %s", e->fail_regex, f->text);
        return true;
    }
    if (e->fails)
        return no(s, "expected a failure, got %s", text_of(s, r));
    if (!annotations(s, e, r, true) || !annotations(s, e, r, false))
        return false;
    if (e->has_string)
        return r->type == PQL_STRING && kl_span_eq(r->string, kl_span_str(e->string))
               ? true : no(s, "string differs");
    if (e->has_scalar)
        return r->type == PQL_SCALAR && r->series_count == 1
               && close_to(e->scalar, r->series[0].points[0].value) ? true
               : no(s, "expected scalar %g, got %s", e->scalar, text_of(s, r));
    return judge_series(s, e, r);
}

/* ---- variants of instant queries ---- */

static bool range_variant(struct script *s, struct eval *e, const char *expr, int64_t at)
{
    struct pql_failure failure;
    struct pql_query  *q = run(s, expr, false, at - 60000, at + 60000, 60000, &failure);
    const struct pql_result *r;
    bool               fine = true;
    size_t             found = 0;

    if (q == NULL || pql_result(q)->failure.kind != PQL_OK) {
        no(s, "as a range: %s", q == NULL ? failure.text : pql_result(q)->failure.text);
        pql_free(q);
        return false;
    }
    r = pql_result(q);
    for (size_t k = 0; fine && k < r->series_count; k++)
        for (uint32_t i = 0; fine && i < r->series[k].count; i++) {
            struct expected *x;
            if (r->series[k].points[i].time_ms != at)
                continue;
            found++;
            if (e->has_scalar) {
                fine = close_to(e->scalar, r->series[k].points[i].value);
                continue;
            }
            x = expected_of(e, r->series[k].labels);
            fine = x != NULL && x->points.count > 0 && same_point(&x->points.at[0], &r->series[k].points[i]);
        }
    if (!fine || found != (e->has_scalar ? 1 : e->count))
        fine = no(s, "as a range: %s", text_of(s, r));
    pql_free(q);
    return fine;
}

static bool pin(struct pql_node *n, int64_t at, bool inside)
{
    bool moves = false;

    if (n == NULL)
        return false;
    switch (n->kind) {
    case N_VECTOR:
        if (!inside && !n->sel->when.has_at && n->sel->when.at_edge == 0) {
            n->sel->when.has_at = true;
            n->sel->when.at_ms = at;
        }
        return false;
    case N_SUBQUERY:
        if (!inside && !n->when.has_at && n->when.at_edge == 0) {
            n->when.has_at = true;
            n->when.at_ms = at;
        }
        return pin(n->a, at, inside || n->when.has_at);
    case N_CALL:
        moves = n->func->moves;
        for (uint32_t i = 0; i < n->count; i++)
            moves |= pin(n->args[i], at, inside);
        return moves;
    default:
        return pin(n->a, at, inside) | pin(n->b, at, inside);
    }
}

static bool depends_on_range(const char *expr)
{
    return strstr(expr, "start()") || strstr(expr, "end()") || strstr(expr, "range()")
           || strstr(expr, "step()");
}

static bool variants(struct script *s, struct eval *e)
{
    struct pql_parse p;
    struct pql_node *n;
    struct kl_buf    text;
    int64_t          at = e->start, times[] = { -10 * at, 0, at / 5, at, 10 * at };
    bool             fine = true, ordered = e->ordered;

    if (!e->ordered && !e->range_vector && !e->has_string && !e->fails && !depends_on_range(e->expr)
        && !range_variant(s, e, e->expr, e->start))
        return false;
    if (e->range_vector || e->has_string)
        return true;
    pql_parse_init(&p, kl_span_str(e->expr));
    n = pql_parse_expr(&p);
    kl_buf_init(&text, 0);
    if (n != NULL && !pin(n, at, false)) {
        pql_print(&text, n);
        kl_buf_add8(&text, '\0');
        if (at == 0)
            times[0] = -1000, times[2] = 1000, times[3] = 0, times[4] = 0;
        for (size_t i = 0; fine && i < 5; i++) {
            struct pql_failure failure;
            struct pql_query  *q = run(s, text.at, true, times[i], times[i], 0, &failure);
            size_t             w = e->warn_count, f = e->info_count;
            char              *ft = e->fail_text;
            e->warn_count = e->info_count = 0;         /* places in the text differ */
            e->fail_text = NULL;
            fine = judge(s, e, q, &failure);
            e->warn_count = w;
            e->info_count = f;
            e->fail_text = ft;
            pql_free(q);
            if (!fine) {
                char was[2000];
                snprintf(was, sizeof was, "%.1999s", s->why);
                no(s, "as %s at %lld: %s", text.at, (long long)times[i], was);
            } else if (!e->ordered && !e->fails && !depends_on_range(text.at)) {
                fine = range_variant(s, e, text.at, times[i]);
            }
        }
    }
    e->ordered = ordered;
    kl_buf_deinit(&text);
    pql_parse_deinit(&p);
    return fine;
}
#endif
