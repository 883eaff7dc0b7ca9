#ifndef TEST_PROMQL_SCRIPT_READ_H
#define TEST_PROMQL_SCRIPT_READ_H
/* Of a script: durations, numbers, histograms, lists of values, and metrics, as they are written. */
#include "tests/unit/libpromql/script.h"

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
#endif
