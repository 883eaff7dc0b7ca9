/*
 * What a shard knows of the cluster: the placement table and, for each partition, which manifest
 * is the newest. Both are watched in the KV; a manifest is read from the store when first wanted,
 * checked against the pointer's digest, and kept until the pointer has moved on and the next was read, whose
 * lineage (lineage.h) goes by it.
 */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "querier/qr_priv.h"

static const char catalogue_prefix[] = "catalogue.";

struct qr_table *qr_table_ref(struct qr_table *t)
{
    t->refs++;
    return t;
}

void qr_table_unref(struct qr_table *t)
{
    if (t == NULL || --t->refs > 0)
        return;
    tsp_placement_free(t->placement);
    free(t);
}

struct qr_manifest *qr_manifest_ref(struct qr_manifest *m)
{
    m->refs++;
    return m;
}

void qr_manifest_unref(struct qr_manifest *m)
{
    if (m == NULL || --m->refs > 0)
        return;
    blk_manifest_deinit(&m->m);
    qr_lineage_free(m->lineage);
    free(m);
}

/* ---- the placement table ---- */

/* One of the table's keys, watched or read again. */
static void take_key(struct qr_shard *s, const char *key, struct kl_span value, uint64_t revision)
{
    struct tsp_placement *p;
    struct kl_err         err;

    if (s->layout == NULL)
        return;                                        /* closing */
    if (!tsp_layout_see(s->layout, key, value, revision, &err)) {
        if (err.code != KL_OK)
            kl_logf(s->q->o.log, KL_ERROR, "querier: %s cannot be read: %s", key, err.text);
        return;
    }
    p = tsp_layout_table(s->layout);
    if (p == NULL)
        return;
    qr_table_unref(s->table);
    s->table = kl_new(sizeof *s->table);
    s->table->placement = p;
    s->table->refs = 1;
    atomic_store(&s->placement_known, s->placement_current);
}

static void placement_change(struct kl_bus_watch *w, const char *key, struct kl_span value,
                             uint64_t revision)
{
    take_key(w->ctx, key, value, revision);
}

static void reread_next(struct qr_reread *r);

/* A key that is not there was never written. */
static void reread_back(struct kl_bus_kv *kv)
{
    struct qr_reread *r = kl_container_of(kv, struct qr_reread, kv);
    struct qr_job    *j = r->job;

    if (kv->code == KL_OK) {
        take_key(j->shard, kv->key, kl_span(kv->got, kv->got_size), kv->revision);
        free(kv->got);
    }
    if (kv->code == KL_OK || (kv->code == KL_ENOENT && r->number > 0)) {
        r->code = KL_OK;
        if (++r->number <= TSP_SPREAD_KEYS) {
            reread_next(r);
            return;
        }
    } else {
        r->code = kv->code;
        r->err = kv->err;
    }
    r->done(r);
    qr_drop(j);
}

static void reread_next(struct qr_reread *r)
{
    struct qr_job *j = r->job;

    r->kv = (struct kl_bus_kv){ .kind = KL_BUS_KV_GET, .key = TSP_PLACEMENT_KEY,
                                .loop = j->shard->loop, .done = reread_back };
    if (r->number > 0)
        tsp_spread_key(r->number - 1, r->kv.key, sizeof r->kv.key);
    j->q->bus->kv(j->q->bus, &r->kv);
}

void qr_placement_reread(struct qr_reread *r)
{
    r->number = 0;
    qr_hold(r->job);
    reread_next(r);
}

/* ---- the catalogue ---- */

static struct qr_pointer *pointer_of(struct qr_shard *s, uint32_t partition)
{
    if (partition >= s->pointer_count) {
        size_t count = s->pointer_count == 0 ? 64 : s->pointer_count;

        while (count <= partition)
            count *= 2;
        s->pointers = kl_resize(s->pointers, count * sizeof *s->pointers);
        memset(s->pointers + s->pointer_count, 0,
               (count - s->pointer_count) * sizeof *s->pointers);
        s->pointer_count = count;
    }
    return &s->pointers[partition];
}

static void take_pointer(struct qr_shard *s, uint32_t partition, struct kl_span value)
{
    struct qr_pointer *at = pointer_of(s, partition);
    struct blk_pointer p;
    struct kl_err      err = { 0 };

    if (blk_pointer_decode(value, &p, &err) != KL_OK) {
        kl_logf(s->q->o.log, KL_ERROR, "querier: partition %" PRIu32 ": catalogue pointer: %s",
                partition, err.text);
        return;
    }
    if (at->known && p.revision < at->revision)
        return;
    if (at->manifest != NULL && (p.revision != at->revision || p.digest != at->digest)) {
        qr_manifest_unref(at->before);
        at->before = at->manifest;
        at->manifest = NULL;
    }
    at->known = true;
    at->revision = p.revision;
    at->digest = p.digest;
    qr_repeats_changed(s);
}

/* Deleted: whatever is put there next begins anew, with a lower revision perhaps. */
static void forget_pointer(struct qr_shard *s, uint32_t partition)
{
    struct qr_pointer *at = pointer_of(s, partition);

    qr_manifest_unref(at->manifest);
    qr_manifest_unref(at->before);
    *at = (struct qr_pointer){ 0 };
}

static void catalogue_change(struct kl_bus_watch *w, const char *key, struct kl_span value,
                             uint64_t revision)
{
    char          expect[KL_BUS_KEY_MAX + 1];
    char         *rest;
    unsigned long partition = strtoul(key + sizeof catalogue_prefix - 1, &rest, 10);

    (void)revision;
    if (*rest != '\0' || partition >= TSP_PARTITIONS_MAX)
        return;
    blk_pointer_key((uint32_t)partition, expect, sizeof expect);
    if (strcmp(key, expect) != 0)
        return;
    if (value.at != NULL)
        take_pointer(w->ctx, (uint32_t)partition, value);
    else
        forget_pointer(w->ctx, (uint32_t)partition);
}

static void catalogue_current(struct kl_bus_watch *w)
{
    struct qr_shard *s = w->ctx;

    atomic_store(&s->catalogue_known, true);
}

/* From here on all keys that there are have been seen. */
static void placement_current(struct kl_bus_watch *w)
{
    struct qr_shard *s = w->ctx;

    s->placement_current = true;
    atomic_store(&s->placement_known, s->table != NULL);
}

void qr_catalogue_open(struct qr_shard *s)
{
    s->layout = tsp_layout_new();
    s->placement_watch = (struct kl_bus_watch){ .loop = s->loop, .change = placement_change,
                                                .current = placement_current, .ctx = s };
    snprintf(s->placement_watch.prefix, sizeof s->placement_watch.prefix, "%s", TSP_PLACEMENT_KEY);
    s->catalogue_watch = (struct kl_bus_watch){ .loop = s->loop, .change = catalogue_change,
                                                .current = catalogue_current, .ctx = s };
    snprintf(s->catalogue_watch.prefix, sizeof s->catalogue_watch.prefix, "%s", catalogue_prefix);
    s->q->bus->watch(s->q->bus, &s->placement_watch);
    s->q->bus->watch(s->q->bus, &s->catalogue_watch);
    qr_losses_open(s);
}

void qr_catalogue_close(struct qr_shard *s)
{
    s->q->bus->unwatch(s->q->bus, &s->placement_watch);
    s->q->bus->unwatch(s->q->bus, &s->catalogue_watch);
    qr_losses_close(s);
    qr_table_unref(s->table);
    s->table = NULL;
    tsp_layout_free(s->layout);
    s->layout = NULL;
    for (size_t i = 0; i < s->pointer_count; i++) {
        qr_manifest_unref(s->pointers[i].manifest);
        qr_manifest_unref(s->pointers[i].before);
    }
    free(s->pointers);
    s->pointers = NULL;
    s->pointer_count = 0;
}

/* ---- looking a manifest up ---- */

static void lookup_go(struct qr_lookup *l);

static void lookup_end(struct qr_lookup *l, enum kl_code code)
{
    struct qr_job *j = l->job;

    l->code = code;
    l->done(l);
    qr_drop(j);
}

static void lookup_again(struct kl_env_timer *t)
{
    struct qr_lookup *l = kl_container_of(t, struct qr_lookup, wait);

    l->fresh = true;
    lookup_go(l);
}

static void pointer_back(struct kl_bus_kv *kv)
{
    struct qr_lookup *l = kl_container_of(kv, struct qr_lookup, kv);

    l->fresh = false;
    if (kv->code == KL_OK) {
        take_pointer(l->job->shard, l->partition, kl_span(kv->got, kv->got_size));
        free(kv->got);
        lookup_go(l);
    } else if (kv->code == KL_ENOENT) {
        lookup_go(l);
    } else {
        l->err = kv->err;
        lookup_end(l, kl_within(&l->err, "read the catalogue's pointer"));
    }
}

static void ask_pointer(struct qr_lookup *l)
{
    l->kv = (struct kl_bus_kv){ .kind = KL_BUS_KV_GET, .loop = l->job->shard->loop,
                                .done = pointer_back };
    blk_pointer_key(l->partition, l->kv.key, sizeof l->kv.key);
    l->job->q->bus->kv(l->job->q->bus, &l->kv);
}

static void manifest_back(struct kl_env_task *task)
{
    struct qr_lookup  *l = kl_container_of(task, struct qr_lookup, task);
    struct qr_pointer *at = pointer_of(l->job->shard, l->partition);

    qr_manifest_unref(l->before);
    l->before = NULL;
    if (l->code == KL_ENOENT && l->tries < QR_CATALOGUE_TRIES) {
        l->tries++;                                    /* a newer one took its place meanwhile */
        l->fresh = true;
        lookup_go(l);
        return;
    }
    if (l->code == KL_OK && at->known && at->revision == l->want.revision && at->digest == l->want.digest) {
        if (at->manifest == NULL) {
            at->manifest = qr_manifest_ref(l->manifest);
            at->used_ns = kl_env_mono_ns(l->job->q->env);
            qr_manifest_unref(at->before);
            at->before = NULL;
        } else {                                       /* another read it meanwhile: one lineage for all */
            qr_manifest_unref(l->manifest);
            l->manifest = qr_manifest_ref(at->manifest);
        }
    }
    lookup_end(l, l->code);
}

static enum kl_code read_manifest(struct qr_lookup *l)
{
    struct blk_pointer at = { .revision = l->want.revision, .digest = l->want.digest };

    l->manifest = kl_new(sizeof *l->manifest);
    l->manifest->refs = 1;
    if (blk_manifest_read(l->job->q->store, l->partition, &at, &l->manifest->m, &l->err) == KL_OK) {
        l->manifest->lineage = qr_lineage_new(&l->manifest->m, l->before != NULL ? l->before->lineage : NULL,
                                              (kl_env_mono_ns(l->job->q->env) - l->want.used_ns) / 1000000);
        return KL_OK;
    }
    free(l->manifest);
    l->manifest = NULL;
    return l->err.code;
}

static void manifest_work(struct kl_env_task *task)
{
    struct qr_lookup *l = kl_container_of(task, struct qr_lookup, task);

    l->code = read_manifest(l);
    task->run = manifest_back;
    l->job->q->env->sched->post(l->job->shard->loop, task);
}

static void lookup_go(struct qr_lookup *l)
{
    struct qr_job     *j = l->job;
    struct qr_pointer *at = pointer_of(j->shard, l->partition);

    if (j->ended) {
        lookup_end(l, KL_ECANCELED);
    } else if (l->fresh) {
        ask_pointer(l);
    } else if ((at->known ? at->revision : 0) < l->least) {
        /* The owner let go of data under a revision that has not reached us. */
        if (l->tries == QR_CATALOGUE_TRIES) {
            lookup_end(l, kl_fail(&l->err, KL_EAGAIN, "the catalogue is at revision %" PRIu64
                                  ", the ingestor at %" PRIu64, at->revision, l->least));
            return;
        }
        l->wait.fire = lookup_again;
        j->q->env->sched->arm(j->shard->loop, &l->wait, l->tries++ == 0 ? 0 : QR_RETRY_MS);
    } else if (!at->known) {
        lookup_end(l, KL_OK);                          /* nothing was ever flushed */
    } else if (at->manifest != NULL) {
        l->manifest = qr_manifest_ref(at->manifest);
        at->used_ns = kl_env_mono_ns(j->q->env);
        lookup_end(l, KL_OK);
    } else {
        l->want = *at;
        l->before = at->before != NULL ? qr_manifest_ref(at->before) : NULL;
        l->task.run = manifest_work;
        j->q->env->sched->errand(j->q->env->sched, &l->task);
    }
}

void qr_lookup_start(struct qr_lookup *l)
{
    l->tries = 0;
    l->code = KL_OK;
    l->manifest = NULL;
    qr_hold(l->job);
    lookup_go(l);
}
