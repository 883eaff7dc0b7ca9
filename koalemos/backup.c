/*
 * `koalemos backup`: from the object storage, beside servers that run. What they have not cut yet is in
 * their log alone, so each is asked to flush first (--flush). Of every partition the manifest that counts is
 * chosen as `koalemos catalog rebuild` would, and what it names is copied; where that was replaced
 * meanwhile, the partition is looked at again.
 */
#include "koalemos/backup.h"

#include "koalemos/backup_priv.h"
#include "koalemos/tool.h"
#include "libblock/rebuild.h"
#include "libkoal/base/hash.h"
#include "libkoal/crypt/vault.h"
#include "libkoal/http/client.h"
#include "libkoal/store/options.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "usage: koalemos backup --to DIR|s3://BUCKET/PREFIX [--flush URL]... [flags]\n"
    "\n"
    "  Copies what the object storage has (--store.url and what belongs to it, or the folder `store` of a\n"
    "  --data-dir), as of now, and reads every byte of the copy back. Servers may run meanwhile, and go on.\n"
    "  --to          where to; what an earlier backup put there and has not changed is not copied again\n"
    "  --flush URL   asks that server (serve, or each ingestor) to flush first: what is not flushed is in the\n"
    "                log alone, and not in the backup\n"
    "  --token-file FILE  --ca-file FILE   for --flush, where the server wants a key, or has TLS\n"
    "  A copy of what store.encryption_key.file encrypts is encrypted by that key, too.\n"
    "\n"
    "`koalemos backup --to x --help` lists the flags of every service, which it takes as well.\n"
    "Exit status: 0 all is well; 1 it failed, or something corrupt was left out, with words; 2 wrong usage.\n";

enum { FLUSH_MAX = 64, TRIES = 10 };

struct backup {
    struct kl_app     *app;
    struct kl_env_dir *data, *objects;
    struct kl_store   *from, *to;
    const char        *where, *token_file, *ca_file, *flush[FLUSH_MAX];
    size_t             flush_count;
    int64_t            at_ms;
    uint32_t           partitions;
    bool              *done;                           /* of each partition */
    bool               again;                          /* one was replaced while it was copied */
    struct kl_buf      list;
    uint64_t           filesets, copied, bytes, corrupt, partition_count;
    struct kl_err      err;
    bool               failed;
};

/* ---- one partition ---- */

static enum kl_code put_manifest(struct backup *b, struct blk_manifest *m, struct kl_err *err)
{
    struct kl_buf bytes = { 0 };
    char          name[16], key[BACKUP_KEY_MAX];
    enum kl_code  code;

    for (uint32_t i = 0; i < m->gone_count; i++)       /* what is gone is in no backup */
        m->gone[i].path[0] = '\0';
    m->gone_count = 0;
    blk_manifest_encode(m, &bytes);
    snprintf(name, sizeof name, "%04" PRIu32, m->partition);
    backup_key(b->at_ms, name, key);
    code = b->to->put(b->to, key, kl_buf_span(&bytes), err);
    kl_buf_addf(&b->list, "manifest %" PRIu32 " %016" PRIx64 "\n", m->partition, kl_hash64(bytes.at, bytes.size));
    kl_buf_deinit(&bytes);
    return code;
}

static enum kl_code copy_all(struct backup *b, struct blk_manifest *m, struct kl_buf *lines, struct kl_err *err)
{
    for (uint32_t i = 0; i < m->fileset_count;) {
        char         path[BLK_PATH_MAX + 1];
        uint64_t     hash, before = b->bytes;
        enum kl_code code;

        blk_fileset_path(&m->filesets[i], path);
        code = backup_copy(b->from, b->to, path, &hash, &b->bytes, err);
        if (code == KL_ECORRUPT) {
            fprintf(stderr, "koalemos backup: LEFT OUT, it is corrupt: %s: %s\n", path, err->text);
            b->corrupt++;
            blk_manifest_drop(m, i, 0);
            continue;
        }
        if (code != KL_OK)
            return kl_within(err, "fileset %s", path);
        b->copied += b->bytes != before;
        kl_buf_addf(lines, "fileset %016" PRIx64 " %s\n", hash, path);
        i++;
    }
    return KL_OK;
}

static bool each(void *ctx, struct blk_rebuilt *r)
{
    struct backup *b = ctx;
    struct kl_buf  lines = { 0 };
    uint64_t       corrupt = b->corrupt;
    enum kl_code   code;

    if (r->m.partition >= b->partitions) {
        kl_fail(&b->err, KL_EINVAL, "the store has a partition %" PRIu32 ", and `partitions` is %" PRIu32,
                r->m.partition, b->partitions);
        b->failed = true;
        return false;
    }
    if (b->done[r->m.partition])
        return true;
    code = r->missing > 0 ? kl_fail(&b->err, KL_ENOENT, "%s", r->words) : copy_all(b, &r->m, &lines, &b->err);
    if (code == KL_OK) {
        kl_buf_add(&b->list, lines.at, lines.size);
        b->filesets += r->m.fileset_count;
        b->partition_count++;
        b->done[r->m.partition] = true;
        code = put_manifest(b, &r->m, &b->err);
    }
    kl_buf_deinit(&lines);
    if (code == KL_ENOENT) {                           /* replaced, or made, while we looked */
        b->again = true;
        b->corrupt = corrupt;                          /* they are counted when it is looked at again */
        return true;
    }
    b->failed = code != KL_OK;
    if (b->failed)
        kl_within(&b->err, "partition %04" PRIu32, r->m.partition);
    return !b->failed;
}

struct marks { struct backup *b; char **at; size_t count, room; };

static void mark(void *ctx, const char *key, uint64_t size_bytes)
{
    struct marks *m = ctx;

    (void)size_bytes;
    if (m->count == m->room) {
        m->room = m->room == 0 ? 64 : m->room * 2;
        m->at = kl_resize(m->at, m->room * sizeof *m->at);
    }
    m->at[m->count++] = kl_strdup(key);
}

/* Which blocks were imported. */
static enum kl_code copy_marks(struct backup *b, struct kl_err *err)
{
    struct marks m = { .b = b };
    enum kl_code code = b->from->list(b->from, "catalogue/import/", mark, &m, err);

    for (size_t i = 0; i < m.count; i++) {
        if (code == KL_OK && (code = backup_copy_object(b->from, b->to, m.at[i], &b->bytes, err)) == KL_OK)
            kl_buf_addf(&b->list, "mark %s\n", m.at[i]);
        free(m.at[i]);
    }
    free(m.at);
    return code;
}

/* ---- all of it ---- */

static enum kl_code flush_all(struct backup *b, struct kl_err *err)
{
    struct kl_http_client *c = kl_http_client_new(&(struct kl_http_client_options){ .token_file = b->token_file,
                                                                                      .ca_file = b->ca_file });
    enum kl_code           code = KL_OK;

    for (size_t i = 0; i < b->flush_count && code == KL_OK; i++) {
        char                 url[2000];
        struct kl_http_asked a = { .url = url };

        snprintf(url, sizeof url, "%.*s/api/v1/admin/tsdb/flush", tool_base(b->flush[i]), b->flush[i]);
        code = kl_http_client_ask(c, &a, err);
        if (code == KL_OK && a.status != 204 && a.status != 200)
            code = kl_fail(err, KL_EIO, "flush: %s answers %u %.300s", a.shown, a.status, a.words);
    }
    kl_http_client_free(c);
    return code;
}

/* A backup among what it is a backup of would go with it. */
static bool same_place(const struct backup *b, const char *data)
{
    struct kl_store_options o;
    struct kl_err           unheard;
    char                    place[4200] = "", *from, *to;
    bool                    same;

    if (kl_store_options_read(b->app->config, &o, &unheard) != KL_OK)
        return false;
    if (o.kind == KL_STORE_S3) {
        size_t n = (size_t)snprintf(place, sizeof place, "s3://%s/%s", o.bucket, o.prefix), m = strlen(b->where);

        while (n > 0 && place[n - 1] == '/')
            n--;
        while (m > 0 && b->where[m - 1] == '/')
            m--;
        return n == m && strncmp(place, b->where, n) == 0;
    }
    if (o.kind == KL_STORE_DIR)
        snprintf(place, sizeof place, "%.4000s", o.path);
    else if (data != NULL)
        snprintf(place, sizeof place, "%.4000s/store", data);
    from = realpath(place, NULL);
    to = realpath(b->where, NULL);
    same = from != NULL && to != NULL && strcmp(from, to) == 0;
    free(from);
    free(to);
    return same;
}

static enum kl_code open_all(struct backup *b, struct kl_err *err)
{
    const struct kl_config *config = b->app->config;
    const char             *path = kl_config_text(config, "data-dir");
    struct kl_store_place   place = { .env = b->app->env, .config = config, .keys = b->app->keys, .store_key = b->app->store_key, .log = b->app->log }, there = place;
    struct kl_store        *inner;

    there.writes = true;
    if (same_place(b, path))
        return kl_fail(err, KL_EINVAL, "%s is the object storage itself: a backup there would be lost with it", b->where);
    if (path != NULL && path[0] != '\0') {
        if (kl_vault_open(path, false, b->app->keys, false, &b->data, err) != KL_OK ||
            kl_store_local(b->app->store_key, b->data, "store", false, &b->objects, err) != KL_OK)
            return kl_within(err, "data-dir %s", path);
    }
    place.local = b->objects;
    if (kl_store_open(&place, &b->from, err) != KL_OK)
        return err->code;
    if (kl_store_open_at(&there, b->where, true, &inner, err) != KL_OK)
        return kl_within(err, "%s", b->where);
    /* Another cell's backup, or its data, is not written into. */
    b->to = kl_store_cell_new(inner, kl_config_text(config, "cell"), true);
    return kl_store_cell_check(b->to, err) == KL_OK ? KL_OK : kl_within(err, "%s", b->where);
}

static enum kl_code copy_partitions(struct backup *b, struct kl_err *err)
{
    for (int n = 0; n < TRIES; n++) {
        b->again = false;
        if (blk_rebuild(&(struct blk_rebuild){ .store = b->from, .each = each, .ctx = b }, err) != KL_OK)
            return err->code;
        if (b->failed || !b->again) {
            *err = b->err;
            return b->failed ? err->code : KL_OK;
        }
    }
    *err = b->err;
    return kl_within(err, "after looking %d times something is still missing", TRIES);
}

static enum kl_code run(struct backup *b, struct kl_err *err)
{
    char key[BACKUP_KEY_MAX];

    if (open_all(b, err) != KL_OK || flush_all(b, err) != KL_OK)
        return err->code;
    b->at_ms = kl_env_now_ms(b->app->env);
    b->partitions = TSP_PARTITIONS_MAX;
    b->done = kl_new(b->partitions * sizeof *b->done);
    backup_list_begin(&b->list, kl_config_text(b->app->config, "cell"));
    if (copy_partitions(b, err) != KL_OK || copy_marks(b, err) != KL_OK)
        return err->code;
    backup_list_end(&b->list);
    backup_key(b->at_ms, "list", key);
    return b->to->put(b->to, key, kl_buf_span(&b->list), err);
}

static bool read_args(struct backup *b, int *argc, char **argv, int first)
{
    int kept = first;

    for (int i = first; i < *argc; i++) {
        const char **text = strcmp(argv[i], "--to") == 0 ? &b->where
                          : strcmp(argv[i], "--token-file") == 0 ? &b->token_file
                          : strcmp(argv[i], "--ca-file") == 0 ? &b->ca_file
                          : strcmp(argv[i], "--flush") == 0 && b->flush_count < FLUSH_MAX
                          ? &b->flush[b->flush_count] : NULL;

        if (text == NULL) {
            argv[kept++] = argv[i];
            continue;
        }
        if (i + 1 == *argc) {
            fprintf(stderr, "koalemos backup: %s wants a value\n", argv[i]);
            return false;
        }
        b->flush_count += text == &b->flush[b->flush_count];
        *text = argv[++i];
    }
    argv[kept] = NULL;
    *argc = kept;
    return true;
}

int koalemos_backup(int argc, char **argv, int first)
{
    struct backup b = { 0 };
    struct kl_err err = { 0 };
    enum kl_code  code;
    int           status;

    if (argc == first + 1 && (strcmp(argv[first], "--help") == 0 || strcmp(argv[first], "-h") == 0)) {
        fputs(usage, stdout);
        return 0;
    }
    if (!read_args(&b, &argc, argv, first))
        return 2;
    b.app = kl_app_open("koalemos backup", argc, argv, first, KL_APP_TOOL, &status);
    if (b.app == NULL)
        return status;
    if (b.where == NULL) {
        fprintf(stderr, "koalemos backup: say where to\n%s", usage);
        kl_app_close(b.app);
        return 2;
    }
    code = run(&b, &err);
    status = code == KL_OK && b.corrupt == 0 ? 0 : 1;
    if (code != KL_OK)
        fprintf(stderr, "koalemos backup: %s\n", err.text);
    else
        printf("backup %013" PRId64 ": %" PRIu64 " partitions, %" PRIu64 " filesets, %" PRIu64 " of them new, %" PRIu64
               " bytes copied and read back\n", b.at_ms, b.partition_count, b.filesets, b.copied, b.bytes);
    if (b.corrupt > 0)
        printf("LEFT OUT: %" PRIu64 " corrupt filesets\n", b.corrupt);
    if (code == KL_OK && b.flush_count == 0)
        printf("no server was asked to flush: what only the log has is not in the backup\n");
    if (b.from != NULL)
        b.from->close(b.from);
    if (b.to != NULL)
        b.to->close(b.to);
    if (b.objects != NULL)
        b.objects->leave(b.objects);
    if (b.data != NULL)
        b.data->leave(b.data);
    kl_buf_deinit(&b.list);
    free(b.done);
    kl_app_close(b.app);
    return status;
}
