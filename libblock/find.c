/* Looking for filesets and manifests below a folder, by the names of folders alone. */
#include "libblock/tools.h"

#include "libblock/fileset_priv.h"
#include "libblock/manifest.h"

#include <stdio.h>
#include <stdlib.h>

enum { NAMES_ROOM = 64, ROOT_MAX = 4096 };

struct level { struct kl_env_dir *dir; const char *name; };
struct search {
    struct level      levels[BLK_FIND_DEPTH + 1];      /* [0] is the top, nameless */
    struct blk_finds *finds;
};

struct name { char *text; uint64_t bytes; bool is_dir; };
struct names { struct name *at; size_t count, room; };

static void keep(void *ctx, const char *name, bool is_dir, uint64_t size_bytes)
{
    struct names *n = ctx;

    if (n->count == n->room) {
        n->room = n->room == 0 ? NAMES_ROOM : n->room * 2;
        n->at = kl_resize(n->at, n->room * sizeof *n->at);
    }
    n->at[n->count++] = (struct name){ kl_strdup(name), size_bytes, is_dir };
}

static void names_free(struct names *n)
{
    for (size_t i = 0; i < n->count; i++)
        free(n->at[i].text);
    free(n->at);
}

static bool has(const struct names *n, const char *file)
{
    for (size_t i = 0; i < n->count; i++)
        if (!n->at[i].is_dir && strcmp(n->at[i].text, file) == 0)
            return true;
    return false;
}

/* The names of levels first..last, joined. */
static char *joined(const struct search *s, unsigned first, unsigned last, const char *more)
{
    struct kl_buf b = { 0 };

    for (unsigned i = first; i <= last; i++)
        kl_buf_addf(&b, "%s%s", b.size > 0 ? "/" : "", s->levels[i].name);
    if (more != NULL)
        kl_buf_addf(&b, "%s%s", b.size > 0 ? "/" : "", more);
    kl_buf_add8(&b, 0);
    return b.at;
}

static void add(struct search *s, struct blk_found x)
{
    struct blk_finds *f = s->finds;

    if (f->count == f->room) {
        f->room = f->room == 0 ? NAMES_ROOM : f->room * 2;
        f->at = kl_resize(f->at, f->room * sizeof *f->at);
    }
    f->at[f->count++] = x;
}

static bool all_digits(const char *name, size_t size)
{
    return strlen(name) == size && strspn(name, "0123456789") == size;
}

/* Is the folder at `depth` one fileset? Then it is taken, and not entered. */
static bool take_fileset(struct search *s, unsigned depth, const struct names *n)
{
    struct blk_found x = { .kind = BLK_FOUND_UNFINISHED };
    struct blk_info  info;
    struct kl_err    err;
    char            *path;

    if (depth < 3)
        return false;
    path = joined(s, depth - 2, depth, NULL);
    if (blk_fileset_path_parse(path, &info, &err) != KL_OK) {
        free(path);
        return false;
    }
    for (size_t i = 0; i < n->count; i++)
        x.bytes += n->at[i].is_dir ? 0 : n->at[i].bytes;
    if (has(n, "checkpoint"))
        x.kind = has(n, "meta") && !has(n, "digests") ? BLK_FOUND_STORED : BLK_FOUND_LOCAL;
    x.path = path;
    x.root = joined(s, 1, depth - 3, NULL);
    if (n->count == 0) {                               /* a folder that outlived its fileset */
        free(x.path);
        free(x.root);
    } else {
        add(s, x);
    }
    return true;
}

static bool take_manifests(struct search *s, unsigned depth, const struct names *n)
{
    if (depth < 2 || strcmp(s->levels[depth - 1].name, "catalogue") != 0 ||
        !all_digits(s->levels[depth].name, 4))
        return false;
    for (size_t i = 0; i < n->count; i++)
        if (!n->at[i].is_dir && all_digits(n->at[i].text, 20))
            add(s, (struct blk_found){ .kind = BLK_FOUND_MANIFEST, .bytes = n->at[i].bytes,
                                       .root = joined(s, 1, depth - 2, NULL),
                                       .path = joined(s, depth - 1, depth, n->at[i].text) });
    return true;
}

static enum kl_code search(struct search *s, unsigned depth, struct kl_err *err)
{
    struct kl_env_dir *dir = s->levels[depth].dir;
    struct names       n = { 0 };
    enum kl_code       code = dir->list(dir, keep, &n, err);

    if (code == KL_OK && !take_fileset(s, depth, &n) && !take_manifests(s, depth, &n) &&
        depth < BLK_FIND_DEPTH)
        for (size_t i = 0; i < n.count && code == KL_OK; i++) {
            struct level *below = &s->levels[depth + 1];

            if (!n.at[i].is_dir || strlen(n.at[i].text) > KL_ENV_DIR_NAME_MAX)
                continue;
            code = dir->enter(dir, n.at[i].text, false, &below->dir, err);
            if (code != KL_OK && n.at[i].text[0] == '.')
                code = KL_ENOENT;                      /* perhaps a tenant's; or what is nobody's to enter */
            if (code == KL_OK) {
                below->name = n.at[i].text;
                code = search(s, depth + 1, err);
                below->dir->leave(below->dir);
            }
            if (code == KL_ENOENT)                     /* removed meanwhile */
                code = KL_OK;
            else if (code != KL_OK)
                kl_within(err, "%s", n.at[i].text);
        }
    names_free(&n);
    return code;
}

static int by_place(const void *a, const void *b)
{
    const struct blk_found *x = a, *y = b;
    int                     c = strcmp(x->root, y->root);

    if (c == 0 && x->kind != y->kind)
        c = x->kind < y->kind ? -1 : 1;
    return c != 0 ? c : strcmp(x->path, y->path);
}

enum kl_code blk_find(struct kl_env_dir *top, struct blk_finds *finds, struct kl_err *err)
{
    struct search s = { .levels = { { top, "" } }, .finds = finds };
    enum kl_code  code;

    *finds = (struct blk_finds){ 0 };
    code = search(&s, 0, err);
    if (code != KL_OK)
        blk_finds_deinit(finds);
    else if (finds->count > 0)
        qsort(finds->at, finds->count, sizeof *finds->at, by_place);
    return code;
}

void blk_finds_deinit(struct blk_finds *finds)
{
    for (size_t i = 0; i < finds->count; i++) {
        free(finds->at[i].root);
        free(finds->at[i].path);
    }
    free(finds->at);
    *finds = (struct blk_finds){ 0 };
}

/* ---- opening what was found ---- */

static void way_leave(struct blk_found_open *w)
{
    while (w->depth > 0) {
        w->depth--;
        w->dirs[w->depth]->leave(w->dirs[w->depth]);
    }
}

/* Down `path` from `top`; the last of it is *at, which is `top` for "". */
static enum kl_code way_enter(struct kl_env_dir *top, const char *path,
                              struct blk_found_open *w, struct kl_env_dir **at, struct kl_err *err)
{
    *w = (struct blk_found_open){ .depth = 0 };
    *at = top;
    while (*path != '\0') {
        size_t n = strcspn(path, "/");
        char   name[KL_ENV_DIR_NAME_MAX + 1];

        if (n == 0 || n > KL_ENV_DIR_NAME_MAX || w->depth == BLK_FIND_DEPTH) {
            way_leave(w);
            return kl_fail(err, KL_EINVAL, "no such place was found");
        }
        memcpy(name, path, n);
        name[n] = '\0';
        if ((*at)->enter(*at, name, false, &w->dirs[w->depth], err) != KL_OK) {
            way_leave(w);
            return err->code;
        }
        *at = w->dirs[w->depth++];
        path += n + (path[n] == '/');
    }
    return KL_OK;
}

enum kl_code blk_found_open(struct kl_env_dir *top, const struct blk_found *x,
                            struct blk_found_open *o, struct kl_err *err)
{
    struct kl_env_dir *root;
    enum kl_code       code;

    if (x->kind != BLK_FOUND_LOCAL && x->kind != BLK_FOUND_STORED)
        return kl_fail(err, KL_ENOENT, "no finished fileset");
    if (way_enter(top, x->root, o, &root, err) != KL_OK)
        return err->code;
    if (x->kind == BLK_FOUND_LOCAL) {
        code = blk_fileset_open_local(root, x->path, &o->f, err);
    } else {
        o->store = kl_store_dir_new(root);
        code = blk_fileset_open_store(o->store, x->path, &o->f, err);
    }
    if (code != KL_OK)
        blk_found_close(o);
    return code;
}

void blk_found_close(struct blk_found_open *o)
{
    blk_fileset_unref(o->f);
    if (o->store != NULL)
        o->store->close(o->store);
    way_leave(o);
    *o = (struct blk_found_open){ .depth = 0 };
}

enum kl_code blk_found_read(struct kl_env_dir *top, const struct blk_found *x, void **bytes,
                            size_t *size, struct kl_err *err)
{
    const char        *slash = strrchr(x->path, '/');
    struct kl_buf      folder = { 0 };
    struct kl_env_dir *dir;
    struct blk_found_open w;
    enum kl_code       code;

    kl_buf_addf(&folder, "%s%s%.*s", x->root, x->root[0] != '\0' ? "/" : "",
                (int)(slash - x->path), x->path);
    kl_buf_add8(&folder, 0);
    code = way_enter(top, folder.at, &w, &dir, err);
    if (code == KL_OK) {
        code = dir->read(dir, slash + 1, (size_t)256 << 20, bytes, size, err);
        way_leave(&w);
    }
    kl_buf_deinit(&folder);
    return code;
}
