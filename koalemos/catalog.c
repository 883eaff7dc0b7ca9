/*
 * `koalemos catalog rebuild`: the pointers that the KV held, made anew from the object storage alone.
 * Of one process with its data-dir, which must not run meanwhile; or, without a data-dir, of a cluster in
 * NATS. The spreads of metrics come back, too (catalog_spread.c). A pointer that is there is left as it is, so a second run does nothing.
 */
#include "koalemos/catalog.h"

#include "koalemos/catalog_priv.h"

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
    struct reach_question q = { .about_log = true, .info.partition = r->m.partition };

    reach_ask(&c->reach, &q);
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
    struct reach_question    old = { .kv.kind = KL_BUS_KV_GET }, put = { .kv.kind = KL_BUS_KV_PUT };
    struct blk_pointer at;
    struct kl_buf      bytes = { 0 };
    struct kl_err      unheard;

    blk_pointer_key(r->m.partition, old.kv.key, sizeof old.kv.key);
    memcpy(put.kv.key, old.kv.key, sizeof put.kv.key);
    reach_ask(&c->reach, &old);
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
    if (fit_to_log(c, r, err) != KL_OK || blk_rebuilt_put(c->reach.store, r, &at, err) != KL_OK)
        return err->code;
    blk_pointer_encode(&at, &bytes);
    put.kv.value = kl_buf_span(&bytes);
    put.kv.expect = old.kv.code == KL_OK ? old.kv.revision : 0;
    reach_ask(&c->reach, &put);
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

    c->seen++;
    if (r->m.partition >= c->reach.partitions) {
        c->failed = true;
        kl_fail(&c->err, KL_EINVAL, "the store has a partition %" PRIu32 ", and `partitions` is %" PRIu32,
                r->m.partition, c->reach.partitions);
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
    if (catalog_spreads_see(c->spreads, c->reach.store, &r->m, &c->err) != KL_OK) {
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

int koalemos_catalog(int argc, char **argv, int first)
{
    const char    *verb = argc > first ? argv[first] : "";
    struct catalog c = { 0 };
    struct kl_app *app;

    if (strcmp(verb, "rebuild") != 0) {
        fputs(usage, strcmp(verb, "--help") == 0 ? stdout : stderr);
        return strcmp(verb, "--help") == 0 ? 0 : 2;
    }
    if (argc > first + 1 && strcmp(argv[first + 1], "--from-filesets") == 0) {
        c.filesets_only = true;
        first++;
    }
    app = kl_app_open("koalemos catalog", argc, argv, first + 1, KL_APP_TOOL, &c.status);
    if (app == NULL)
        return c.status;
    c.status = 0;
    c.reach.standing = kl_config_text(app->config, "store.url") == NULL && kl_config_text(app->config, "store.dir") == NULL;
    c.spreads = catalog_spreads_new((uint32_t)kl_config_int(app->config, "partitions"));
    if (reach_open(&c.reach, app, true, &c.err) != KL_OK ||
        blk_rebuild(&(struct blk_rebuild){ .store = c.reach.store, .filesets_only = c.filesets_only,
                                           .each = each, .ctx = &c }, &c.err) != KL_OK || c.failed ||
        catalog_spreads_put(&c, c.spreads, &c.err) != KL_OK) {
        fprintf(stderr, "koalemos catalog: %s\n", c.err.text);
        c.status = 1;
    } else if (c.seen == 0)
        printf("the store has no partition: nothing was rebuilt\n");
    catalog_spreads_free(c.spreads);
    reach_close(&c.reach);
    kl_app_close(app);
    return c.status;
}
