#include "libtsproto/influx.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "libtsproto/number_priv.h"

struct tsp_influx {
    const char *at, *end;                              /* what of the body is left */
    const char *line, *pos;                            /* the line under work, and where in it */
    const char *limit;                                 /* where it may reach at most */
    size_t      line_number;
    const char *field, *fields_end;                    /* the next field of the line given out */
    struct kl_buf scratch;                             /* measurement and tags, unescaped */
    struct kl_buf name;                                /* of one field, unescaped */
    struct kl_labels_builder labels;
};

struct tsp_influx *tsp_influx_new(void)
{
    struct tsp_influx *t = kl_new(sizeof *t);

    kl_buf_init(&t->scratch, TSP_INFLUX_LINE_MAX);
    kl_buf_init(&t->name, TSP_INFLUX_LINE_MAX);
    return t;
}

void tsp_influx_free(struct tsp_influx *t)
{
    if (t == NULL)
        return;
    kl_buf_deinit(&t->scratch);
    kl_buf_deinit(&t->name);
    free(t);
}

void tsp_influx_open(struct tsp_influx *t, struct kl_span body)
{
    t->at = body.at;
    t->end = t->at + body.size;
    t->line_number = 0;
    t->field = t->fields_end = t->at;
}

static bool bad(struct tsp_influx *t, struct kl_err *err, const char *what)
{
    kl_fail(err, KL_EINVAL, "line %zu, column %zu: %s", t->line_number, (size_t)(t->pos - t->line) + 1,
            what);
    return false;
}

static bool here(const struct tsp_influx *t, char c) { return t->pos < t->limit && *t->pos == c; }
static bool at_end(const struct tsp_influx *t) { return t->pos == t->limit || *t->pos == '\n'; }

/* Moves `at` to the first byte of `stops`, or a line's end, that no backslash stands before. */
static const char *until(const char *at, const char *end, const char *stops)
{
    for (; at < end && *at != '\n'; at++) {
        if (*at == '\\' && at + 1 < end && at[1] != '\n')
            at++;
        else if (*at == stops[0] || *at == stops[1] || *at == stops[2])
            break;
    }
    return at;
}

/* `into` has room for all of it: it does not move. */
static struct kl_span unescape(struct kl_buf *into, const char *at, const char *end)
{
    size_t begin = into->size;

    if (memchr(at, '\\', (size_t)(end - at)) == NULL)
        return kl_span(at, (size_t)(end - at));
    while (at < end) {
        if (*at == '\\' && at + 1 < end &&
            (at[1] == ',' || at[1] == ' ' || at[1] == '=' || at[1] == '\\'))
            at++;
        kl_buf_add8(into, (uint8_t)*at++);
    }
    return kl_span(into->at + begin, into->size - begin);
}

/* measurement[,tag=value ...], up to the blank behind it. */
static bool series(struct tsp_influx *t, struct tsp_influx_line *out, struct kl_err *err)
{
    const char *begin = t->pos, *from;

    kl_labels_start(&t->labels);
    kl_labels_add(&t->labels, kl_span_str("__name__"), kl_span("", 0), err);
    out->labels = &t->labels;
    t->pos = until(begin, t->limit, ", ,");
    out->measurement = unescape(&t->scratch, begin, t->pos);
    if (out->measurement.size == 0)
        return bad(t, err, "a measurement should be here");
    while (here(t, ',')) {
        struct kl_span name, value;
        from = ++t->pos;
        t->pos = until(from, t->limit, "=, ");
        if (!here(t, '=') || t->pos == from)
            return bad(t, err, "a tag should read name=value");
        name = unescape(&t->scratch, from, t->pos);
        from = ++t->pos;
        t->pos = until(from, t->limit, ", ,");
        value = unescape(&t->scratch, from, t->pos);
        if (kl_labels_add(&t->labels, name, value, err) != KL_OK) {
            kl_within(err, "line %zu", t->line_number);
            return false;
        }
    }
    out->series_raw = kl_span(begin, (size_t)(t->pos - begin));
    if (at_end(t))
        return bad(t, err, "no field follows");
    return true;
}

/* The end of a text in quotes that begins at `at`, behind the closing one; NULL without. */
static const char *text_end(const char *at, const char *end)
{
    for (at++; at < end && *at != '"'; at++)
        if (*at == '\\' && at + 1 < end)
            at++;
    return at < end ? at + 1 : NULL;
}

/* field=value[,field=value ...]: where each begins and ends, not what it says. */
static bool fields(struct tsp_influx *t, struct kl_err *err)
{
    const char *from, *end;

    while (here(t, ' '))
        t->pos++;
    t->field = t->pos;
    for (;; t->pos++) {
        from = t->pos;
        t->pos = until(from, t->limit, "=, ");
        if (!here(t, '=') || t->pos == from)
            return bad(t, err, "a field should read name=value");
        from = ++t->pos;
        if (here(t, '"')) {
            end = text_end(t->pos, t->limit);
            if (end == NULL) {
                bad(t, err, "a quote is not closed");
                if (t->limit < t->end)                 /* perhaps it is: further on */
                    t->pos = t->limit;
                return false;
            }
            for (const char *lf = t->pos; (lf = memchr(lf, '\n', (size_t)(end - lf))) != NULL; lf++)
                t->line_number++;
            t->pos = end;
            if (!at_end(t) && *t->pos != ',' && *t->pos != ' ' && *t->pos != '\r')
                return bad(t, err, "\",\" or a blank should follow a text");
        } else {
            while (!at_end(t) && *t->pos != ',' && *t->pos != ' ')
                t->pos++;
        }
        if (!here(t, ','))
            break;
    }
    t->fields_end = t->pos;
    if (t->fields_end > from && t->fields_end[-1] == '\r' && at_end(t))
        t->fields_end--;
    return true;
}

static bool timestamp(struct tsp_influx *t, struct tsp_influx_line *out, struct kl_err *err)
{
    const char *begin;
    size_t      size;

    while (here(t, ' '))
        t->pos++;
    for (begin = t->pos; !at_end(t); )
        t->pos++;
    size = (size_t)(t->pos - begin);
    while (size > 0 && (begin[size - 1] == '\r' || begin[size - 1] == ' '))
        size--;
    if (size == 0)
        return true;
    out->has_time = true;
    if (tsp_number_int64(kl_span(begin, size), &out->time))
        return true;
    t->pos = begin;
    return bad(t, err, "this is not a timestamp");
}

/* The next line that is neither empty nor a comment; false at the end of the body. */
static bool next_line(struct tsp_influx *t)
{
    for (; t->at < t->end; t->at++) {
        const char *lf;
        t->line_number++;
        t->line = t->at;
        while (t->at < t->end && (*t->at == ' ' || *t->at == '\t' || *t->at == '\r'))
            t->at++;
        if (t->at < t->end && *t->at != '\n' && *t->at != '#')
            return true;
        lf = memchr(t->at, '\n', (size_t)(t->end - t->at));
        t->at = lf == NULL ? t->end - 1 : lf;
    }
    return false;
}

enum tsp_influx_item tsp_influx_next(struct tsp_influx *t, struct tsp_influx_line *out,
                                     struct kl_err *err)
{
    struct tsp_influx_line line = { 0 };
    const char *lf;
    bool        good;

    if (!next_line(t))
        return TSP_INFLUX_END;
    t->pos = t->at;
    t->limit = t->end - t->line > TSP_INFLUX_LINE_MAX ? t->line + TSP_INFLUX_LINE_MAX : t->end;
    kl_buf_reset(&t->scratch);
    lf = memchr(t->pos, '\n', (size_t)(t->limit - t->pos));
    if (lf == NULL)
        lf = t->limit;
    if (memchr(t->pos, '\\', (size_t)(lf - t->pos)) != NULL)
        kl_buf_reserve(&t->scratch, (size_t)(lf - t->pos));
    good = series(t, &line, err) && fields(t, err) && timestamp(t, &line, err);
    if (t->pos == t->limit && t->limit < t->end) {
        kl_fail(err, KL_ELIMIT, "line %zu: longer than %d bytes", t->line_number, TSP_INFLUX_LINE_MAX);
        good = false;
    }
    if (!good)
        t->field = t->fields_end = t->end;
    lf = memchr(t->pos, '\n', (size_t)(t->end - t->pos));
    t->at = lf == NULL ? t->end : lf + 1;
    if (good)
        *out = line;
    return good ? TSP_INFLUX_LINE : TSP_INFLUX_BAD_LINE;
}

static bool word(struct kl_span s, const char *const *words)
{
    for (; *words != NULL; words++)
        if (s.size == strlen(*words) && memcmp(s.at, *words, s.size) == 0)
            return true;
    return false;
}

static bool number(struct kl_span s, double *v)
{
    static const char *const yes[] = { "t", "T", "true", "True", "TRUE", NULL };
    static const char *const no[] = { "f", "F", "false", "False", "FALSE", NULL };
    char    last = s.size > 0 ? ((const char *)s.at)[s.size - 1] : '\0';
    int64_t n;
    uint64_t u;

    if (last == 'i' && tsp_number_int64(kl_span(s.at, s.size - 1), &n))
        *v = (double)n;
    else if (last == 'u' && tsp_number_uint64(kl_span(s.at, s.size - 1), &u))
        *v = (double)u;
    else if (word(s, yes) || word(s, no))
        *v = word(s, yes);
    else
        return tsp_number_double(s, v);
    return true;
}

enum tsp_influx_value tsp_influx_field(struct tsp_influx *t, struct tsp_influx_field *field,
                                       struct kl_err *err)
{
    struct tsp_influx_field f = { 0 };
    const char *eq, *end;

    if (t->field >= t->fields_end)
        return TSP_INFLUX_NO_MORE;
    eq = until(t->field, t->fields_end, "=, ");
    kl_buf_reset(&t->name);
    if (memchr(t->field, '\\', (size_t)(eq - t->field)) != NULL)
        kl_buf_reserve(&t->name, (size_t)(eq - t->field));
    f.name_raw = kl_span(t->field, (size_t)(eq - t->field));
    f.name = unescape(&t->name, t->field, eq);
    if (eq + 1 < t->fields_end && eq[1] == '"') {
        end = text_end(eq + 1, t->fields_end);
        assert(end != NULL);                           /* next() has seen it */
        t->field = end + 1;                            /* behind the comma, or the end of all */
        *field = f;
        return TSP_INFLUX_TEXT;
    }
    end = memchr(eq + 1, ',', (size_t)(t->fields_end - eq - 1));
    if (end == NULL)
        end = t->fields_end;
    t->field = end + 1;
    if (!number(kl_span(eq + 1, (size_t)(end - eq - 1)), &f.value)) {
        *field = f;
        kl_fail(err, KL_EINVAL, "line %zu, column %zu: this is no value of a field", t->line_number,
                (size_t)(eq - t->line) + 2);
        return TSP_INFLUX_BAD_VALUE;
    }
    *field = f;
    return TSP_INFLUX_NUMBER;
}
