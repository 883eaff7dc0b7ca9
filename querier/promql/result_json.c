/* An answer as the JSON of Prometheus' API. */
#include "querier/promql/hist_priv.h"

#include "libkoal/base/json.h"

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

static void list(struct kl_buf *b, const struct pql_out_series *s, bool hists)
{
    bool first = true;

    for (uint32_t i = 0; i < s->count; i++) {
        if ((s->points[i].hist != NULL) != hists)
            continue;
        kl_buf_adds(b, !first ? "," : hists ? ",\"histograms\":[" : ",\"values\":[");
        first = false;
        point(b, &s->points[i]);
    }
    if (!first)
        kl_buf_add8(b, ']');
}

static void series(struct kl_buf *b, const struct pql_result *r, const struct pql_out_series *s)
{
    metric(b, s->labels);
    if (r->type == PQL_VECTOR) {
        kl_buf_adds(b, s->points[0].hist != NULL ? ",\"histogram\":" : ",\"value\":");
        point(b, &s->points[0]);
    } else {
        list(b, s, false);
        list(b, s, true);
    }
    kl_buf_add8(b, '}');
}

void pql_result_json(const struct pql_result *r, size_t from, size_t to, struct kl_buf *out)
{
    static const char *const types[] = { "scalar", "string", "vector", "matrix" };
    bool                     plain = r->type == PQL_SCALAR || r->type == PQL_STRING;

    if (from == 0)
        kl_buf_addf(out, "\"resultType\":\"%s\",\"result\":%s", types[r->type], plain ? "" : "[");
    if (r->type == PQL_SCALAR && from == 0 && r->series_count > 0) {
        point(out, &r->series[0].points[0]);
    } else if (r->type == PQL_STRING && from == 0) {
        kl_buf_add8(out, '[');
        kl_json_ms(out, r->time_ms);
        kl_buf_add8(out, ',');
        kl_json_str(out, r->string);
        kl_buf_add8(out, ']');
    }
    if (plain)
        return;
    for (size_t i = from; i < to && i < r->series_count; i++) {
        if (i > 0)
            kl_buf_add8(out, ',');
        series(out, r, &r->series[i]);
    }
    if (to >= r->series_count)
        kl_buf_add8(out, ']');
}
