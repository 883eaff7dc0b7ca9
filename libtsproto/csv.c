#include "libtsproto/csv.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "libtsproto/number_priv.h"
#include "libtsproto/timetext_priv.h"

enum kind { NOTHING, METRIC, LABEL, TIME };
enum time_kind { UNIX_S, UNIX_MS, UNIX_NS, LAYOUT };
struct column { enum kind kind; enum time_kind time_kind; struct kl_span context; };

struct tsp_csv_format {
    unsigned columns;                                  /* the highest one named */
    unsigned metrics, labels, times;
    struct column column[TSP_CSV_COLUMNS_MAX];         /* by number - 1 */
    char     text[];                                   /* contexts lie in it */
};

/* ---- the format ---- */

static bool is(struct kl_span s, const char *what) { return kl_span_eq(s, kl_span_str(what)); }

static enum kl_code time_column(struct column *c, struct kl_span how, struct kl_err *err)
{
    static const char custom[] = "custom:";

    c->time_kind = LAYOUT;
    if (is(how, "unix_s"))
        c->time_kind = UNIX_S;
    else if (is(how, "unix_ms"))
        c->time_kind = UNIX_MS;
    else if (is(how, "unix_ns"))
        c->time_kind = UNIX_NS;
    else if (is(how, "rfc3339"))
        c->context = kl_span_str(TSP_TIME_RFC3339);
    else if (how.size > sizeof custom - 1 && memcmp(how.at, custom, sizeof custom - 1) == 0)
        c->context = kl_span((const char *)how.at + sizeof custom - 1, how.size - sizeof custom + 1);
    else
        return kl_fail(err, KL_EINVAL, "format: a time is unix_s, unix_ms, unix_ns, rfc3339 or "
                       "custom:LAYOUT");
    return c->time_kind == LAYOUT ? tsp_time_layout_check(c->context, err) : KL_OK;
}

/* One "column:type:context". */
static enum kl_code part(struct tsp_csv_format *f, struct kl_span text, struct kl_err *err)
{
    const char    *at = text.at, *end = at + text.size;
    const char    *a = memchr(at, ':', text.size);
    const char    *b = a == NULL ? NULL : memchr(a + 1, ':', (size_t)(end - a - 1));
    uint64_t       number;
    struct kl_span type, context;
    struct column *c;

    if (b == NULL || !tsp_number_uint64(kl_span(at, (size_t)(a - at)), &number) || number == 0)
        return kl_fail(err, KL_EINVAL, "format: each part should read COLUMN:TYPE:CONTEXT, as "
                       "1:label:host; columns count from 1");
    if (number > TSP_CSV_COLUMNS_MAX)
        return kl_fail(err, KL_ELIMIT, "format: columns go up to %d", TSP_CSV_COLUMNS_MAX);
    c = &f->column[number - 1];
    if (c->kind != NOTHING)
        return kl_fail(err, KL_EINVAL, "format: column %d is given twice", (int)number);
    if (number > f->columns)
        f->columns = (unsigned)number;
    type = kl_span(a + 1, (size_t)(b - a - 1));
    context = kl_span(b + 1, (size_t)(end - b - 1));
    if (context.size == 0)
        return kl_fail(err, KL_EINVAL, "format: column %d has an empty context", (int)number);
    c->context = context;
    if (is(type, "metric")) {
        c->kind = METRIC;
        f->metrics++;
    } else if (is(type, "label")) {
        c->kind = LABEL;
        if (++f->labels >= KL_LABELS_MAX)
            return kl_fail(err, KL_ELIMIT, "format: more than %d labels", KL_LABELS_MAX - 1);
    } else if (is(type, "time")) {
        c->kind = TIME;
        if (++f->times > 1)
            return kl_fail(err, KL_EINVAL, "format: a second time");
        return time_column(c, context, err);
    } else {
        return kl_fail(err, KL_EINVAL, "format: column %d: a type is metric, label or time", (int)number);
    }
    return KL_OK;
}

enum kl_code tsp_csv_format_parse(const char *text, struct tsp_csv_format **out, struct kl_err *err)
{
    size_t                 size = strlen(text);
    struct tsp_csv_format *f;
    enum kl_code           code = KL_OK;

    if (size > TSP_CSV_FORMAT_MAX)
        return kl_fail(err, KL_ELIMIT, "format: longer than %d bytes", TSP_CSV_FORMAT_MAX);
    f = kl_new(sizeof *f + size + 1);
    memcpy(f->text, text, size);
    for (const char *at = f->text, *end; code == KL_OK; at = end + 1) {
        end = strchr(at, ',');
        code = part(f, kl_span(at, end == NULL ? strlen(at) : (size_t)(end - at)), err);
        if (end == NULL)
            break;
    }
    if (code == KL_OK && f->metrics == 0)
        code = kl_fail(err, KL_EINVAL, "format: no column is a metric");
    if (code != KL_OK)
        free(f);
    else
        *out = f;
    return code;
}

void tsp_csv_format_free(struct tsp_csv_format *f) { free(f); }
struct kl_span tsp_csv_format_text(const struct tsp_csv_format *f) { return kl_span_str(f->text); }

/* ---- rows ---- */

struct cell { struct kl_span metric, text; size_t column; };
struct tsp_csv {
    const struct tsp_csv_format *format;
    const char *at, *end;                              /* what of the body is left */
    const char *line, *pos, *limit;                    /* the row under work */
    size_t      line_number;
    struct kl_buf scratch;                             /* cells without their doubled quotes */
    struct kl_buf raw;                                 /* each label's value, with its length */
    struct kl_labels_builder labels;
    unsigned    cell, cells;
    struct cell cell_of[TSP_CSV_COLUMNS_MAX];
};

struct tsp_csv *tsp_csv_new(void)
{
    struct tsp_csv *t = kl_new(sizeof *t);

    kl_buf_init(&t->scratch, TSP_CSV_ROW_MAX);
    kl_buf_init(&t->raw, 2 * TSP_CSV_ROW_MAX);
    return t;
}

void tsp_csv_free(struct tsp_csv *t)
{
    if (t == NULL)
        return;
    kl_buf_deinit(&t->scratch);
    kl_buf_deinit(&t->raw);
    free(t);
}

void tsp_csv_open(struct tsp_csv *t, struct kl_span body, const struct tsp_csv_format *f)
{
    t->format = f;
    t->at = body.at;
    t->end = t->at + body.size;
    t->line_number = 0;
    t->cell = t->cells = 0;
}

static bool bad(struct tsp_csv *t, struct kl_err *err, const char *what)
{
    kl_fail(err, KL_EINVAL, "line %zu, column %zu: %s", t->line_number, (size_t)(t->pos - t->line) + 1,
            what);
    return false;
}

static bool row_ends(const struct tsp_csv *t)
{
    return t->pos == t->limit || *t->pos == '\n' ||
           (*t->pos == '\r' && t->pos + 1 < t->limit && t->pos[1] == '\n');
}

/* "...", with "" for a quote. The scratch has room for the whole row: it does not move. */
static bool quoted(struct tsp_csv *t, struct kl_span *out, struct kl_err *err)
{
    size_t begin = t->scratch.size;

    for (t->pos++; ; t->pos++) {
        if (t->pos == t->limit)
            return bad(t, err, "a quote is not closed");
        if (*t->pos == '"') {
            if (t->pos + 1 == t->limit || t->pos[1] != '"')
                break;
            t->pos++;
        }
        t->line_number += *t->pos == '\n';
        kl_buf_add8(&t->scratch, (uint8_t)*t->pos);
    }
    t->pos++;
    *out = kl_span(t->scratch.size > begin ? t->scratch.at + begin : "", t->scratch.size - begin);
    if (!row_ends(t) && *t->pos != ',')
        return bad(t, err, "a comma should follow a quote");
    return true;
}

static bool text_cell(struct tsp_csv *t, struct kl_span *out, struct kl_err *err)
{
    const char *begin = t->pos;

    if (t->pos < t->limit && *t->pos == '"')
        return quoted(t, out, err);
    while (!row_ends(t) && *t->pos != ',')
        t->pos++;
    *out = kl_span(begin, (size_t)(t->pos - begin));
    return true;
}

static bool time_cell(const struct column *c, struct kl_span text, int64_t *ms)
{
    int64_t n;
    double  v;

    switch (c->time_kind) {
    case UNIX_S:                                       /* seconds, or with a fraction */
        if (tsp_number_int64(text, &n))
            return !__builtin_mul_overflow(n, INT64_C(1000), ms);
        if (!tsp_number_double(text, &v) || !(fabs(v) < 9e15))
            return false;
        *ms = (int64_t)floor(v * 1000 + 0.5);
        return true;
    case UNIX_MS: return tsp_number_int64(text, ms);
    case UNIX_NS:
        if (!tsp_number_int64(text, &n))
            return false;
        *ms = n / 1000000 - (n % 1000000 < 0);
        return true;
    case LAYOUT:  return tsp_time_parse(c->context, text, ms);
    }
    return false;
}

static bool take_cell(struct tsp_csv *t, struct tsp_csv_row *row, unsigned number, struct kl_err *err)
{
    const struct column *c = number < t->format->columns ? &t->format->column[number] : NULL;
    size_t         column = (size_t)(t->pos - t->line) + 1;
    struct kl_span text;

    if (!text_cell(t, &text, err))
        return false;
    switch (c == NULL ? NOTHING : c->kind) {
    case NOTHING: break;
    case LABEL:
        kl_buf_addspan(&t->raw, text);
        return kl_labels_add(&t->labels, c->context, text, err) == KL_OK;
    case METRIC:
        if (text.size > 0)
            t->cell_of[t->cells++] = (struct cell){ c->context, text, column };
        break;
    case TIME:
        row->has_time = true;
        if (!time_cell(c, text, &row->time_ms)) {
            t->pos = t->line + column - 1;
            return bad(t, err, "this is not a time of the format");
        }
        break;
    }
    return true;
}

static bool row(struct tsp_csv *t, struct tsp_csv_row *out, struct kl_err *err)
{
    unsigned number = 0;

    for (;; t->pos++) {
        if (!take_cell(t, out, number++, err))
            return false;
        if (row_ends(t))
            break;
    }
    return number >= t->format->columns || bad(t, err, "fewer columns than the format names");
}

/* The next line that is not empty; false at the end of the body. */
static bool next_line(struct tsp_csv *t)
{
    while (t->at < t->end) {
        t->line_number++;
        t->line = t->pos = t->at;
        t->limit = t->end - t->line > TSP_CSV_ROW_MAX ? t->line + TSP_CSV_ROW_MAX : t->end;
        if (!row_ends(t))
            return true;
        t->at += *t->at == '\r' ? 2 : 1;
    }
    return false;
}

enum tsp_csv_item tsp_csv_next(struct tsp_csv *t, struct tsp_csv_row *out, struct kl_err *err)
{
    struct tsp_csv_row r = { .labels = &t->labels };
    const char        *lf;
    bool               good;

    t->cell = t->cells = 0;
    if (!next_line(t))
        return TSP_CSV_END;
    kl_buf_reset(&t->scratch);
    kl_buf_reset(&t->raw);
    kl_labels_start(&t->labels);
    kl_labels_add(&t->labels, kl_span_str("__name__"), kl_span("", 0), err);
    lf = memchr(t->pos, '\n', (size_t)(t->limit - t->pos));
    if (memchr(t->pos, '"', (size_t)((lf == NULL ? t->limit : lf) - t->pos)) != NULL)
        kl_buf_reserve(&t->scratch, (size_t)(t->limit - t->pos));
    good = row(t, &r, err);
    if (t->pos == t->limit && t->limit < t->end) {
        kl_fail(err, KL_ELIMIT, "line %zu: longer than %d bytes", t->line_number, TSP_CSV_ROW_MAX);
        good = false;
    }
    lf = memchr(t->pos, '\n', (size_t)(t->end - t->pos));
    t->at = lf == NULL ? t->end : lf + 1;
    if (!good) {
        t->cells = 0;
        return TSP_CSV_BAD_ROW;
    }
    r.labels_raw = kl_buf_span(&t->raw);
    *out = r;
    return TSP_CSV_ROW;
}

enum tsp_csv_value tsp_csv_metric(struct tsp_csv *t, struct tsp_csv_cell *cell, struct kl_err *err)
{
    const struct cell *c;

    if (t->cell == t->cells)
        return TSP_CSV_NO_MORE;
    c = &t->cell_of[t->cell++];
    cell->metric = c->metric;
    if (tsp_number_double(c->text, &cell->value))
        return TSP_CSV_NUMBER;
    kl_fail(err, KL_EINVAL, "line %zu, column %zu: this is not a number", t->line_number, c->column);
    return TSP_CSV_BAD_VALUE;
}
