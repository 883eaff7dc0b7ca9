/*
 * A pass: slices from the loop, written by a worker, published, and then what the files hold leaves
 * memory. One pass at a time in an ingestor.
 *
 *   BEGIN -> SLICE ... -> PUBLISH -> SWAP (when no page is being made) -> gone
 *     any of them, when it fails or must end -> ABANDON -> gone, the last snapshot stays
 */
#include "ingestor/stored.h"

#include "libkoal/base/mem.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_SOONER = 4, RETRY_FIRST_MS = 5000, RETRY_MAX_MS = 300000, CHUNK_BATCH = 256 << 10 };
enum step { BEGIN, SLICE, PUBLISH, SWAP, ABANDON };

struct ing_pass {
    struct ing_partition *p;
    enum step      step;
    bool           out, end;                           /* a worker has it; it is to be given up */
    struct ing_snap_header header;
    struct ing_put put;
    struct ing_file *file;                             /* of this pass; NULL: it spills nothing */
    uint64_t       keep[ING_FILES_MAX + 1]; uint32_t keep_count;       /* serials that the head names */
    int64_t        begun_ns;
    struct ing_storing *storing;                       /* it goes into the store as well; or NULL */

    /* the worker's */
    struct kl_env_dir  *dir;
    struct kl_env_file *head, *chunks;
    uint64_t       block, head_bytes;
    bool           chunks_published, head_published;
    struct kl_buf  batch;
    enum kl_code   code;
    struct kl_err  err;
    struct kl_env_task work, back;
};

/* ---- on a worker ---- */

/* Fills in the checksums of whole blocks. */
static void seal_blocks(struct ing_pass *x, char *at, size_t size)
{
    for (size_t i = 0; i < size;) {
        uint32_t head[3];

        memcpy(head, at + i, sizeof head);
        head[2] = ing_snap_block_crc(x->header.serial, x->block++, head[0],
                                     kl_span(at + i + ING_SNAP_BLOCK_HEAD, head[1]));
        memcpy(at + i, head, sizeof head);
        i += ING_SNAP_BLOCK_HEAD + head[1];
    }
}

static enum kl_code append_head(struct ing_pass *x, struct kl_err *err)
{
    size_t skip = x->step == BEGIN ? ING_SNAP_HEADER : 0;
    struct kl_buf *out = &x->put.out;

    seal_blocks(x, out->at + skip, out->size - skip);
    x->head_bytes += out->size;
    return x->dir->append(x->head, out->at, out->size, err);
}

static enum kl_code append_chunks(struct ing_pass *x, struct kl_err *err)
{
    const struct ing_put *w = &x->put;

    kl_buf_reset(&x->batch);
    for (uint32_t i = w->spilled_before; i < w->spilled_count; i++) {
        const struct ing_chunk *c = w->spilled[i].chunk;
        struct kl_span          bytes = kl_span(c->bytes, c->size);

        kl_buf_add32(&x->batch, ing_spilled_crc(x->header.serial, w->spilled[i].at, bytes));
        kl_buf_add(&x->batch, bytes.at, bytes.size);
        if (x->batch.size < CHUNK_BATCH)
            continue;
        if (x->dir->append(x->chunks, x->batch.at, x->batch.size, err) != KL_OK)
            return err->code;
        kl_buf_reset(&x->batch);
    }
    return x->batch.size == 0 ? KL_OK
         : x->dir->append(x->chunks, x->batch.at, x->batch.size, err);
}

static enum kl_code begin_work(struct ing_pass *x, struct kl_err *err)
{
    if (ing_snap_folder(x->p, &x->dir, err) != KL_OK) {
        x->dir = NULL;
        return err->code;
    }
    if (x->dir->create(x->dir, "head.tmp", &x->head, err) != KL_OK) {
        x->head = NULL;
        return err->code;
    }
    if (x->file != NULL && x->dir->create(x->dir, "chunks.tmp", &x->chunks, err) != KL_OK) {
        x->chunks = NULL;
        return err->code;
    }
    return append_head(x, err);
}

static enum kl_code publish_work(struct ing_pass *x, struct kl_err *err)
{
    struct kl_env_dir *dir = x->dir;
    char               name[64];
    uint64_t           size;

    if (append_head(x, err) != KL_OK)
        return err->code;
    /* What the head names must be there before it is. */
    if (x->chunks != NULL) {
        ing_snap_chunks_name(x->header.serial, name, sizeof name);
        if (dir->sync(x->chunks, err) != KL_OK)
            return err->code;
        x->chunks_published = true;                    /* perhaps: then the next pass removes it */
        if (dir->publish(x->chunks, name, err) != KL_OK ||
            x->p->spilled->view(x->p->spilled, name, &x->file->view, &size, err) != KL_OK)
            return err->code;
        x->file->size = size;
        if (size != x->put.chunks_at)
            return kl_fail(err, KL_EIO, "%s has %" PRIu64 " bytes, not %" PRIu64, name, size,
                           x->put.chunks_at);
    }
    if (dir->sync(x->head, err) != KL_OK)
        return err->code;
    x->head_published = true;
    if (dir->publish(x->head, "head", err) != KL_OK)
        return err->code;
    if (x->storing != NULL)
        ing_storing_open(x->storing, x->keep, x->keep_count);
    ing_snap_tidy(dir, x->keep, x->keep_count);
    return KL_OK;
}

static void let_files_go(struct ing_pass *x)
{
    struct kl_err err;

    if (x->head != NULL)
        x->dir->close(x->head);
    if (x->chunks != NULL)
        x->dir->close(x->chunks);
    if (x->head != NULL && !x->head_published)
        x->dir->remove(x->dir, "head.tmp", &err);
    if (x->chunks != NULL && !x->chunks_published)
        x->dir->remove(x->dir, "chunks.tmp", &err);
    if (x->dir != NULL)
        x->dir->leave(x->dir);
    x->head = x->chunks = NULL;
    x->dir = NULL;
}

static void work(struct kl_env_task *task)
{
    struct ing_pass *x = kl_container_of(task, struct ing_pass, work);

    x->code = KL_OK;
    if (x->step == BEGIN) {
        x->code = begin_work(x, &x->err);
    } else if (x->step == SLICE) {
        x->code = append_head(x, &x->err);
        if (x->code == KL_OK && x->chunks != NULL)
            x->code = append_chunks(x, &x->err);
    } else if (x->step == PUBLISH) {
        x->code = publish_work(x, &x->err);
        if (x->code == KL_OK)
            let_files_go(x);
    } else {
        let_files_go(x);
    }
    x->p->i->env->sched->post(x->p->shard->loop, &x->back);
}

/* ---- on the loop ---- */

static void send(struct ing_pass *x)
{
    x->out = true;
    ing_out(x->p->i);
    x->p->i->env->sched->work(x->p->i->env->sched, &x->work);
}

static void gone(struct ing_pass *x, bool good)
{
    struct ing_partition *p = x->p;

    if (x->file != NULL) {
        if (x->file->view != NULL)
            x->file->dir->view_close(x->file->view);
        free(x->file);
    }
    if (good) {
        p->snap_failures = 0;
        p->snap_again_ns = x->begun_ns + p->i->o.snapshot_ms * 1000000;
    }
    ing_storing_drop(x->storing);
    ing_put_free(&x->put);
    kl_buf_deinit(&x->batch);
    p->pass = NULL;
    free(x);
    atomic_fetch_sub(&p->i->passing, 1);
}

static void failed(struct ing_pass *x)
{
    struct ing_partition *p = x->p;
    int64_t               ms = RETRY_FIRST_MS;

    if (ing_stopping(p))
        return;
    for (unsigned n = 0; n < p->snap_failures && ms < RETRY_MAX_MS; n++)
        ms *= 2;
    p->snap_failures++;
    p->snap_again_ns = kl_env_mono_ns(p->i->env) + ms * 1000000;
    kl_count(p->i->m.snapshot_failures, 1);
    kl_logf(p->i->o.log, p->snap_failures == 1 ? KL_WARN : KL_DEBUG, "ingestor: partition %" PRIu32
            ": no snapshot could be made, the last one and the log stay: %s", p->number, x->err.text);
}

static void abandon(struct ing_pass *x)
{
    x->step = ABANDON;
    send(x);
}

static void back(struct kl_env_task *task)
{
    struct ing_pass      *x = kl_container_of(task, struct ing_pass, back);
    struct ing_partition *p = x->p;

    ing_in(p->i);
    x->out = false;
    if (x->step == ABANDON) {
        gone(x, false);
        return;
    }
    if (x->code != KL_OK) {
        failed(x);
        abandon(x);
        return;
    }
    if (x->step == PUBLISH) {
        kl_count(p->i->m.snapshots, 1);
        p->snap_bytes = x->head_bytes;
        if (x->storing != NULL)
            ing_storing_send(x->storing);
        x->storing = NULL;
        x->step = SWAP;
        if (x->end)
            gone(x, true);                             /* on disk; in memory nothing of it is used */
        else
            ing_pass_swap(p);
        return;
    }
    if (x->end || ing_stopping(p)) {
        abandon(x);
        return;
    }
    ing_put_slice(&x->put);
    x->step = x->put.done ? PUBLISH : SLICE;
    send(x);
}

bool ing_pass_reads(const struct ing_partition *p) { return p->pass != NULL && p->pass->out; }

bool ing_pass_swaps(const struct ing_partition *p) { return p->pass != NULL && p->pass->step == SWAP; }

/* Files that no chunk names any more. */
static void close_idle(struct ing_partition *p)
{
    for (uint32_t slot = 1; slot <= ING_FILES_MAX; slot++) {
        struct ing_file *f = p->files.at[slot];

        if (f == NULL || f->live > 0)
            continue;
        f->dir->view_close(f->view);
        free(f);
        p->files.at[slot] = NULL;
    }
}

/* The chunk in the series' list gives its place to one that lies in the file. */
static void swap_one(struct ing_pass *x, const struct ing_spilling *sp)
{
    struct ing_series *s = ing_series_at(sp->head, sp->series);
    struct ing_chunk **link = &s->first, *c, *to;

    while (*link != NULL && *link != sp->chunk)
        link = &(*link)->next;
    c = *link;
    assert(c != NULL && c->cut == 0);
    to = ing_chunk_spilled(sp->head, c, x->put.file, sp->at);
    to->next = c->next;
    *link = to;
    if (s->last == c)
        s->last = to;
    ing_chunk_free(sp->head, c);
}

void ing_pass_swap(struct ing_partition *p)
{
    struct ing_pass *x = p->pass;

    if (x == NULL || x->step != SWAP || p->rendering > 0)
        return;
    if (x->file != NULL) {
        p->files.at[x->put.file] = x->file;
        x->file = NULL;
    }
    for (uint32_t i = 0; i < x->put.spilled_count; i++)
        swap_one(x, &x->put.spilled[i]);
    close_idle(p);
    gone(x, true);
    ing_metrics_collect(p);
    ing_asks_resume(p);
}

void ing_pass_end(struct ing_partition *p)
{
    struct ing_pass *x = p->pass;

    if (x == NULL || x->end)
        return;
    x->end = true;
    if (x->step == SWAP) {
        gone(x, true);
        ing_asks_resume(p);
    }
}

void ing_pass_free(struct ing_partition *p)
{
    if (p->pass == NULL)
        return;
    assert(!p->pass->out);
    let_files_go(p->pass);
    gone(p->pass, false);
}

/* A chunk goes to a file when there are many: a file must be worth its place. */
static uint32_t spill_slot(struct ing_partition *p)
{
    uint64_t sealed = 0, least = p->i->o.spill_least_bytes;

    for (uint32_t t = 0; t < p->tenant_count; t++)
        sealed += p->tenants[t].head->sealed_bytes;
    if (p->files.live_bytes / 8 > least)
        least = p->files.live_bytes / 8;
    if (sealed == 0 || sealed < least)
        return 0;
    for (uint32_t slot = 1; slot <= ING_FILES_MAX; slot++)
        if (p->files.at[slot] == NULL)
            return slot;
    return 0;                                          /* all in use: until a cut frees some */
}

static void begin(struct ing_partition *p)
{
    struct ing_pass *x = kl_new(sizeof *x);
    uint32_t         slot = spill_slot(p);

    x->p = p;
    x->begun_ns = kl_env_mono_ns(p->i->env);
    x->header = (struct ing_snap_header){ .partition = p->number, .incarnation = p->incarnation,
                                          .serial = ++p->snap_serial, .seq = p->applied,
                                          .time_ms = kl_env_now_ms(p->i->env) };
    if (slot != 0) {
        x->file = kl_new(sizeof *x->file);
        x->file->dir = p->spilled;
        x->file->serial = x->header.serial;
        x->keep[x->keep_count++] = x->header.serial;
    }
    for (uint32_t s = 1; s <= ING_FILES_MAX; s++)
        if (p->files.at[s] != NULL && p->files.at[s]->live > 0)
            x->keep[x->keep_count++] = p->files.at[s]->serial;
    p->snap_samples = p->sample_count;
    x->storing = ing_storing_new(p, &x->header);
    ing_put_begin(&x->put, p, &x->header, slot, x->header.serial);
    x->work = (struct kl_env_task){ .run = work };
    x->back = (struct kl_env_task){ .run = back };
    x->step = BEGIN;
    p->pass = x;
    send(x);
}

void ing_pass_tick(struct ing_partition *p)
{
    const struct ing_options *o = &p->i->o;
    int64_t  now_ns = kl_env_mono_ns(p->i->env);
    uint64_t fresh = p->sample_count - p->snap_samples;
    uint32_t none = 0;

    if (p->pass != NULL) {
        ing_pass_swap(p);
        return;
    }
    if (o->snapshot_ms == 0 || atomic_load(&p->state) != ING_LIVE || p->reload || p->jobs != NULL ||
        p->spilled == NULL || ing_stopping(p))
        return;
    /* The first ones soon, or the next restart replays what this one did, too; but not all at once. */
    if (p->snap_again_ns == 0)
        p->snap_again_ns = now_ns + o->snapshot_ms * 1000000 / FIRST_SOONER / o->partitions *
                                    (p->number + 1);
    if (p->snap_failures > 0 ? now_ns < p->snap_again_ns
                             : !ing_storing_due(p) && (now_ns < p->snap_again_ns || fresh == 0) &&
                               (o->snapshot_samples == 0 || fresh < o->snapshot_samples))
        return;
    if (atomic_compare_exchange_strong(&p->i->passing, &none, 1))
        begin(p);
}

/* ---- a snapshot that is not what it should be ---- */

static void doubt(struct ing_partition *p, uint64_t bad_serial, const struct kl_err *err)
{
    kl_logf(p->i->o.log, KL_ERROR, "ingestor: partition %" PRIu32 ": its snapshot in snapshots/%04"
            PRIu32 " is set aside, and the partition begins anew from the catalogue and the log: %s",
            p->number, p->number, err->text);
    p->damaged = true;
    p->bad_serial = bad_serial;
    ing_partition_anew(p, "its snapshot is damaged; reading the catalogue and the log in its place");
}

void ing_snap_doubt(struct ing_partition *p, const struct kl_err *err)
{
    if (!p->damaged)
        doubt(p, 0, err);
}

bool ing_snap_damaged(struct ing_partition *p)
{
    int state = atomic_load(&p->state);

    if ((state != ING_LIVE && state != ING_REPLAYING) || ing_stopping(p))
        return false;
    if (!p->damaged && atomic_load(&p->files.damaged) == 2)
        doubt(p, p->files.bad_serial, &p->files.words);
    return p->damaged;
}
