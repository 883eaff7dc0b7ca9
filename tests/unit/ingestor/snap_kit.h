#ifndef TEST_SNAP_KIT_H
#define TEST_SNAP_KIT_H
/* A partition by itself, without loops, to read a snapshot into; and what it holds, as text. */
#include "ingestor/snap_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct snap_kit { struct ing_ingestor i; struct ing_partition p; };

static inline struct snap_kit *snap_kit_new(struct kl_env_dir *dir, int64_t window_ms)
{
    struct snap_kit *k = kl_new(sizeof *k);

    k->i.dir = dir;
    k->i.o.window_ms = window_ms;
    k->i.o.partitions = 1;
    k->i.o.metrics = k->i.own_metrics = kl_metrics_new();
    ing_metrics_init(&k->i);
    k->p.i = &k->i;
    k->p.last_tenant = UINT32_MAX;
    k->p.loaded.replay_from = 1;
    return k;
}

static inline void snap_kit_free(struct snap_kit *k)
{
    ing_snap_discard(&k->p);
    kl_metrics_free(k->i.own_metrics);
    free(k);
}

static inline void snap_kit_run(struct kl_buf *out, const char *what, struct kl_span bytes)
{
    struct ing_run        run;
    struct blk_chunk_head head;
    struct kl_hist        hists[BLK_CHUNK_MAX];
    struct kl_arena       arena;
    struct kl_err         err;
    enum kl_code          code = blk_chunk_peek(bytes, &head, &err);

    kl_arena_init(&arena, 64 << 20);
    if (code == KL_OK && head.kind == BLK_FLOATS)
        code = blk_chunk_decode(bytes, run.times, run.values, run.starts, &run.count, &err);
    else if (code == KL_OK)
        code = blk_chunk_decode_hists(bytes, &arena, run.times, hists, run.starts, &run.count, &err);
    if (code != KL_OK)
        abort();
    for (uint32_t i = 0; i < run.count; i++)
        kl_buf_addf(out, "  %s %lld %lld %a\n", what, (long long)run.times[i], (long long)run.starts[i],
                    head.kind == BLK_FLOATS ? run.values[i] : hists[i].sum);
    kl_arena_deinit(&arena);
}

static inline int snap_kit_by_fp(const void *a, const void *b)
{
    return kl_fp_cmp((*(struct ing_series *const *)a)->fp, (*(struct ing_series *const *)b)->fp);
}

/* Read all at once, in an order that is not the file's, chunks are what they are one by one. */
static inline void snap_kit_at_once(struct snap_kit *k, const struct ing_series *s)
{
    const struct ing_chunk *chunks[256];
    struct kl_span  bytes[256], one;
    struct kl_buf   scratch = { 0 };
    struct kl_err   err;
    char           *block;
    uint32_t        count = 0;

    for (const struct ing_chunk *x = s->first; x != NULL && count < 256; x = x->next)
        chunks[count++] = x;
    for (uint32_t i = 0; i + 1 < count; i += 2) {
        const struct ing_chunk *x = chunks[i];

        chunks[i] = chunks[i + 1];
        chunks[i + 1] = x;
    }
    for (int at_hand = 0; at_hand < 2; at_hand++) {
        enum kl_code code = ing_chunks_bytes(&k->p.files, chunks, count, at_hand, bytes, &block, &err);

        if (code != KL_OK && (!at_hand || code != KL_EAGAIN))
            abort();
        for (uint32_t i = 0; i < count && code == KL_OK; i++)
            if (ing_chunk_bytes(&k->p.files, chunks[i], &scratch, &one, &err) != KL_OK || !kl_span_eq(one, bytes[i]))
                abort();
        free(block);
    }
    kl_buf_deinit(&scratch);
}

static inline void snap_kit_series(struct snap_kit *k, struct ing_head *h, const struct ing_series *s,
                                   struct kl_buf *out)
{
    struct kl_buf labels = { 0 }, scratch = { 0 };
    struct kl_label label;
    struct kl_cur c;
    struct kl_span bytes;
    struct kl_err err;

    ing_render(h->pairs.pair_pages, h->pairs.name_pages, s->pairs, s->pair_count, &labels);
    c = kl_labels_cur((struct kl_labels){ (const uint8_t *)labels.at, labels.size });
    while (kl_labels_next(&c, &label))
        kl_buf_addf(out, "%.*s=%.*s ", (int)label.name.size, (const char *)label.name.at,
                    (int)label.value.size, (const char *)label.value.at);
    kl_buf_addf(out, "refs %u\n", s->definitions);
    for (const struct ing_chunk *x = s->first; x != NULL; x = x->next) {
        if (ing_chunk_bytes(&k->p.files, x, &scratch, &bytes, &err) != KL_OK)
            abort();
        snap_kit_run(out, x->file != 0 ? "spilled" : "chunk", bytes);
    }
    snap_kit_at_once(k, s);
    if (s->tail.count > 0) {
        kl_buf_reset(&scratch);
        if (ing_tail_encode(&s->tail, &scratch, &err) != KL_OK)
            abort();
        snap_kit_run(out, "tail", kl_buf_span(&scratch));
    }
    for (uint32_t i = 0; s->late != NULL && i < s->late->count; i++)
        kl_buf_addf(out, "  late %lld %lld %a\n", (long long)s->late->at[i].time_ms,
                    (long long)s->late->at[i].start_ms, s->late->at[i].value);
    kl_buf_deinit(&labels);
    kl_buf_deinit(&scratch);
}

static inline void snap_kit_dump(struct snap_kit *k, struct kl_buf *out)
{
    struct ing_partition *p = &k->p;

    kl_buf_addf(out, "seq %llu to %llu, %u windows, %llu samples, %llu late writes\n",
                (unsigned long long)p->restored.seq, (unsigned long long)p->restored.seq_end,
                p->first_count, (unsigned long long)p->sample_count, (unsigned long long)p->late_writes);
    if (p->digest.log_from != 0)                       /* from version 3 on */
        kl_buf_addf(out, "the log from %llu: %llx, later %llx; %u cuts, doubt %lld\n",
                    (unsigned long long)p->digest.log_from, (unsigned long long)p->digest.log_hash,
                    (unsigned long long)p->restored.log_hash, p->digest.cuts.cut_count,
                    (long long)p->digest.doubt_ms);
    for (uint32_t t = 0; t < p->tenant_count; t++) {
        struct ing_head    *h = p->tenants[t].head;
        struct ing_series **all = kl_new((h->made + 1) * sizeof *all);
        uint32_t            count = 0;

        kl_buf_addf(out, "tenant %.*s: %u series\n", (int)h->tenant.size, (const char *)h->tenant.at,
                    h->count);
        for (uint32_t id = 0; id < h->made; id++)
            if (ing_series_at(h, id)->alive)
                all[count++] = ing_series_at(h, id);
        if (count > 0)
            qsort(all, count, sizeof *all, snap_kit_by_fp);
        for (uint32_t n = 0; n < count; n++)
            snap_kit_series(k, h, all[n], out);
        free(all);
        for (const struct ing_refs *r = p->tenants[t].refs; r != NULL; r = r->next)
            kl_buf_addf(out, "writer: %u refs, %u orphans, oldest %llu\n", r->count, r->orphan_count,
                        (unsigned long long)ing_refs_oldest(r));
        for (uint32_t m = 0; h->extras != NULL && m < h->extras->meta_count; m++)
            kl_buf_addf(out, "metadata %.*s%s\n", (int)h->extras->metas[m].metric.size,
                        (const char *)h->extras->metas[m].metric.at, h->extras->metas[m].old ? ", old" : "");
        for (uint32_t m = 0; h->extras != NULL && m < h->extras->exemplar_count; m++)
            kl_buf_addf(out, "exemplar %lld %a%s\n", (long long)h->extras->exemplars[m].time_ms,
                        h->extras->exemplars[m].value, h->extras->exemplars[m].old ? ", old" : "");
    }
}
#endif
