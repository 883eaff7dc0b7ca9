/* All files of a folder, one by one: how each lies there, and each written anew. */
#include "libkoal/crypt/vault_priv.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEPTH_MAX = 16, PATH_ROOM = 4096, PIECE = 256 << 10 };

static const char aside[] = "encrypting.tmp";

struct names { size_t count, room; struct name { char text[KL_ENV_DIR_NAME_MAX + 1]; bool is_dir; uint64_t size; } *at; };

static void keep(void *ctx, const char *name, bool is_dir, uint64_t size_bytes)
{
    struct names *n = ctx;

    if (n->count == n->room) {
        n->room = n->room > 0 ? 2 * n->room : 64;
        n->at = kl_resize(n->at, n->room * sizeof *n->at);
    }
    snprintf(n->at[n->count].text, sizeof n->at[n->count].text, "%s", name);
    n->at[n->count].is_dir = is_dir;
    n->at[n->count++].size = size_bytes;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct name *)a)->text, ((const struct name *)b)->text);
}

struct walk {
    enum kl_code (*file)(void *ctx, struct kl_env_dir *dir, const char *name, const char *path, uint64_t size,
                         struct kl_err *err);
    void *ctx;
    char  path[PATH_ROOM];
};

static bool own(struct kl_env_dir *dir, const struct name *n, unsigned depth)
{
    return depth == 0 && (n->is_dir ? kl_vault_passes_by(dir, n->text)
                                    : strcmp(n->text, KL_VAULT_MARK) == 0 || strcmp(n->text, KL_VAULT_MARK ".tmp") == 0);
}

static void has_key(void *ctx, const char *name, bool is_dir, uint64_t size_bytes)
{
    (void)size_bytes;
    *(bool *)ctx |= !is_dir && strncmp(name, "sealed-", 7) == 0;
}

/* An object storage that encrypts its objects itself (libkoal/store/sealed.h): its files are as they shall be. */
static bool sealed_store(struct kl_env_dir *dir, const struct names *n)
{
    struct kl_env_dir *catalogue;
    struct kl_err      unheard;
    bool               is = false;

    for (size_t i = 0; i < n->count; i++)
        if (n->at[i].is_dir && strcmp(n->at[i].text, "catalogue") == 0 &&
            dir->enter(dir, "catalogue", false, &catalogue, &unheard) == KL_OK) {
            catalogue->list(catalogue, has_key, &is, &unheard);
            catalogue->leave(catalogue);
        }
    return is;
}

static enum kl_code walk(struct walk *w, struct kl_env_dir *dir, size_t length, unsigned depth, struct kl_err *err)
{
    struct names n = { 0 };
    enum kl_code code = dir->list(dir, keep, &n, err);

    if (code == KL_OK && n.count > 0)
        qsort(n.at, n.count, sizeof *n.at, by_name);
    if (code == KL_OK && sealed_store(dir, &n))
        n.count = 0;
    for (size_t i = 0; code == KL_OK && i < n.count; i++) {
        const struct name *x = &n.at[i];
        struct kl_env_dir *below;
        size_t             size = strlen(x->text);

        if (own(dir, x, depth))
            continue;
        if (depth == DEPTH_MAX || length + size + 2 > sizeof w->path) {
            code = kl_fail(err, KL_ELIMIT, "%s: folders lie deeper than any of ours", w->path);
            break;
        }
        memcpy(w->path + length, x->text, size + 1);
        if (!x->is_dir) {
            code = w->file(w->ctx, dir, x->text, w->path, x->size, err);
        } else if ((code = dir->enter(dir, x->text, false, &below, err)) == KL_OK) {
            memcpy(w->path + length + size, "/", 2);
            code = walk(w, below, length + size + 1, depth + 1, err);
            below->leave(below);
        }
    }
    free(n.at);
    return code;
}

/* ---- how each lies there ---- */

struct looking { void (*each)(void *ctx, const struct kl_vault_file *f); void *ctx; };

/* The first bytes of it: whether they are a header, and whose. */
static enum kl_code look(struct kl_env_dir *dir, const char *name, struct kl_vault_file *f, struct kl_err *err)
{
    uint8_t             head[KL_VAULT_HEADER];
    struct kl_env_view *v;
    uint64_t            size;
    enum kl_code        code = dir->view(dir, name, &v, &size, err);

    if (code != KL_OK)
        return code;
    f->size_bytes = size;
    if (size >= sizeof head && (code = dir->view_read(v, 0, head, sizeof head, err)) == KL_OK &&
        kl_vault_is_head(head, sizeof head)) {
        f->encrypted = true;
        memcpy(f->id, head + 8, KL_KEY_ID);
    }
    dir->view_close(v);
    return code;
}

static enum kl_code tell(void *ctx, struct kl_env_dir *dir, const char *name, const char *path, uint64_t size,
                         struct kl_err *err)
{
    struct looking      *l = ctx;
    struct kl_vault_file f = { .path = path };

    (void)size;
    if (look(dir, name, &f, err) != KL_OK)
        return err->code == KL_ENOENT ? KL_OK : kl_within(err, "%s", path);
    l->each(l->ctx, &f);
    return KL_OK;
}

enum kl_code kl_vault_each(struct kl_env_dir *raw, void (*each)(void *ctx, const struct kl_vault_file *f), void *ctx,
                           struct kl_err *err)
{
    struct looking l = { each, ctx };
    struct walk    w = { .file = tell, .ctx = &l };

    return walk(&w, raw, 0, 0, err);
}

/* ---- each written anew ---- */

static enum kl_code copy(struct kl_vault_view *from, uint64_t size, struct kl_env_dir *to, struct kl_env_file *f,
                         struct kl_err *err)
{
    uint8_t     *piece = kl_resize(NULL, PIECE);
    enum kl_code code = KL_OK;

    for (uint64_t at = 0; code == KL_OK && at < size; at += PIECE) {
        size_t n = size - at < PIECE ? (size_t)(size - at) : PIECE;

        code = kl_vault_view_read(from, at, piece, n, err);
        if (code == KL_OK)
            code = to->append(f, piece, n, err);
    }
    kl_wipe(piece, PIECE);
    free(piece);
    return code;
}

/* `to` is a vault over `dir`, or `dir`. */
static enum kl_code write_anew(struct kl_env_dir *dir, struct kl_env_dir *to, const struct kl_vault_change *c,
                               const char *name, uint64_t *bytes, struct kl_err *err)
{
    struct kl_vault_view *from;
    struct kl_env_file   *f;
    enum kl_code          code = kl_vault_view_open(dir, c->old, true, name, &from, bytes, err);

    if (code != KL_OK)
        return code;
    code = to->create(to, aside, &f, err);
    if (code == KL_OK) {
        code = copy(from, *bytes, to, f, err);
        if (code == KL_OK)
            code = to->sync(f, err);
        if (code == KL_OK)
            code = to->publish(f, name, err);
        to->close(f);
        if (code != KL_OK)
            to->remove(to, aside, &(struct kl_err){ 0 });
    }
    kl_vault_view_close(from);
    return code;
}

static enum kl_code change(void *ctx, struct kl_env_dir *dir, const char *name, const char *path, uint64_t size,
                           struct kl_err *err)
{
    struct kl_vault_change *c = ctx;
    struct kl_vault_file    f = { .path = path };
    struct kl_env_dir      *to = dir;
    uint64_t                bytes = 0;
    enum kl_code            code;

    (void)size;
    if (strcmp(name, aside) == 0)                      /* left by one that did not end */
        return dir->remove(dir, name, err) == KL_OK || err->code == KL_ENOENT ? KL_OK : err->code;
    code = look(dir, name, &f, err);
    if (code == KL_OK && (f.size_bytes == 0 || (c->keys == NULL ? !f.encrypted
                                                : f.encrypted && memcmp(f.id, kl_keys_id(c->keys, 0), KL_KEY_ID) == 0)))
        return KL_OK;                                  /* as it shall be */
    if (code == KL_OK) {
        if (c->keys != NULL)
            to = kl_vault_over(dir, c->keys);
        code = write_anew(dir, to, c, name, &bytes, err);
        if (c->keys != NULL)
            kl_vault_over_free(to);
    }
    if (code == KL_OK) {
        c->changed++;
        c->bytes += bytes;
        c->told(c->ctx, path, NULL);
    } else if (code == KL_ECORRUPT || code == KL_EINVAL) {
        c->failed++;                                   /* of this file alone */
        c->told(c->ctx, path, err);
        code = KL_OK;
    } else {
        kl_within(err, "%s", path);
    }
    return code;
}

/* Of the keys that may be needed until it is done. */
static enum kl_code begin(struct kl_env_dir *raw, const struct kl_vault_change *c, struct kl_vault_mark *m,
                          struct kl_err *err)
{
    enum kl_code code = kl_vault_mark_read(raw, m, err);
    bool         known = c->keys == NULL;

    if (code == KL_ENOENT)
        *m = (struct kl_vault_mark){ .whole = false };
    else if (code != KL_OK)
        return code;
    else if (c->keys == NULL)
        m->whole = false;
    for (size_t i = 0; i < m->count && !known; i++)
        known = memcmp(m->ids[i], kl_keys_id(c->keys, 0), KL_KEY_ID) == 0;
    if (!known && m->count == KL_KEYS_MAX)
        return kl_fail(err, KL_ELIMIT, "%d keys are in use", KL_KEYS_MAX);
    if (!known)
        memcpy(m->ids[m->count++], kl_keys_id(c->keys, 0), KL_KEY_ID);
    return m->count > 0 ? kl_vault_mark_write(raw, m, err) : kl_fail(err, KL_EINVAL, "it is not encrypted");
}

/* What a cache holds can be fetched again; it may be plain, and it may be by a key that is gone. */
static enum kl_code empty_cache(struct kl_env_dir *raw, struct kl_err *err)
{
    struct kl_env_dir *dir;
    struct names       n = { 0 };
    enum kl_code       code;

    if (!kl_vault_passes_by(raw, "cache") || raw->enter(raw, "cache", false, &dir, err) != KL_OK)
        return KL_OK;
    code = dir->list(dir, keep, &n, err);
    for (size_t i = 0; code == KL_OK && i < n.count; i++)
        code = dir->remove(dir, n.at[i].text, err);
    if (code == KL_OK)
        code = dir->sync_names(dir, err);
    dir->leave(dir);
    free(n.at);
    return code == KL_OK ? KL_OK : kl_within(err, "cache");
}

enum kl_code kl_vault_rewrite(struct kl_env_dir *raw, struct kl_vault_change *c, struct kl_err *err)
{
    struct walk          w = { .file = change, .ctx = c };
    struct kl_vault_mark m;

    c->changed = c->failed = c->bytes = 0;
    if (begin(raw, c, &m, err) != KL_OK || empty_cache(raw, err) != KL_OK || walk(&w, raw, 0, 0, err) != KL_OK)
        return err->code;
    if (c->failed > 0)
        return kl_fail(err, KL_EIO, "%llu files could not be read, and are as they were", (unsigned long long)c->failed);
    if (c->keys == NULL)
        return raw->remove(raw, KL_VAULT_MARK, err) == KL_OK ? raw->sync_names(raw, err) : err->code;
    m = (struct kl_vault_mark){ .whole = true, .count = 1 };
    memcpy(m.ids[0], kl_keys_id(c->keys, 0), KL_KEY_ID);
    return kl_vault_mark_write(raw, &m, err);
}
