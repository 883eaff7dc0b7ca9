/*
 * The newcomer's side of a snapshot from a peer: piece by piece, one under way, each asked on the loop and
 * written by a worker. Files of chunks are published as they end, the head last of all.
 */
#include "ingestor/peer.h"
#include "ingestor/snap_priv.h"

#include "libkoal/base/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ASK_MS = 5000, TRIES = 3, AGAIN_MS = 200, SNAPSHOTS_TRIED = 3 };

struct fetch {
    struct ing_partition *p;
    void (*done)(struct ing_partition *p);
    struct ing_peer_question what;
    struct ing_peer_answer   got;
    uint8_t       question[ING_PEER_QUESTION];
    struct kl_bus_ask   ask;
    struct kl_env_timer again;
    unsigned      tries, snapshots;
    uint64_t      bytes;
    uint64_t      serials[ING_FILES_MAX + 1]; uint32_t count, next;     /* files of chunks that the head names */
    /* the worker's */
    struct kl_env_dir  *dir;
    struct kl_env_file *head, *chunks;
    bool          there, begun, whole, end;
    enum kl_code  code;
    struct kl_err err;
    struct kl_env_task work, back;
};

static void work(struct fetch *f, void (*run)(struct kl_env_task *))
{
    f->work = (struct kl_env_task){ .run = run };
    ing_out(f->p->i);
    f->p->i->env->sched->errand(f->p->i->env->sched, &f->work);
}

static void over(struct kl_env_task *task)
{
    struct fetch         *f = kl_container_of(task, struct fetch, back);
    struct ing_partition *p = f->p;
    void                (*done)(struct ing_partition *) = f->done;

    ing_in(p->i);
    if (f->whole) {
        kl_count(p->i->m.from_peer, 1);
        kl_logf(p->i->o.log, KL_INFO, "ingestor: partition %" PRIu32 ": a snapshot came from its owner, %" PRIu64
                " bytes", p->number, f->bytes);
    } else if (f->begun && f->code != KL_OK && !ing_stopping(p)) {
        kl_logf(p->i->o.log, KL_INFO, "ingestor: partition %" PRIu32 ": no snapshot from its owner, going on without: "
                "%s", p->number, f->err.text);
    }
    free(f);
    done(p);
}

/* Whatever is not whole goes; files of chunks that no head names are removed by the next pass. */
static void end_work(struct kl_env_task *task)
{
    struct fetch *f = kl_container_of(task, struct fetch, work);
    struct kl_err unfit;

    if (f->head != NULL)
        f->dir->close(f->head);
    if (f->chunks != NULL)
        f->dir->close(f->chunks);
    if (f->dir != NULL && !f->whole && f->begun) {
        f->dir->remove(f->dir, "head.tmp", &unfit);
        f->dir->remove(f->dir, "chunks.tmp", &unfit);
    }
    if (f->dir != NULL)
        f->dir->leave(f->dir);
    f->back = (struct kl_env_task){ .run = over };
    f->p->i->env->sched->post(f->p->shard->loop, &f->back);
}

static void end(struct fetch *f) { work(f, end_work); }

/* ---- which files of chunks the head names: its blocks up to the first tenant ---- */

static enum kl_code note_files(struct fetch *f, struct kl_span piece, struct kl_err *err)
{
    const uint8_t *at = piece.at;
    size_t         i = ING_SNAP_HEADER;

    while (i + ING_SNAP_BLOCK_HEAD <= piece.size) {
        uint32_t       head[3];
        struct kl_cur  c;
        uint64_t       serial, size;

        memcpy(head, at + i, sizeof head);
        i += ING_SNAP_BLOCK_HEAD;
        if (head[0] != ING_SNAP_STATE && head[0] != ING_SNAP_FILE)
            return KL_OK;
        if (head[1] > piece.size - i)
            break;
        c = kl_cur(at + i, head[1]);
        i += head[1];
        if (head[0] == ING_SNAP_STATE)
            continue;
        kl_cur_8(&c);
        serial = kl_cur_64(&c);
        size = kl_cur_64(&c);
        if (c.bad || f->count == ING_FILES_MAX || serial == 0)
            break;
        (void)size;                                    /* that is checked when it is read */
        f->serials[f->count++] = serial;
    }
    return kl_fail(err, KL_ECORRUPT, "a snapshot whose files are not told");
}

/* ---- a piece ---- */

static enum kl_code begin_file(struct fetch *f, struct kl_err *err)
{
    if (f->what.file == 0) {
        f->begun = true;
        if (f->dir->create(f->dir, "head.tmp", &f->head, err) == KL_OK)
            return KL_OK;
        f->head = NULL;
        return err->code;
    }
    if (f->dir->create(f->dir, "chunks.tmp", &f->chunks, err) == KL_OK)
        return KL_OK;
    f->chunks = NULL;
    return err->code;
}

static enum kl_code end_chunks(struct fetch *f, struct kl_err *err)
{
    char         name[64];
    enum kl_code code = f->dir->sync(f->chunks, err);

    ing_snap_chunks_name(f->what.file, name, sizeof name);
    if (code == KL_OK)
        code = f->dir->publish(f->chunks, name, err);
    f->dir->close(f->chunks);
    f->chunks = NULL;
    return code;
}

static enum kl_code take(struct fetch *f, struct kl_err *err)
{
    bool last = f->got.offset + f->got.piece.size == f->got.size;

    if (f->got.offset == 0 && begin_file(f, err) != KL_OK)
        return err->code;
    if (f->got.offset == 0 && f->what.file == 0 && note_files(f, f->got.piece, err) != KL_OK)
        return err->code;
    if (f->dir->append(f->what.file == 0 ? f->head : f->chunks, f->got.piece.at, f->got.piece.size, err) != KL_OK)
        return err->code;
    f->bytes += f->got.piece.size;
    f->what.snapshot = f->got.snapshot;
    f->what.offset += f->got.piece.size;
    if (!last)
        return KL_OK;
    if (f->what.file != 0 && end_chunks(f, err) != KL_OK)
        return err->code;
    if (f->next < f->count) {
        f->what.file = f->serials[f->next++];
        f->what.offset = 0;
        return KL_OK;
    }
    /* What it names is there; now it is. */
    if (f->dir->sync(f->head, err) != KL_OK || f->dir->publish(f->head, "head", err) != KL_OK)
        return err->code;
    f->whole = true;
    return KL_OK;
}

static void put(struct fetch *f);

static void taken(struct kl_env_task *task)
{
    struct fetch *f = kl_container_of(task, struct fetch, back);

    ing_in(f->p->i);
    if (f->code != KL_OK || f->whole || ing_stopping(f->p) || atomic_load(&f->p->state) == ING_AWAY)
        end(f);
    else
        put(f);
}

static void take_work(struct kl_env_task *task)
{
    struct fetch *f = kl_container_of(task, struct fetch, work);

    f->code = take(f, &f->err);
    free(f->ask.answer);
    f->back = (struct kl_env_task){ .run = taken };
    f->p->i->env->sched->post(f->p->shard->loop, &f->back);
}

/* The owner has made another one meanwhile: that is taken in its place. */
static void anew_work(struct kl_env_task *task)
{
    struct fetch *f = kl_container_of(task, struct fetch, work);

    if (f->head != NULL)
        f->dir->close(f->head);
    if (f->chunks != NULL)
        f->dir->close(f->chunks);
    f->head = f->chunks = NULL;
    f->what = (struct ing_peer_question){ .partition = f->p->number };
    f->count = f->next = 0;
    f->code = KL_OK;
    f->back = (struct kl_env_task){ .run = taken };
    f->p->i->env->sched->post(f->p->shard->loop, &f->back);
}

/* ---- asking ---- */

static void again(struct kl_env_timer *timer) { put(kl_container_of(timer, struct fetch, again)); }

static void answered(struct kl_bus_ask *op)
{
    struct fetch *f = kl_container_of(op, struct fetch, ask);
    bool          stopping = ing_stopping(f->p) || atomic_load(&f->p->state) == ING_AWAY;

    ing_in(f->p->i);
    f->code = op->code;
    f->err = op->err;
    if (op->code == KL_OK &&
        (f->code = ing_peer_answer_get(kl_span(op->answer, op->answer_size), &f->what, &f->got, &f->err)) != KL_OK)
        free(op->answer);
    if (f->code == KL_OK) {
        f->tries = 0;
        work(f, take_work);
    } else if (f->code == KL_ETIMEOUT && ++f->tries < TRIES && !stopping) {
        f->again.fire = again;
        f->p->i->env->sched->arm(f->p->shard->loop, &f->again, AGAIN_MS);
    } else if (f->code == KL_EAGAIN && f->what.snapshot != 0 && ++f->snapshots < SNAPSHOTS_TRIED && !stopping) {
        work(f, anew_work);
    } else {
        end(f);
    }
}

static void put(struct fetch *f)
{
    if (ing_stopping(f->p)) {
        end(f);
        return;
    }
    ing_peer_question_put(&f->what, f->question);
    f->ask = (struct kl_bus_ask){ .question = kl_span(f->question, sizeof f->question), .timeout_ms = ASK_MS,
                                  .loop = f->p->shard->loop, .done = answered };
    snprintf(f->ask.subject, sizeof f->ask.subject, "snapshot.%04" PRIu32, f->p->number);
    ing_out(f->p->i);
    f->p->i->bus->ask(f->p->i->bus, &f->ask);
}

/* ---- is there one already? ---- */

static void looked(struct kl_env_task *task)
{
    struct fetch *f = kl_container_of(task, struct fetch, back);

    ing_in(f->p->i);
    if (f->there || f->code != KL_OK || ing_stopping(f->p))
        end(f);
    else
        put(f);
}

static void look_work(struct kl_env_task *task)
{
    struct fetch       *f = kl_container_of(task, struct fetch, work);
    struct kl_env_view *view;
    uint64_t            size;

    f->code = ing_snap_folder(f->p, &f->dir, &f->err);
    if (f->code != KL_OK) {
        f->dir = NULL;
    } else if (f->dir->view(f->dir, "head", &view, &size, &f->err) == KL_OK) {
        f->dir->view_close(view);
        f->there = true;
    }
    f->back = (struct kl_env_task){ .run = looked };
    f->p->i->env->sched->post(f->p->shard->loop, &f->back);
}

void ing_peer_fetch(struct ing_partition *p, void (*done)(struct ing_partition *p))
{
    struct fetch *f = kl_new(sizeof *f);

    f->p = p;
    f->done = done;
    f->what.partition = p->number;
    work(f, look_work);
}
