/*
 * `koalemos catalog rebuild`: the pointers that the KV held, made anew from the object storage alone.
 * Of one process with its data-dir, which must not run meanwhile; or, without a data-dir, of a cluster in
 * NATS. The spreads of metrics come back, too (catalog_spread.c). A pointer that is there is left as it is, so a second run does nothing.
 */
#include "koalemos/catalog.h"

#include "koalemos/catalog_priv.h"
#include "libkoal/bus/options.h"
#include "libkoal/store/options.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "usage: koalemos catalog rebuild [--from-filesets] [flags]\n"
    "\n"
    "  Makes the catalogue anew from the object storage (--store.url and what belongs to it): of a process\n"
    "  that keeps its data in --data-dir and does not run, or, without --data-dir, of a cluster in NATS.\n"
    "  What the catalogue has is left as it is. One line a partition says what was found.\n"
    "  --from-filesets   passes over the manifests and takes every whole fileset there is\n"
    "\n"
    "`koalemos catalog rebuild --help` lists the flags, which are those of every service.\n"
    "Exit status: 0 all is well; 1 something could not be rebuilt, with words; 2 wrong usage.\n";

/* ---- asking the bus, and waiting ---- */

static void kv_done(struct kl_bus_kv *op)
{
    kl_app_wait_tell(kl_container_of(op, struct catalog_question, kv)->wait);
}

static void info_done(struct kl_bus_info *op)
{
    kl_app_wait_tell(kl_container_of(op, struct catalog_question, info)->wait);
}

static void begin(struct kl_env_task *task)
{
    struct catalog_question *q = kl_container_of(task, struct catalog_question, begin);

    if (q->about_log)
        q->bus->info(q->bus, &q->info);
    else
        q->bus->kv(q->bus, &q->kv);
}

void catalog_ask(struct catalog *c, struct catalog_question *q)
{
    q->begin.run = begin;
    q->bus = c->bus;
    q->wait = kl_app_wait_new();
    q->kv.loop = q->info.loop = c->loop;
    q->kv.done = kv_done;
    q->info.done = info_done;
    c->app->env->sched->post(c->loop, &q->begin);
    kl_app_wait_for(q->wait, INT64_C(86400000));       /* each has a bound of its own */
    kl_app_wait_free(q->wait);
}

/* ---- one partition ---- */

static void say(const struct blk_rebuilt *r, const char *what)
{
    printf("partition %04" PRIu32 ": %s: revision %" PRIu64 ", %" PRIu32 " filesets", r->m.partition, what,
           r->m.revision, r->m.fileset_count);
    if (r->added > 0)
        printf(", %" PRIu32 " of them later than the manifest", r->added);
    if (r->superseded > 0)
        printf(", %" PRIu32 " replaced by others", r->superseded);
    if (r->orphans > 0)
        printf(", %" PRIu32 " that nothing names", r->orphans);
    if (r->unreadable > 0)
        printf(", %" PRIu32 " of %" PRIu32 " manifests cannot be read", r->unreadable, r->manifests);
    if (r->corrupt > 0)
        printf(", %" PRIu32 " corrupt: %s", r->corrupt, r->words);
    printf("\n");
}

/* The log may have been purged beyond what an old manifest, or none, knows of. */
static enum kl_code fit_to_log(struct catalog *c, struct blk_rebuilt *r, struct kl_err *err)
{
    struct catalog_question q = { .about_log = true, .info.partition = r->m.partition };

    catalog_ask(c, &q);
    if (q.info.code != KL_OK) {
        *err = q.info.err;
        return kl_within(err, "ask for the log's bounds");
    }
    if (q.info.incarnation == r->m.incarnation && q.info.first_seq > r->m.replay_from) {
        r->m.replay_from = q.info.first_seq;
        r->as_is = false;
    }
    return KL_OK;
}

static enum kl_code restore(struct catalog *c, struct blk_rebuilt *r, bool *there,
                            struct kl_err *err)
{
    struct catalog_question    old = { .kv.kind = KL_BUS_KV_GET }, put = { .kv.kind = KL_BUS_KV_PUT };
    struct blk_pointer at;
    struct kl_buf      bytes = { 0 };
    struct kl_err      unheard;

    blk_pointer_key(r->m.partition, old.kv.key, sizeof old.kv.key);
    memcpy(put.kv.key, old.kv.key, sizeof put.kv.key);
    catalog_ask(c, &old);
    if (old.kv.code != KL_OK && old.kv.code != KL_ENOENT) {
        *err = old.kv.err;
        return kl_within(err, "read the catalogue's pointer");
    }
    *there = old.kv.code == KL_OK &&
             blk_pointer_decode(kl_span(old.kv.got, old.kv.got_size), &at, &unheard) == KL_OK;
    if (old.kv.code == KL_OK)
        free(old.kv.got);
    if (*there)
        return KL_OK;
    if (fit_to_log(c, r, err) != KL_OK || blk_rebuilt_put(c->store, r, &at, err) != KL_OK)
        return err->code;
    blk_pointer_encode(&at, &bytes);
    put.kv.value = kl_buf_span(&bytes);
    put.kv.expect = old.kv.code == KL_OK ? old.kv.revision : 0;
    catalog_ask(c, &put);
    kl_buf_deinit(&bytes);
    if (put.kv.code != KL_OK) {
        *err = put.kv.err;
        return kl_within(err, "write the catalogue's pointer");
    }
    return KL_OK;
}

static bool each(void *ctx, struct blk_rebuilt *r)
{
    struct catalog *c = ctx;
    bool            there = false;

    if (r->m.partition >= c->partitions) {
        c->failed = true;
        kl_fail(&c->err, KL_EINVAL, "the store has a partition %" PRIu32 ", and `partitions` is %" PRIu32,
                r->m.partition, c->partitions);
        return false;
    }
    if (r->missing > 0) {
        printf("partition %04" PRIu32 ": NOT rebuilt: %" PRIu32 " filesets of %" PRIu32 " are lost: %s; "
               "--from-filesets takes what is there\n", r->m.partition, r->missing,
               r->m.fileset_count, r->words);
        c->status = 1;
        return true;
    }
    if (restore(c, r, &there, &c->err) != KL_OK) {
        c->failed = true;
        kl_within(&c->err, "partition %04" PRIu32, r->m.partition);
        return false;
    }
    if (catalog_spreads_see(c->spreads, c->store, &r->m, &c->err) != KL_OK) {
        c->failed = true;
        kl_within(&c->err, "partition %04" PRIu32, r->m.partition);
        return false;
    }
    say(r, there ? "is in the catalogue, left as it is; the store has" : "rebuilt");
    if (r->corrupt > 0)
        c->status = 1;
    return true;
}

/* ---- */

static enum kl_code open_all(struct catalog *c, struct kl_err *err)
{
    const struct kl_config     *config = c->app->config;
    const char                 *path = kl_config_text(config, "data-dir");
    struct kl_bus_local_options local;
    struct kl_bus_nats_options  nats;

    if (path != NULL && path[0] != '\0') {
        if (kl_env_dir_real_open(path, true, &c->data, err) != KL_OK ||
            c->data->lock(c->data, err) != KL_OK ||
            c->data->enter(c->data, "store", true, &c->objects, err) != KL_OK)
            return kl_within(err, "data-dir %s", path);
        kl_bus_local_options_read(config, &local);
        local.log = c->app->log;
        if (kl_bus_local_open(c->app->env, c->data, &local, &c->bus, err) != KL_OK)
            return kl_within(err, "open the log in %s", path);
    } else {
        kl_bus_nats_options_read(config, &nats);
        nats.log = c->app->log;
        if (kl_bus_nats_open(c->app->env, &nats, &c->bus, err) != KL_OK)
            return err->code;
    }
    c->loop = c->app->env->sched->loop_new(c->app->env->sched, "catalog", 16);
    return kl_store_open(&(struct kl_store_place){ .env = c->app->env, .config = config,
                                                   .local = c->objects, .writes = true,
                                                   .log = c->app->log }, &c->store, err);
}

static void close_all(struct catalog *c)
{
    if (c->bus != NULL)
        c->bus->close(c->bus);
    if (c->loop != NULL)
        c->app->env->sched->loop_free(c->loop);
    if (c->bus != NULL)
        c->bus->free(c->bus);
    if (c->store != NULL)
        c->store->close(c->store);
    if (c->objects != NULL)
        c->objects->leave(c->objects);
    if (c->data != NULL)
        c->data->leave(c->data);
}

int koalemos_catalog(int argc, char **argv, int first)
{
    const char    *verb = argc > first ? argv[first] : "";
    struct catalog c = { 0 };

    if (strcmp(verb, "rebuild") != 0) {
        fputs(usage, strcmp(verb, "--help") == 0 ? stdout : stderr);
        return strcmp(verb, "--help") == 0 ? 0 : 2;
    }
    if (argc > first + 1 && strcmp(argv[first + 1], "--from-filesets") == 0) {
        c.filesets_only = true;
        first++;
    }
    c.app = kl_app_open("koalemos catalog", argc, argv, first + 1, "127.0.0.1:0", &c.status);
    if (c.app == NULL)
        return c.status;
    c.status = 0;
    c.partitions = (uint32_t)kl_config_int(c.app->config, "partitions");
    c.spreads = catalog_spreads_new(c.partitions);
    if (open_all(&c, &c.err) != KL_OK ||
        blk_rebuild(&(struct blk_rebuild){ .store = c.store, .filesets_only = c.filesets_only,
                                           .each = each, .ctx = &c }, &c.err) != KL_OK || c.failed ||
        catalog_spreads_put(&c, c.spreads, &c.err) != KL_OK) {
        fprintf(stderr, "koalemos catalog: %s\n", c.err.text);
        c.status = 1;
    }
    catalog_spreads_free(c.spreads);
    close_all(&c);
    kl_app_close(c.app);
    return c.status;
}
