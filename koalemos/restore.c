/*
 * `koalemos restore`: a backup into an empty place: objects first, then the catalogue's pointers. Nothing that
 * is there is replaced: a store that holds anything but filesets of this backup, or a catalogue that has a
 * partition, is refused. So a restore that was interrupted while it copied goes on when it is started again.
 */
#include "koalemos/backup.h"

#include "koalemos/backup_priv.h"
#include "koalemos/catalog_priv.h"
#include "libkoal/base/hash.h"
#include "libkoal/store/options.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "usage: koalemos restore --from DIR|s3://BUCKET/PREFIX [--at MS] [flags]\n"
    "\n"
    "  Brings a backup back: into a --data-dir that no server uses, or, without one, into a cluster in NATS that\n"
    "  has no data yet (--store.url and what belongs to it). What is there already is never replaced.\n"
    "  --from           where backups are\n"
    "  --at MS          which of them, as `koalemos backup` named it; the newest without\n"
    "  --list           says which there are, and nothing else\n"
    "  --another-cell   it may be the backup of a cell of another name\n"
    "  store.encryption_key.file names the key of both, where the backup is encrypted.\n"
    "\n"
    "`koalemos restore --from x --help` lists the flags of every service, which it takes as well.\n"
    "Exit status: 0 all is well; 1 it failed, with words; 2 wrong usage.\n";

struct restore {
    struct catalog  c;                                 /* its reach: where to */
    struct kl_store *from;
    const char      *where, *at;
    bool             list_only, another;
    int64_t          at_ms;
    char           **keys; size_t count, room;         /* of all that the backup has, sorted later */
    uint32_t        *parts; uint64_t *hashes; size_t part_count, part_room;
    struct { char *path; uint64_t hash; } *sets; size_t set_count, set_room;
    char           **marks; size_t mark_count, mark_room;
    uint64_t         bytes, found;
    char             strange[KL_STORE_KEY_MAX + 1];    /* in the store, and not of the backup */
};

/* ---- the list ---- */

static enum kl_code keep_manifest(void *ctx, uint32_t partition, uint64_t hash, struct kl_err *err)
{
    struct restore *r = ctx;

    if (partition >= TSP_PARTITIONS_MAX)
        return kl_fail(err, KL_ECORRUPT, "the list of the backup has a partition %" PRIu32, partition);
    if (r->part_count == r->part_room) {
        r->part_room = r->part_room == 0 ? 64 : r->part_room * 2;
        r->parts = kl_resize(r->parts, r->part_room * sizeof *r->parts);
        r->hashes = kl_resize(r->hashes, r->part_room * sizeof *r->hashes);
    }
    r->parts[r->part_count] = partition;
    r->hashes[r->part_count++] = hash;
    return KL_OK;
}

static enum kl_code keep_fileset(void *ctx, uint64_t hash, const char *path, struct kl_err *err)
{
    struct restore *r = ctx;
    struct blk_info unheard;

    if (blk_fileset_path_parse(path, &unheard, err) != KL_OK)
        return kl_within(err, "the list of the backup");
    if (r->set_count == r->set_room) {
        r->set_room = r->set_room == 0 ? 64 : r->set_room * 2;
        r->sets = kl_resize(r->sets, r->set_room * sizeof *r->sets);
    }
    r->sets[r->set_count].path = kl_strdup(path);
    r->sets[r->set_count++].hash = hash;
    return KL_OK;
}

static enum kl_code keep_mark(void *ctx, const char *key, struct kl_err *err)
{
    struct restore *r = ctx;

    if (!kl_store_key_fit(key) || strncmp(key, "catalogue/import/", 17) != 0)
        return kl_fail(err, KL_ECORRUPT, "the list of the backup has a key that is none");
    if (r->mark_count == r->mark_room) {
        r->mark_room = r->mark_room == 0 ? 64 : r->mark_room * 2;
        r->marks = kl_resize(r->marks, r->mark_room * sizeof *r->marks);
    }
    r->marks[r->mark_count++] = kl_strdup(key);
    return KL_OK;
}

/* backup/<13 digits>/list: the newest, or each of them is said. */
static void one_backup(void *ctx, const char *key, uint64_t size_bytes)
{
    struct restore *r = ctx;
    int64_t         at_ms;
    int             used = 0;

    if (sscanf(key, "backup/%13" SCNd64 "/list%n", &at_ms, &used) != 1 || used == 0 || key[used] != '\0')
        return;
    r->found++;
    if (r->list_only)
        printf("%013" PRId64 " (list of %" PRIu64 " bytes)\n", at_ms, size_bytes);
    if (r->at == NULL && at_ms > r->at_ms)
        r->at_ms = at_ms;
}

static enum kl_code read_list(struct restore *r, struct kl_err *err)
{
    const struct backup_each each = { keep_manifest, keep_fileset, keep_mark, r };
    const char  *cell = kl_config_text(r->c.reach.app->config, "cell");
    char         key[BACKUP_KEY_MAX], theirs[128];
    void        *bytes;
    size_t       size;
    enum kl_code code;

    if (r->from->list(r->from, "backup/", one_backup, r, err) != KL_OK)
        return err->code;
    if (r->found == 0)
        return kl_fail(err, KL_ENOENT, "there is no backup in %s", r->where);
    if (r->list_only)
        return KL_OK;
    if (r->at != NULL)
        r->at_ms = strtoll(r->at, NULL, 10);
    backup_key(r->at_ms, "list", key);
    code = backup_read(r->from, key, BACKUP_LIST_MAX, &bytes, &size, err);
    if (code == KL_OK) {
        code = backup_list_read(kl_span(bytes, size), theirs, &each, err);
        free(bytes);
    }
    if (code != KL_OK)
        return kl_within(err, "backup %013" PRId64, r->at_ms);
    if (strcmp(theirs, cell) != 0 && !r->another)
        return kl_fail(err, KL_EINVAL, "the backup is of the cell \"%s\", and `cell` is \"%s\": --another-cell says "
                       "that this is meant", theirs, cell);
    return KL_OK;
}

/* ---- is the place free? ---- */

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void there(void *ctx, const char *key, uint64_t size_bytes)
{
    struct restore *r = ctx;
    const char     *slash = strrchr(key, '/');
    char            path[KL_STORE_KEY_MAX + 1];
    char           *at = path;

    (void)size_bytes;
    if (r->strange[0] != '\0' || strcmp(key, KL_STORE_CELL_KEY) == 0)
        return;
    snprintf(path, sizeof path, "%s", key);
    if (bsearch(&at, r->keys, r->count, sizeof *r->keys, by_text) != NULL)
        return;
    if (slash != NULL) {                               /* a part of a fileset */
        path[slash - key] = '\0';
        if (bsearch(&at, r->keys, r->count, sizeof *r->keys, by_text) != NULL)
            return;
    }
    snprintf(r->strange, sizeof r->strange, "%s", key);
}

static enum kl_code is_free(struct restore *r, struct kl_err *err)
{
    struct kl_store *to = r->c.reach.store;

    r->keys = kl_resize(NULL, (r->set_count + r->mark_count + 1) * sizeof *r->keys);
    for (size_t i = 0; i < r->set_count; i++)
        r->keys[r->count++] = r->sets[i].path;
    for (size_t i = 0; i < r->mark_count; i++)
        r->keys[r->count++] = r->marks[i];
    qsort(r->keys, r->count, sizeof *r->keys, by_text);
    if (to->list(to, "", there, r, err) != KL_OK)
        return err->code;
    if (r->strange[0] != '\0')
        return kl_fail(err, KL_EEXIST, "the store holds data already, %s among it: a backup is restored into an empty one",
                       r->strange);
    for (uint32_t i = 0; i < r->c.reach.partitions; i++) {
        struct reach_question q = { .kv.kind = KL_BUS_KV_GET };

        blk_pointer_key(i, q.kv.key, sizeof q.kv.key);
        reach_ask(&r->c.reach, &q);
        if (q.kv.code == KL_OK) {
            free(q.kv.got);
            return kl_fail(err, KL_EEXIST, "the catalogue has partition %" PRIu32 " already: a backup is restored into "
                           "an empty one", i);
        }
        if (q.kv.code != KL_ENOENT) {
            *err = q.kv.err;
            return kl_within(err, "read the catalogue");
        }
    }
    return KL_OK;
}

/* ---- bringing it back ---- */

static enum kl_code copy_all(struct restore *r, struct kl_err *err)
{
    struct kl_store *to = r->c.reach.store;

    for (size_t i = 0; i < r->set_count; i++) {
        uint64_t hash;

        if (backup_copy(r->from, to, r->sets[i].path, &hash, &r->bytes, err) != KL_OK)
            return kl_within(err, "fileset %s", r->sets[i].path);
        if (hash != r->sets[i].hash)
            return kl_fail(err, KL_ECORRUPT, "fileset %s is not the one that was backed up", r->sets[i].path);
    }
    for (size_t i = 0; i < r->mark_count; i++)
        if (backup_copy_object(r->from, to, r->marks[i], &r->bytes, err) != KL_OK)
            return kl_within(err, "%s", r->marks[i]);
    return KL_OK;
}

struct wanted { const struct blk_manifest *m; };

/* The log is another than the one that the manifest speaks of: nothing of it is covered, all of it is to be read. */
static enum kl_code become(void *ctx, struct blk_manifest *m, struct kl_err *err)
{
    const struct wanted *w = ctx;
    uint64_t             revision = m->revision;
    uint64_t             incarnation = m->incarnation;

    if (revision != 0)
        return kl_fail(err, KL_EINVAL, "somebody else writes the catalogue");
    blk_manifest_deinit(m);
    *m = (struct blk_manifest){ 0 };
    blk_manifest_copy(m, w->m);
    m->incarnation = incarnation;
    m->cut_count = 0;
    m->deleted_seq = 0;
    m->replay_from = 1;
    return KL_OK;
}

static enum kl_code one_partition(struct restore *r, size_t i, struct kl_err *err)
{
    struct blk_manifest m = { 0 };
    struct wanted       w = { &m };
    char                name[16], key[BACKUP_KEY_MAX];
    void               *bytes;
    size_t              size;
    enum kl_code        code;

    snprintf(name, sizeof name, "%04" PRIu32, r->parts[i]);
    backup_key(r->at_ms, name, key);
    if (r->parts[i] >= r->c.reach.partitions)
        return kl_fail(err, KL_EINVAL, "the backup has a partition %" PRIu32 ", and `partitions` is %" PRIu32, r->parts[i],
                       r->c.reach.partitions);
    if (backup_read(r->from, key, BACKUP_LIST_MAX, &bytes, &size, err) != KL_OK)
        return err->code;
    code = kl_hash64(bytes, size) != r->hashes[i] ? kl_fail(err, KL_ECORRUPT, "%s is not the one that was backed up", key)
                                                  : blk_manifest_decode(kl_span(bytes, size), &m, err);
    free(bytes);
    if (code == KL_OK && m.partition != r->parts[i])
        code = kl_fail(err, KL_ECORRUPT, "%s is of another partition", key);
    if (code == KL_OK)
        code = catalog_spreads_see(r->c.spreads, r->c.reach.store, &m, err);
    if (code == KL_OK)
        code = reach_commit(&r->c.reach, r->parts[i], become, &w, err);
    blk_manifest_deinit(&m);
    return code == KL_OK ? KL_OK : kl_within(err, "partition %04" PRIu32, r->parts[i]);
}

static enum kl_code run(struct restore *r, struct kl_app *app, struct kl_err *err)
{
    const struct kl_store_place place = { .env = app->env, .config = app->config, .keys = app->keys, .store_key = app->store_key,
                                          .log = app->log };

    r->c.reach.app = app;
    r->c.spreads = catalog_spreads_new((uint32_t)kl_config_int(app->config, "partitions"));
    if (kl_store_open_at(&place, r->where, true, &r->from, err) != KL_OK || read_list(r, err) != KL_OK)
        return kl_within(err, "%s", r->where);
    if (r->list_only)
        return KL_OK;
    if (reach_open(&r->c.reach, app, true, err) != KL_OK || is_free(r, err) != KL_OK || copy_all(r, err) != KL_OK)
        return err->code;
    for (size_t i = 0; i < r->part_count; i++)
        if (one_partition(r, i, err) != KL_OK)
            return err->code;
    if (catalog_spreads_put(&r->c, r->c.spreads, err) != KL_OK)
        return err->code;
    printf("backup %013" PRId64 " is restored: %zu partitions, %zu filesets, %" PRIu64 " bytes copied and read back\n",
           r->at_ms, r->part_count, r->set_count, r->bytes);
    return KL_OK;
}

static void close_all(struct restore *r)
{
    for (size_t i = 0; i < r->set_count; i++)
        free(r->sets[i].path);
    for (size_t i = 0; i < r->mark_count; i++)
        free(r->marks[i]);
    free(r->sets);
    free(r->marks);
    free(r->keys);
    free(r->parts);
    free(r->hashes);
    catalog_spreads_free(r->c.spreads);
    if (r->from != NULL)
        r->from->close(r->from);
    reach_close(&r->c.reach);
}

static bool read_args(struct restore *r, int *argc, char **argv, int first)
{
    int kept = first;

    for (int i = first; i < *argc; i++) {
        const char **text = strcmp(argv[i], "--from") == 0 ? &r->where : strcmp(argv[i], "--at") == 0 ? &r->at : NULL;

        if (strcmp(argv[i], "--list") == 0) {
            r->list_only = true;
        } else if (strcmp(argv[i], "--another-cell") == 0) {
            r->another = true;
        } else if (text == NULL) {
            argv[kept++] = argv[i];
        } else if (i + 1 == *argc) {
            fprintf(stderr, "koalemos restore: %s wants a value\n", argv[i]);
            return false;
        } else {
            *text = argv[++i];
        }
    }
    argv[kept] = NULL;
    *argc = kept;
    return true;
}

int koalemos_restore(int argc, char **argv, int first)
{
    struct restore r = { 0 };
    struct kl_app *app;
    struct kl_err  err;
    int            status;

    if (argc == first + 1 && (strcmp(argv[first], "--help") == 0 || strcmp(argv[first], "-h") == 0)) {
        fputs(usage, stdout);
        return 0;
    }
    if (!read_args(&r, &argc, argv, first))
        return 2;
    app = kl_app_open("koalemos restore", argc, argv, first, KL_APP_TOOL, &status);
    if (app == NULL)
        return status;
    if (r.where == NULL || (r.at != NULL && strspn(r.at, "0123456789") != strlen(r.at))) {
        fprintf(stderr, "koalemos restore: %s\n%s", r.where == NULL ? "say where from" : "--at is a number", usage);
        kl_app_close(app);
        return 2;
    }
    status = run(&r, app, &err) == KL_OK ? 0 : 1;
    if (status != 0)
        fprintf(stderr, "koalemos restore: %s\n", err.text);
    close_all(&r);
    kl_app_close(app);
    return status;
}
