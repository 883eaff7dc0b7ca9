/*
 * Reading an OTLP message, down its tree to the data points, and numbers and summaries of these;
 * histograms are in take_otlp_hist.c. The tree has been checked before (tsp_otlp_check).
 */
#include "doorman/otlp_priv.h"

#include <string.h>

#include "libkoal/base/json.h"

enum { TARGET_INFO_MS = 150000, TARGET_INFO_MAX = 1000 };      /* half of the usual lookback */

/* ---- series ---- */

struct kl_fp dm_otlp_key(const struct dm_otlp *o, const struct tsp_otlp_point *p, enum dm_otlp_role role,
                         double mark)
{
    struct { struct kl_fp metric, attributes; uint64_t role, mark; } all = {
        o->metric_key, p->attributes, (uint64_t)role, kl_f64_bits(mark) };

    return dm_key_of(&o->sender, DM_OTLP, kl_hash128(&all, sizeof all));
}

static enum kl_code set_marked(const struct dm_otlp *o, struct kl_labels_builder *b, struct kl_arena *arena,
                               struct kl_err *err)
{
    const char *name = o->role == DM_OTLP_BUCKET ? "le" : "quantile";
    char        text[KL_F64_TEXT_MAX];
    size_t      n = kl_f64_text(o->mark, text);
    void       *copy = kl_arena_copy(arena, text, n);

    if (copy == NULL)
        return kl_fail(err, KL_ELIMIT, "no room for a label");
    return tsp_otlp_label_set(b, kl_span_str(name), kl_span(copy, n), err);
}

/* Made once a metric: a long name would else be translated for each of many points. */
static enum kl_code base_name(struct dm_otlp *o, struct kl_span *name, struct kl_err *err)
{
    if (o->name_code == KL_ENOENT)
        o->name_code = tsp_otlp_metric_name(o->settings, &o->metric, &o->gate->shared, &o->name, err);
    if (o->name_code != KL_OK)
        return kl_fail(err, o->name_code, "a metric's name cannot be translated");
    *name = o->name;
    return KL_OK;
}

static enum kl_code metric_name(struct dm_otlp *o, struct kl_arena *arena, struct kl_span *name,
                                struct kl_err *err)
{
    const char *tail = o->role == DM_OTLP_COUNT ? "_count" : o->role == DM_OTLP_SUM ? "_sum"
                     : o->role == DM_OTLP_BUCKET ? "_bucket" : "";
    size_t      n = strlen(tail);
    char       *at;

    if (base_name(o, name, err) != KL_OK || n == 0)
        return err->code;
    at = kl_arena_alloc(arena, name->size + n);
    if (at == NULL)
        return kl_fail(err, KL_ELIMIT, "no room for a name");
    memcpy(at, name->at, name->size);
    memcpy(at + name->size, tail, n);
    *name = kl_span(at, name->size + n);
    return KL_OK;
}

/* struct dm_source's `make`. */
static enum kl_code make_labels(void *ctx, struct kl_labels_builder *b, struct kl_err *err)
{
    struct dm_otlp  *o = ctx;
    struct kl_arena *arena = &o->gate->symbols;
    struct kl_span   name;

    kl_arena_deinit(arena);
    err->code = KL_OK;
    if (o->role == DM_OTLP_TARGET)
        return tsp_otlp_target_info(o->settings, &o->resource, b, arena, err);
    if (!o->has_shared)
        tsp_otlp_shared(o->settings, &o->resource, &o->scope, &o->gate->shared, &o->shared);
    o->has_shared = true;
    if (tsp_otlp_labels(o->settings, &o->shared, o->point, b, arena, err) != KL_OK ||
        metric_name(o, arena, &name, err) != KL_OK ||
        tsp_otlp_label_set(b, kl_span("__name__", 8), name, err) != KL_OK)
        return err->code;
    return o->role == DM_OTLP_BUCKET || o->role == DM_OTLP_QUANTILE ? set_marked(o, b, arena, err) : KL_OK;
}

static struct dm_series series_of(struct dm_otlp *o, const struct tsp_otlp_point *p, enum dm_otlp_role role,
                                  double mark)
{
    o->point = p;
    o->role = role;
    o->mark = mark;
    return (struct dm_series){ .gate = o->gate, .ticket = o->ticket, .sender = &o->sender,
                               .source = { .make = make_labels, .make_ctx = o } };
}

bool dm_otlp_find(struct dm_otlp *o, const struct tsp_otlp_point *p, enum dm_otlp_role role, double mark,
                  struct dm_series *s)
{
    struct kl_fp key = dm_otlp_key(o, p, role, mark);

    *s = series_of(o, p, role, mark);
    return dm_series_find(s, &key, 1);
}

void dm_otlp_refuse(struct dm_otlp *o, const struct tsp_otlp_point *p, enum dm_reason why)
{
    struct dm_series s = series_of(o, p, DM_OTLP_PLAIN, 0);

    dm_series_refuse(&s, why, 1);
}

/* ---- metadata ---- */

static uint8_t type_of(const struct tsp_otlp_metric *m)
{
    switch (m->kind) {
    case TSP_OTLP_SUM:     return m->monotonic ? TSP_META_COUNTER : TSP_META_GAUGE;
    case TSP_OTLP_GAUGE:   return TSP_META_GAUGE;
    case TSP_OTLP_HIST:
    case TSP_OTLP_EXP:     return TSP_META_HISTOGRAM;
    case TSP_OTLP_SUMMARY: return TSP_META_SUMMARY;
    default:               return TSP_META_UNKNOWN;
    }
}

/* As with remote write 2.0, it goes on when a series is defined: hourly, once a metric in a message. */
void dm_otlp_told(struct dm_otlp *o, struct dm_series *s)
{
    struct kl_arena *arena = &o->gate->symbols;
    struct kl_span   name, unit;
    struct kl_err    err;

    if (!s->defined || o->told)
        return;
    o->told = true;
    if (o->role == DM_OTLP_TARGET) {
        dm_metadata(o->gate, o->ticket, &o->sender, kl_span_str("target_info"), TSP_META_INFO,
                    kl_span("", 0), kl_span_str("Target metadata"));
        return;
    }
    kl_arena_deinit(arena);
    if (base_name(o, &name, &err) == KL_OK &&
        tsp_otlp_unit_name(o->metric.unit, arena, &unit, &err) == KL_OK)
        dm_metadata(o->gate, o->ticket, &o->sender, name, type_of(&o->metric), unit, o->metric.description);
}

/* ---- data points ---- */

bool dm_otlp_float(struct dm_otlp *o, const struct tsp_otlp_point *p, enum dm_otlp_role role, double mark,
                   double value, uint64_t start_ns)
{
    struct dm_series s;
    int64_t          time_ms = dm_otlp_ms(p->time_ns), start_ms = dm_otlp_ms(start_ns);
    uint64_t         refused = o->ticket->report.total;

    if (!dm_otlp_find(o, p, role, mark, &s))
        return o->ticket->report.total == refused;
    if (p->absent)
        value = kl_bits_f64(KL_STALE_BITS);
    dm_series_floats(&s, &time_ms, &value, start_ms != 0 ? &start_ms : NULL, 1);
    dm_otlp_told(o, &s);
    return true;
}

struct dm_delta_of dm_otlp_delta(const struct dm_otlp *o, const struct tsp_otlp_point *p)
{
    return (struct dm_delta_of){ .key = dm_otlp_key(o, p, DM_OTLP_DELTA, 0), .start_ns = p->start_ns,
                                 .time_ns = p->time_ns, .now_s = o->gate->now_s };
}

bool dm_otlp_added(struct dm_otlp *o, const struct tsp_otlp_point *p, enum dm_delta verdict)
{
    if (verdict == DM_DELTA_OLD)
        dm_otlp_refuse(o, p, DM_DELTA_LATE);
    else if (verdict == DM_DELTA_NO_ROOM)
        dm_otlp_refuse(o, p, DM_DELTA_FULL);
    return verdict == DM_DELTA_ADDED || verdict == DM_DELTA_AGAIN;
}

static void take_number(struct dm_otlp *o, const struct tsp_otlp_point *p)
{
    bool             counter = o->metric.kind == TSP_OTLP_SUM && o->metric.monotonic;
    struct dm_delta_of of;
    struct dm_series s;
    uint64_t         start_ns = p->start_ns;
    double           value = p->absent ? kl_bits_f64(KL_STALE_BITS) : p->value;
    int64_t          time_ms = dm_otlp_ms(p->time_ns), start_ms;

    if (!p->has_value && !p->absent) {
        dm_otlp_refuse(o, p, DM_NO_VALUE);
        return;
    }
    if (o->metric.temporality == TSP_OTLP_DELTA && !p->absent) {
        of = dm_otlp_delta(o, p);
        if (!dm_otlp_added(o, p, dm_deltas_number(o->gate->deltas, &of, &value, &start_ns)))
            return;
    }
    if (!dm_otlp_find(o, p, DM_OTLP_PLAIN, 0, &s))
        return;
    start_ms = dm_otlp_ms(start_ns);
    dm_series_floats(&s, &time_ms, &value, counter && start_ms != 0 ? &start_ms : NULL, 1);
    dm_otlp_told(o, &s);
    if (p->exemplar_count > 0)
        dm_otlp_exemplars(o, p, &s);
}

static void take_summary(struct dm_otlp *o, const struct tsp_otlp_point *p)
{
    struct kl_cur quantiles = tsp_otlp_in(p->body);
    double        quantile, value;

    if (!dm_otlp_float(o, p, DM_OTLP_COUNT, 0, (double)p->count, p->start_ns) ||
        !dm_otlp_float(o, p, DM_OTLP_SUM, 0, p->sum, p->start_ns))
        return;
    while (tsp_otlp_quantile_next(&quantiles, &quantile, &value))
        if (!dm_otlp_float(o, p, DM_OTLP_QUANTILE, quantile, value, p->start_ns))
            return;
}

/* Judged before anything is made of it, so that a point is in whole or not at all. */
static bool may_enter(struct dm_otlp *o, const struct tsp_otlp_point *p)
{
    int64_t        time_ms = dm_otlp_ms(p->time_ns);
    enum dm_reason why = dm_inspect_time(o->sender.limits, o->ticket->push->now_ms, time_ms);
    uint8_t        t = o->metric.temporality;

    if (why == DM_GOOD && (t == TSP_OTLP_UNSPECIFIED || (t == TSP_OTLP_DELTA && o->settings->refuse_delta)))
        why = DM_TEMPORALITY;
    if (why != DM_GOOD)
        dm_otlp_refuse(o, p, why);
    return why == DM_GOOD;
}

static void take_point(struct dm_otlp *o, const struct tsp_otlp_point *p)
{
    int64_t time_ms = dm_otlp_ms(p->time_ns);

    if (!may_enter(o, p))
        return;
    if (!o->any || time_ms < o->first_ms)
        o->first_ms = time_ms;
    if (!o->any || time_ms > o->last_ms)
        o->last_ms = time_ms;
    o->any = true;
    switch (p->kind) {
    case TSP_OTLP_HIST:    dm_otlp_hist(o, p); break;
    case TSP_OTLP_EXP:     dm_otlp_exp(o, p); break;
    case TSP_OTLP_SUMMARY: take_summary(o, p); break;
    default:               take_number(o, p); break;
    }
}

/* ---- the tree ---- */

/* Points are read in groups, so that the rows of their series can be loaded meanwhile. */
static void take_group(struct dm_otlp *o, const struct tsp_otlp_point *points, size_t count)
{
    enum dm_otlp_role role = o->metric.kind == TSP_OTLP_HIST && !o->settings->custom_hists ? DM_OTLP_COUNT
                           : o->metric.kind == TSP_OTLP_SUMMARY ? DM_OTLP_COUNT : DM_OTLP_PLAIN;
    struct kl_fp keys[DM_TABLE_GROUP];

    if (count == 0)
        return;
    for (size_t i = 0; i < count; i++)
        keys[i] = dm_otlp_key(o, &points[i], role, 0);
    dm_table_prefetch(o->gate->table, keys, count);
    for (size_t i = 0; i < count; i++) {
        uint64_t before = o->ticket->report.total - o->exemplars_refused;
        take_point(o, &points[i]);
        o->ticket->push->points_refused += o->ticket->report.total - o->exemplars_refused > before;
    }
}

static void take_metric(struct dm_otlp *o, struct kl_fp scope_key)
{
    struct { struct kl_fp resource, scope, name, unit; uint64_t kind; } all = {
        o->resource_key, scope_key, kl_hash128(o->metric.name.at, o->metric.name.size),
        kl_hash128(o->metric.unit.at, o->metric.unit.size),
        (uint64_t)o->metric.kind << 1 | o->metric.monotonic };
    struct kl_cur  c = tsp_otlp_in(o->metric.data);
    struct kl_span body;
    struct kl_err  err;
    struct tsp_otlp_point points[DM_TABLE_GROUP];
    size_t         n = 0;

    if (o->metric.kind == TSP_OTLP_NONE)
        return;
    o->metric_key = kl_hash128(&all, sizeof all);
    o->told = false;
    o->name_code = KL_ENOENT;
    while (tsp_otlp_next(&c, TSP_OTLP_POINTS, &body)) {
        if (tsp_otlp_point_read(o->metric.kind, body, &points[n], &err) != KL_OK) {
            dm_report_add(&o->ticket->report, DM_BAD_POINT, 1, NULL, err.text);
            o->ticket->push->points_refused++;
        } else if (++n == DM_TABLE_GROUP) {
            take_group(o, points, n);
            n = 0;
        }
    }
    take_group(o, points, n);
}

static void take_scope(struct dm_otlp *o)
{
    struct kl_cur  metrics = tsp_otlp_in(o->scope.body);
    struct kl_fp   two[2] = { kl_hash128(o->scope.scope.at, o->scope.scope.size),
                              kl_hash128(o->scope.schema_url.at, o->scope.schema_url.size) };
    /* Also where it is in no label: the deltas of two scopes are two sums. */
    struct kl_fp   key = kl_hash128(two, sizeof two);
    struct kl_span child;

    o->has_shared = false;
    kl_arena_deinit(&o->gate->shared);
    while (tsp_otlp_next(&metrics, TSP_OTLP_METRICS, &child))
        if (tsp_otlp_metric_read(child, &o->metric))
            take_metric(o, key);
}

/* What else is known of a resource: at each of its points' times, and often enough in between. */
static void take_target_info(struct dm_otlp *o)
{
    static const struct tsp_otlp_point none = { .kind = TSP_OTLP_NONE };
    struct dm_series s = series_of(o, &none, DM_OTLP_TARGET, 0);
    struct kl_fp     key;
    struct kl_err    err;
    int64_t          times_ms[TARGET_INFO_MAX + 1];
    double           ones[TARGET_INFO_MAX + 1];
    size_t           n = 0;

    o->metric_key = o->resource_key;
    key = dm_otlp_key(o, &none, DM_OTLP_TARGET, 0);
    if (dm_table_find(o->gate->table, key, o->sender.tenant_number) == NULL) {
        kl_labels_start(&o->gate->aside);
        if (make_labels(o, &o->gate->aside, &err) == KL_ENOENT)
            return;
    }
    if (!dm_series_find(&s, &key, 1))
        return;
    if ((o->last_ms - o->first_ms) / TARGET_INFO_MS < TARGET_INFO_MAX)
        for (int64_t t = o->first_ms; t < o->last_ms; t += TARGET_INFO_MS)
            times_ms[n++] = t;
    times_ms[n++] = o->last_ms;
    for (size_t i = 0; i < n; i++)
        ones[i] = 1;
    o->told = false;
    dm_series_floats(&s, times_ms, ones, NULL, n);
    dm_otlp_told(o, &s);
}

void dm_take_otlp(struct dm_gate *g, struct dm_ticket *t, struct kl_span body)
{
    struct dm_otlp o = { .gate = g, .ticket = t, .settings = &g->options->otlp };
    struct kl_cur  resources = tsp_otlp_in(body), scopes;
    struct kl_span child;

    if (!dm_sender_of(g, t, &o.sender)) {
        dm_ticket_fail(t, 503, 1, "too many tenants");
        return;
    }
    while (tsp_otlp_next(&resources, TSP_OTLP_RESOURCES, &child)) {
        if (!tsp_otlp_resource_read(child, &o.resource))
            continue;
        o.resource_key = kl_hash128(o.resource.resource.at, o.resource.resource.size);
        o.any = false;
        for (scopes = tsp_otlp_in(child); tsp_otlp_next(&scopes, TSP_OTLP_SCOPES, &child); )
            if (tsp_otlp_scope_read(child, &o.scope))
                take_scope(&o);
        if (o.any && o.settings->target_info)
            take_target_info(&o);
    }
    kl_arena_deinit(&g->symbols);
    kl_arena_deinit(&g->shared);
    kl_arena_deinit(&g->arena);
}
