/* An answer as the JSON of Prometheus' API. */
#include "libpromql/hist_priv.h"

#include "libkoal/base/json.h"

void pql_value_json(struct kl_buf *out, double v)
{
    pql_fmt_json(out, v);
}

static void value(struct kl_buf *b, double v)
{
    kl_buf_add8(b, '"');
    pql_fmt_json(b, v);
    kl_buf_add8(b, '"');
}

static void histogram(struct kl_buf *b, const struct kl_hist *h)
{
    struct pql_buckets it;
    struct pql_bucket  x;
    bool               first = true;

    kl_buf_adds(b, "{\"count\":");
    value(b, h->count);
    kl_buf_adds(b, ",\"sum\":");
    value(b, h->sum);
    pql_buckets_all(&it, h, false);
    while (pql_buckets_next(&it, &x)) {
        if (x.count == 0)
            continue;
        kl_buf_adds(b, first ? ",\"buckets\":[[" : ",[");
        first = false;
        /* Which ends belong to it: 0 the upper, 1 the lower, 2 none, 3 both. */
        kl_buf_addf(b, "%d,", x.lower_in ? (x.upper_in ? 3 : 1) : x.upper_in ? 0 : 2);
        value(b, x.lower);
        kl_buf_add8(b, ',');
        value(b, x.upper);
        kl_buf_add8(b, ',');
        value(b, x.count);
        kl_buf_add8(b, ']');
    }
    kl_buf_adds(b, first ? "}" : "]}");
}

static void point(struct kl_buf *b, const struct pql_point *p)
{
    kl_buf_add8(b, '[');
    kl_json_ms(b, p->time_ms);
    kl_buf_add8(b, ',');
    if (p->hist != NULL)
        histogram(b, p->hist);
    else
        value(b, p->value);
    kl_buf_add8(b, ']');
}

static void metric(struct kl_buf *b, struct kl_labels l)
{
    struct kl_cur   c = kl_labels_cur(l);
    struct kl_label x;
    bool            first = true;

    kl_buf_adds(b, "{\"metric\":{");
    while (kl_labels_next(&c, &x)) {
        if (!first)
            kl_buf_add8(b, ',');
        first = false;
        kl_json_str(b, x.name);
        kl_buf_add8(b, ':');
        kl_json_str(b, x.value);
    }
    kl_buf_add8(b, '}');
}

/* The points of one kind from the cursor on; false: more than `bytes` are there, it will go on. */
static bool list(struct kl_buf *b, const struct pql_out_series *s, struct pql_cursor *c,
                 size_t bytes)
{
    for (; c->point < s->count; c->point++) {
        const struct pql_point *p = &s->points[c->point];

        if ((p->hist != NULL) != c->hists)
            continue;
        if (b->size > bytes)
            return false;
        kl_buf_adds(b, c->listed ? "," : c->hists ? ",\"histograms\":[" : ",\"values\":[");
        c->listed = true;
        point(b, p);
    }
    if (c->listed)
        kl_buf_add8(b, ']');
    c->point = 0;
    c->listed = false;
    return true;
}

static bool series(struct kl_buf *b, const struct pql_result *r, struct pql_cursor *c,
                   size_t bytes)
{
    const struct pql_out_series *s = &r->series[c->series];

    if (r->type == PQL_VECTOR) {
        metric(b, s->labels);
        kl_buf_adds(b, s->points[0].hist != NULL ? ",\"histogram\":" : ",\"value\":");
        point(b, &s->points[0]);
    } else {
        if (!c->begun)
            metric(b, s->labels);
        c->begun = true;
        if (!c->hists && !list(b, s, c, bytes))
            return false;
        c->hists = true;
        if (!list(b, s, c, bytes))
            return false;
    }
    kl_buf_add8(b, '}');
    *c = (struct pql_cursor){ .series = c->series + 1 };
    return true;
}

static bool is_plain(const struct pql_result *r)
{
    return r->type == PQL_SCALAR || r->type == PQL_STRING;
}

static void head(struct kl_buf *out, const struct pql_result *r)
{
    static const char *const types[] = { "scalar", "string", "vector", "matrix" };

    kl_buf_addf(out, "\"resultType\":\"%s\",\"result\":%s", types[r->type],
                is_plain(r) ? "" : "[");
    if (r->type == PQL_SCALAR && r->series_count > 0) {
        point(out, &r->series[0].points[0]);
    } else if (r->type == PQL_STRING) {
        kl_buf_add8(out, '[');
        kl_json_ms(out, r->time_ms);
        kl_buf_add8(out, ',');
        kl_json_str(out, r->string);
        kl_buf_add8(out, ']');
    }
}

bool pql_result_json_piece(const struct pql_result *r, struct pql_cursor *c, size_t bytes,
                           struct kl_buf *out)
{
    if (c->series == 0 && !c->begun)
        head(out, r);
    if (is_plain(r))
        return false;
    while (c->series < r->series_count) {
        if (out->size > bytes && (c->series > 0 || c->begun))
            return true;
        if (c->series > 0 && !c->begun)
            kl_buf_add8(out, ',');
        if (!series(out, r, c, bytes))
            return true;
    }
    kl_buf_add8(out, ']');
    return false;
}

void pql_result_json(const struct pql_result *r, size_t from, size_t to, struct kl_buf *out)
{
    struct pql_cursor c = { .series = from };

    if (from == 0)
        head(out, r);
    if (is_plain(r))
        return;
    while (c.series < to && c.series < r->series_count) {
        if (c.series > 0)
            kl_buf_add8(out, ',');
        series(out, r, &c, SIZE_MAX);
    }
    if (to >= r->series_count)
        kl_buf_add8(out, ']');
}
