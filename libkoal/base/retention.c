#include "libkoal/base/retention.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "libkoal/base/config.h"
#include "libkoal/base/hash.h"
#include "libkoal/base/mem.h"

enum { TEXT_MAX = 16 * 1024 };
static const char metric_name[] = "__name__";

enum { KEEPS = 3 };
static const char *const keeps[KEEPS] = { "keep", "keep_5m", "keep_1h" };
struct rule {
    struct kl_matcher matchers[KL_RETENTION_MATCHERS_MAX];
    size_t  count;
    struct { int64_t ms; bool given; } keep[KEEPS];    /* by what + 1 */
};
struct kl_retention {
    struct kl_arena arena;
    uint64_t    hash;
    size_t      count;
    struct rule rules[KL_RETENTION_RULES_MAX];
};

/* ---- a selector ---- */

struct text { const char *at, *end; };

static void space(struct text *t)
{
    while (t->at < t->end && isspace((unsigned char)*t->at))
        t->at++;
}

static bool take(struct text *t, char c)
{
    space(t);
    if (t->at == t->end || *t->at != c)
        return false;
    t->at++;
    return true;
}

static bool name_char(char c, bool first)
{
    return isalpha((unsigned char)c) || c == '_' || c == ':' || (!first && isdigit((unsigned char)c));
}

static bool quoted(struct text *t, struct kl_arena *a, struct kl_span *out)
{
    char   quote, *copy = kl_arena_alloc(a, (size_t)(t->end - t->at) + 1);
    size_t n = 0;

    space(t);
    if (copy == NULL || t->at == t->end || (*t->at != '"' && *t->at != '\''))
        return false;
    quote = *t->at++;
    for (; t->at < t->end && *t->at != quote; t->at++) {
        char c = *t->at;

        if (c == '\\') {
            if (++t->at == t->end)
                return false;
            c = *t->at == 'n' ? '\n' : *t->at == 't' ? '\t' : *t->at;
            if (strchr("nt\\\"'", *t->at) == NULL)
                return false;
        }
        copy[n++] = c;
    }
    if (t->at == t->end)
        return false;
    t->at++;
    *out = kl_span(copy, n);
    return kl_utf8_ok(*out);
}

static bool name(struct text *t, struct kl_arena *a, struct kl_span *out)
{
    const char *from;

    space(t);
    if (t->at < t->end && (*t->at == '"' || *t->at == '\''))
        return quoted(t, a, out) && out->size > 0;
    from = t->at;
    while (t->at < t->end && name_char(*t->at, t->at == from))
        t->at++;
    *out = kl_span(kl_arena_copy(a, from, (size_t)(t->at - from)), (size_t)(t->at - from));
    return t->at > from && out->at != NULL;
}

static bool op(struct text *t, enum kl_match_op *o)
{
    if (take(t, '=')) {
        *o = t->at < t->end && *t->at == '~' ? KL_MATCH_RE : KL_MATCH_EQ;
        t->at += *o == KL_MATCH_RE;
        return true;
    }
    if (!take(t, '!') || t->at == t->end || (*t->at != '=' && *t->at != '~'))
        return false;
    *o = *t->at++ == '~' ? KL_MATCH_NRE : KL_MATCH_NE;
    return true;
}

static enum kl_code add(struct rule *r, struct kl_matcher m, struct kl_err *err)
{
    struct kl_regex *re;

    if (r->count == KL_RETENTION_MATCHERS_MAX)
        return kl_fail(err, KL_EINVAL, "more than %d matchers", KL_RETENTION_MATCHERS_MAX);
    if (m.op == KL_MATCH_RE || m.op == KL_MATCH_NRE) {
        if (kl_regex_new(m.value, &re, err) != KL_OK)
            return err->code;
        m.re = re;
    }
    r->matchers[r->count++] = m;
    return KL_OK;
}

static enum kl_code selector(struct kl_retention *k, struct rule *r, struct kl_span s, struct kl_err *err)
{
    struct text       t = { s.at, (const char *)s.at + s.size };
    struct kl_matcher m = { KL_MATCH_EQ, kl_span(metric_name, sizeof metric_name - 1), { 0 }, NULL };

    if (r->count > 0)
        return kl_fail(err, KL_EINVAL, "two times \"match\"");
    if (s.size > TEXT_MAX)
        return kl_fail(err, KL_EINVAL, "a selector of more than %d bytes", TEXT_MAX);
    space(&t);
    if (t.at < t.end && name_char(*t.at, true)) {
        if (!name(&t, &k->arena, &m.value))
            goto unfit;
        if (add(r, m, err) != KL_OK)
            return err->code;
    }
    if (take(&t, '{'))
        while (!take(&t, '}')) {
            if (!name(&t, &k->arena, &m.name) || !op(&t, &m.op) || !quoted(&t, &k->arena, &m.value))
                goto unfit;
            m.re = NULL;
            if (add(r, m, err) != KL_OK)
                return err->code;
            space(&t);
            if (!take(&t, ',') && (t.at == t.end || *t.at != '}'))
                goto unfit;
        }
    space(&t);
    if (t.at == t.end && r->count > 0)
        return KL_OK;
unfit:
    return kl_fail(err, KL_EINVAL, "no selector, as up{job=\"x\",env!~\"a|b\"} is one: \"%.80s\"",
                   s.size > 0 ? (const char *)s.at : "");
}

static enum kl_code duration(const char *field, struct kl_span s, int64_t *ms, struct kl_err *err)
{
    static const struct { const char *unit; int64_t ms; } units[] = {
        { "ms", 1 }, { "s", 1000 }, { "m", 60000 }, { "h", 3600000 }, { "d", 86400000 } };
    const char *at = s.at;
    int64_t     n = 0;
    size_t      i = 0;

    for (; i < s.size && isdigit((unsigned char)at[i]) && n < INT64_MAX / 100; i++)
        n = n * 10 + (at[i] - '0');
    if (i > 0 && n == 0 && i == s.size) {
        *ms = 0;
        return KL_OK;
    }
    for (size_t u = 0; i > 0 && u < sizeof units / sizeof units[0]; u++)
        if (s.size - i == strlen(units[u].unit) && memcmp(at + i, units[u].unit, s.size - i) == 0 &&
            !__builtin_mul_overflow(n, units[u].ms, ms))
            return KL_OK;
    return kl_fail(err, KL_EINVAL, "\"%s\" is a number and one of ms s m h d: \"%.*s\"", field,
                   (int)(s.size < 40 ? s.size : 40), at);
}

static enum kl_code on_field(void *ctx, size_t item, const char *key, size_t nth, struct kl_span value,
                             struct kl_err *err)
{
    struct kl_retention *k = ctx;
    struct rule         *r;
    size_t               what = 0;

    if (item >= KL_RETENTION_RULES_MAX)
        return kl_fail(err, KL_EINVAL, "more than %d rules", KL_RETENTION_RULES_MAX);
    r = &k->rules[item];
    k->count = item + 1;
    while (what < KEEPS && strcmp(key, keeps[what]) != 0)
        what++;
    if (nth > 0)
        kl_fail(err, KL_EINVAL, "\"%.40s\" is a list", key);
    else if (strcmp(key, "match") == 0) {
        if (selector(k, r, value, err) == KL_OK)
            return KL_OK;
    } else if (what < KEEPS) {
        if (duration(keeps[what], value, &r->keep[what].ms, err) == KL_OK) {
            r->keep[what].given = true;
            return KL_OK;
        }
    } else {
        kl_fail(err, KL_EINVAL, "\"%.40s\" is none of match, keep, keep_5m and keep_1h", key);
    }
    return kl_within(err, "rule %zu", item + 1);
}

enum kl_code kl_retention_new(const char *list, struct kl_retention **out, struct kl_err *err)
{
    struct kl_retention *k = kl_new(sizeof *k);
    enum kl_code         code;

    kl_arena_init(&k->arena, 4 << 20);
    k->hash = kl_hash64(list, strlen(list));
    code = kl_config_list(list, on_field, k, err);
    for (size_t i = 0; i < k->count && code == KL_OK; i++)
        if (k->rules[i].count == 0 || !k->rules[i].keep[0].given)
            code = kl_fail(err, KL_EINVAL, "rule %zu lacks %s", i + 1,
                           k->rules[i].count == 0 ? "\"match\"" : "\"keep\"");
    if (code == KL_OK)
        *out = k;
    else
        kl_retention_free(k);
    return code;
}

void kl_retention_free(struct kl_retention *k)
{
    if (k == NULL)
        return;
    for (size_t i = 0; i < k->count; i++)
        for (size_t m = 0; m < k->rules[i].count; m++)
            kl_regex_free((struct kl_regex *)k->rules[i].matchers[m].re);
    kl_arena_deinit(&k->arena);
    free(k);
}

enum kl_code kl_retention_check(const char *list, struct kl_err *err)
{
    struct kl_retention *k;
    enum kl_code         code = kl_retention_new(list, &k, err);

    if (code == KL_OK)
        kl_retention_free(k);
    return code;
}

static bool same(const struct kl_matcher *a, const struct kl_matcher *b)
{
    return a->op == b->op && kl_span_eq(a->name, b->name) && kl_span_eq(a->value, b->value);
}

/* Does a's each matcher stand in b, too? Then a fits whatever b fits. */
static bool fits_more(const struct rule *a, const struct rule *b)
{
    for (size_t i = 0, k; i < a->count; i++) {
        for (k = 0; k < b->count && !same(&a->matchers[i], &b->matchers[k]); k++)
            ;
        if (k == b->count)
            return false;
    }
    return true;
}

enum kl_code kl_retention_effect(const struct kl_retention *k, const bool makes[KL_RETENTION_ROLLUPS], const char *tenant,
                                 struct kl_err *err)
{
    static const char *const rollups[KL_RETENTION_ROLLUPS] = { "rollup.5m", "rollup.1h" };
    const char *of = tenant != NULL ? " of tenant " : "", *whose = tenant != NULL ? tenant : "";

    for (size_t i = 0; i < k->count; i++) {
        for (size_t w = 0; w < KL_RETENTION_ROLLUPS; w++)
            if (k->rules[i].keep[w + 1].given && !makes[w])
                return kl_fail(err, KL_EINVAL, "retention_rules%s%s: rule %zu has %s, but no such rows are made: set %s%s%s, how "
                               "long those of other series are kept, e.g. 90d, or take %s out of the rule", of, whose, i + 1,
                               keeps[w + 1], rollups[w], of, whose, keeps[w + 1]);
        for (size_t a = 0; a < i; a++)
            if (fits_more(&k->rules[a], &k->rules[i]))
                return kl_fail(err, KL_EINVAL, "retention_rules%s%s: rule %zu never decides, since rule %zu fits all that it fits "
                               "and comes first: put it before rule %zu, or take it out", of, whose, i + 1, a + 1, a + 1);
    }
    return KL_OK;
}

uint64_t kl_retention_hash(const struct kl_retention *k) { return k->hash; }

size_t kl_retention_count(const struct kl_retention *k) { return k->count; }

size_t kl_retention_rule(const struct kl_retention *k, size_t i, const struct kl_matcher **m)
{
    *m = k->rules[i].matchers;
    return k->rules[i].count;
}

int64_t kl_retention_keep(const struct kl_retention *k, size_t i, enum kl_retention_what what, int64_t otherwise_ms)
{
    const struct rule *r = &k->rules[i];

    if (what == KL_RETENTION_SAMPLES || r->keep[what + 1].given)
        return r->keep[what + 1].ms;
    return r->keep[0].ms == 0 || (otherwise_ms != 0 && otherwise_ms < r->keep[0].ms) ? otherwise_ms : r->keep[0].ms;
}

size_t kl_retention_find(const struct kl_retention *k, struct kl_labels labels)
{
    size_t i = 0;

    while (i < k->count && !kl_matchers_test(k->rules[i].matchers, k->rules[i].count, labels))
        i++;
    return i;
}

bool kl_retention_says(const struct kl_retention *k, size_t i, enum kl_retention_what what)
{
    return k->rules[i].keep[what + 1].given;
}

int64_t kl_retention_of(const struct kl_retention *k, struct kl_labels labels, enum kl_retention_what what,
                        int64_t otherwise_ms)
{
    size_t i = k == NULL ? 0 : kl_retention_find(k, labels);

    return k == NULL || i == k->count ? otherwise_ms : kl_retention_keep(k, i, what, otherwise_ms);
}
