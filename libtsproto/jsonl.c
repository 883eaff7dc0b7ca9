#include "libtsproto/jsonl.h"

#include <stdlib.h>
#include <string.h>

#include "libkoal/base/hist.h"
#include "libtsproto/number_priv.h"

struct tsp_jsonl {
    const char *pos, *end;                             /* what of the body is left */
    const char *line;                                  /* where the line under work begins */
    size_t      line_number;
    struct kl_buf scratch;                             /* names and values without their escapes */
    struct kl_labels_builder labels;
};

struct tsp_jsonl *tsp_jsonl_new(void)
{
    struct tsp_jsonl *t = kl_new(sizeof *t);

    kl_buf_init(&t->scratch, TSP_JSONL_LABELS_MAX + 16);
    return t;
}

void tsp_jsonl_free(struct tsp_jsonl *t)
{
    if (t == NULL)
        return;
    kl_buf_deinit(&t->scratch);
    free(t);
}

void tsp_jsonl_open(struct tsp_jsonl *t, struct kl_span body)
{
    t->pos = t->line = body.at;
    t->end = t->pos + body.size;
    t->line_number = 1;
}

static bool bad(struct tsp_jsonl *t, struct kl_err *err, const char *what)
{
    kl_fail(err, KL_EINVAL, "line %zu, column %zu: %s", t->line_number, (size_t)(t->pos - t->line) + 1,
            what);
    return false;
}

static bool here(const struct tsp_jsonl *t, char c) { return t->pos < t->end && *t->pos == c; }

static void skip_blanks(struct tsp_jsonl *t)
{
    for (; t->pos < t->end; t->pos++) {
        if (*t->pos == '\n') {
            t->line_number++;
            t->line = t->pos + 1;
        } else if (*t->pos != ' ' && *t->pos != '\t' && *t->pos != '\r') {
            break;
        }
    }
}

/* The text in quotes at pos, escapes and all; pos goes behind it. */
static bool raw_text(struct tsp_jsonl *t, struct kl_span *raw, struct kl_err *err)
{
    const char *begin;

    if (!here(t, '"'))
        return bad(t, err, "a text in quotes should be here");
    for (begin = ++t->pos; t->pos < t->end && *t->pos != '"'; t->pos++) {
        if (*t->pos == '\\' && t->pos + 1 < t->end)
            t->pos++;
        if ((unsigned char)*t->pos < 0x20)
            return bad(t, err, "a control character inside a text");
    }
    if (t->pos == t->end)
        return bad(t, err, "a quote is not closed");
    *raw = kl_span(begin, (size_t)(t->pos - begin));
    t->pos++;
    return true;
}

static int hex4(const char *at, const char *end)
{
    int v = 0;

    if (end - at < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        char c = at[i];
        int  digit = c >= '0' && c <= '9' ? c - '0' : (c | 0x20) >= 'a' && (c | 0x20) <= 'f'
                                          ? (c | 0x20) - 'a' + 10 : -1;
        if (digit < 0)
            return -1;
        v = v << 4 | digit;
    }
    return v;
}

static void put_rune(struct kl_buf *b, uint32_t r)
{
    if (r < 0x80) {
        kl_buf_add8(b, (uint8_t)r);
    } else if (r < 0x800) {
        kl_buf_add8(b, (uint8_t)(0xc0 | r >> 6));
        kl_buf_add8(b, (uint8_t)(0x80 | (r & 0x3f)));
    } else if (r < 0x10000) {
        kl_buf_add8(b, (uint8_t)(0xe0 | r >> 12));
        kl_buf_add8(b, (uint8_t)(0x80 | (r >> 6 & 0x3f)));
        kl_buf_add8(b, (uint8_t)(0x80 | (r & 0x3f)));
    } else {
        kl_buf_add8(b, (uint8_t)(0xf0 | r >> 18));
        kl_buf_add8(b, (uint8_t)(0x80 | (r >> 12 & 0x3f)));
        kl_buf_add8(b, (uint8_t)(0x80 | (r >> 6 & 0x3f)));
        kl_buf_add8(b, (uint8_t)(0x80 | (r & 0x3f)));
    }
}

/* \uXXXX, at the X's; *at goes behind it, and behind a second half. False: no hexadecimal digits. */
static bool put_escaped_rune(struct kl_buf *b, const char **at, const char *end)
{
    int first = hex4(*at, end), second;

    if (first < 0)
        return false;
    *at += 4;
    if (first >= 0xd800 && first < 0xdc00 && end - *at >= 6 && (*at)[0] == '\\' && (*at)[1] == 'u' &&
        (second = hex4(*at + 2, end)) >= 0xdc00 && second < 0xe000) {
        *at += 6;
        put_rune(b, 0x10000 + (((uint32_t)first & 0x3ff) << 10 | ((uint32_t)second & 0x3ff)));
    } else {
        put_rune(b, first >= 0xd800 && first < 0xe000 ? 0xfffd : (uint32_t)first);
    }
    return true;
}

/* Room for all the labels was reserved: the buffer does not move. No escape makes a text longer. */
static bool unescape(struct tsp_jsonl *t, struct kl_span raw, struct kl_span *out)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    const char *at = raw.at, *end = at + raw.size, *which;
    size_t      begin = t->scratch.size;

    *out = raw;
    if (memchr(at, '\\', raw.size) == NULL)
        return true;
    while (at < end) {
        char c = *at++;
        if (c != '\\') {
            kl_buf_add8(&t->scratch, (uint8_t)c);
            continue;
        }
        c = *at++;                                     /* raw_text saw that there is one */
        if (c == 'u') {
            if (!put_escaped_rune(&t->scratch, &at, end))
                return false;
        } else if (c != '\0' && (which = strchr(from, c)) != NULL) {
            kl_buf_add8(&t->scratch, (uint8_t)to[which - from]);
        } else {
            return false;
        }
    }
    *out = kl_span(t->scratch.at + begin, t->scratch.size - begin);
    return true;
}

/* {"name":"value", ...} */
static bool metric(struct tsp_jsonl *t, struct tsp_jsonl_series *s, struct kl_err *err)
{
    const char *begin = t->pos;
    struct kl_span name, value;

    if (!here(t, '{'))
        return bad(t, err, "\"metric\" should be an object");
    kl_labels_start(&t->labels);
    t->pos++;
    skip_blanks(t);
    for (bool first = true; !here(t, '}'); first = false) {
        if (!first) {
            if (!here(t, ','))
                return bad(t, err, "\",\" or \"}\" should be here");
            t->pos++;
            skip_blanks(t);
        }
        if (!raw_text(t, &name, err))
            return false;
        skip_blanks(t);
        if (!here(t, ':'))
            return bad(t, err, "\":\" should be here");
        t->pos++;
        skip_blanks(t);
        if (!raw_text(t, &value, err))
            return false;
        skip_blanks(t);
        if (t->pos - begin > TSP_JSONL_LABELS_MAX)
            return bad(t, err, "too many bytes of labels");
        if (kl_labels_add(&t->labels, name, value, err) != KL_OK)
            return kl_within(err, "line %zu", t->line_number), false;
    }
    t->pos++;
    s->labels_raw = kl_span(begin, (size_t)(t->pos - begin));
    s->labels = &t->labels;
    return true;
}

static bool unescape_labels(struct tsp_jsonl *t, struct tsp_jsonl_series *s, struct kl_err *err)
{
    if (memchr(s->labels_raw.at, '\\', s->labels_raw.size) == NULL)
        return true;
    kl_buf_reserve(&t->scratch, s->labels_raw.size);
    for (size_t i = 0; i < t->labels.count; i++) {
        struct kl_label *x = &t->labels.pairs[i];
        if (!unescape(t, x->name, &x->name) || !unescape(t, x->value, &x->value))
            return bad(t, err, "a label with an unknown escape");
    }
    return true;
}

/* One element of an array of numbers: to its end, whatever it says. */
static bool element(struct tsp_jsonl *t, struct kl_err *err)
{
    const char    *begin = t->pos;
    struct kl_span raw;

    if (here(t, '"'))
        return raw_text(t, &raw, err);
    while (t->pos < t->end && (unsigned char)*t->pos > ' ' && *t->pos != ',' && *t->pos != ']' &&
           *t->pos != '[' && *t->pos != '{' && *t->pos != '}' && *t->pos != '"')
        t->pos++;
    return t->pos > begin || bad(t, err, "a value should be here");
}

/* [a, b, ...]: how many. */
static bool array(struct tsp_jsonl *t, bool (*one)(struct tsp_jsonl *t, struct kl_err *err),
                  const char **begin, size_t *count, struct kl_err *err)
{
    if (!here(t, '['))
        return bad(t, err, "an array should be here");
    t->pos++;
    skip_blanks(t);
    *begin = t->pos;
    for (*count = 0; !here(t, ']'); (*count)++) {
        if (*count > 0) {
            if (!here(t, ','))
                return bad(t, err, "\",\" or \"]\" should be here");
            t->pos++;
            skip_blanks(t);
        }
        if (!one(t, err))
            return false;
        skip_blanks(t);
    }
    t->pos++;
    return true;
}

/* One element of an array of objects, whatever it holds: brackets are counted, not matched by kind. */
static bool object_element(struct tsp_jsonl *t, struct kl_err *err)
{
    struct kl_span raw;
    int            depth = 0;

    if (!here(t, '{'))
        return bad(t, err, "an object should be here");
    do {
        if (t->pos == t->end)
            return bad(t, err, "the object is not closed");
        if (here(t, '"')) {
            if (!raw_text(t, &raw, err))
                return false;
        } else {
            char c = *t->pos++;
            depth += (c == '{' || c == '[') - (c == '}' || c == ']');
            if (depth > TSP_JSONL_DEPTH_MAX)
                return bad(t, err, "nested too deep");
        }
        skip_blanks(t);
    } while (depth > 0);
    return true;
}

/* A member that means nothing to us, whatever it holds. Brackets are counted, not matched by kind. */
static bool pass_over(struct tsp_jsonl *t, struct kl_err *err)
{
    struct kl_span raw;
    int            depth = 0;

    do {
        skip_blanks(t);
        if (t->pos == t->end)
            return bad(t, err, "the object is not closed");
        if (here(t, '"')) {
            if (!raw_text(t, &raw, err))
                return false;
        } else {
            char c = *t->pos;
            depth += (c == '{' || c == '[') - (c == '}' || c == ']');
            if (depth > TSP_JSONL_DEPTH_MAX)
                return bad(t, err, "nested too deep");
            if (depth < 0 || (depth == 0 && c == ','))
                return bad(t, err, "a value should be here");
            t->pos++;
        }
        skip_blanks(t);
    } while (depth > 0 || (t->pos < t->end && *t->pos != ',' && *t->pos != '}'));
    return true;
}

static bool member(struct tsp_jsonl *t, struct tsp_jsonl_series *s, size_t *times, size_t *starts,
                   struct kl_err *err)
{
    struct kl_span name;

    if (!raw_text(t, &name, err))
        return false;
    skip_blanks(t);
    if (!here(t, ':'))
        return bad(t, err, "\":\" should be here");
    t->pos++;
    skip_blanks(t);
    if (kl_span_eq(name, kl_span_str("metric")))
        return metric(t, s, err);
    if (kl_span_eq(name, kl_span_str("values")))
        return array(t, element, &s->value, &s->count, err);
    if (kl_span_eq(name, kl_span_str("timestamps")))
        return array(t, element, &s->time, times, err);
    if (kl_span_eq(name, kl_span_str("starts")))
        return array(t, element, &s->start, starts, err);
    if (kl_span_eq(name, kl_span_str("histograms")))
        return array(t, object_element, &s->hist, &s->hist_count, err);
    return pass_over(t, err);
}

static bool object(struct tsp_jsonl *t, struct tsp_jsonl_series *s, struct kl_err *err)
{
    size_t times = 0, starts = 0;

    if (!here(t, '{'))
        return bad(t, err, "an object should be here");
    t->pos++;
    skip_blanks(t);
    for (bool first = true; !here(t, '}'); first = false) {
        if (!first) {
            if (!here(t, ','))
                return bad(t, err, "\",\" or \"}\" should be here");
            t->pos++;
            skip_blanks(t);
        }
        if (!member(t, s, &times, &starts, err))
            return false;
        skip_blanks(t);
    }
    t->pos++;
    s->end = t->pos;
    if (s->labels == NULL || (s->value == NULL) != (s->time == NULL) || (s->value == NULL && s->hist == NULL))
        return bad(t, err, "\"metric\", \"values\" and \"timestamps\" belong to a series");
    if (s->count != times)
        return bad(t, err, "there are as many timestamps as values");
    if (s->start != NULL && s->count != starts)
        return bad(t, err, "there are as many starts as values");
    return unescape_labels(t, s, err);
}

enum tsp_jsonl_item tsp_jsonl_next(struct tsp_jsonl *t, struct tsp_jsonl_series *out,
                                   struct kl_err *err)
{
    struct tsp_jsonl_series s = { 0 };
    const char *lf;

    skip_blanks(t);
    if (t->pos == t->end)
        return TSP_JSONL_END;
    kl_buf_reset(&t->scratch);
    if (object(t, &s, err)) {
        *out = s;
        return TSP_JSONL_SERIES;
    }
    lf = memchr(t->pos, '\n', (size_t)(t->end - t->pos));
    t->pos = lf == NULL ? t->end : lf;
    return TSP_JSONL_BAD_LINE;
}

/* ---- numbers ---- */

/* The element at *at, without quotes; *at goes to the next one's first byte, or to the bracket. */
static struct kl_span take_element(const char **at, bool *in_quotes)
{
    const char *p = *at, *begin = p, *end;

    *in_quotes = *p == '"';
    if (*in_quotes) {
        for (begin = ++p; *p != '"'; p++)
            p += *p == '\\';
        end = p++;
    } else {
        while ((unsigned char)*p > ' ' && *p != ',' && *p != ']')
            p++;
        end = p;
    }
    while ((unsigned char)*p <= ' ')
        p++;
    if (*p == ',')
        for (p++; (unsigned char)*p <= ' '; )
            p++;
    *at = p;
    return kl_span(begin, (size_t)(end - begin));
}

static bool value_of(const char **at, double *v)
{
    bool           in_quotes;
    struct kl_span s = take_element(at, &in_quotes);
    bool           digit = s.size > 0 && (((const char *)s.at)[0] == '-' ||
                                (((const char *)s.at)[0] >= '0' && ((const char *)s.at)[0] <= '9'));

    if (!in_quotes && s.size == 4 && memcmp(s.at, "null", 4) == 0) {
        *v = kl_bits_f64(TSP_NAN_BITS);
        return true;
    }
    if (in_quotes && s.size == 8 && memcmp(s.at, "StaleNaN", 8) == 0) {
        *v = kl_bits_f64(KL_STALE_BITS);
        return true;
    }
    if (in_quotes && tsp_number_nan(s, v))
        return true;
    return (in_quotes || digit) && tsp_number_double(s, v);
}

/* An integer; or a number that is one, as some write 1.7e12. */
static bool time_of(const char **at, int64_t *ms)
{
    bool           in_quotes;
    struct kl_span s = take_element(at, &in_quotes);
    double         v;

    if (tsp_number_int64(s, ms))
        return !in_quotes;
    if (in_quotes || !tsp_number_double(s, &v) || !(v >= -9007199254740992.0 && v <= 9007199254740992.0))
        return false;
    *ms = (int64_t)v;
    return (double)*ms == v;
}

size_t tsp_jsonl_walk(struct tsp_jsonl_series *s, int64_t *times_ms, double *values, int64_t *starts_ms,
                      size_t cap, uint64_t *bad_count)
{
    size_t n = 0;

    for (; s->count > 0 && n < cap; s->count--) {
        bool    good = value_of(&s->value, &values[n]);
        int64_t start = 0;

        good = time_of(&s->time, &times_ms[n]) && good;
        if (s->start != NULL)
            good = time_of(&s->start, &start) && good;
        if (starts_ms != NULL)
            starts_ms[n] = start;
        n += good;
        *bad_count += !good;
    }
    return n;
}
