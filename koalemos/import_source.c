#include "koalemos/import_priv.h"

#include "libkoal/store/options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCKS_MAX = 100000, PIECE = 8 << 20, FILES_MAX = 1 << 16 };

static void add(struct import_source *s, const char *path, size_t size)
{
    if (s->count == BLOCKS_MAX) {
        s->over = true;
        return;
    }
    if (s->count == s->room) {
        s->room = s->room == 0 ? 16 : s->room * 2;
        s->blocks = kl_resize(s->blocks, s->room * sizeof *s->blocks);
    }
    s->blocks[s->count] = kl_resize(NULL, size + 1);
    memcpy(s->blocks[s->count], path, size);
    s->blocks[s->count++][size] = '\0';
}

/* ---- a bucket ---- */

static void listed(void *ctx, const char *key, uint64_t size_bytes)
{
    static const char tail[] = "meta.json";
    size_t            n = strlen(key);

    (void)size_bytes;
    if (strcmp(key, tail) == 0)
        add(ctx, "", 0);
    /* Directly below: further down are other tenants' (Mimir), whose data must not become one. */
    else if (n == TSP_TSDB_ULID + sizeof tail && key[TSP_TSDB_ULID] == '/' && strcmp(key + TSP_TSDB_ULID + 1, tail) == 0 &&
             memchr(key, '/', TSP_TSDB_ULID) == NULL)
        add(ctx, key, TSP_TSDB_ULID);
}

/* ---- a folder ---- */

struct names { struct import_source *s; struct kl_env_dir *dir; bool meta, wal; struct kl_err err; };

/* KL_ENOENT: it is no block. One that cannot be looked into may be one. */
static enum kl_code has_meta(struct kl_env_dir *dir, const char *name, struct kl_err *err)
{
    struct kl_env_dir  *in;
    struct kl_env_view *view;
    uint64_t            size;
    enum kl_code        code;

    if (dir->enter(dir, name, false, &in, err) != KL_OK)
        return err->code;
    code = in->view(in, "meta.json", &view, &size, err);
    if (code == KL_OK)
        in->view_close(view);
    in->leave(in);
    return code;
}

static void each(void *ctx, const char *name, bool is_dir, uint64_t size_bytes)
{
    struct names *n = ctx;
    struct kl_err err;
    enum kl_code  code;

    (void)size_bytes;
    n->meta |= !is_dir && strcmp(name, "meta.json") == 0;
    n->wal |= is_dir && strcmp(name, "wal") == 0;
    if (!is_dir || strlen(name) != TSP_TSDB_ULID || n->err.code != KL_OK)
        return;
    code = has_meta(n->dir, name, &err);
    if (code == KL_OK)
        add(n->s, name, strlen(name));
    else if (code != KL_ENOENT)
        n->err = err;
}

static enum kl_code open_folder(struct import_source *s, const char *where, struct kl_err *err)
{
    struct names n = { .s = s };

    if (kl_env_dir_real_open(where, false, &s->dir, err) != KL_OK)
        return err->code;
    n.dir = s->dir;
    if (s->dir->list(s->dir, each, &n, err) != KL_OK)
        return err->code;
    if (n.meta)
        add(s, "", 0);
    s->wal = n.wal;
    *err = n.err;
    return err->code;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

enum kl_code import_source_open(struct import_source *s, struct kl_app *app, const char *where,
                                struct kl_err *err)
{
    const struct kl_store_place place = { .env = app->env, .config = app->config, .keys = app->keys, .store_key = app->store_key,
                                          .log = app->log };
    enum kl_code                code;

    *s = (struct import_source){ .env = app->env };
    if (strncmp(where, "s3://", 5) != 0) {
        code = open_folder(s, where, err);
    } else if ((code = kl_store_open_at(&place, where, false, &s->store, err)) == KL_OK) {
        code = s->store->list(s->store, "", listed, s, err);
    }
    if (code == KL_OK && s->over)
        code = kl_fail(err, KL_ELIMIT, "there are more than %d blocks", BLOCKS_MAX);
    if (code == KL_OK && s->count == 0)
        code = kl_fail(err, KL_ENOENT, "there is no block, no folder with a meta.json");
    if (s->count > 1)
        qsort(s->blocks, s->count, sizeof *s->blocks, by_name);    /* by age */
    return code == KL_OK ? KL_OK : kl_within(err, "%s", where);
}

void import_source_close(struct import_source *s)
{
    for (size_t i = 0; i < s->count; i++)
        free(s->blocks[i]);
    free(s->blocks);
    if (s->dir != NULL)
        s->dir->leave(s->dir);
    if (s->store != NULL)
        s->store->close(s->store);
}

/* ---- one block ---- */

static enum kl_code enter(struct import_source *s, size_t i, struct kl_env_dir **dir, struct kl_err *err)
{
    return s->dir->enter(s->dir, s->blocks[i], false, dir, err);
}

static enum kl_code read_object(struct import_source *s, const char *block, const char *name,
                                void **bytes, size_t *size, struct kl_err *err)
{
    char         key[KL_STORE_KEY_MAX + 1];
    uint64_t     n;
    enum kl_code code;

    snprintf(key, sizeof key, "%s%s%s", block, block[0] != '\0' ? "/" : "", name);
    code = s->store->head(s->store, key, &n, err);
    if (code != KL_OK)
        return code;
    if (n > TSP_TSDB_META_MAX)
        return kl_fail(err, KL_ELIMIT, "%s of %llu bytes", key, (unsigned long long)n);
    *bytes = kl_resize(NULL, n + 1);
    *size = n;
    code = s->store->get(s->store, key, 0, *bytes, n, err);
    if (code != KL_OK)
        free(*bytes);
    return code;
}

static enum kl_code read_small(struct import_source *s, size_t i, const char *name, void **bytes,
                               size_t *size, struct kl_err *err)
{
    struct kl_env_dir *dir;
    enum kl_code       code;

    if (s->store != NULL)
        return read_object(s, s->blocks[i], name, bytes, size, err);
    if (s->blocks[i][0] == '\0')
        return s->dir->read(s->dir, name, TSP_TSDB_META_MAX, bytes, size, err);
    if (enter(s, i, &dir, err) != KL_OK)
        return err->code;
    code = dir->read(dir, name, TSP_TSDB_META_MAX, bytes, size, err);
    dir->leave(dir);
    return code;
}

enum kl_code import_source_meta(struct import_source *s, size_t i, struct tsp_tsdb_meta *m,
                                struct kl_err *err)
{
    enum kl_code code;
    size_t       size;
    void        *bytes;

    /* Thanos and Mimir: what is marked has been replaced by another block. */
    code = read_small(s, i, "deletion-mark.json", &bytes, &size, err);
    if (code == KL_OK) {
        free(bytes);
        return kl_fail(err, KL_ENOENT, "block %s: it is marked for deletion", s->blocks[i]);
    }
    if (code != KL_ENOENT)
        return kl_within(err, "block %s", s->blocks[i]);
    code = read_small(s, i, "meta.json", &bytes, &size, err);
    if (code == KL_OK) {
        code = tsp_tsdb_meta_read(kl_span(bytes, size), m, err);
        free(bytes);
    } else if (code == KL_ENOENT) {
        code = kl_fail(err, KL_EIO, "meta.json went while we looked");
    }
    return code == KL_OK ? KL_OK : kl_within(err, "block %s", s->blocks[i]);
}

struct keys { char **at; uint64_t *sizes; size_t count, room; bool over; };

static void each_key(void *ctx, const char *key, uint64_t size_bytes)
{
    struct keys *k = ctx;

    if (k->count == FILES_MAX) {
        k->over = true;
        return;
    }
    if (k->count == k->room) {
        k->room = k->room == 0 ? 16 : k->room * 2;
        k->at = kl_resize(k->at, k->room * sizeof *k->at);
        k->sizes = kl_resize(k->sizes, k->room * sizeof *k->sizes);
    }
    k->at[k->count] = kl_strdup(key);
    k->sizes[k->count++] = size_bytes;
}

/* An object becomes a file, piece by piece; one that is there whole already stays. */
static enum kl_code fetch(struct kl_store *store, const char *key, uint64_t size, struct kl_env_dir *to,
                          const char *name, void *piece, struct kl_err *err)
{
    struct kl_env_file *f;
    struct kl_env_view *view;
    uint64_t            there;
    enum kl_code        code = KL_OK;

    if (to->view(to, name, &view, &there, err) == KL_OK) {
        to->view_close(view);
        if (there == size)
            return KL_OK;
    }
    if (to->create(to, "piece.tmp", &f, err) != KL_OK)
        return err->code;
    for (uint64_t at = 0; at < size && code == KL_OK; at += PIECE) {
        size_t n = size - at < PIECE ? (size_t)(size - at) : PIECE;

        code = store->get(store, key, at, piece, n, err);
        if (code == KL_OK)
            code = to->append(f, piece, n, err);
    }
    if (code == KL_OK && (code = to->sync(f, err)) == KL_OK)
        code = to->publish(f, name, err);
    to->close(f);
    return code == KL_OK ? KL_OK : kl_within(err, "fetch %s", key);
}

static bool wanted(const char *name)
{
    return strcmp(name, "index") == 0 || strcmp(name, "tombstones") == 0;
}

static enum kl_code fetch_all(struct import_source *s, const char *block, struct kl_env_dir *to,
                              struct kl_err *err)
{
    struct keys        k = { 0 };
    struct kl_env_dir *chunks = NULL;
    char               prefix[KL_STORE_KEY_MAX + 1];
    void              *piece = kl_resize(NULL, PIECE);
    size_t             n;
    enum kl_code       code;

    snprintf(prefix, sizeof prefix, "%s%s", block, block[0] != '\0' ? "/" : "");
    n = strlen(prefix);
    code = s->store->list(s->store, prefix, each_key, &k, err);
    if (code == KL_OK && k.over)
        code = kl_fail(err, KL_ELIMIT, "a block of more than %d files", FILES_MAX);
    if (code == KL_OK)
        code = to->enter(to, "chunks", true, &chunks, err);
    for (size_t i = 0; i < k.count && code == KL_OK; i++) {
        const char *name = k.at[i] + n;

        if (wanted(name))
            code = fetch(s->store, k.at[i], k.sizes[i], to, name, piece, err);
        else if (strncmp(name, "chunks/", 7) == 0 && strspn(name + 7, "0123456789") == 6 && name[13] == '\0')
            code = fetch(s->store, k.at[i], k.sizes[i], chunks, name + 7, piece, err);
    }
    if (chunks != NULL)
        chunks->leave(chunks);
    for (size_t i = 0; i < k.count; i++)
        free(k.at[i]);
    free(k.at);
    free(k.sizes);
    free(piece);
    return code;
}

enum kl_code import_source_enter(struct import_source *s, size_t i, const struct tsp_tsdb_meta *m,
                                 struct kl_env_dir *work, struct kl_env_dir **block, struct kl_err *err)
{
    if (s->store == NULL && s->blocks[i][0] == '\0') {
        *block = NULL;                                 /* s->dir */
        return KL_OK;
    }
    if (s->store == NULL)
        return enter(s, i, block, err);
    if (work->enter(work, m->ulid, true, block, err) != KL_OK)
        return err->code;
    if (fetch_all(s, s->blocks[i], *block, err) == KL_OK)
        return KL_OK;
    (*block)->leave(*block);
    return err->code;
}

struct gone { struct kl_env_dir *dir; struct kl_err err; };

static void remove_one(void *ctx, const char *name, bool is_dir, uint64_t size_bytes)
{
    struct gone *g = ctx;

    (void)size_bytes;
    if (!is_dir && g->err.code == KL_OK)
        g->dir->remove(g->dir, name, &g->err);
}

static enum kl_code empty(struct kl_env_dir *in, const char *name, struct kl_err *err)
{
    struct gone  g = { 0 };
    enum kl_code code = in->enter(in, name, false, &g.dir, err);

    if (code != KL_OK)
        return code == KL_ENOENT ? KL_OK : code;
    code = g.dir->list(g.dir, remove_one, &g, err);
    if (code == KL_OK && g.err.code != KL_OK) {
        *err = g.err;
        code = err->code;
    }
    g.dir->leave(g.dir);
    return code;
}

enum kl_code import_source_forget(struct import_source *s, const struct tsp_tsdb_meta *m,
                                  struct kl_env_dir *work, struct kl_err *err)
{
    struct kl_env_dir *copy;
    enum kl_code       code;

    if (s->store == NULL)
        return KL_OK;
    if (work->enter(work, m->ulid, false, &copy, err) != KL_OK)
        return err->code == KL_ENOENT ? KL_OK : err->code;
    code = empty(copy, "chunks", err);
    if (code == KL_OK && (code = copy->remove_dir(copy, "chunks", err)) == KL_ENOENT)
        code = KL_OK;
    copy->leave(copy);
    if (code == KL_OK)
        code = empty(work, m->ulid, err);
    return code == KL_OK ? work->remove_dir(work, m->ulid, err) : code;
}
