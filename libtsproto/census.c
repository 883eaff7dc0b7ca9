#include "libtsproto/census.h"

#include <stdio.h>
#include <string.h>

#include "libtsproto/pb_priv.h"
#include "libtsproto/placement.pb.h"
#include "libtsproto/record.h"

enum { ONE_MAX = 40 };                                 /* bytes of a metric beside its names, at most */

void tsp_census_key(uint32_t partition, char *out, size_t size)
{
    snprintf(out, size, TSP_CENSUS_PREFIX "%04u", partition);
}

static bool put_metrics(pb_ostream_t *stream, const pb_field_t *field, void *const *arg)
{
    const struct tsp_census *c = *arg;
    size_t                   size = 0;

    for (uint32_t i = 0; i < c->count; i++) {
        const struct tsp_census_metric *x = &c->metrics[i];
        koalemos_CensusMetric m = { .tenant = tsp_pb_put(&x->tenant), .metric = tsp_pb_put(&x->metric),
                                    .series = x->series };
        size += x->tenant.size + x->metric.size + ONE_MAX;
        if (size > TSP_CENSUS_VALUE_MAX)
            break;
        if (!pb_encode_tag_for_field(stream, field) ||
            !pb_encode_submessage(stream, koalemos_CensusMetric_fields, &m))
            return false;
    }
    return true;
}

enum kl_code tsp_census_encode(const struct tsp_census *c, struct kl_buf *out, struct kl_err *err)
{
    koalemos_Census m = { .partition = c->partition, .since_ms = c->since_ms,
                          .metrics = { .funcs.encode = put_metrics, .arg = (void *)c } };

    return tsp_pb_encode(koalemos_Census_fields, &m, out, "census", err);
}

struct got { struct kl_arena *arena; struct tsp_census *census; };

static bool get_metric(pb_istream_t *stream, const pb_field_t *field, void **arg)
{
    struct got               *g = *arg;
    koalemos_CensusMetric     m = koalemos_CensusMetric_init_zero;
    struct tsp_census_metric *x = &g->census->metrics[g->census->count];
    struct tsp_pb_bytes       tenant = { g->arena, &x->tenant }, metric = { g->arena, &x->metric };

    (void)field;
    if (g->census->count == TSP_CENSUS_METRICS_MAX)
        PB_RETURN_ERROR(stream, "too many metrics");
    *x = (struct tsp_census_metric){ .tenant = kl_span("", 0), .metric = kl_span("", 0) };
    m.tenant = tsp_pb_get(&tenant);
    m.metric = tsp_pb_get(&metric);
    if (!pb_decode(stream, koalemos_CensusMetric_fields, &m))
        return false;
    if (x->tenant.size == 0 || x->tenant.size > TSP_TENANT_MAX || x->metric.size == 0)
        PB_RETURN_ERROR(stream, "a metric that cannot be");
    x->series = m.series;
    g->census->count++;
    return true;
}

enum kl_code tsp_census_decode(struct kl_span bytes, struct kl_arena *arena, struct tsp_census *c,
                               struct kl_err *err)
{
    struct got      got = { arena, c };
    koalemos_Census m = koalemos_Census_init_zero;
    enum kl_code    code;

    c->count = 0;
    m.metrics = (pb_callback_t){ .funcs.decode = get_metric, .arg = &got };
    code = tsp_pb_decode(koalemos_Census_fields, bytes, &m, "census", err);
    if (code != KL_OK)
        return code;
    c->partition = m.partition;
    c->since_ms = m.since_ms;
    return KL_OK;
}
