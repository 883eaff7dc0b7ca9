#include "libtsproto/text.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "libtsproto/number_priv.h"

struct tsp_text {
    const char *at, *end;                              /* what of the body is left */
    const char *line, *line_end, *pos;                 /* the line under work, and where in it */
    size_t      line_number;
    bool        openmetrics, eof;
    struct kl_buf scratch;                             /* unescaped text of this line */
    struct kl_buf family;                              /* of the last # TYPE, for _created */
    uint8_t     family_type;
    struct kl_labels_builder labels, exemplar;
};

struct tsp_text *tsp_text_new(void)
{
    struct tsp_text *t = kl_new(sizeof *t);

    kl_buf_init(&t->scratch, TSP_TEXT_LINE_MAX);
    kl_buf_init(&t->family, TSP_TEXT_LINE_MAX);
    return t;
}

void tsp_text_free(struct tsp_text *t)
{
    if (t == NULL)
        return;
    kl_buf_deinit(&t->scratch);
    kl_buf_deinit(&t->family);
    free(t);
}

void tsp_text_open(struct tsp_text *t, struct kl_span body, bool openmetrics)
{
    t->at = body.at;
    t->end = t->at + body.size;
    t->line_number = 0;
    t->openmetrics = openmetrics;
    t->eof = false;
    kl_buf_reset(&t->family);
    t->family_type = TSP_META_UNKNOWN;
}

static bool bad(struct tsp_text *t, struct kl_err *err, const char *what)
{
    kl_fail(err, KL_EINVAL, "line %zu, column %zu: %s", t->line_number, (size_t)(t->pos - t->line) + 1,
            what);
    return false;
}

static bool blank(char c) { return c == ' ' || c == '\t'; }

static void skip_blanks(struct tsp_text *t)
{
    while (t->pos < t->line_end && blank(*t->pos))
        t->pos++;
}

static bool at_end(const struct tsp_text *t) { return t->pos == t->line_end; }
static bool here(const struct tsp_text *t, char c) { return t->pos < t->line_end && *t->pos == c; }

static bool name_char(char c, bool first, bool colon)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (colon && c == ':') ||
           (!first && c >= '0' && c <= '9');
}

/* [a-zA-Z_:][a-zA-Z0-9_:]*, without colons for labels; empty when there is none here. */
static struct kl_span bare_name(struct tsp_text *t, bool colon)
{
    const char *begin = t->pos;

    while (t->pos < t->line_end && name_char(*t->pos, t->pos == begin, colon))
        t->pos++;
    return kl_span(begin, (size_t)(t->pos - begin));
}

/* \\ and \n, and \" where a quote would end the text; any other backslash stands for itself, as in
 * Prometheus' reader. Room for the whole line was reserved: the buffer does not move. */
static struct kl_span unescape(struct tsp_text *t, const char *at, const char *end, bool quotes)
{
    size_t begin = t->scratch.size;

    while (at < end) {
        char c = *at++;
        if (c == '\\' && at < end && (*at == '\\' || *at == 'n' || (quotes && *at == '"'))) {
            c = *at == 'n' ? '\n' : *at;
            at++;
        }
        kl_buf_add8(&t->scratch, (uint8_t)c);
    }
    return kl_span(t->scratch.at + begin, t->scratch.size - begin);
}

/* "..." at pos, unescaped. */
static bool quoted(struct tsp_text *t, struct kl_span *text, struct kl_err *err)
{
    const char *begin = ++t->pos;
    bool        escaped = false;

    for (; t->pos < t->line_end && *t->pos != '"'; t->pos++)
        if (*t->pos == '\\' && t->pos + 1 < t->line_end) {
            escaped = true;
            t->pos++;
        }
    if (at_end(t))
        return bad(t, err, "a quote is not closed");
    *text = escaped ? unescape(t, begin, t->pos, true) : kl_span(begin, (size_t)(t->pos - begin));
    if (!kl_utf8_ok(*text)) {
        t->pos = begin;
        return bad(t, err, "text that is not UTF-8");
    }
    t->pos++;
    return true;
}

static bool add(struct tsp_text *t, struct kl_labels_builder *b, struct kl_span name,
                struct kl_span value, struct kl_err *err)
{
    if (kl_labels_add(b, name, value, err) == KL_OK)
        return true;
    kl_within(err, "line %zu, column %zu", t->line_number, (size_t)(t->pos - t->line) + 1);
    return false;
}

/* { name="value", ... } with pos on the brace. `metric` is filled by a quoted name alone; NULL: such
 * a name is not allowed here (an exemplar). */
static bool braces(struct tsp_text *t, struct kl_labels_builder *b, struct kl_span *metric,
                   struct kl_err *err)
{
    t->pos++;
    for (;;) {
        struct kl_span name, value;
        bool           in_quotes;

        skip_blanks(t);
        if (here(t, '}'))
            break;
        in_quotes = here(t, '"');
        if (in_quotes) {
            if (!quoted(t, &name, err))
                return false;
        } else {
            name = bare_name(t, false);
        }
        if (name.size == 0)
            return bad(t, err, "a label name should be here");
        skip_blanks(t);
        if (in_quotes && metric != NULL && !here(t, '=')) {
            if (metric->size > 0)
                return bad(t, err, "a second metric name");
            *metric = name;
        } else {
            if (!here(t, '='))
                return bad(t, err, "\"=\" should be here");
            t->pos++;
            skip_blanks(t);
            if (!here(t, '"'))
                return bad(t, err, "a value in quotes should be here");
            if (!quoted(t, &value, err) || !add(t, b, name, value, err))
                return false;
        }
        skip_blanks(t);
        if (here(t, ','))
            t->pos++;
        else if (!here(t, '}'))
            return bad(t, err, "\",\" or \"}\" should be here");
    }
    t->pos++;
    return true;
}

/* The run of non-blanks at pos. */
static struct kl_span token(struct tsp_text *t)
{
    const char *begin = t->pos;

    while (t->pos < t->line_end && !blank(*t->pos))
        t->pos++;
    return kl_span(begin, (size_t)(t->pos - begin));
}

static bool number(struct tsp_text *t, double *v, struct kl_err *err)
{
    const char    *begin = t->pos;
    struct kl_span text = token(t);

    if (tsp_number_double(text, v))
        return true;
    t->pos = begin;
    return bad(t, err, text.size == 0 ? "a number should be here" : "this is not a number");
}

/* Milliseconds as an integer; OpenMetrics: seconds as a number, rounded to the millisecond. */
static bool timestamp(struct tsp_text *t, int64_t *ms, struct kl_err *err)
{
    const char *begin = t->pos;
    double      s;

    if (!t->openmetrics) {
        if (tsp_number_int64(token(t), ms))
            return true;
        t->pos = begin;
        return bad(t, err, "this is not a timestamp in milliseconds");
    }
    if (!number(t, &s, err))
        return false;
    if (!(fabs(s) < 9e15)) {
        t->pos = begin;
        return bad(t, err, "this is not a timestamp in seconds");
    }
    *ms = (int64_t)round(s * 1000);
    return true;
}

static bool exemplar(struct tsp_text *t, struct tsp_text_sample *s, struct kl_err *err)
{
    t->pos++;
    skip_blanks(t);
    if (!here(t, '{'))
        return bad(t, err, "an exemplar's labels should be here");
    kl_labels_start(&t->exemplar);
    if (!braces(t, &t->exemplar, NULL, err))
        return false;
    skip_blanks(t);
    if (!number(t, &s->exemplar_value, err))
        return false;
    skip_blanks(t);
    if (!at_end(t)) {
        if (!timestamp(t, &s->exemplar_ms, err))
            return false;
        s->exemplar_has_time = true;
        skip_blanks(t);
    }
    s->has_exemplar = true;
    s->exemplar_labels = &t->exemplar;
    return true;
}

/* Whether `name` is of the family that counts since a time: it, or it and a suffix. */
static bool counts(const struct tsp_text *t, struct kl_span name)
{
    size_t n = t->family.size;

    return t->openmetrics && n > 0 && name.size >= n &&
           (t->family_type == TSP_META_COUNTER || t->family_type == TSP_META_HISTOGRAM ||
            t->family_type == TSP_META_SUMMARY || t->family_type == TSP_META_GAUGE_HISTOGRAM) &&
           memcmp(name.at, t->family.at, n) == 0 &&
           (name.size == n || ((const char *)name.at)[n] == '_');
}

static bool is_created(const struct tsp_text *t, struct kl_span name)
{
    static const char suffix[] = "_created";
    size_t            n = t->family.size;

    return counts(t, name) && name.size == n + sizeof suffix - 1 &&
           memcmp((const char *)name.at + n, suffix, sizeof suffix - 1) == 0;
}

static bool sample(struct tsp_text *t, struct tsp_text_sample *out, struct kl_err *err)
{
    struct tsp_text_sample s = { .labels = &t->labels };
    const char            *begin = t->pos;
    struct kl_span         metric = bare_name(t, true);

    kl_labels_start(&t->labels);
    /* First, as it sorts: its value may come later, in quotes inside the braces. */
    if (!add(t, &t->labels, kl_span_str("__name__"), metric, err))
        return false;
    s.series_raw = kl_span(begin, (size_t)(t->pos - begin));
    if (metric.size == 0 && !here(t, '{'))
        return bad(t, err, "a metric name should be here");
    skip_blanks(t);
    if (here(t, '{')) {
        if (!braces(t, &t->labels, &metric, err))
            return false;
        s.series_raw = kl_span(begin, (size_t)(t->pos - begin));
        if (metric.size == 0)
            return bad(t, err, "a series without a metric name");
        t->labels.pairs[0].value = metric;
    } else if (!at_end(t) && t->pos == begin + metric.size) {
        return bad(t, err, "this cannot be in a metric name");
    }

    skip_blanks(t);
    if (!number(t, &s.value, err))
        return false;
    skip_blanks(t);
    if (!at_end(t) && !(t->openmetrics && here(t, '#'))) {
        if (!timestamp(t, &s.time_ms, err))
            return false;
        s.has_time = true;
        skip_blanks(t);
    }
    if (t->openmetrics && here(t, '#') && !exemplar(t, &s, err))
        return false;
    if (!at_end(t))
        return bad(t, err, "this does not belong here");
    s.counts = counts(t, metric);
    s.created = is_created(t, metric);
    *out = s;
    return true;
}

/* ---- comments ---- */

static bool type_of(struct kl_span word, uint8_t *type)
{
    static const struct { const char *name; uint8_t type; } types[] = {
        { "counter", TSP_META_COUNTER }, { "gauge", TSP_META_GAUGE },
        { "histogram", TSP_META_HISTOGRAM }, { "gaugehistogram", TSP_META_GAUGE_HISTOGRAM },
        { "summary", TSP_META_SUMMARY }, { "info", TSP_META_INFO }, { "stateset", TSP_META_STATESET },
        { "unknown", TSP_META_UNKNOWN }, { "untyped", TSP_META_UNKNOWN },
    };

    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (kl_span_eq(word, kl_span_str(types[i].name))) {
            *type = types[i].type;
            return true;
        }
    return false;
}

enum comment { NOTHING, META, BAD };

/* pos is behind "# HELP", "# TYPE" or "# UNIT". */
static enum comment about_metric(struct tsp_text *t, char which, struct tsp_text_meta *out,
                                 struct kl_err *err)
{
    struct tsp_text_meta m = { .help = kl_span("", 0), .unit = kl_span("", 0) };
    const char          *begin;

    skip_blanks(t);
    if (here(t, '"')) {
        if (!quoted(t, &m.metric, err))
            return BAD;
    } else {
        m.metric = bare_name(t, true);
    }
    if (m.metric.size == 0 || (!at_end(t) && !blank(*t->pos)))
        return bad(t, err, "a metric name should be here"), BAD;
    skip_blanks(t);
    begin = t->pos;
    t->pos = t->line_end;
    if (which == 'H') {
        m.has_help = true;
        m.help = unescape(t, begin, t->line_end, t->openmetrics);
        if (!kl_utf8_ok(m.help))
            return bad(t, err, "text that is not UTF-8"), BAD;
    } else {
        struct kl_span word = kl_span(begin, (size_t)(t->line_end - begin));
        while (word.size > 0 && blank(((const char *)word.at)[word.size - 1]))
            word.size--;
        if (which == 'U') {
            m.has_unit = true;
            m.unit = word;
            if (!kl_utf8_ok(m.unit))
                return bad(t, err, "text that is not UTF-8"), BAD;
        } else {
            m.has_type = true;
            t->pos = begin;
            if (!type_of(word, &m.type))
                return bad(t, err, "this is no type of a metric"), BAD;
            kl_buf_reset(&t->family);
            kl_buf_add(&t->family, m.metric.at, m.metric.size);
            t->family_type = m.type;
        }
    }
    *out = m;
    return META;
}

static enum comment comment(struct tsp_text *t, struct tsp_text_meta *meta, struct kl_err *err)
{
    struct kl_span word;

    t->pos++;
    if (!at_end(t) && !blank(*t->pos))
        return NOTHING;
    skip_blanks(t);
    word = token(t);
    if (t->openmetrics && kl_span_eq(word, kl_span_str("EOF")) && at_end(t)) {
        t->eof = true;
        return NOTHING;
    }
    if (kl_span_eq(word, kl_span_str("HELP")))
        return about_metric(t, 'H', meta, err);
    if (kl_span_eq(word, kl_span_str("TYPE")))
        return about_metric(t, 'T', meta, err);
    if (t->openmetrics && kl_span_eq(word, kl_span_str("UNIT")))
        return about_metric(t, 'U', meta, err);
    return NOTHING;
}

/* The next line that is not blank; false at the end of the body. */
static bool next_line(struct tsp_text *t)
{
    while (t->at < t->end) {
        const char *lf = memchr(t->at, '\n', (size_t)(t->end - t->at));

        t->line = t->pos = t->at;
        t->line_end = lf == NULL ? t->end : lf;
        t->at = lf == NULL ? t->end : lf + 1;
        t->line_number++;
        if (t->line_end > t->line && t->line_end[-1] == '\r')
            t->line_end--;
        skip_blanks(t);
        if (!at_end(t))
            return true;
    }
    return false;
}

enum tsp_text_item tsp_text_next(struct tsp_text *t, struct tsp_text_sample *out,
                                 struct tsp_text_meta *meta, struct kl_err *err)
{
    while (next_line(t)) {
        kl_buf_reset(&t->scratch);
        if (t->line_end - t->line > TSP_TEXT_LINE_MAX) {
            kl_fail(err, KL_ELIMIT, "line %zu: longer than %d bytes", t->line_number, TSP_TEXT_LINE_MAX);
            return TSP_TEXT_BAD_LINE;
        }
        if (t->eof) {
            bad(t, err, "a line behind # EOF");
            return TSP_TEXT_BAD_LINE;
        }
        if (memchr(t->line, '\\', (size_t)(t->line_end - t->line)) != NULL || *t->pos == '#')
            kl_buf_reserve(&t->scratch, (size_t)(t->line_end - t->line));
        if (*t->pos != '#')
            return sample(t, out, err) ? TSP_TEXT_SAMPLE : TSP_TEXT_BAD_LINE;
        switch (comment(t, meta, err)) {
        case META:    return TSP_TEXT_META;
        case BAD:     return TSP_TEXT_BAD_LINE;
        case NOTHING: break;
        }
    }
    if (t->openmetrics && !t->eof) {
        t->eof = true;
        kl_fail(err, KL_EINVAL, "line %zu: the body does not end with # EOF", t->line_number);
        return TSP_TEXT_BAD_LINE;
    }
    return TSP_TEXT_END;
}
