#ifndef TEST_PROMQL_SCRIPT_LOAD_H
#define TEST_PROMQL_SCRIPT_LOAD_H
/* Of a script: `load`, and queries over what was loaded. */
#include "tests/unit/libpromql/script_read.h"

/* ---- loading ---- */

static struct loaded *series_of(struct script *s, struct kl_labels l)
{
    struct loaded *d;

    for (size_t i = 0; i < s->series_count; i++)
        if (pql_labels_eq(s->series[i].labels, l))
            return &s->series[i];
    d = &s->series[s->series_count++];
    *d = (struct loaded){ .labels = l };
    return d;
}

static void *grown(struct script *s, const void *old, size_t count, size_t room, size_t each)
{
    void *p = take(s, room * each);

    if (count > 0)
        memcpy(p, old, count * each);
    return p;
}

static void make_room(struct script *s, struct loaded *d)
{
    if (d->count < d->room)
        return;
    d->room = d->room == 0 ? 32 : d->room * 2;
    d->t = grown(s, d->t, d->count, d->room, sizeof *d->t);
    d->st = grown(s, d->st, d->count, d->room, sizeof *d->st);
    d->v = grown(s, d->v, d->count, d->room, sizeof *d->v);
    d->h = grown(s, d->h, d->count, d->room, sizeof *d->h);
}

static void put_sample(struct script *s, struct loaded *d, int64_t t, struct point x, int64_t st)
{
    uint32_t i = d->count;

    make_room(s, d);
    while (i > 0 && d->t[i - 1] >= t)
        i--;
    if (i == d->count || d->t[i] != t) {
        memmove(d->t + i + 1, d->t + i, (d->count - i) * sizeof *d->t);
        memmove(d->st + i + 1, d->st + i, (d->count - i) * sizeof *d->st);
        memmove(d->v + i + 1, d->v + i, (d->count - i) * sizeof *d->v);
        memmove(d->h + i + 1, d->h + i, (d->count - i) * sizeof *d->h);
        d->count++;
    }
    d->t[i] = t;
    d->v[i] = x.v;
    d->h[i] = x.h;
    d->st[i] = st;
    d->has_hists |= x.h != NULL;
    d->has_starts |= st != 0;
}

static bool read_starts(const char *at, struct points *p)
{
    for (;;) {
        struct point x = { .omitted = false };
        int64_t      by = 0, times = 0;

        while (*at == ' ' || *at == '\t')
            at++;
        if (*at == '\0')
            return true;
        if (*at == '_') {
            at++;
            x.omitted = true;
            if (*at == 'x')
                times = strtol(at + 1, (char **)&at, 10) - 1;
        } else {
            if (!read_duration(&at, &x.st))
                return false;
            if ((*at == '+' || *at == '-') && !read_duration(&at, &by))
                return false;
            if (*at == 'x')
                times = strtol(at + 1, (char **)&at, 10);
        }
        for (int64_t i = 0; i <= times; i++) {
            add_point(p, x);
            x.st += by;
        }
    }
}

static bool ends_with(struct kl_span s, const char *end, size_t *base)
{
    size_t n = strlen(end);

    *base = s.size - n;
    return s.size > n && memcmp((const char *)s.at + s.size - n, end, n) == 0;
}

/* load_with_nhcb: classic histograms also as native ones with their bounds. */
static void add_nhcb(struct script *s, size_t from, size_t to)
{
    struct kl_span name_label = kl_span_str("__name__"), le_label = kl_span_str("le");

    for (size_t k = from; k < to; k++) {
        struct kl_span   name = kl_labels_get(s->series[k].labels, name_label);
        struct pql_names le = { 1, &le_label };
        struct kl_labels base;
        size_t           n;
        bool             first = true;

        if (!ends_with(name, "_bucket", &n))
            continue;
        base = pql_labels_drop(&s->op, 0, s->series[k].labels, le);
        base = pql_labels_set(&s->op, 0, base, name_label, kl_span(name.at, n));
        for (size_t i = from; i < k; i++) {
            struct kl_labels l = pql_labels_drop(&s->op, 0, s->series[i].labels, le);
            first = first && !(pql_labels_eq(l, pql_labels_drop(&s->op, 0, s->series[k].labels, le)));
        }
        if (!first)
            continue;
        for (uint32_t p = 0; p < s->series[k].count; p++) {
            int64_t         t = s->series[k].t[p];
            struct { double le, n; } b[256];
            size_t          count = 0;
            struct kl_hist *h = take(s, sizeof *h);
            double         *bounds = take(s, sizeof b), *counts = take(s, sizeof b), prev = 0;
            struct kl_hist_span *spans = take(s, 256 * sizeof *spans);
            bool            has_count = false;
            int64_t         end = 0;

            for (size_t i = from; i < to; i++) {
                struct loaded   *d = &s->series[i];
                struct kl_labels l = pql_labels_drop(&s->op, 0, d->labels, le);
                struct kl_span   in = kl_labels_get(d->labels, name_label);
                size_t           m, at = 0;
                char             kind = ends_with(in, "_bucket", &m) ? 'b' : ends_with(in, "_sum", &m)
                                      ? 's' : ends_with(in, "_count", &m) ? 'c' : 0;
                struct kl_span   text;
                char             copy[64];
                while (at < d->count && d->t[at] != t)
                    at++;
                if (kind == 0 || at == d->count
                    || !pql_labels_eq(pql_labels_set(&s->op, 0, l, name_label, kl_span(in.at, m)), base))
                    continue;
                if (kind == 's') {
                    h->sum = d->v[at];
                } else if (kind == 'c') {
                    h->count = d->v[at];
                    has_count = true;
                } else {
                    char  *done;
                    double bound;
                    text = kl_labels_get(d->labels, le_label);
                    snprintf(copy, sizeof copy, "%.*s", (int)text.size, (const char *)text.at);
                    bound = strtod(copy, &done);
                    if (text.size == 0 || *done != '\0' || isnan(bound))
                        continue;
                    for (at = count++; at > 0 && b[at - 1].le > bound; at--)
                        b[at] = b[at - 1];
                    b[at].le = bound;
                    for (at = 0; d->t[at] != t; at++)
                        ;
                    for (size_t q = 0; q < count; q++)
                        if (b[q].le == bound)
                            b[q].n = d->v[at];
                }
            }
            h->schema = KL_HIST_CUSTOM;
            if (!has_count && count > 0)
                h->count = b[count - 1].n;
            if (count == 0 || !isinf(b[count - 1].le)) {
                b[count].le = INFINITY;
                b[count++].n = h->count;
            }
            for (size_t q = 0; q < count; q++) {
                double here = b[q].n - prev;
                if (!isinf(b[q].le))
                    bounds[h->bound_count++] = b[q].le;
                prev = b[q].n;
                if (here == 0)
                    continue;
                if (h->pos_span_count == 0 || (int64_t)q != end)
                    spans[h->pos_span_count++] = (struct kl_hist_span){ (int32_t)((int64_t)q - end), 0 };
                spans[h->pos_span_count - 1].length++;
                counts[h->pos_count++] = here;
                end = (int64_t)q + 1;
            }
            h->bounds = bounds;
            h->pos = counts;
            h->pos_spans = spans;
            put_sample(s, series_of(s, base), t, (struct point){ .h = h }, 0);
        }
    }
}

/* As Prometheus' storage gives histograms back: "not reset" where the one before shows no reset. */
static void set_hints(struct script *s)
{
    for (size_t k = 0; k < s->series_count; k++)
        for (uint32_t i = s->series[k].count; i-- > 1;) {
            const struct kl_hist *h = s->series[k].h[i], *before = s->series[k].h[i - 1];
            if (h != NULL && before != NULL && h->reset == KL_HIST_UNKNOWN && !kl_is_stale(h->sum)
                && !kl_is_stale(before->sum) && !pql_hist_is_reset(h, before))
                s->series[k].h[i] = pql_hist_hinted(&s->op, 0, h, KL_HIST_NO_RESET);
        }
}

static size_t load(struct script *s, size_t i)
{
    const char   *at = s->lines[i];
    bool          nhcb = strncmp(at, "load_with_nhcb", 14) == 0, had_starts = false;
    int64_t       gap = 0;
    struct points starts = { 0 };
    size_t        from = s->series_count;

    at += strcspn(at, " \t");
    at += strspn(at, " \t");
    if (!read_duration(&at, &gap))
        return i;
    for (i++; i < s->line_count && s->lines[i][0] != '\0'; i++) {
        struct kl_labels l;
        const char      *rest;
        struct points    p = { 0 };
        struct loaded   *d;
        if (!read_metric(s, s->lines[i], &l, &rest)) {
            printf("cannot read %s\n", s->lines[i]);
            continue;
        }
        if (strncmp(rest, "@st", 3) == 0) {
            starts.count = 0;
            had_starts = read_starts(rest + 3, &starts);
            continue;
        }
        if (!read_values(s, rest, &p))
            printf("cannot read values %s\n", s->lines[i]);
        d = series_of(s, l);
        for (size_t k = 0; k < p.count; k++)
            if (!p.at[k].omitted)
                put_sample(s, d, (int64_t)k * gap, p.at[k],
                           had_starts && k < starts.count && !starts.at[k].omitted
                           ? (int64_t)k * gap + starts.at[k].st : 0);
        had_starts = false;
        free(p.at);
    }
    free(starts.at);
    if (nhcb)
        add_nhcb(s, from, s->series_count);
    set_hints(s);
    return i;
}

/* ---- asking ---- */

static void feed(struct script *s, struct pql_query *q)
{
    const struct pql_need *needs;
    size_t                 count = pql_needs(q, &needs);
    struct pql_series     *found = kl_resize(NULL, (SERIES_MAX + 1) * sizeof *found);

    for (size_t n = 0; n < count; n++) {
        size_t k = 0;
        for (size_t i = s->series_count; i-- > 0;) {   /* not in order: the engine must sort */
            struct loaded *d = &s->series[i];
            uint32_t       a = 0, b = d->count;
            if (!kl_matchers_test(needs[n].matchers, needs[n].matcher_count, d->labels))
                continue;
            while (a < b && d->t[a] < needs[n].from_ms)
                a++;
            while (b > a && d->t[b - 1] > needs[n].to_ms)
                b--;
            if (a < b)
                found[k++] = (struct pql_series){ d->labels, b - a, d->t + a, d->v + a,
                                                  d->has_hists ? d->h + a : NULL,
                                                  d->has_starts ? d->st + a : NULL };
        }
        pql_feed(q, needs[n].id, found, k);
    }
    free(found);
}

static struct pql_query *run(struct script *s, const char *expr, bool instant, int64_t start, int64_t end,
                             int64_t step, struct pql_failure *failure)
{
    struct pql_params p = { .text = kl_span_str(expr), .instant = instant, .start_ms = start,
                            .end_ms = end, .step_ms = step };
    struct pql_query *q = pql_new(&p, failure);
    unsigned          worker = 0;

    if (q == NULL)
        return NULL;
    for (;;) {
        enum pql_state st = pql_step(q);
        if (st == PQL_DONE)
            return q;
        if (st == PQL_NEED)
            feed(s, q);
        else
            for (size_t i = pql_work_count(q); i-- > 0;)
                pql_work(q, i, worker++ % 4);
    }
}
#endif
