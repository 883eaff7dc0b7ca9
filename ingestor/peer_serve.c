/* What of a snapshot goes over the bus, in bytes; and the owner's side of it. */
#include "ingestor/peer.h"
#include "ingestor/snap_priv.h"

#include "libkoal/base/hash.h"
#include "libkoal/base/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SERVED_AT_ONCE = 4 };
static const char asks[4] = { 'K', 'P', 'Q', '1' }, answers[4] = { 'K', 'P', 'A', '1' };

/* ---- bytes ---- */

void ing_peer_question_put(const struct ing_peer_question *q, uint8_t out[ING_PEER_QUESTION])
{
    memcpy(out, asks, 4);
    memcpy(out + 4, &q->partition, 4);
    memcpy(out + 8, &q->file, 8);
    memcpy(out + 16, &q->snapshot, 8);
    memcpy(out + 24, &q->offset, 8);
}

enum kl_code ing_peer_question_get(struct kl_span in, struct ing_peer_question *q, struct kl_err *err)
{
    const uint8_t *at = in.at;

    if (in.size != ING_PEER_QUESTION || memcmp(at, asks, 4) != 0)
        return kl_fail(err, KL_EINVAL, "no question for a snapshot");
    memcpy(&q->partition, at + 4, 4);
    memcpy(&q->file, at + 8, 8);
    memcpy(&q->snapshot, at + 16, 8);
    memcpy(&q->offset, at + 24, 8);
    return KL_OK;
}

void ing_peer_answer_put(const struct ing_peer_answer *a, struct kl_buf *out)
{
    size_t   from = out->size;
    uint32_t crc;

    kl_buf_add(out, answers, 4);
    kl_buf_add32(out, 0);
    kl_buf_add64(out, a->snapshot);
    kl_buf_add64(out, a->size);
    kl_buf_add64(out, a->offset);
    kl_buf_add(out, a->piece.at, a->piece.size);
    crc = kl_crc32c(0, out->at + from + 8, out->size - from - 8);
    memcpy(out->at + from + 4, &crc, 4);
}

enum kl_code ing_peer_answer_get(struct kl_span in, const struct ing_peer_question *q,
                                 struct ing_peer_answer *a, struct kl_err *err)
{
    const uint8_t *at = in.at;
    uint32_t       crc;

    if (in.size < ING_PEER_HEAD || in.size > ING_PEER_HEAD + ING_PEER_PIECE || memcmp(at, answers, 4) != 0)
        return kl_fail(err, KL_ECORRUPT, "no piece of a snapshot");
    memcpy(&crc, at + 4, 4);
    if (crc != kl_crc32c(0, at + 8, in.size - 8))
        return kl_fail(err, KL_ECORRUPT, "a piece of a snapshot is damaged");
    memcpy(&a->snapshot, at + 8, 8);
    memcpy(&a->size, at + 16, 8);
    memcpy(&a->offset, at + 24, 8);
    a->piece = kl_span(at + ING_PEER_HEAD, in.size - ING_PEER_HEAD);
    if (a->offset != q->offset || (q->snapshot != 0 && a->snapshot != q->snapshot) || a->snapshot == 0 ||
        a->size > ING_PEER_FILE_MAX || (a->piece.size == 0 && a->size != 0) || a->offset > a->size || a->piece.size > a->size - a->offset)
        return kl_fail(err, KL_ECORRUPT, "another piece of a snapshot than was asked for");
    return KL_OK;
}

/* ---- serving ---- */

struct served {
    struct ing_partition *p;
    struct kl_bus_question *q;
    struct ing_peer_question what;
    struct kl_env_task work, back;
    struct kl_buf out;
    enum kl_code  code;
    struct kl_err err;
};

static enum kl_code read_piece(struct served *s, struct kl_env_dir *dir, struct kl_err *err)
{
    struct ing_peer_answer a = { .offset = s->what.offset };
    struct ing_snap_header h;
    struct kl_env_view    *view = NULL;
    uint8_t                head[ING_SNAP_HEADER];
    char                   name[64];
    void                  *piece = NULL;
    enum kl_code           code;

    /* The head tells which snapshot there is, whatever file is wanted. */
    code = dir->view(dir, "head", &view, &a.size, err);
    if (code == KL_OK && (code = dir->view_read(view, 0, head, sizeof head, err)) == KL_OK)
        code = ing_snap_header_get(head, &h, err);
    if (code == KL_OK && s->what.snapshot != 0 && h.serial != s->what.snapshot)
        code = kl_fail(err, KL_EAGAIN, "there is another snapshot by now");
    if (code == KL_OK && s->what.file != 0) {
        dir->view_close(view);
        view = NULL;
        ing_snap_chunks_name(s->what.file, name, sizeof name);
        code = dir->view(dir, name, &view, &a.size, err);
    }
    if (code == KL_OK && s->what.offset >= a.size && (a.size > 0 || s->what.offset > 0))
        code = kl_fail(err, KL_EINVAL, "a snapshot's file of %" PRIu64 " bytes was asked for beyond its end", a.size);
    if (code == KL_OK) {
        size_t size = a.size - a.offset < ING_PEER_PIECE ? (size_t)(a.size - a.offset) : ING_PEER_PIECE;

        piece = kl_resize(NULL, size + 1);             /* a file of chunks may be empty */
        code = dir->view_read(view, a.offset, piece, size, err);
        a.piece = kl_span(piece, size);
        a.snapshot = h.serial;
    }
    if (code == KL_OK)
        ing_peer_answer_put(&a, &s->out);
    if (view != NULL)
        dir->view_close(view);
    free(piece);
    return code;
}

static void serve_work(struct kl_env_task *task)
{
    struct served     *s = kl_container_of(task, struct served, work);
    struct kl_env_dir *dir;

    s->code = ing_snap_folder(s->p, &dir, &s->err);
    if (s->code == KL_OK) {
        s->code = read_piece(s, dir, &s->err);
        dir->leave(dir);
    }
    s->p->i->env->sched->post(s->p->shard->loop, &s->back);
}

static void serve_back(struct kl_env_task *task)
{
    struct served        *s = kl_container_of(task, struct served, back);
    struct ing_partition *p = s->p;

    ing_in(p->i);
    p->peers_served--;
    if (s->code == KL_OK)
        kl_bus_answer_take(p->i->bus, s->q, &s->out);
    else
        p->i->bus->answer(p->i->bus, s->q, s->code == KL_ENOENT ? KL_EAGAIN : s->code, kl_span_str(s->err.text));
    kl_buf_deinit(&s->out);
    free(s);
}

static void question(struct kl_bus_service *service, struct kl_bus_question *q)
{
    struct ing_partition    *p = service->ctx;
    struct ing_peer_question what;
    struct served           *s;
    struct kl_err            err;

    if (ing_peer_question_get(q->bytes, &what, &err) != KL_OK || what.partition != p->number) {
        p->i->bus->answer(p->i->bus, q, KL_EINVAL, kl_span_str("no question for a snapshot of this partition"));
        return;
    }
    if (p->peers_served == SERVED_AT_ONCE || ing_stopping(p)) {
        p->i->bus->answer(p->i->bus, q, KL_EAGAIN, kl_span_str("too many ask for this snapshot"));
        return;
    }
    s = kl_new(sizeof *s);
    *s = (struct served){ .p = p, .q = q, .what = what, .work.run = serve_work, .back.run = serve_back };
    kl_buf_init(&s->out, KL_BUS_MESSAGE_MAX);
    p->peers_served++;
    ing_out(p->i);
    p->i->env->sched->errand(p->i->env->sched, &s->work);
}

void ing_peer_serve(struct ing_partition *p, bool owning)
{
    if (!owning) {
        p->i->bus->unserve(p->i->bus, &p->peer_service);
        return;
    }
    p->peer_service = (struct kl_bus_service){ .loop = p->shard->loop, .question = question, .ctx = p };
    snprintf(p->peer_service.subject, sizeof p->peer_service.subject, "snapshot.%04" PRIu32, p->number);
    p->i->bus->serve(p->i->bus, &p->peer_service);
}
