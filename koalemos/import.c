/*
 * `koalemos import`: what it was told, the blocks one after the other, and what came of it.
 */
#include "koalemos/import.h"

#include "koalemos/import_priv.h"
#include "libkoal/crypt/vault.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char usage[] =
    "usage: koalemos import --prometheus DIR|s3://BUCKET/PREFIX [flags]\n"
    "\n"
    "  Takes blocks of Prometheus' TSDB, as Prometheus, Thanos and Mimir keep them (index v1 and v2; floats and\n"
    "  native histograms; tombstones applied), into the object storage and the catalogue: of a process that keeps\n"
    "  its data in --data-dir and does not run meanwhile, or runs and is named by --server; or, without --data-dir, of\n"
    "  a cluster in NATS, which may run.\n"
    "  DIR is a block, or a folder of blocks; so is s3://BUCKET/PREFIX (of Mimir: one tenant's). What Prometheus still has in its head is in no block: its\n"
    "  POST /api/v1/admin/tsdb/snapshot makes blocks of all. Where a sample was pushed as well, that one stays.\n"
    "  Blocks marked for deletion and downsampled ones of Thanos are passed over. Started again it goes on where\n"
    "  it was interrupted, and takes no block twice.\n"
    "\n"
    "  --server URL      the `koalemos serve` that uses the --data-dir: it is asked for its catalogue, and answers from\n"
    "                    what is imported at once.  --token-file FILE  --ca-file FILE  where it wants a key, or has TLS\n"
    "  --tenant NAME     whose data it becomes (anonymous)\n"
    "  --work-dir DIR    for what is being made (import/ in the data-dir; in a cluster it must be said), and for a\n"
    "                    copy of one block at a time where they come from S3: store.s3.* and the environment say\n"
    "                    how that is reached\n"
    "  --skip-corrupt    passes over series and chunks that are corrupt; each is named, and counted\n"
    "  --drop-outer      leaves out the labels that Thanos' meta.json gives to all series of a block\n"
    "  --again           takes blocks that were taken before\n"
    "  --progress        says how far it is, where stderr is no terminal, too\n"
    "\n"
    "`koalemos import --prometheus x --help` lists the flags of every service, which it takes as well.\n"
    "Exit status: 0 all is well; 1 it failed, with words, or passed over what is corrupt; 2 wrong usage.\n";

struct import {
    struct reach         reach;
    struct import_source source;
    struct kl_env_dir   *work, *filesets;
    struct tsp_placement *placement;
    const char *from, *tenant, *work_path;
    bool        skip, drop_outer, again, progress;
    int64_t     now_ms, retention_ms, window_ms, large_ms;
    uint64_t    blocks, before, passed, filesets_made, samples, histograms, deleted, bad_series, bad_chunks;
    uint64_t    windows_old;
    char        doing[64];                             /* which block, for the progress */
    uint32_t    told;
};

/* ---- arguments ---- */

/* Ours are taken out; the rest is for kl_app_open. */
static bool read_args(struct import *x, int *argc, char **argv, int first)
{
    struct { const char *name, **text; bool *flag; } ours[] = {
        { "--prometheus", &x->from, NULL }, { "--tenant", &x->tenant, NULL },
        { "--server", &x->reach.server, NULL }, { "--token-file", &x->reach.token_file, NULL },
        { "--ca-file", &x->reach.ca_file, NULL },
        { "--work-dir", &x->work_path, NULL }, { "--skip-corrupt", NULL, &x->skip },
        { "--drop-outer", NULL, &x->drop_outer }, { "--again", NULL, &x->again },
        { "--progress", NULL, &x->progress },
    };
    int kept = first;

    for (int i = first; i < *argc; i++) {
        size_t k = 0, n = sizeof ours / sizeof ours[0];

        for (; k < n; k++) {
            size_t size = strlen(ours[k].name);

            if (strncmp(argv[i], ours[k].name, size) != 0)
                continue;
            if (argv[i][size] == '\0' && ours[k].flag != NULL) {
                *ours[k].flag = true;
                break;
            }
            if (argv[i][size] == '=' && ours[k].text != NULL) {
                *ours[k].text = argv[i] + size + 1;
                break;
            }
            if (argv[i][size] == '\0') {
                if (i + 1 == *argc) {
                    fprintf(stderr, "koalemos import: %s wants a value\n", argv[i]);
                    return false;
                }
                *ours[k].text = argv[++i];
                break;
            }
        }
        if (k == n)
            argv[kept++] = argv[i];
    }
    argv[kept] = NULL;
    *argc = kept;
    return true;
}

/* ---- one block ---- */

static void told(void *ctx, uint32_t done, uint32_t all)
{
    struct import *x = ctx;
    uint32_t       percent = all == 0 ? 100 : done * 100 / all;

    if (!x->progress || percent == x->told)
        return;
    x->told = percent;
    fprintf(stderr, "koalemos import: %s: %" PRIu32 " of %" PRIu32 " windows, %" PRIu32 " %%\n", x->doing, done,
            all, percent);
}

static void mark_key(const struct import *x, const struct tsp_tsdb_meta *m, char key[KL_STORE_KEY_MAX + 1])
{
    snprintf(key, KL_STORE_KEY_MAX + 1, "catalogue/import/%s/%s", x->tenant, m->ulid);
}

static enum kl_code put_mark(struct import *x, const struct tsp_tsdb_meta *m, const struct import_job *j,
                             struct kl_err *err)
{
    char          key[KL_STORE_KEY_MAX + 1];
    struct kl_buf b = { 0 };
    enum kl_code  code;

    mark_key(x, m, key);
    kl_buf_addf(&b, "{\"ulid\":\"%s\",\"filesets\":%" PRIu64 ",\"samples\":%" PRIu64 ",\"at_ms\":%" PRId64 "}\n",
                m->ulid, j->filesets_made, j->samples_made, kl_env_now_ms(x->reach.app->env));
    code = x->reach.store->put(x->reach.store, key, kl_buf_span(&b), err);
    kl_buf_deinit(&b);
    return code == KL_EEXIST ? KL_OK : code;           /* taken again */
}

static void count(struct import *x, const struct import_block *b, const struct import_job *j)
{
    x->filesets_made += j->filesets_made;
    x->samples += j->samples_made;
    x->windows_old += j->windows_old;
    x->histograms += b->histograms;
    x->deleted += b->deleted;
    x->bad_series += b->bad_series;
    x->bad_chunks += b->bad_chunks;
}

static enum kl_code take_block(struct import *x, const struct tsp_tsdb_meta *m, struct kl_env_dir *dir,
                               struct kl_err *err)
{
    bool                small = m->max_ms - m->min_ms < x->large_ms;
    struct import_block b = { .meta = m, .tenant = x->tenant, .placement = x->placement, .skip = x->skip,
                              .outer = !x->drop_outer, .now_ms = x->now_ms, .log = x->reach.app->log,
                              .window_ms = small ? x->window_ms : x->large_ms };
    struct import_job   j = { .reach = &x->reach, .tenant = x->tenant, .filesets = x->filesets, .block = &b,
                              .told = told, .ctx = x,
                              .oldest_ms = x->retention_ms == 0 ? INT64_MIN : x->now_ms - x->retention_ms };
    enum kl_code        code = import_block_open(&b, dir, err);

    if (code == KL_OK)
        code = import_progress_open(&j.progress, x->work, x->tenant, m->ulid, b.cut, err);
    if (code == KL_OK)
        code = import_write(&j, err);
    if (code == KL_OK && (code = put_mark(x, m, &j, err)) == KL_OK)
        code = import_progress_end(&j.progress, err);
    count(x, &b, &j);
    if (code == KL_OK)
        printf("block %s: %" PRIu32 " series, %" PRIu64 " samples in %" PRIu64 " filesets\n", m->ulid, b.count,
               j.samples_made, j.filesets_made);
    import_progress_close(&j.progress);
    import_block_close(&b);
    return code;
}

/* Was it taken before? */
static enum kl_code is_taken(struct import *x, const struct tsp_tsdb_meta *m, bool *taken, struct kl_err *err)
{
    char         key[KL_STORE_KEY_MAX + 1];
    uint64_t     size;
    enum kl_code code;

    mark_key(x, m, key);
    code = x->reach.store->head(x->reach.store, key, &size, err);
    *taken = code == KL_OK && !x->again;
    return code == KL_ENOENT ? KL_OK : code;
}

static enum kl_code one(struct import *x, size_t i, const struct tsp_tsdb_meta *m, struct kl_err *err)
{
    struct kl_env_dir *dir = NULL;
    bool               taken;
    enum kl_code       code;

    if (m->resolution_ms != 0) {
        printf("block %s: passed over: downsampled to %" PRId64 " s\n", m->ulid, m->resolution_ms / 1000);
        x->passed++;
        return KL_OK;
    }
    if (is_taken(x, m, &taken, err) != KL_OK)
        return err->code;
    if (taken) {
        printf("block %s: was taken before\n", m->ulid);
        x->before++;
        return KL_OK;
    }
    snprintf(x->doing, sizeof x->doing, "block %s, %zu of %zu", m->ulid, i + 1, x->source.count);
    x->told = 101;
    told(x, 0, 1);
    code = import_source_enter(&x->source, i, m, x->work, &dir, err);
    if (code == KL_OK) {
        code = take_block(x, m, dir != NULL ? dir : x->source.dir, err);
        if (dir != NULL)
            dir->leave(dir);
    }
    if (code == KL_OK)
        code = import_source_forget(&x->source, m, x->work, err);
    x->blocks += code == KL_OK;
    return code;
}

static enum kl_code all(struct import *x, struct kl_err *err)
{
    for (size_t i = 0; i < x->source.count; i++) {
        struct tsp_tsdb_meta m = { 0 };
        enum kl_code         code = import_source_meta(&x->source, i, &m, err);

        if (code == KL_ENOENT) {
            printf("%s: passed over\n", err->text);
            x->passed++;
            continue;
        }
        if (code == KL_OK && (code = one(x, i, &m, err)) != KL_OK)
            kl_within(err, "block %s", m.ulid);
        tsp_tsdb_meta_deinit(&m);
        if (code != KL_OK)
            return code;
    }
    return KL_OK;
}

/* ---- */

static int64_t multiple(int64_t of_ms, int64_t at_least_ms)
{
    return at_least_ms <= of_ms ? of_ms : (at_least_ms + of_ms - 1) / of_ms * of_ms;
}

static enum kl_code open_work(struct import *x, struct kl_err *err)
{
    struct kl_env_dir *data = x->reach.data;

    if (x->work_path != NULL) {
        if (kl_vault_open(x->work_path, true, x->reach.app->keys, true, &x->work, err) != KL_OK)
            return kl_within(err, "work-dir %s", x->work_path);
    } else if (data == NULL) {
        return kl_fail(err, KL_EINVAL, "say where to work: --work-dir DIR");
    } else if (data->enter(data, "import", true, &x->work, err) != KL_OK) {
        x->work = NULL;
        return kl_within(err, "the data-dir's folder import");
    }
    if (x->work->lock(x->work, err) != KL_OK)
        return kl_within(err, "the work folder, which another import uses");
    if (x->work->enter(x->work, "filesets", true, &x->filesets, err) != KL_OK) {
        x->filesets = NULL;
        return kl_within(err, "the work folder");
    }
    return import_clear(x->filesets, err);
}

static enum kl_code run(struct import *x, struct kl_app *app, struct kl_err *err)
{
    const struct kl_config *c = kl_config_tenant(app->config, kl_span_str(x->tenant));

    x->now_ms = kl_env_now_ms(app->env);
    x->retention_ms = kl_config_int(c, "retention");
    x->window_ms = kl_config_int(c, "ingestor.window");
    x->large_ms = multiple(x->window_ms, kl_config_int(c, "compaction.window"));
    if (import_source_open(&x->source, app, x->from, err) != KL_OK || reach_open(&x->reach, app, true, err) != KL_OK ||
        reach_placement(&x->reach, &x->placement, err) != KL_OK || open_work(x, err) != KL_OK)
        return err->code;
    if (x->source.wal)
        printf("%s is the data folder of a Prometheus: what its head holds is in no block, and not taken\n", x->from);
    return all(x, err);
}

static void say(const struct import *x)
{
    printf("%" PRIu64 " blocks taken, %" PRIu64 " taken before, %" PRIu64 " passed over; %" PRIu64 " samples, %" PRIu64
           " of them histograms, in %" PRIu64 " filesets; %" PRIu64 " deleted samples left out\n", x->blocks, x->before,
           x->passed, x->samples, x->histograms, x->filesets_made, x->deleted);
    if (x->windows_old > 0)
        printf("%" PRIu64 " windows are past the tenant's retention, and were left out\n", x->windows_old);
    if (x->bad_series + x->bad_chunks > 0)
        printf("CORRUPT and passed over: %" PRIu64 " series, %" PRIu64 " chunks\n", x->bad_series, x->bad_chunks);
}

static void close_all(struct import *x)
{
    import_source_close(&x->source);
    tsp_placement_free(x->placement);
    if (x->filesets != NULL)
        x->filesets->leave(x->filesets);
    if (x->work != NULL)
        x->work->leave(x->work);
    reach_close(&x->reach);
}

int koalemos_import(int argc, char **argv, int first)
{
    struct import  x = { .tenant = "anonymous" };
    struct kl_app *app;
    struct kl_err  err = { 0 };
    int            status;

    if (argc == first + 1 && (strcmp(argv[first], "--help") == 0 || strcmp(argv[first], "-h") == 0)) {
        fputs(usage, stdout);
        return 0;
    }
    if (!read_args(&x, &argc, argv, first))
        return 2;
    app = kl_app_open("koalemos import", argc, argv, first, KL_APP_TOOL, &status);
    if (app == NULL)
        return status;
    if (x.from == NULL || x.from[0] == '\0' || !kl_tenant_ok(kl_span_str(x.tenant))) {
        fprintf(stderr, "koalemos import: %s\n%s", x.from == NULL || x.from[0] == '\0'
                ? "say where the blocks are" : "that is no name of a tenant", usage);
        kl_app_close(app);
        return 2;
    }
    x.progress |= isatty(STDERR_FILENO) != 0;
    status = 0;
    if (run(&x, app, &err) != KL_OK) {
        fprintf(stderr, "koalemos import: %s\n", err.text);
        status = 1;
    }
    say(&x);
    if (x.bad_series + x.bad_chunks > 0)
        status = 1;
    close_all(&x);
    kl_app_close(app);
    return status;
}
