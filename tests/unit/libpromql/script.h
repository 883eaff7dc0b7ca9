/*
 * Runs scripts of queries over loaded data, in the syntax of Prometheus' test language:
 *
 *   load 5m                                 one sample each 5 minutes from time 0
 *     metric{label="value"} 0+10x10 _ stale {{schema:0 sum:1 count:2 buckets:[1 1]}}x3
 *     metric@st -1m+0sx10                   start times of the line that follows, relative to samples
 *   clear                                   forgets all data
 *   eval instant at 50m <expression>        what follows is expected, until an empty line
 *     expect warn|info|no_warn|no_info|fail|ordered [msg: <text>|regex: <re>]
 *     {label="value"} 100
 *   eval range from 0 to 50m step 5m <expression>
 *
 * An instant query is also run as the middle of a range of three steps, and, where nothing in it
 * depends on the evaluation time, pinned by @ and asked at other times. Work items run backwards and
 * on changing workers: the answer must not care.
 */
#include <ctype.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libpromql/hist_priv.h"

enum { SERIES_MAX = 4000, EXPECTED_MAX = 400, LINE_BYTES_MAX = 65536 };

struct point { bool omitted, hint_set; double v; const struct kl_hist *h; int64_t st; };
struct points { size_t count, room; struct point *at; };
struct loaded {
    struct kl_labels labels;
    uint32_t count, room;
    int64_t *t, *st;
    double *v;
    const struct kl_hist **h;
    bool has_hists, has_starts;
};
struct expected { struct kl_labels labels; struct points points; bool seen; };
struct eval {
    char *expr;
    int line;
    bool range, ordered, fails, no_warn, no_info, want_warn, want_info, range_vector, has_string, has_scalar;
    int64_t start, end, step;
    double scalar;
    char *string, *fail_text, *fail_regex;
    size_t warn_count, info_count;
    struct { bool regex; char *text; } warns[32], infos[32];
    size_t count;
    struct expected series[EXPECTED_MAX];
};
struct script {
    struct kl_arena arena;
    struct pql_query *host;                            /* lends its memory to histogram arithmetic */
    struct pql_op op;
    size_t series_count;
    struct loaded series[SERIES_MAX];
    char **lines;
    size_t line_count;
    size_t evals, passed;
    bool verbose, no_variants;
    char why[4096];
};

static void *take(struct script *s, size_t size)
{
    void *p = kl_arena_alloc(&s->arena, size);

    if (p == NULL)
        abort();
    memset(p, 0, size);
    return p;
}

/* ---- reading ---- */

static bool read_duration(const char **at, int64_t *ms)
{
    const char *s = *at;
    bool        minus = *s == '-';
    size_t      n = 0;

    s += *s == '-' || *s == '+';
    while (isdigit((unsigned char)s[n]) || (isalpha((unsigned char)s[n]) && s[n] != 'x'))
        n++;
    if (n == 0 || pql_duration_ms(kl_span(s, n), ms) != NULL)
        return false;
    *ms = minus ? -*ms : *ms;
    *at = s + n;
    return true;
}

static bool read_number(const char **at, double *v)
{
    const char *s = *at;
    bool        minus = *s == '-';
    size_t      n = 0;
    int64_t     ms;

    s += *s == '-' || *s == '+';
    if (strncasecmp(s, "inf", 3) == 0 || strncasecmp(s, "nan", 3) == 0) {
        *v = tolower((unsigned char)*s) == 'i' ? INFINITY : NAN;
        n = 3;
    } else {
        while (isdigit((unsigned char)s[n]) || s[n] == '.' || s[n] == '_'
               || ((s[n] == 'e' || s[n] == 'E') && n > 0)
               || ((s[n] == '-' || s[n] == '+') && n > 0 && (s[n - 1] == 'e' || s[n - 1] == 'E')))
            n++;
        if (n == 0)
            return false;
        if (s[n] != 'x' && isalpha((unsigned char)s[n])) {
            while (isalnum((unsigned char)s[n]) && s[n] != 'x')
                n++;
            if (pql_duration_ms(kl_span(s, n), &ms) != NULL)
                return false;
            *v = (double)ms / 1000;
        } else if (pql_number(kl_span(s, n), v) != NULL) {
            return false;
        }
    }
    *v = minus ? -*v : *v;
    *at = s + n;
    return true;
}

static void add_point(struct points *p, struct point x)
{
    if (p->count == p->room) {
        p->room = p->room == 0 ? 16 : p->room * 2;
        p->at = kl_resize(p->at, p->room * sizeof *p->at);
    }
    p->at[p->count++] = x;
}

static size_t read_list(const char **at, double *out, size_t max)
{
    size_t n = 0;

    while (**at == ' ' || **at == '[')
        (*at)++;
    while (**at != ']' && **at != '\0' && n < max) {
        if (!read_number(at, &out[n++]))
            return 0;
        while (**at == ' ')
            (*at)++;
    }
    *at += **at == ']';
    return n;
}

/* {{schema:1 sum:2 ...}} */
static const struct kl_hist *read_hist(struct script *s, const char **at, bool *hint_set)
{
    struct kl_hist *h = take(s, sizeof *h);
    double          list[512], v, offset = 0, n_offset = 0;

    *hint_set = false;
    *at += 2;
    for (;;) {
        char   name[32];
        size_t n = 0, count;
        while (**at == ' ')
            (*at)++;
        if (strncmp(*at, "}}", 2) == 0) {
            *at += 2;
            break;
        }
        while (isalpha((unsigned char)**at) || **at == '_')
            if (n < sizeof name - 1)
                name[n++] = *(*at)++;
        name[n] = '\0';
        if (**at != ':' || n == 0)
            return NULL;
        (*at)++;
        if (strcmp(name, "counter_reset_hint") == 0) {
            *hint_set = true;
            h->reset = strncmp(*at, "reset", 5) == 0 ? KL_HIST_RESET
                     : strncmp(*at, "not_reset", 9) == 0 ? KL_HIST_NO_RESET
                     : strncmp(*at, "gauge", 5) == 0 ? KL_HIST_GAUGE : KL_HIST_UNKNOWN;
            while (isalpha((unsigned char)**at) || **at == '_')
                (*at)++;
        } else if (**at == '[') {
            double *copy;
            (*at)++;
            count = read_list(at, list, 512);
            copy = take(s, (count + 1) * sizeof *copy);
            memcpy(copy, list, count * sizeof *copy);
            if (strcmp(name, "buckets") == 0)
                h->pos = copy, h->pos_count = (uint32_t)count;
            else if (strcmp(name, "n_buckets") == 0)
                h->neg = copy, h->neg_count = (uint32_t)count;
            else
                h->bounds = copy, h->bound_count = (uint32_t)count;
        } else {
            if (!read_number(at, &v))
                return NULL;
            if (strcmp(name, "schema") == 0)
                h->schema = (int32_t)v;
            else if (strcmp(name, "sum") == 0)
                h->sum = v;
            else if (strcmp(name, "count") == 0)
                h->count = v;
            else if (strcmp(name, "z_bucket") == 0)
                h->zero_count = v;
            else if (strcmp(name, "z_bucket_w") == 0)
                h->zero_threshold = v;
            else if (strcmp(name, "offset") == 0)
                offset = v;
            else
                n_offset = v;
        }
    }
    if (h->pos_count > 0) {
        struct kl_hist_span *sp = take(s, sizeof *sp);
        *sp = (struct kl_hist_span){ (int32_t)offset, h->pos_count };
        h->pos_spans = sp;
        h->pos_span_count = 1;
    }
    if (h->neg_count > 0) {
        struct kl_hist_span *sp = take(s, sizeof *sp);
        *sp = (struct kl_hist_span){ (int32_t)n_offset, h->neg_count };
        h->neg_spans = sp;
        h->neg_span_count = 1;
    }
    return h;
}

static const struct kl_hist *hist_sum(struct script *s, const struct kl_hist *a, const struct kl_hist *b,
                                      bool minus)
{
    struct pql_hist       w;
    struct pql_hist_said  said;
    const struct kl_hist *out;

    pql_hist_init(&w);
    pql_hist_load(&w, a);
    if (!pql_hist_add(&w, b, minus ? H_SUB : H_ADD, &said))
        return NULL;
    out = pql_hist_store(&s->op, 0, &w, false);
    pql_hist_deinit(&w);
    return out;
}

static bool read_values(struct script *s, const char *at, struct points *p)
{
    for (;;) {
        struct point x = { .omitted = false };
        double       by = 0;
        const struct kl_hist *more = NULL;
        bool         repeats, minus = false, unused;
        long         times = 0;

        while (*at == ' ' || *at == '\t')
            at++;
        if (*at == '\0')
            return true;
        if (*at == '_') {
            x.omitted = true;
            at++;
        } else if (strncmp(at, "stale", 5) == 0) {
            x.v = kl_bits_f64(KL_STALE_BITS);
            at += 5;
        } else if (strncmp(at, "{{", 2) == 0) {
            x.h = read_hist(s, &at, &x.hint_set);
            if (x.h == NULL)
                return false;
            if ((*at == '+' || *at == '-') && at[1] == '{') {
                minus = *at++ == '-';
                more = read_hist(s, &at, &unused);
                if (more == NULL)
                    return false;
            }
        } else {
            if (!read_number(&at, &x.v))
                return false;
            if (*at == '+' || *at == '-')
                if (!read_number(&at, &by))
                    return false;
        }
        repeats = *at == 'x';
        if (repeats)
            times = strtol(at + 1, (char **)&at, 10);
        if (x.omitted && repeats)
            times--;
        for (long i = 0; i <= times; i++) {
            add_point(p, x);
            x.v += by;
            if (more != NULL && i < times && (x.h = hist_sum(s, x.h, more, minus)) == NULL)
                return false;
        }
    }
}

/* name{a="b"} at the line's start; *rest is what follows. */
static bool read_metric(struct script *s, const char *line, struct kl_labels *out, const char **rest)
{
    const char *at = line, *end;
    const struct kl_matcher *m;
    struct kl_labels_builder *b = take(s, sizeof *b);
    struct kl_buf bytes;
    struct kl_err err;
    size_t      count;

    while (isalnum((unsigned char)*at) || *at == '_' || *at == ':')
        at++;
    if (*at == '{') {
        char quote = 0;
        for (; *at != '\0' && !(quote == 0 && *at == '}'); at++) {
            if (quote == 0 && (*at == '"' || *at == '\'' || *at == '`'))
                quote = *at;
            else if (quote != 0 && *at == '\\' && quote != '`')
                at++;
            else if (*at == quote)
                quote = 0;
        }
        at += *at == '}';
    }
    end = at;
    *rest = end;
    kl_labels_start(b);
    if (end > line) {
        if (pql_selector(kl_span(line, (size_t)(end - line)), &s->arena, &m, &count, &err) != KL_OK)
            return false;
        for (size_t i = 0; i < count; i++)
            if (kl_labels_add(b, m[i].name, m[i].value, &err) != KL_OK)
                return false;
    }
    kl_buf_init(&bytes, KL_LABELS_BYTES_MAX);
    if (kl_labels_finish(b, &bytes, &err) != KL_OK)
        return false;
    out->at = kl_arena_copy(&s->arena, bytes.at, bytes.size);
    out->size = bytes.size;
    kl_buf_deinit(&bytes);
    return true;
}

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

/* ---- eval ---- */

static char *word_after(char **at)
{
    char *w;

    *at += strspn(*at, " \t");
    w = *at;
    *at += strcspn(*at, " \t");
    if (**at != '\0')
        *(*at)++ = '\0';
    return w;
}

static int64_t time_of(const char *w)
{
    int64_t ms = 0;

    read_duration(&w, &ms);
    return ms;
}

static void read_expect(struct eval *e, char *line)
{
    char *at = line, *what, *text;

    word_after(&at);
    what = word_after(&at);
    text = strchr(at, ':');
    if (text != NULL)
        text += 1 + strspn(text + 1, " \t");
    at += strspn(at, " \t");
    if (strcmp(what, "ordered") == 0) {
        e->ordered = true;
    } else if (strcmp(what, "no_warn") == 0) {
        e->no_warn = true;
    } else if (strcmp(what, "no_info") == 0) {
        e->no_info = true;
    } else if (strcmp(what, "fail") == 0) {
        e->fails = true;
        if (text != NULL && strncmp(at, "msg", 3) == 0)
            e->fail_text = text;
        else if (text != NULL)
            e->fail_regex = text;
    } else if (strcmp(what, "warn") == 0) {
        e->want_warn = true;
        if (text != NULL && e->warn_count < 32) {
            e->warns[e->warn_count].regex = strncmp(at, "regex", 5) == 0;
            e->warns[e->warn_count++].text = text;
        }
    } else {
        e->want_info = true;
        if (text != NULL && e->info_count < 32) {
            e->infos[e->info_count].regex = strncmp(at, "regex", 5) == 0;
            e->infos[e->info_count++].text = text;
        }
    }
}

static void read_expectation(struct script *s, struct eval *e, char *line)
{
    const char *at = line, *rest;
    char       *cut;
    double      v;

    if (strncmp(line, "expect range vector", 19) == 0) {
        cut = line + 19;
        word_after(&cut);
        e->start = time_of(word_after(&cut));
        word_after(&cut);
        e->end = time_of(word_after(&cut));
        word_after(&cut);
        e->step = time_of(word_after(&cut));
        e->range_vector = true;
    } else if (strncmp(line, "expect string", 13) == 0) {
        struct kl_span text;
        at = line + 13 + strspn(line + 13, " ");
        if (pql_unquote(kl_span_str(at), &s->arena, &text)) {
            e->string = take(s, text.size + 1);
            memcpy(e->string, text.at, text.size);
        }
        e->has_string = true;
    } else if (strncmp(line, "expect", 6) == 0) {
        read_expect(e, line);
    } else if (strncmp(line, "expected_fail_message", 21) == 0) {
        e->fail_text = line + 22;
    } else if (strncmp(line, "expected_fail_regexp", 20) == 0) {
        e->fail_regex = line + 21;
    } else if (read_number(&at, &v) && *at == '\0') {
        e->has_scalar = true;
        e->scalar = v;
    } else if (e->count < EXPECTED_MAX && read_metric(s, line, &e->series[e->count].labels, &rest)) {
        if (!read_values(s, rest, &e->series[e->count].points))
            printf("cannot read %s\n", line);
        e->count++;
    }
}

static size_t evaluate(struct script *s, size_t i)
{
    struct eval *e = take(s, sizeof *e);
    char        *at = s->lines[i], *w = word_after(&at);
    struct pql_failure failure;
    struct pql_query  *q;
    int64_t            asked;
    bool               fine;

    e->line = (int)i + 1;
    e->fails = strcmp(w, "eval_fail") == 0;
    e->want_warn = strcmp(w, "eval_warn") == 0;
    e->want_info = strcmp(w, "eval_info") == 0;
    e->ordered = strcmp(w, "eval_ordered") == 0;
    w = word_after(&at);
    e->range = strcmp(w, "range") == 0;
    word_after(&at);
    e->start = e->end = time_of(word_after(&at));
    if (e->range) {
        word_after(&at);
        e->end = time_of(word_after(&at));
        word_after(&at);
        e->step = time_of(word_after(&at));
    }
    e->expr = at + strspn(at, " \t");
    asked = e->start;
    for (i++; i < s->line_count && s->lines[i][0] != '\0'; i++)
        read_expectation(s, e, s->lines[i]);
    s->evals++;
    s->why[0] = '\0';
    q = run(s, e->expr, !e->range, asked, e->range ? e->end : asked, e->step, &failure);
    fine = judge(s, e, q, &failure);
    pql_free(q);
    if (fine && !e->range && !s->no_variants)
        fine = variants(s, e);
    s->passed += fine;
    if (!fine)
        printf("  line %d: %s\n    %s\n", e->line, e->expr, s->why);
    for (size_t k = 0; k < e->count; k++)
        free(e->series[k].points.at);
    return i;
}

static char *trim(char *line)
{
    size_t n;

    line += strspn(line, " \t\r");
    n = strlen(line);
    while (n > 0 && (line[n - 1] == ' ' || line[n - 1] == '\t' || line[n - 1] == '\r'))
        line[--n] = '\0';
    if (*line == '#')
        *line = '\0';
    return line;
}

static void script_run(struct script *s, char *text)
{
    struct pql_failure failure;
    struct pql_params  p = { .text = kl_span_str("1"), .instant = true };
    size_t             room = 1;

    kl_arena_init(&s->arena, (size_t)8 << 30);
    s->host = pql_new(&p, &failure);
    s->host->memory_max = (size_t)4 << 30;
    s->op = (struct pql_op){ .q = s->host };
    s->op.arenas = kl_new(sizeof *s->op.arenas);
    kl_arena_init(&s->op.arenas[0], (size_t)4 << 30);
    for (char *c = text; *c != '\0'; c++)
        room += *c == '\n';
    s->lines = take(s, (room + 1) * sizeof *s->lines);
    for (char *at = text; at != NULL;) {
        char *end = strchr(at, '\n');
        if (end != NULL)
            *end = '\0';
        s->lines[s->line_count++] = trim(at);
        at = end != NULL ? end + 1 : NULL;
    }
    for (size_t i = 0; i < s->line_count;) {
        if (strncmp(s->lines[i], "clear", 5) == 0)
            s->series_count = 0, i++;
        else if (strncmp(s->lines[i], "load", 4) == 0)
            i = load(s, i);
        else if (strncmp(s->lines[i], "eval", 4) == 0)
            i = evaluate(s, i);
        else
            i++;
    }
    kl_arena_deinit(&s->op.arenas[0]);
    free(s->op.arenas);
    pql_free(s->host);
    kl_arena_deinit(&s->arena);
}
