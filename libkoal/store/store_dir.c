#include "libkoal/store/folders.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * A folder as object storage. An object is written aside in its own folder, synced, then published
 * under a name that must be free: whole or absent, whatever happens, and of several puts of one key,
 * in whatever process, one succeeds. The folders on the way are synced by each put, also when they
 * were there: whoever made them may not have come to it yet.
 */
static const char aside[] = ".put-";                   /* what a crash may leave; no key begins so */

struct dir_store {
    struct kl_store    store;
    struct kl_env_dir *root;
    bool               owned;                          /* root, and left with the store */
    uint64_t           mark;                           /* of this process, in names aside */
    _Atomic unsigned   turn;
};

/* The folders on the way to an object, each to be left. */
enum { DEPTH_MAX = 32, PIECE = 1 << 20 };
struct way { struct kl_env_dir *dirs[DEPTH_MAX]; unsigned depth; char name[KL_ENV_DIR_NAME_MAX + 1]; };

static void leave(struct way *w)
{
    while (w->depth > 1) {
        struct kl_env_dir *d = w->dirs[--w->depth];
        d->leave(d);
    }
}

static enum kl_code step(struct way *w, const char *name, bool make, struct kl_err *err)
{
    struct kl_env_dir *at = w->dirs[w->depth - 1], *child;
    enum kl_code       code = at->enter(at, name, make, &child, err);

    if (code == KL_OK && make && (code = at->sync_names(at, err)) != KL_OK)
        child->leave(child);
    if (code == KL_OK)
        w->dirs[w->depth++] = child;
    return code;
}

/* Walks to the folder of `key`; its last part is in w->name. After a failure nothing is held. */
static enum kl_code walk(struct dir_store *s, const char *key, bool make, struct way *w,
                         struct kl_err *err)
{
    if (!kl_store_key_fit(key))
        return kl_fail(err, KL_EINVAL, "\"%.100s\" is no key of an object", key);
    *w = (struct way){ .dirs = { s->root }, .depth = 1 };
    for (;;) {
        size_t n = strcspn(key, "/");
        memcpy(w->name, key, n);
        w->name[n] = '\0';
        if (key[n] == '\0')
            return KL_OK;
        if (w->depth == DEPTH_MAX) {
            leave(w);
            return kl_fail(err, KL_EINVAL, "a key of more than %d parts", DEPTH_MAX);
        }
        if (step(w, w->name, make, err) != KL_OK) {
            leave(w);
            return err->code;
        }
        key += n + 1;
    }
}

static enum kl_code head(struct kl_store *store, const char *key, uint64_t *size_bytes,
                         struct kl_err *err)
{
    struct way          w;
    struct kl_env_dir  *d;
    struct kl_env_view *v;
    enum kl_code        code = walk((struct dir_store *)store, key, false, &w, err);

    if (code != KL_OK)
        return code == KL_ENOENT ? kl_fail(err, KL_ENOENT, "there is no object %s", key)
                                 : kl_within(err, "object %s", key);
    d = w.dirs[w.depth - 1];
    code = d->view(d, w.name, &v, size_bytes, err);
    if (code == KL_OK)
        d->view_close(v);
    leave(&w);
    return code == KL_OK ? KL_OK : kl_within(err, "object %s", key);
}

static enum kl_code append_feed(struct kl_env_dir *d, struct kl_env_file *f,
                                const struct kl_store_feed *feed, struct kl_err *err)
{
    void        *piece = kl_resize(NULL, PIECE);
    enum kl_code code = KL_OK;

    for (uint64_t at = 0; at < feed->size_bytes && code == KL_OK; at += PIECE) {
        size_t n = feed->size_bytes - at < PIECE ? (size_t)(feed->size_bytes - at) : PIECE;

        code = feed->read(feed->ctx, at, piece, n, err);
        if (code == KL_OK)
            code = d->append(f, piece, n, err);
    }
    free(piece);
    return code;
}

/* `bytes`, or where there is a feed, what it gives. */
static enum kl_code write_aside(struct kl_env_dir *d, const char *tmp, const char *name,
                                struct kl_span bytes, const struct kl_store_feed *feed,
                                struct kl_err *err)
{
    struct kl_env_file *f;
    struct kl_err       unheard;
    enum kl_code        code;

    if (d->create(d, tmp, &f, err) != KL_OK)
        return err->code;
    code = feed != NULL ? append_feed(d, f, feed, err) : d->append(f, bytes.at, bytes.size, err);
    if (code == KL_OK && d->sync(f, err) == KL_OK &&
        d->publish_new(f, name, err) == KL_OK) {
        d->close(f);
        return KL_OK;
    }
    d->close(f);
    d->remove(d, tmp, &unheard);                       /* the first failure is the one to tell */
    return err->code;
}

static enum kl_code put_either(struct kl_store *store, const char *key, struct kl_span bytes,
                               const struct kl_store_feed *feed, struct kl_err *err)
{
    struct dir_store *s = (struct dir_store *)store;
    struct way        w;
    uint64_t          size;
    char              tmp[64];
    enum kl_code      code = head(store, key, &size, err);

    if (code == KL_OK)
        return kl_fail(err, KL_EEXIST, "object %s is there already", key);
    if (code != KL_ENOENT)
        return code;
    if (walk(s, key, true, &w, err) != KL_OK)
        return kl_within(err, "put object %s", key);
    snprintf(tmp, sizeof tmp, "%s%016" PRIx64 "-%u", aside, s->mark, atomic_fetch_add(&s->turn, 1));
    code = write_aside(w.dirs[w.depth - 1], tmp, w.name, bytes, feed, err);
    leave(&w);
    if (code == KL_EEXIST)
        return kl_fail(err, KL_EEXIST, "object %s is there already", key);
    return code == KL_OK ? KL_OK : kl_within(err, "put object %s", key);
}

static enum kl_code put(struct kl_store *store, const char *key, struct kl_span bytes,
                        struct kl_err *err)
{
    return put_either(store, key, bytes, NULL, err);
}

static enum kl_code put_from(struct kl_store *store, const char *key, const struct kl_store_feed *feed,
                             struct kl_err *err)
{
    return put_either(store, key, kl_span(NULL, 0), feed, err);
}

static enum kl_code get(struct kl_store *store, const char *key, uint64_t offset, void *bytes,
                        size_t size, struct kl_err *err)
{
    struct way          w;
    struct kl_env_dir  *d;
    struct kl_env_view *v;
    uint64_t            whole;
    enum kl_code        code = walk((struct dir_store *)store, key, false, &w, err);

    if (code != KL_OK)
        return code == KL_ENOENT ? kl_fail(err, KL_ENOENT, "there is no object %s", key)
                                 : kl_within(err, "object %s", key);
    d = w.dirs[w.depth - 1];
    code = d->view(d, w.name, &v, &whole, err);
    if (code == KL_OK) {
        if (offset > whole || size > whole - offset)
            code = kl_fail(err, KL_EIO, "%zu bytes at %llu of %llu", size, (unsigned long long)offset,
                           (unsigned long long)whole);
        else
            code = d->view_read(v, offset, bytes, size, err);
        d->view_close(v);
    }
    leave(&w);
    return code == KL_OK ? KL_OK : kl_within(err, "get object %s", key);
}

/* ---- list ---- */

enum { KEYS_MAX = 10000000 };
struct found { char *key; uint64_t size; bool is_dir; };
struct listing { struct found *found; size_t count, room; };

static void note(void *ctx, const char *name, bool is_dir, uint64_t size_bytes)
{
    struct listing *l = ctx;

    if (strncmp(name, aside, sizeof aside - 1) == 0 || l->count == KEYS_MAX)
        return;
    if (l->count == l->room) {
        l->room = l->room == 0 ? 64 : 2 * l->room;
        l->found = kl_resize(l->found, l->room * sizeof *l->found);
    }
    l->found[l->count++] = (struct found){ .key = kl_strdup(name), .size = size_bytes, .is_dir = is_dir };
}

/* Bytewise order of whole keys: a folder sorts as its name and a slash. */
static int by_key(const void *a, const void *b)
{
    const struct found *x = a, *y = b;
    const unsigned char *p = (const unsigned char *)x->key, *q = (const unsigned char *)y->key;

    while (*p != '\0' && *p == *q)
        p++, q++;
    return (*p != '\0' ? *p : x->is_dir ? '/' : 0) - (*q != '\0' ? *q : y->is_dir ? '/' : 0);
}

struct lister {
    const char *prefix;
    void (*each)(void *ctx, const char *key, uint64_t size_bytes);
    void *ctx;
    struct kl_err *err;
};

static bool may_hold(const char *prefix, const char *path)      /* is one the beginning of the other? */
{
    size_t n = strlen(prefix), k = strlen(path);

    return strncmp(prefix, path, n < k ? n : k) == 0;
}

static enum kl_code list_dir(const struct lister *l, struct kl_env_dir *d, const char *path, unsigned depth)
{
    struct listing here = { 0 };
    enum kl_code   code = depth == DEPTH_MAX ? KL_OK : d->list(d, note, &here, l->err);

    if (code == KL_OK && here.count == KEYS_MAX)       /* half a list is none */
        code = kl_fail(l->err, KL_EIO, "\"%s\" holds %d files or more", path, KEYS_MAX);
    if (here.count > 0)
        qsort(here.found, here.count, sizeof *here.found, by_key);
    for (size_t i = 0; i < here.count; i++) {
        const struct found *f = &here.found[i];
        char               *key = kl_new(strlen(path) + strlen(f->key) + 2);
        struct kl_env_dir  *child;

        sprintf(key, "%s%s%s", path, f->key, f->is_dir ? "/" : "");
        if (code == KL_OK && f->is_dir && may_hold(l->prefix, key)) {
            code = d->enter(d, f->key, false, &child, l->err);
            if (code == KL_OK) {
                code = list_dir(l, child, key, depth + 1);
                child->leave(child);
            } else if (code == KL_ENOENT) {
                code = KL_OK;                          /* gone since it was listed */
            }
        } else if (code == KL_OK && !f->is_dir && strncmp(key, l->prefix, strlen(l->prefix)) == 0 &&
                   kl_store_key_fit(key)) {
            l->each(l->ctx, key, f->size);
        }
        free(key);
        free(f->key);
    }
    free(here.found);
    return code;
}

static enum kl_code list(struct kl_store *store, const char *prefix,
                         void (*each)(void *ctx, const char *key, uint64_t size_bytes), void *ctx,
                         struct kl_err *err)
{
    struct lister l = { .prefix = prefix, .each = each, .ctx = ctx, .err = err };

    return list_dir(&l, ((struct dir_store *)store)->root, "", 0) == KL_OK
         ? KL_OK : kl_within(err, "list objects %s", prefix);
}

/* Leaves; the folder that held the object goes with its last one. A put that has entered it fails
 * then, and is tried again as any that fails. */
static void drop_folder(struct way *w, const char *key)
{
    const char   *last = strrchr(key, '/'), *name = last;
    char          text[KL_ENV_DIR_NAME_MAX + 1];
    struct kl_err unheard;

    if (w->depth > 1) {
        struct kl_env_dir *d = w->dirs[--w->depth], *above = w->dirs[w->depth - 1];

        while (name > key && name[-1] != '/')
            name--;
        memcpy(text, name, (size_t)(last - name));
        text[last - name] = '\0';
        d->leave(d);
        above->remove_dir(above, text, &unheard);      /* not empty: then it stays */
    }
    leave(w);
}

static enum kl_code remove_object(struct kl_store *store, const char *key, struct kl_err *err)
{
    struct way         w;
    struct kl_env_dir *d;
    enum kl_code       code = walk((struct dir_store *)store, key, false, &w, err);

    if (code == KL_ENOENT)
        return KL_OK;
    if (code != KL_OK)
        return kl_within(err, "remove object %s", key);
    d = w.dirs[w.depth - 1];
    code = d->remove(d, w.name, err);
    if (code == KL_OK)
        code = d->sync_names(d, err);
    drop_folder(&w, key);
    return code == KL_OK || code == KL_ENOENT ? KL_OK : kl_within(err, "remove object %s", key);
}

static void close_store(struct kl_store *store)
{
    struct dir_store *s = (struct dir_store *)store;

    if (s->owned)
        s->root->leave(s->root);
    free(s);
}

struct kl_store *kl_store_dir_new(struct kl_env_dir *dir)
{
    struct dir_store *s = kl_new(sizeof *s);

    s->root = dir;
    s->store = (struct kl_store){ .put = put, .put_from = put_from, .get = get, .head = head, .list = list,
                                  .remove = remove_object, .close = close_store };
    return &s->store;
}

struct kl_store *kl_store_dir_shared_new(struct kl_env *env, struct kl_env_dir *dir)
{
    struct kl_store *s = kl_store_dir_new(dir);

    ((struct dir_store *)s)->mark = kl_env_draw(env);
    return s;
}

struct kl_store *kl_store_dir_owning_new(struct kl_env *env, struct kl_env_dir *dir)
{
    struct kl_store *s = kl_store_dir_shared_new(env, dir);

    ((struct dir_store *)s)->owned = true;
    return s;
}

enum kl_code kl_store_dir_open(struct kl_env *env, const char *path, struct kl_store **store,
                               struct kl_err *err)
{
    struct kl_env_dir *dir;

    if (kl_env_dir_real_open(path, true, &dir, err) != KL_OK)
        return err->code;
    *store = kl_store_dir_owning_new(env, dir);
    return KL_OK;
}
