/*
 * The spreads of metrics, from where their series lie. The KV that was lost also held which metrics are
 * spread over more than one partition; a reader that does not know looks for them in too few. Each
 * fileset tells its metrics, and the farthest partition that has one tells how far it was spread.
 */
#include "koalemos/catalog_priv.h"

#include "libtsproto/layout.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct catalog_spreads {
    struct tsp_placement *table;                       /* what was seen so far */
    uint32_t partitions;
    struct { char *tenant, *metric; size_t metric_size; } *at; size_t count, room;
    struct kl_err err;                                 /* of the fileset at hand */
};

struct catalog_spreads *catalog_spreads_new(uint32_t partitions)
{
    struct catalog_spreads *s = kl_new(sizeof *s);

    s->partitions = partitions;
    s->table = tsp_placement_new(partitions);
    return s;
}

void catalog_spreads_free(struct catalog_spreads *s)
{
    for (size_t i = 0; i < s->count; i++) {
        free(s->at[i].tenant);
        free(s->at[i].metric);
    }
    free(s->at);
    tsp_placement_free(s->table);
    free(s);
}

static void keep(struct catalog_spreads *s, const char *tenant, struct kl_span metric)
{
    if (s->count == s->room) {
        s->room = s->room == 0 ? 16 : 2 * s->room;
        s->at = kl_resize(s->at, s->room * sizeof *s->at);
    }
    s->at[s->count].tenant = kl_strdup(tenant);
    s->at[s->count].metric = kl_resize(NULL, metric.size + 1);
    memcpy(s->at[s->count].metric, metric.at, metric.size);
    s->at[s->count++].metric_size = metric.size;
}

/* The metric has series in that partition. */
static void seen(struct catalog_spreads *s, const char *tenant, struct kl_span metric,
                 uint32_t partition)
{
    struct tsp_spread now = { .tenant = kl_span_str(tenant), .metric = metric };
    uint32_t          first, count, far;
    int64_t           since;
    uint8_t           known = tsp_placement_spread_of(s->table, now.tenant, metric, &since);

    tsp_placement_range(s->table, now.tenant, metric, &first, &count);
    far = (partition - first) & (s->partitions - 1);
    if (far < count)
        return;
    while ((1u << now.spread) <= far)
        now.spread++;
    if (tsp_placement_spread(s->table, &now, &s->err) == KL_OK && known == 0)
        keep(s, tenant, metric);
}

struct one { struct catalog_spreads *s; const struct blk_info *info; };

static void each_metric(void *ctx, struct kl_span metric)
{
    const struct one *o = ctx;

    if (o->s->err.code == KL_OK)
        seen(o->s, o->info->tenant, metric, o->info->partition);
}

enum kl_code catalog_spreads_see(struct catalog_spreads *s, struct kl_store *store,
                                 const struct blk_manifest *m, struct kl_err *err)
{
    for (uint32_t i = 0; i < m->fileset_count; i++) {
        struct one          o = { s, &m->filesets[i] };
        char                path[BLK_PATH_MAX + 1];
        struct blk_fileset *f;
        enum kl_code        code;

        if (m->filesets[i].quarantined)
            continue;
        blk_fileset_path(&m->filesets[i], path);
        code = blk_fileset_open_store(store, path, &f, err);
        if (code == KL_OK) {
            s->err = (struct kl_err){ 0 };
            code = blk_fileset_values(f, kl_span_str("__name__"), NULL, 0, each_metric, &o, err);
            blk_fileset_unref(f);
            if (code == KL_OK && s->err.code != KL_OK) {
                *err = s->err;
                code = err->code;
            }
        }
        if (code == KL_ECORRUPT || code == KL_ENOENT)  /* it answers no query, either */
            continue;
        if (code != KL_OK)
            return kl_within(err, "which metrics are in %s", path);
    }
    return KL_OK;
}

/* One key of the KV: those of our spreads that fall to it, where larger than what it holds. */
static enum kl_code put_key(struct catalog *c, struct catalog_spreads *s, uint32_t number,
                            size_t *added, struct kl_err *err)
{
    struct reach_question old = { .kv.kind = KL_BUS_KV_GET }, put = { .kv.kind = KL_BUS_KV_PUT };
    struct tsp_layout      *layout = tsp_layout_new();
    struct tsp_spread      *mine = kl_resize(NULL, (s->count + 1) * sizeof *mine);
    struct kl_buf           value = { 0 };
    size_t                  count = 0;
    enum kl_code            code = KL_OK;

    *added = 0;
    for (size_t i = 0; i < s->count; i++) {
        struct tsp_spread x = { .tenant = kl_span_str(s->at[i].tenant),
                                .metric = kl_span(s->at[i].metric, s->at[i].metric_size) };
        int64_t           since;

        x.spread = tsp_placement_spread_of(s->table, x.tenant, x.metric, &since);
        if (tsp_spread_number(x.tenant, x.metric) == number)
            mine[count++] = x;
    }
    tsp_spread_key(number, old.kv.key, sizeof old.kv.key);
    memcpy(put.kv.key, old.kv.key, sizeof put.kv.key);
    if (count > 0) {
        reach_ask(&c->reach, &old);
        code = old.kv.code == KL_ENOENT ? KL_OK : old.kv.code;
        *err = old.kv.err;
    }
    if (count > 0 && code == KL_OK) {
        if (old.kv.code == KL_OK) {
            tsp_layout_see(layout, old.kv.key, kl_span(old.kv.got, old.kv.got_size), old.kv.revision, err);
            free(old.kv.got);
        }
        code = tsp_layout_add(layout, number, mine, count, &value, added, &put.kv.expect, err);
        if (code == KL_OK && *added > 0) {
            put.kv.value = kl_buf_span(&value);
            put.kv.expect = old.kv.code == KL_OK ? old.kv.revision : 0;
            reach_ask(&c->reach, &put);
            code = put.kv.code;
            *err = put.kv.err;
        }
    }
    kl_buf_deinit(&value);
    free(mine);
    tsp_layout_free(layout);
    return code == KL_OK ? KL_OK : kl_within(err, "write %s", put.kv.key);
}

enum kl_code catalog_spreads_put(struct catalog *c, struct catalog_spreads *s, struct kl_err *err)
{
    size_t all = 0, added;

    for (uint32_t number = 0; number < TSP_SPREAD_KEYS; number++) {
        if (put_key(c, s, number, &added, err) != KL_OK)
            return err->code;
        all += added;
    }
    if (all > 0)
        printf("spreads of %zu metrics restored\n", all);
    return KL_OK;
}
