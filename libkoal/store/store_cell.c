/*
 * Whose store it is. The object is text: "koalemos cell <name>\n".
 */
#include "libkoal/store/store.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TEXT_MAX = 200 };

struct cell {
    struct kl_store  store;
    struct kl_store *inner;
    char             text[TEXT_MAX];
    bool             writes;
    _Atomic bool     ours;                             /* it was seen to be */
};

static enum kl_code compare(struct cell *c, struct kl_err *err)
{
    char         there[TEXT_MAX] = "";
    uint64_t     size;
    enum kl_code code = c->inner->head(c->inner, KL_STORE_CELL_KEY, &size, err);

    if (code == KL_OK && (size == 0 || size >= sizeof there))
        return kl_fail(err, KL_EINVAL, "the object %s names no cell: this place holds something else, or "
                       "a later version's data", KL_STORE_CELL_KEY);
    if (code == KL_OK)
        code = c->inner->get(c->inner, KL_STORE_CELL_KEY, 0, there, size, err);
    if (code != KL_OK)
        return code;
    if (strcmp(there, c->text) == 0)
        return KL_OK;
    if (strncmp(there, "KOASEAL1", 8) == 0)
        return kl_fail(err, KL_EINVAL, "it is encrypted: store.encryption_key.file should name its key");
    there[strcspn(there, "\n")] = '\0';
    for (char *t = there; *t != '\0'; t++)
        *t = *t < ' ' || *t > '~' ? '?' : *t;
    return kl_fail(err, KL_EINVAL, "it holds the data of another cell (\"%s\", and we are \"%.*s\"): take "
                   "another bucket or prefix, or set `cell`", there, (int)strlen(c->text) - 1, c->text);
}

static enum kl_code bind(struct cell *c, struct kl_err *err)
{
    enum kl_code code;

    if (atomic_load_explicit(&c->ours, memory_order_acquire))
        return KL_OK;
    code = compare(c, err);
    if (code == KL_ENOENT && !c->writes)
        return KL_OK;                                  /* nobody has written here yet */
    if (code == KL_ENOENT) {
        code = c->inner->put(c->inner, KL_STORE_CELL_KEY, kl_span_str(c->text), err);
        if (code == KL_OK || code == KL_EEXIST)        /* several may begin at once */
            code = compare(c, err);
    }
    if (code == KL_OK)
        atomic_store_explicit(&c->ours, true, memory_order_release);
    return code;
}

enum kl_code kl_store_cell_check(struct kl_store *s, struct kl_err *err)
{
    return bind((struct cell *)s, err);
}

static enum kl_code put(struct kl_store *s, const char *key, struct kl_span bytes, struct kl_err *err)
{
    struct cell *c = (struct cell *)s;

    return bind(c, err) == KL_OK ? c->inner->put(c->inner, key, bytes, err) : err->code;
}

static enum kl_code put_from(struct kl_store *s, const char *key, const struct kl_store_feed *feed,
                             struct kl_err *err)
{
    struct cell *c = (struct cell *)s;

    return bind(c, err) == KL_OK ? kl_store_put_from(c->inner, key, feed, err) : err->code;
}

static enum kl_code get(struct kl_store *s, const char *key, uint64_t offset, void *bytes,
                        size_t size, struct kl_err *err)
{
    struct cell *c = (struct cell *)s;

    return bind(c, err) == KL_OK ? c->inner->get(c->inner, key, offset, bytes, size, err) : err->code;
}

static enum kl_code get_tallied(struct kl_store *s, const char *key, uint64_t offset, void *bytes,
                                size_t size, struct kl_store_tally *t, struct kl_err *err)
{
    struct cell *c = (struct cell *)s;

    return bind(c, err) == KL_OK ? kl_store_get(c->inner, key, offset, bytes, size, t, err) : err->code;
}

static enum kl_code head(struct kl_store *s, const char *key, uint64_t *size_bytes,
                         struct kl_err *err)
{
    struct cell *c = (struct cell *)s;

    return bind(c, err) == KL_OK ? c->inner->head(c->inner, key, size_bytes, err) : err->code;
}

static enum kl_code list(struct kl_store *s, const char *prefix,
                         void (*each)(void *ctx, const char *key, uint64_t size_bytes), void *ctx,
                         struct kl_err *err)
{
    struct cell *c = (struct cell *)s;

    return bind(c, err) == KL_OK ? c->inner->list(c->inner, prefix, each, ctx, err) : err->code;
}

static enum kl_code remove_object(struct kl_store *s, const char *key, struct kl_err *err)
{
    struct cell *c = (struct cell *)s;

    return bind(c, err) == KL_OK ? c->inner->remove(c->inner, key, err) : err->code;
}

static void cancel(struct kl_store *s) { kl_store_cancel(((struct cell *)s)->inner); }

static void close_store(struct kl_store *s)
{
    struct cell *c = (struct cell *)s;

    c->inner->close(c->inner);
    free(c);
}

struct kl_store *kl_store_cell_new(struct kl_store *inner, const char *cell, bool writes)
{
    struct cell *c = kl_new(sizeof *c);

    c->store = (struct kl_store){ .put = put, .put_from = put_from, .get = get, .get_tallied = get_tallied, .head = head, .list = list,
                                  .remove = remove_object, .cancel = inner->cancel != NULL ? cancel : NULL,
                                  .close = close_store };
    c->inner = inner;
    c->writes = writes;
    snprintf(c->text, sizeof c->text, "koalemos cell %.100s\n", cell);
    return &c->store;
}
