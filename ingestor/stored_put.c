/*
 * The owner's last snapshot goes into the store. The pass that made it opens its files for reading while they
 * are all there; they stay readable when the next pass removes their names, so that both may go on at once. An
 * errand reads them twice: for their hashes, then as the store wants them, in pieces.
 */
#include "ingestor/stored.h"

#include "libkoal/base/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RETRY_FIRST_MS = 60000, RETRY_MAX_MS = 1800000, KEPT = 2, LISTED_MAX = 64 * ING_STORED_FILES_MAX };

struct ing_storing {
    struct ing_partition *p;
    struct ing_stored     what;
    struct kl_env_dir    *dir;
    struct kl_env_view   *views[ING_STORED_FILES_MAX];
    bool                  open;                        /* all of them */
    enum kl_code          code;
    struct kl_err         err;
    uint64_t              bytes, samples;
    uint32_t              swept;                       /* snapshots before it that went */
    struct kl_env_task    work, back;
};

/* ---- in the pass ---- */

bool ing_storing_due(struct ing_partition *p)
{
    int64_t every_ms = p->i->o.stored_ms, now_ns = kl_env_mono_ns(p->i->env);

    if (every_ms == 0 || ing_epoch(p) == 0)
        return false;
    if (p->store_again_ns == 0)                        /* not all at once after a start */
        p->store_again_ns = now_ns + (int64_t)(kl_env_draw(p->i->env) % (uint64_t)every_ms) * 1000000;
    return now_ns >= p->store_again_ns && p->sample_count != 0 && p->sample_count != p->stored_samples &&
           atomic_load(&p->i->storing) == 0;
}

struct ing_storing *ing_storing_new(struct ing_partition *p, const struct ing_snap_header *h)
{
    struct ing_storing *s;
    uint32_t            none = 0;

    if (!ing_storing_due(p) || !atomic_compare_exchange_strong(&p->i->storing, &none, 1))
        return NULL;
    s = kl_new(sizeof *s);
    s->p = p;
    s->samples = p->sample_count;
    s->what = (struct ing_stored){ .partition = p->number, .serial = h->serial, .time_ms = h->time_ms,
                                   .catalogue = p->manifest.revision,
                                   .name = { h->incarnation, h->seq, kl_env_draw(p->i->env) } };
    return s;
}

static enum kl_code open_file(struct ing_storing *s, uint64_t serial, struct kl_err *err)
{
    struct ing_stored_file *f = &s->what.files[s->what.file_count];
    char                    name[64] = "head";

    if (serial != 0)
        ing_snap_chunks_name(serial, name, sizeof name);
    if (s->dir->view(s->dir, name, &s->views[s->what.file_count], &f->size_bytes, err) != KL_OK)
        return err->code;
    f->serial = serial;
    s->what.file_count++;
    return KL_OK;
}

void ing_storing_open(struct ing_storing *s, const uint64_t *serials, uint32_t count)
{
    if (ing_snap_folder(s->p, &s->dir, &s->err) != KL_OK) {
        s->dir = NULL;
        return;
    }
    if (open_file(s, 0, &s->err) != KL_OK)
        return;
    for (uint32_t i = 0; i < count; i++)
        if (open_file(s, serials[i], &s->err) != KL_OK)
            return;
    s->open = true;
}

void ing_storing_drop(struct ing_storing *s)
{
    if (s == NULL)
        return;
    for (uint32_t i = 0; i < s->what.file_count; i++)
        s->dir->view_close(s->views[i]);
    if (s->dir != NULL)
        s->dir->leave(s->dir);
    atomic_fetch_sub(&s->p->i->storing, 1);
    free(s);
}

/* ---- the errand ---- */

static bool unwanted(const struct ing_storing *s)
{
    return ing_stopping(s->p) || atomic_load(&s->p->state) == ING_AWAY;
}

static enum kl_code hash_file(struct ing_storing *s, uint32_t file, void *piece, struct kl_err *err)
{
    struct ing_stored_file *f = &s->what.files[file];

    f->hash = 0;
    for (uint64_t at = 0; at < f->size_bytes;) {
        size_t n = f->size_bytes - at < ING_STORED_PIECE ? (size_t)(f->size_bytes - at) : ING_STORED_PIECE;

        if (unwanted(s))
            return kl_fail(err, KL_ECANCELED, "it is not wanted any more");
        if (s->dir->view_read(s->views[file], at, piece, n, err) != KL_OK)
            return err->code;
        f->hash = ing_stored_hash(f->hash, piece, n);
        at += n;
    }
    s->bytes += f->size_bytes;
    return KL_OK;
}

struct feeding { struct ing_storing *s; uint32_t file; };

static enum kl_code feed(void *ctx, uint64_t offset, void *bytes, size_t size, struct kl_err *err)
{
    struct feeding *f = ctx;

    if (unwanted(f->s))
        return kl_fail(err, KL_ECANCELED, "it is not wanted any more");
    return f->s->dir->view_read(f->s->views[f->file], offset, bytes, size, err);
}

static enum kl_code put_files(struct ing_storing *s, uint32_t *count, struct kl_err *err)
{
    struct kl_store *store = s->p->i->store;
    char             key[KL_STORE_KEY_MAX + 1];
    void            *piece = kl_resize(NULL, ING_STORED_PIECE);
    enum kl_code     code = KL_OK;

    for (uint32_t i = 0; i < s->what.file_count && code == KL_OK; i++)
        code = hash_file(s, i, piece, err);
    free(piece);
    for (*count = 0; *count < s->what.file_count && code == KL_OK; ++*count) {
        struct feeding       f = { s, *count };
        struct kl_store_feed from = { .size_bytes = s->what.files[*count].size_bytes, .read = feed, .ctx = &f };

        ing_stored_file_key(&s->what, *count, key);
        code = kl_store_put_from(store, key, &from, err);
    }
    return code;
}

static enum kl_code put_index(struct ing_storing *s, struct kl_err *err)
{
    struct kl_buf b = { 0 };
    char          key[KL_STORE_KEY_MAX + 1];
    enum kl_code  code;

    ing_stored_put(&s->what, &b);
    ing_stored_key(s->what.partition, &s->what.name, "index", key);
    code = s->p->i->store->put(s->p->i->store, key, kl_buf_span(&b), err);
    kl_buf_deinit(&b);
    return code;
}

/* ---- those before it ---- */

struct key { struct ing_stored_name name; char *key; bool is_index; };
struct sweep { uint32_t partition; uint64_t incarnation; struct key *at; size_t count, room; };

static void listed(void *ctx, const char *key, uint64_t size_bytes)
{
    struct sweep *w = ctx;
    struct key    k;
    const char   *file;

    (void)size_bytes;
    if (w->count == LISTED_MAX || !ing_stored_key_parse(key, w->partition, &k.name, &file))
        return;
    if (w->count == w->room) {
        w->room = w->room == 0 ? 16 : w->room * 2;
        w->at = kl_resize(w->at, w->room * sizeof *w->at);
    }
    k.key = kl_strdup(key);
    k.is_index = strcmp(file, "index") == 0;
    w->at[w->count++] = k;
}

/* As they follow each other: those of another log stand before all of ours, whatever its incarnation says. */
static int order(const struct sweep *w, const struct ing_stored_name *a, const struct ing_stored_name *b)
{
    bool a_ours = a->incarnation == w->incarnation, b_ours = b->incarnation == w->incarnation;

    return a_ours != b_ours ? (a_ours ? 1 : -1) : ing_stored_cmp(a, b);
}

/* The oldest that stays: the KEPT-th of those with an index, from the end. NULL: all stay. */
static const struct ing_stored_name *oldest_kept(const struct sweep *w)
{
    const struct ing_stored_name *kept = NULL;

    for (uint32_t n = 0; n < KEPT; n++) {
        const struct ing_stored_name *best = NULL;

        for (size_t i = 0; i < w->count; i++)
            if (w->at[i].is_index && (kept == NULL || order(w, &w->at[i].name, kept) < 0) &&
                (best == NULL || order(w, &w->at[i].name, best) > 0))
                best = &w->at[i].name;
        if (best == NULL)
            return NULL;
        kept = best;
    }
    return kept;
}

/* First what makes it a snapshot, then the rest. */
static enum kl_code sweep(struct ing_storing *s, struct kl_err *err)
{
    struct kl_store              *store = s->p->i->store;
    struct sweep                  w = { .partition = s->what.partition, .incarnation = s->what.name.incarnation };
    char                          prefix[KL_STORE_KEY_MAX + 1];
    const struct ing_stored_name *kept;
    enum kl_code                  code;

    ing_stored_prefix(w.partition, prefix);
    code = store->list(store, prefix, listed, &w, err);
    kept = code == KL_OK ? oldest_kept(&w) : NULL;
    for (int index = 1; index >= 0 && kept != NULL && code == KL_OK; index--)
        for (size_t i = 0; i < w.count && code == KL_OK; i++)
            if (w.at[i].is_index == index && order(&w, &w.at[i].name, kept) < 0) {
                code = store->remove(store, w.at[i].key, err);
                s->swept += code == KL_OK && index;
            }
    for (size_t i = 0; i < w.count; i++)
        free(w.at[i].key);
    free(w.at);
    return code;
}

static void take_back(struct ing_storing *s, uint32_t count)
{
    char          key[KL_STORE_KEY_MAX + 1];
    struct kl_err unfit;

    for (uint32_t i = 0; i < count; i++) {
        ing_stored_file_key(&s->what, i, key);
        if (s->p->i->store->remove(s->p->i->store, key, &unfit) != KL_OK)
            return;                                    /* a later put does it */
    }
}

static void work(struct kl_env_task *task)
{
    struct ing_storing *s = kl_container_of(task, struct ing_storing, work);
    uint32_t            count;
    struct kl_err       unfit;

    s->code = put_files(s, &count, &s->err);
    if (s->code != KL_OK)
        take_back(s, count);
    else
        s->code = put_index(s, &s->err);               /* after a failure it may be there: all stays */
    if (s->code == KL_OK && (s->p->i->member == NULL || ing_member_epoch(s->p->i->member, s->p->number) != 0))
        sweep(s, &unfit);                              /* what is left goes with the next, or with the next owner's */
    s->p->i->env->sched->post(s->p->shard->loop, &s->back);
}

/* ---- on the loop ---- */

static void failed(struct ing_storing *s)
{
    struct ing_partition *p = s->p;
    int64_t               ms = RETRY_FIRST_MS;

    if (unwanted(s))
        return;
    for (unsigned n = 0; n < p->store_failures && ms < RETRY_MAX_MS; n++)
        ms *= 2;
    p->store_failures++;
    p->store_again_ns = kl_env_mono_ns(p->i->env) + ms * 1000000;
    kl_count(p->i->m.store_failures, 1);
    kl_logf(p->i->o.log, p->store_failures == 1 ? KL_WARN : KL_DEBUG, "ingestor: partition %" PRIu32
            ": its snapshot could not be put into the store, those before it stay: %s", p->number, s->err.text);
}

static void back(struct kl_env_task *task)
{
    struct ing_storing   *s = kl_container_of(task, struct ing_storing, back);
    struct ing_partition *p = s->p;

    ing_in(p->i);
    if (s->code == KL_OK) {
        p->store_failures = 0;
        p->stored_samples = s->samples;
        p->store_again_ns = kl_env_mono_ns(p->i->env) + p->i->o.stored_ms * 1000000;
        kl_count(p->i->m.stored, 1);
        kl_count(p->i->m.stored_bytes, s->bytes);
        kl_logf(p->i->o.log, KL_DEBUG, "ingestor: partition %" PRIu32 ": its snapshot of record %" PRIu64
                " is in the store, %" PRIu64 " bytes; %" PRIu32 " older went", p->number, s->what.name.seq, s->bytes,
                s->swept);
    } else {
        failed(s);
    }
    ing_storing_drop(s);
}

void ing_storing_send(struct ing_storing *s)
{
    struct ing_partition *p = s->p;

    if (!s->open) {
        failed(s);
        ing_storing_drop(s);
        return;
    }
    s->work = (struct kl_env_task){ .run = work };
    s->back = (struct kl_env_task){ .run = back };
    ing_out(p->i);
    p->i->env->sched->errand(p->i->env->sched, &s->work);
}
