/*
 * info(v, {selector}): adds to each series the labels of the info metrics (target_info, or what the
 * selector names) that have its `job` and `instance`. Which info series there are is known only when
 * v is: so this operator asks for data of its own, in the middle of the query.
 */
#include <stdlib.h>
#include <string.h>

#include "libpromql/agg_priv.h"

#include "libkoal/base/sorted.h"

struct info {
    const struct kl_matcher *data;                     /* what the query says of labels but the name */
    uint32_t           data_count;
    uint8_t           *plain;                          /* rows that are info metrics themselves */
    int64_t            offset_ms;
    bool               has_at;
    int64_t            at_ms;
};

static const char *const identifying[] = { "instance", "job" };

/* Where the first selector inside looks: info series are looked up at the same times. */
static bool first_selector(const struct pql_node *n, struct info *f)
{
    if (n == NULL)
        return false;
    switch (n->kind) {
    case N_VECTOR:
        f->has_at = n->sel->when.has_at;
        f->at_ms = n->sel->when.at_ms;
        f->offset_ms = n->sel->when.offset_ns / 1000000;
        return true;
    case N_SUBQUERY:
        if (!first_selector(n->a, f))
            return false;
        if (!f->has_at) {
            f->offset_ms += n->when.offset_ns / 1000000;
            f->has_at = n->when.has_at;
            f->at_ms = n->when.at_ms;
        }
        return true;
    case N_CALL:
        for (uint32_t i = 0; i < n->count; i++)
            if (first_selector(n->args[i], f))
                return true;
        return false;
    default:
        return first_selector(n->a, f) || first_selector(n->b, f);
    }
}

static bool is_name(const struct kl_matcher *m)
{
    return kl_span_eq(m->name, kl_span_str("__name__"));
}

/* The matchers of the info metrics' names: the query's; with a guard where those only exclude. */
static uint32_t name_matchers(struct pql_op *op, const struct kl_matcher *m, uint32_t count,
                              struct kl_matcher *out)
{
    uint32_t         n = 0;
    bool             positive = false;
    struct kl_regex *re;
    struct kl_err    err;
    struct pql_parse *p = &op->q->parse;

    for (uint32_t i = 0; i < count; i++)
        if (is_name(&m[i])) {
            out[n++] = m[i];
            positive |= m[i].op == KL_MATCH_EQ || m[i].op == KL_MATCH_RE;
        }
    if (n == 0) {
        out[n++] = (struct kl_matcher){ .op = KL_MATCH_EQ, .name = kl_span_str("__name__"),
                                        .value = kl_span_str("target_info") };
    } else if (!positive && kl_regex_new(kl_span_str(".+_info"), &re, &err) == KL_OK) {
        p->regexes = kl_resize(p->regexes, (p->regex_count + 1) * sizeof *p->regexes);
        p->regexes[p->regex_count++] = re;
        p->regex_room = p->regex_count;
        out[n++] = (struct kl_matcher){ .op = KL_MATCH_RE, .name = kl_span_str("__name__"),
                                        .value = kl_span_str(".+_info"), .re = re };
    }
    return n;
}

static int by_bytes(const void *a, const void *b)
{
    return kl_span_cmp(*(const struct kl_span *)a, *(const struct kl_span *)b);
}

static void quote_meta(struct kl_buf *b, struct kl_span s)
{
    const char *at = s.at;

    for (size_t i = 0; i < s.size; i++) {
        if (strchr("\\.+*?()|[]{}^$", at[i]) != NULL && at[i] != '\0')
            kl_buf_add8(b, '\\');
        kl_buf_add8(b, (uint8_t)at[i]);
    }
}

/* `name=~"a|b|c"` for the values the rows have; false: none has any. */
static bool values_matcher(struct pql_op *op, struct info *f, const char *name, struct kl_matcher *out)
{
    const struct pql_rows *in = &op->in[0]->out;
    struct kl_span        *values = pql_alloc(op, 0, (in->count + 1) * sizeof *values);
    struct kl_buf          pattern;
    struct kl_regex       *re;
    struct kl_err          err;
    uint32_t               n = 0;
    char                  *copy;

    for (uint32_t k = 0; values != NULL && k < in->count; k++) {
        struct kl_span v = kl_labels_get(in->at[k].labels, kl_span_str(name));
        if (v.size > 0 && !f->plain[k])
            values[n++] = v;
    }
    if (n == 0)
        return false;
    qsort(values, n, sizeof *values, by_bytes);
    kl_buf_init(&pattern, KL_REGEX_PATTERN_MAX);
    for (uint32_t i = 0; i < n; i++)
        if (i == 0 || !kl_span_eq(values[i], values[i - 1])) {
            if (i > 0)
                kl_buf_add8(&pattern, '|');
            quote_meta(&pattern, values[i]);
        }
    *out = (struct kl_matcher){ .op = KL_MATCH_NE, .name = kl_span_str(name), .value = kl_span("", 0) };
    if (kl_buf_ok(&pattern) && kl_regex_new(kl_buf_span(&pattern), &re, &err) == KL_OK) {
        struct pql_parse *p = &op->q->parse;
        p->regexes = kl_resize(p->regexes, (p->regex_count + 1) * sizeof *p->regexes);
        p->regexes[p->regex_count++] = re;
        p->regex_room = p->regex_count;
        copy = kl_arena_copy(&op->q->plan, pattern.at, pattern.size);
        if (copy != NULL)
            *out = (struct kl_matcher){ .op = KL_MATCH_RE, .name = kl_span_str(name),
                                        .value = kl_span(copy, pattern.size), .re = re };
    }                                                  /* too many: any value, sorted out later */
    kl_buf_deinit(&pattern);
    return true;
}

static void ask(struct pql_op *op, struct info *f, const struct kl_matcher *given, uint32_t given_count)
{
    struct kl_matcher *m = kl_arena_alloc(&op->q->plan, (given_count + 8) * sizeof *m);
    struct kl_matcher *names = kl_arena_alloc(&op->q->plan, (given_count + 2) * sizeof *names);
    const struct pql_rows *in = &op->in[0]->out;
    uint32_t           n = 0, name_count;
    bool               any = false;
    int64_t            first, last;

    f->plain = pql_zalloc(op, 0, in->count + 1);
    if (m == NULL || names == NULL || f->plain == NULL) {
        pql_fail(op->q, PQL_EXECUTION, "query needs more memory to plan than allowed");
        return;
    }
    name_count = name_matchers(op, given, given_count, names);
    for (uint32_t k = 0; k < in->count; k++) {
        struct kl_span name = pql_metric_name(in->at[k].labels);
        f->plain[k] = 1;
        for (uint32_t i = 0; i < name_count; i++)
            f->plain[k] &= kl_matcher_test(&names[i], name);
    }
    for (int i = 0; i < 2; i++)
        if (values_matcher(op, f, identifying[i], &m[n]))
            n++, any = true;
    if (!any || pql_failed(op->q))
        return;                                        /* nothing to look up */
    for (uint32_t i = 0; i < given_count; i++)
        if (!is_name(&given[i]))
            m[n++] = given[i];
    memcpy(m + n, names, name_count * sizeof *m);
    n += name_count;
    first = (f->has_at ? f->at_ms : op->grid.start) - f->offset_ms - op->q->lookback_ms + 1;
    last = (f->has_at ? f->at_ms : pql_at(op->grid, op->grid.count - 1)) - f->offset_ms;
    op->need = pql_need_new(op->q, m, n, first, last, "info", op->grid.step, 0, NULL, true);
    op->waits = true;
}

/* ---- joining, once the info series are there ---- */

/* What an info series is found by: its name, and the labels that identify a target. */
static struct kl_labels key_of(struct pql_op *op, struct kl_labels l, struct kl_span name)
{
    struct kl_span   names[2] = { kl_span_str(identifying[0]), kl_span_str(identifying[1]) };
    struct pql_names keep = { 2, names };

    return pql_labels_set(op, 0, pql_labels_keep(op, 0, l, keep), kl_span_str("__name__"), name);
}

struct joined {
    struct pql_index index;                            /* keys of info series */
    uint32_t        *key_of_series;
    struct kl_span  *names;                            /* the distinct names of info metrics */
    uint32_t         name_count;
};

static bool stale_at(const struct pql_series *s, uint32_t k)
{
    return s->hists != NULL && s->hists[k] != NULL ? kl_is_stale(s->hists[k]->sum)
                                                   : kl_is_stale(s->values[k]);
}

/* The sample of an info series that counts at a step: its index + 1, or 0. */
static uint32_t sample_at(struct pql_op *op, const struct info *f, const struct pql_series *s, uint32_t i)
{
    int64_t  t = (f->has_at ? f->at_ms : pql_at(op->grid, i)) - f->offset_ms;
    uint32_t low = KL_FIRST(k, s->count, s->times_ms[k] > t);

    if (low == 0 || s->times_ms[low - 1] <= t - op->q->lookback_ms || stale_at(s, low - 1))
        return 0;
    if (s->hists != NULL && s->hists[low - 1] != NULL) {
        struct kl_buf b;
        kl_buf_init(&b, 512);
        pql_labels_text(&b, s->labels);
        pql_fail(op->q, PQL_EXECUTION, "this should be an info metric, with float samples: %.*s",
                 (int)b.size, b.at);
        kl_buf_deinit(&b);
        return 0;
    }
    return low;
}

static void two_infos(struct pql_op *op, const struct pql_series *a, const struct pql_series *b,
                      int64_t t)
{
    struct kl_buf ta, tb;

    kl_buf_init(&ta, 400);
    kl_buf_init(&tb, 400);
    pql_labels_text(&ta, a->labels);
    pql_labels_text(&tb, b->labels);
    pql_fail(op->q, PQL_EXECUTION, "found duplicate series for info metric: existing %.*s @ %lld, new "
             "%.*s @ %lld", (int)ta.size, ta.at, (long long)t, (int)tb.size, tb.at, (long long)t);
    kl_buf_deinit(&ta);
    kl_buf_deinit(&tb);
}

/* For each key the info series that counts at step i (index + 1): the one with the newest sample. */
static void current(struct pql_op *op, const struct info *f, const struct joined *j, uint32_t i,
                    uint32_t *of_key, int64_t *time_of)
{
    const struct pql_fed *fed = pql_op_fed(op);

    memset(of_key, 0, (j->index.count + 1) * sizeof *of_key);
    for (uint32_t k = 0; k < fed->count && !pql_failed(op->q); k++) {
        uint32_t sample = sample_at(op, f, &fed->at[k], i), key = j->key_of_series[k];
        int64_t  t;
        if (sample == 0)
            continue;
        t = fed->at[k].times_ms[sample - 1];
        if (of_key[key] != 0 && time_of[key] == t)
            two_infos(op, &fed->at[of_key[key] - 1], &fed->at[k], t);
        if (of_key[key] == 0 || time_of[key] < t) {
            of_key[key] = k + 1;
            time_of[key] = t;
        }
    }
}

static bool wanted(const struct info *f, struct kl_span label)
{
    bool named = false;

    if (kl_span_eq(label, kl_span_str("__name__")))
        return false;
    for (uint32_t i = 0; i < f->data_count; i++)
        if (!is_name(&f->data[i])) {
            named = true;
            if (kl_span_eq(f->data[i].name, label))
                return true;
        }
    return !named;
}

/* Adds the info series' labels that the row does not have; two of them must not disagree. */
static bool add_labels(struct pql_op *op, const struct info *f, struct kl_labels base,
                       struct kl_labels info, struct kl_labels *added)
{
    struct kl_cur   c = kl_labels_cur(info);
    struct kl_label x;

    while (kl_labels_next(&c, &x)) {
        struct kl_span v;
        if (!wanted(f, x.name))
            continue;
        v = kl_labels_get(*added, x.name);
        if (v.size > 0 && !kl_span_eq(v, x.value)) {
            pql_fail(op->q, PQL_EXECUTION, "conflicting label: %.*s", (int)x.name.size,
                     (const char *)x.name.at);
            return false;
        }
        if (kl_labels_get(base, x.name).size == 0)
            *added = pql_labels_set(op, 0, *added, x.name, x.value);
    }
    return true;
}

static bool all_match_empty(const struct info *f)
{
    for (uint32_t i = 0; i < f->data_count; i++)
        if (!is_name(&f->data[i]) && !kl_matcher_test(&f->data[i], kl_span("", 0)))
            return false;
    return true;
}

static bool make_joined(struct pql_op *op, struct joined *j)
{
    const struct pql_fed *fed = pql_op_fed(op);

    j->key_of_series = pql_alloc(op, 0, (fed->count + 1) * sizeof *j->key_of_series);
    j->names = pql_alloc(op, 0, (fed->count + 1) * sizeof *j->names);
    if (j->key_of_series == NULL || j->names == NULL
        || !pql_index_new(op, &j->index, fed->count + 1))
        return false;
    for (uint32_t k = 0; k < fed->count; k++) {
        struct kl_span name = pql_metric_name(fed->at[k].labels);
        uint32_t       n = 0;
        j->key_of_series[k] = pql_index_put(op, &j->index, key_of(op, fed->at[k].labels, name));
        while (n < j->name_count && !kl_span_eq(j->names[n], name))
            n++;
        if (n == j->name_count)
            j->names[j->name_count++] = name;
    }
    return !pql_failed(op->q);
}

/* The key numbers of a row, one per info metric; UINT32_MAX where no series has that key. */
static uint32_t *keys_of_row(struct pql_op *op, struct joined *j, struct kl_labels l)
{
    uint32_t *keys = pql_alloc(op, 0, (j->name_count + 1) * sizeof *keys);

    for (uint32_t n = 0; keys != NULL && n < j->name_count; n++)
        keys[n] = pql_index_find(&j->index, key_of(op, l, j->names[n]));
    return keys;
}

static struct kl_labels with_added(struct pql_op *op, struct kl_labels l, struct kl_labels added)
{
    struct kl_cur   c = kl_labels_cur(added);
    struct kl_label x;

    while (kl_labels_next(&c, &x))
        l = pql_labels_set(op, 0, l, x.name, x.value);
    return l;
}

/* An input row on its way through the steps: which info series it had last, and the row that made. */
struct track { uint32_t *keys, *had, row; bool any; };

enum { NO_ROW = UINT32_MAX, LEFT_OUT = UINT32_MAX - 1 };

static uint32_t new_row(struct pql_op *op, const struct pql_row *in, struct kl_labels labels,
                        uint32_t *room)
{
    struct pql_row *row;

    if (op->out.count == *room) {
        struct pql_row *more = pql_zalloc(op, 0, (size_t)(*room * 2 + 16) * sizeof *more);
        if (more == NULL)
            return NO_ROW;
        if (op->out.count > 0)
            memcpy(more, op->out.at, op->out.count * sizeof *more);
        op->out.at = more;
        *room = *room * 2 + 16;
    }
    row = &op->out.at[op->out.count];
    if (!pql_rows_new(op, 0, row, 1, in->h != NULL))
        return NO_ROW;
    row->labels = labels;
    row->drop_name = in->drop_name;
    return op->out.count++;
}

/* Where the row goes from this step on: only looked at anew when its info series change. */
static void turn(struct pql_op *op, const struct info *f, const struct joined *j,
                 const struct pql_row *in, struct track *t, const uint32_t *of_key, bool optional,
                 uint32_t *room)
{
    struct kl_labels added = { .at = NULL, .size = 0 };
    bool             same = t->any, seen = false;

    for (uint32_t n = 0; n < j->name_count; n++) {
        uint32_t now = t->keys[n] == UINT32_MAX ? 0 : of_key[t->keys[n]];
        same = same && t->had[n] == now;
        t->had[n] = now;
    }
    if (same)
        return;
    t->any = true;
    t->row = LEFT_OUT;
    for (uint32_t n = 0; n < j->name_count; n++) {
        if (t->had[n] == 0)
            continue;
        seen = true;
        if (!add_labels(op, f, in->labels, pql_op_fed(op)->at[t->had[n] - 1].labels, &added))
            return;
    }
    if (seen || optional)
        t->row = new_row(op, in, with_added(op, in->labels, added), room);
}

static struct track *tracks(struct pql_op *op, const struct info *f, struct joined *j)
{
    const struct pql_rows *in = &op->in[0]->out;
    struct track          *t = pql_zalloc(op, 0, ((size_t)in->count + 1) * sizeof *t);

    for (uint32_t k = 0; t != NULL && k < in->count; k++) {
        if (f->plain[k])
            continue;
        t[k].keys = keys_of_row(op, j, in->at[k].labels);
        t[k].had = pql_zalloc(op, 0, (j->name_count + 1) * sizeof *t[k].had);
        if (t[k].keys == NULL || t[k].had == NULL)
            return NULL;
    }
    return t;
}

static void join(struct pql_op *op, const struct info *f)
{
    const struct pql_rows *in = &op->in[0]->out;
    struct joined          j = { .name_count = 0 };
    bool                   optional = all_match_empty(f);
    uint32_t               room = 0, *of_key;
    struct track          *t;
    int64_t               *time_of;

    if (op->need != 0 && !make_joined(op, &j))
        return;
    of_key = pql_zalloc(op, 0, (j.index.count + 1) * sizeof *of_key);
    time_of = pql_zalloc(op, 0, (j.index.count + 1) * sizeof *time_of);
    t = tracks(op, f, &j);
    if (of_key == NULL || time_of == NULL || t == NULL)
        return;
    for (uint32_t i = 0; i < op->grid.count && !pql_failed(op->q); i++) {
        if (j.name_count > 0)
            current(op, f, &j, i, of_key, time_of);
        for (uint32_t k = 0; k < in->count && !pql_failed(op->q); k++) {
            if (in->at[k].has[i] == P_NONE)
                continue;
            if (!f->plain[k])
                turn(op, f, &j, &in->at[k], &t[k], of_key, optional, &room);
            else if (!t[k].any)
                t[k] = (struct track){ .any = true, .row = new_row(op, &in->at[k], in->at[k].labels,
                                                                   &room) };
            if (t[k].row >= LEFT_OUT)
                continue;
            if (in->at[k].has[i] == P_HIST)
                pql_put_hist(&op->out.at[t[k].row], i, in->at[k].h[i]);
            else
                pql_put(&op->out.at[t[k].row], i, in->at[k].v[i]);
        }
    }
}

static void prepare(struct pql_op *op)
{
    struct info *f = op->own;

    op->shares = true;
    if (f == NULL) {
        const struct pql_node *arg = op->node->count > 1 ? op->node->args[1] : NULL;
        while (arg != NULL && arg->kind == N_INVARIANT)
            arg = arg->a;
        op->own = f = pql_zalloc(op, 0, sizeof *f);
        if (f == NULL)
            return;
        first_selector(op->node->args[0], f);
        f->data = arg != NULL ? arg->sel->matchers : NULL;
        f->data_count = arg != NULL ? arg->sel->count : 0;
        ask(op, f, f->data, f->data_count);
        if (op->waits || pql_failed(op->q))
            return;
    }
    join(op, f);
}

static void finish(struct pql_op *op)
{
    pql_drop_empty(op);
    pql_join_equal(op);
}
const struct pql_op_kind pql_op_info = { "info", prepare, NULL, finish };
