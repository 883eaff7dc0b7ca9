/* A snapshot out of the store, into the folder of a partition that has none that fits. */
#include "ingestor/stored.h"

#include "libkoal/base/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TRIED = 2 };                                    /* as many as are kept */

/* ---- which there are ---- */

struct look { const struct ing_partition *p; struct ing_stored_name best[TRIED]; uint32_t count; };

static void listed(void *ctx, const char *key, uint64_t size_bytes)
{
    struct look           *l = ctx;
    const struct ing_partition *p = l->p;
    struct ing_stored_name n;
    const char            *file;

    (void)size_bytes;
    if (!ing_stored_key_parse(key, p->number, &n, &file) || strcmp(file, "index") != 0 || n.seq + 1 < p->loaded.replay_from ||
        (p->pointer_revision != 0 && n.incarnation != p->loaded.incarnation))
        return;
    if (l->count == TRIED)                             /* rising: the first goes */
        memmove(l->best, l->best + 1, (TRIED - 1) * sizeof l->best[0]);
    else
        l->count++;
    l->best[l->count - 1] = n;
}

static enum kl_code read_index(struct ing_partition *p, const struct ing_stored_name *n, struct ing_stored *s, struct kl_err *err)
{
    struct kl_store *store = p->i->store;
    char             key[KL_STORE_KEY_MAX + 1];
    uint8_t          bytes[ING_STORED_INDEX_MAX];
    uint64_t         size;

    ing_stored_key(p->number, n, "index", key);
    if (store->head(store, key, &size, err) != KL_OK)
        return err->code;
    if (size > sizeof bytes)
        return kl_fail(err, KL_ECORRUPT, "%s has %" PRIu64 " bytes, more than an index can have", key, size);
    if (store->get(store, key, 0, bytes, (size_t)size, err) != KL_OK)
        return err->code;
    if (ing_stored_get(kl_span(bytes, (size_t)size), s, err) != KL_OK)
        return kl_within(err, "%s", key);
    if (s->partition != p->number || ing_stored_cmp(&s->name, n) != 0)
        return kl_fail(err, KL_ECORRUPT, "%s is the index of another snapshot", key);
    return KL_OK;
}

/* Is there room, and as much again for what comes after it? */
static enum kl_code check_room(struct ing_partition *p, const struct ing_stored *s, struct kl_err *err)
{
    uint64_t free_bytes, total_bytes, bytes = 0;

    for (uint32_t i = 0; i < s->file_count; i++)
        bytes += s->files[i].size_bytes;
    if (p->spilled->room(p->spilled, &free_bytes, &total_bytes, err) != KL_OK)
        return err->code;
    return free_bytes / 2 >= bytes ? KL_OK
         : kl_fail(err, KL_ELIMIT, "it has %" PRIu64 " bytes, and the disk has room for %" PRIu64, bytes, free_bytes);
}

/* ---- its files ---- */

static enum kl_code fetch_file(struct ing_partition *p, const struct ing_stored *s, uint32_t file, struct kl_env_file *to,
                               void *piece, struct kl_err *err)
{
    const struct ing_stored_file *f = &s->files[file];
    struct kl_store              *store = p->i->store;
    char                          key[KL_STORE_KEY_MAX + 1];
    uint64_t                      hash = 0;

    ing_stored_file_key(s, file, key);
    for (uint64_t at = 0; at < f->size_bytes;) {
        size_t n = f->size_bytes - at < ING_STORED_PIECE ? (size_t)(f->size_bytes - at) : ING_STORED_PIECE;

        if (ing_stopping(p) || atomic_load(&p->state) == ING_AWAY)
            return kl_fail(err, KL_ECANCELED, "it is not wanted any more");
        if (store->get(store, key, at, piece, n, err) != KL_OK || p->spilled->append(to, piece, n, err) != KL_OK)
            return err->code;
        hash = ing_stored_hash(hash, piece, n);
        at += n;
    }
    if (hash != f->hash)
        return kl_fail(err, KL_ECORRUPT, "%s is damaged: it is not what its index tells", key);
    return p->spilled->sync(to, err);
}

/* What the head names must be there before it is: it comes last. */
static enum kl_code fetch(struct ing_partition *p, const struct ing_stored *s, void *piece, struct kl_err *err)
{
    struct kl_env_dir *dir = p->spilled;

    for (uint32_t i = s->file_count; i-- > 0;) {
        const char         *tmp = i == 0 ? "head.tmp" : "chunks.tmp";
        char                name[64] = "head";
        struct kl_env_file *to;
        struct kl_err       unfit;
        enum kl_code        code;

        if (i != 0)
            ing_snap_chunks_name(s->files[i].serial, name, sizeof name);
        if (dir->create(dir, tmp, &to, err) != KL_OK)
            return err->code;
        code = fetch_file(p, s, i, to, piece, err);
        if (code == KL_OK)
            code = dir->publish(to, name, err);
        dir->close(to);
        if (code != KL_OK) {
            dir->remove(dir, tmp, &unfit);
            return code;
        }
    }
    return KL_OK;
}

static bool take(struct ing_partition *p, const struct ing_stored_name *n, enum kl_code *code)
{
    struct ing_stored *s = kl_new(sizeof *s);
    void              *piece = kl_resize(NULL, ING_STORED_PIECE);
    struct kl_err      err = { 0 };
    uint64_t           bytes = 0;
    bool               newer = false;

    *code = read_index(p, n, s, &err);
    if (*code == KL_OK && s->catalogue > p->loaded.revision) {
        newer = true;
        *code = kl_fail(&err, KL_ENOENT, "it was made of a catalogue of revision %" PRIu64 ", and this one is %" PRIu64,
                        s->catalogue, p->loaded.revision);
    }
    if (*code == KL_OK && (*code = check_room(p, s, &err)) == KL_OK)
        *code = fetch(p, s, piece, &err);
    for (uint32_t i = 0; i < s->file_count; i++)
        bytes += s->files[i].size_bytes;
    if (*code == KL_OK) {
        kl_count(p->i->m.from_store, 1);
        kl_logf(p->i->o.log, KL_INFO, "ingestor: partition %" PRIu32 ": a snapshot of record %" PRIu64 " came from the "
                "store, %" PRIu64 " bytes", p->number, s->name.seq, bytes);
    } else if (*code != KL_ECANCELED) {
        kl_logf(p->i->o.log, newer ? KL_DEBUG : KL_WARN, "ingestor: partition %" PRIu32 ": a snapshot of record %" PRIu64
                " in the store is not used: %s", p->number, n->seq, err.text);
    }
    free(piece);
    free(s);
    return *code == KL_OK;
}

bool ing_stored_fetch(struct ing_partition *p)
{
    struct look   l = { .p = p };
    char          prefix[KL_STORE_KEY_MAX + 1];
    struct kl_err err;
    enum kl_code  code;

    ing_stored_prefix(p->number, prefix);
    code = p->i->store->list(p->i->store, prefix, listed, &l, &err);
    if (code != KL_OK && code != KL_ECANCELED)
        kl_logf(p->i->o.log, KL_WARN, "ingestor: partition %" PRIu32 ": the store's snapshots cannot be listed, going on "
                "without: %s", p->number, err.text);
    while (code == KL_OK && l.count > 0) {
        if (take(p, &l.best[--l.count], &code)) {
            p->store_fetched = true;
            return true;
        }
        if (code == KL_ECORRUPT || code == KL_ENOENT || code == KL_EIO)
            code = KL_OK;                              /* the one before it, perhaps */
    }
    return false;
}
