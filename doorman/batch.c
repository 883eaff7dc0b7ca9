/*
 * Batches: opened by the first sample for a partition, closed by size or linger, appended, retried,
 * settled. The rules about acks are here, and nowhere else:
 *
 *   - `duplicate` on the first publish of an id is no ack: the id was never used before;
 *   - an ack's sequence lies above every sequence acked before the batch was first published;
 *     else the log has been rolled back, and what readers applied is not what it holds;
 *   - an ack from another incarnation of the stream than the accepted one (mark.c), or than the
 *     last one's, is no ack;
 *   - after the last two, every definition is sent anew.
 */
#include "doorman/dm_priv.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RETRY_FIRST_MS = 50, RETRY_LAST_MS = 1000, KEEP_BYTES_MAX = 1 << 20 };

/* ---- a batch's memory ---- */

static void link_live(struct dm_gate *g, struct dm_batch *b)
{
    b->next = g->live;
    b->at = &g->live;
    if (b->next != NULL)
        b->next->at = &b->next;
    g->live = b;
}

static void unlink_live(struct dm_batch *b)
{
    *b->at = b->next;
    if (b->next != NULL)
        b->next->at = b->at;
}

static void batch_free(struct dm_batch *b)
{
    if (b == NULL)
        return;
    tsp_record_writer_free(b->writer);
    kl_buf_deinit(&b->bytes);
    free(b->defined);
    free(b->waiters);
    free(b);
}

static void on_timer(struct kl_env_timer *timer);
static void on_append(struct kl_bus_append *op);

static struct dm_batch *batch_new(struct dm_gate *g, struct dm_part *p)
{
    struct dm_batch *b = g->spare;

    if (b != NULL) {
        g->spare = b->next;
        g->spare_count--;
    } else {
        b = kl_new(sizeof *b);
        kl_buf_init(&b->bytes, TSP_RECORD_MAX);
        b->timer.fire = on_timer;
        b->gate = g;
    }
    b->part = p;
    b->serial = ++g->serial != 0 ? g->serial : ++g->serial;
    b->begun_s = g->now_s;
    b->begun_ns = kl_env_mono_ns(g->env);
    b->attempts = 0;
    b->op.trace.on = false;
    b->defined_count = b->waiter_count = 0;
    kl_buf_reset(&b->bytes);
    b->writer = g->writer_count > 0 ? g->writers[--g->writer_count] : tsp_record_writer_new();
    tsp_record_start(b->writer);
    link_live(g, b);
    return b;
}

static void give_writer_back(struct dm_gate *g, struct dm_batch *b)
{
    if (b->writer != NULL && g->writer_count < DM_SPARE_MAX)
        g->writers[g->writer_count++] = b->writer;
    else
        tsp_record_writer_free(b->writer);
    b->writer = NULL;
}

static void give_batch_back(struct dm_gate *g, struct dm_batch *b)
{
    unlink_live(b);
    if (g->spare_count == DM_SPARE_MAX || b->bytes.room > KEEP_BYTES_MAX) {
        batch_free(b);
        return;
    }
    b->next = g->spare;
    g->spare = b;
    g->spare_count++;
}

/* ---- settling ---- */

static void close_batch(struct dm_gate *g, struct dm_batch *b);

/* Its fate is known: `why` is NULL for an ack. */
void dm_push_acked(struct dm_push *push, uint32_t partition, uint64_t seq)
{
    uint32_t i = 0;

    while (i < push->acked_count && push->acked[i].partition != partition)
        i++;
    if (i == DM_POSITIONS_MAX) {
        push->acked_elsewhere = true;
        return;
    }
    if (i == push->acked_count)
        push->acked[push->acked_count++] = (struct dm_position){ partition, 0 };
    if (seq > push->acked[i].seq)
        push->acked[i].seq = seq;
}

static void settle(struct dm_gate *g, struct dm_batch *b, const struct kl_err *why)
{
    struct dm_part *p = b->part;

    if (b->op.trace.on)
        dm_told_batch(g, b, why);
    p->under_way--;
    p->inflight_bytes -= b->charged;
    atomic_fetch_sub(&g->doorman->record_bytes, b->charged);
    if (why != NULL)
        kl_count(g->counters->c[DM_C_FAILED], 1);
    for (size_t i = 0; i < b->waiter_count; i++) {
        if (why == NULL)
            dm_push_acked(b->waiters[i]->push, p->number, b->op.seq);
        if (why != NULL) {
            dm_map_set(b->waiters[i]->failed, p->number);
            dm_ticket_fail(b->waiters[i], 503, why->code == KL_ELIMIT ? 30 : 1,
                           "partition %u: %s", p->number, why->text);
        }
        dm_ticket_release(g, b->waiters[i]);
    }
    give_batch_back(g, b);
    /* What gathered while this one was under way goes next. */
    if (p->open != NULL && p->under_way == 0 && g->options->linger_ms == 0 && !g->ending)
        close_batch(g, p->open);
}

static void append(struct dm_gate *g, struct dm_batch *b)
{
    b->attempts++;
    b->appending = true;
    b->op.partition = b->part->number;
    b->op.record = kl_buf_span(&b->bytes);
    b->op.loop = g->loop;
    b->op.done = on_append;
    g->bus->append(g->bus, &b->op);
}

static void close_batch(struct dm_gate *g, struct dm_batch *b)
{
    struct dm_part *p = b->part;
    struct kl_err   err;
    enum kl_code    code;

    assert(p->open == b);
    g->env->sched->disarm(g->loop, &b->timer);
    p->open = NULL;
    p->under_way++;
    code = tsp_record_finish(b->writer, g->who, ++g->counter, &b->bytes, &err);
    give_writer_back(g, b);
    b->charged = b->bytes.size;
    if (g->reading != NULL)
        g->reading->made += b->charged;
    p->inflight_bytes += b->charged;
    atomic_fetch_add(&g->doorman->record_bytes, b->charged);
    if (code != KL_OK) {                               /* sizes are bounded before: our own mistake */
        kl_logf(g->log, KL_ERROR, "partition %u: a record that cannot be sealed: %s", p->number,
                err.text);
        settle(g, b, &err);
        return;
    }
    kl_count(g->counters->c[DM_C_RECORDS], 1);
    kl_count(g->counters->c[DM_C_RECORD_BYTES], b->bytes.size);
    b->epoch = p->epoch;
    b->after_seq = p->last_seq;
    snprintf(b->op.id, sizeof b->op.id, "%s-%" PRIx64, g->who_hex, g->counter);
    append(g, b);
}

/* ---- acks ---- */

/* What was acked before may be gone: nothing is known of this log any more. */
static void forget_all(struct dm_gate *g, struct dm_part *p)
{
    p->epoch++;
    g->forgets++;
    dm_acked_clear(g->acked);
}

/* Is this KL_OK an ack? Else fills err. */
static bool is_ack(struct dm_gate *g, struct dm_batch *b, struct kl_err *err)
{
    struct dm_part *p = b->part;
    const struct kl_bus_append *op = &b->op;

    if (op->duplicate && b->attempts == 1) {
        kl_fail(err, KL_ECORRUPT, "the log calls a new record a duplicate");
    } else if (!dm_mark_takes(g, p->number, op->incarnation, err)) {
        if (p->incarnation == op->incarnation)
            return false;                              /* said before */
        p->incarnation = op->incarnation;
        p->last_seq = op->seq;
        forget_all(g, p);
    } else if (p->incarnation != 0 && op->incarnation != p->incarnation) {
        kl_fail(err, KL_ECORRUPT, "the log was made anew: incarnation %" PRIu64 " after %" PRIu64,
                op->incarnation, p->incarnation);
        p->incarnation = op->incarnation;
        p->last_seq = op->seq;
        forget_all(g, p);
    } else if (b->epoch != p->epoch) {
        kl_fail(err, KL_EAGAIN, "the log changed while the record was under way");
        return false;                                  /* told once, by the batch that found it */
    } else if (op->seq <= b->after_seq) {
        kl_fail(err, KL_ECORRUPT, "the log was rolled back: sequence %" PRIu64 " acked after %"
                PRIu64, op->seq, b->after_seq);
        forget_all(g, p);
    } else {
        return true;
    }
    kl_logf(g->log, KL_ERROR, "partition %u: %s; answered 503", p->number, err->text);
    return false;
}

static void acked(struct dm_gate *g, struct dm_batch *b)
{
    struct dm_part *p = b->part;

    p->incarnation = b->op.incarnation;
    if (b->op.seq > p->last_seq)
        p->last_seq = b->op.seq;
    for (size_t i = 0; i < b->defined_count; i++) {
        struct dm_row *row = dm_table_at(g->table, b->defined[i].row, p->number,
                                         b->defined[i].ref);
        if (row != NULL) {
            row->defined_epoch = p->epoch;
            row->defined_s = b->begun_s;
        }
    }
    settle(g, b, NULL);
}

static bool may_retry(const struct dm_gate *g, const struct dm_batch *b)
{
    return (b->op.code == KL_EAGAIN || b->op.code == KL_ETIMEOUT) && !g->ending &&
           kl_env_mono_ns(g->env) - b->begun_ns < g->options->append_timeout_ms * 1000000;
}

static void retry_later(struct dm_gate *g, struct dm_batch *b)
{
    unsigned doublings = b->attempts < 6 ? b->attempts - 1 : 5;
    int64_t  most = (int64_t)RETRY_FIRST_MS << doublings;

    if (most > RETRY_LAST_MS)
        most = RETRY_LAST_MS;
    kl_count(g->counters->c[DM_C_RETRIES], 1);
    /* Jitter, or all doormen come back together. */
    g->env->sched->arm(g->loop, &b->timer,
                       most / 2 + (int64_t)(kl_env_draw(g->env) % (uint64_t)(most / 2 + 1)));
}

/* Of those who wait for it one, to begin a search with. */
static const char *first_id(const struct dm_batch *b)
{
    return b->waiter_count > 0 ? b->waiters[0]->push->request_id : "";
}

static void on_append(struct kl_bus_append *op)
{
    struct dm_batch *b = kl_container_of(op, struct dm_batch, op);
    struct dm_gate  *g = b->gate;
    struct kl_err    err = { 0 };

    b->appending = false;
    if (op->code == KL_OK) {
        if (is_ack(g, b, &err))
            acked(g, b);
        else
            settle(g, b, &err);
    } else if (may_retry(g, b)) {
        retry_later(g, b);
    } else {
        err = op->err;
        err.code = op->code;
        if (op->code != KL_ECANCELED)
            kl_log_event(g->log, KL_WARN, (struct kl_log_field[]){
                kl_log_text("request_id", kl_span_str(first_id(b))) }, 1,
                "partition %u: a record is given up after %u tries: %s", b->part->number, b->attempts,
                err.text);
        settle(g, b, &err);
    }
}

/* While open, its linger is over; afterwards, it is time for the next try. */
static void on_timer(struct kl_env_timer *timer)
{
    struct dm_batch *b = kl_container_of(timer, struct dm_batch, timer);

    if (b->part->open == b)
        close_batch(b->gate, b);
    else
        append(b->gate, b);
}

/* ---- filling ---- */

/* Without linger, batches close when what is queued on the loop has been read. A partition with a
 * record under way gathers on until that is acked: the log's commits set the pace. */
void dm_batch_flush(struct kl_env_task *task)
{
    struct dm_gate *g = kl_container_of(task, struct dm_gate, flush);

    for (struct dm_batch *b = g->live, *next; b != NULL; b = next) {
        next = b->next;
        if (b->part->open == b && b->part->under_way == 0)
            close_batch(g, b);
    }
}

static void add_waiter(struct dm_batch *b, struct dm_ticket *t)
{
    /* A push is read in one go: it is the last waiter or none. */
    if (b->waiter_count > 0 && b->waiters[b->waiter_count - 1] == t)
        return;
    if (b->waiter_count == b->waiter_room) {
        b->waiter_room = b->waiter_room == 0 ? 8 : b->waiter_room * 2;
        b->waiters = kl_resize(b->waiters, b->waiter_room * sizeof b->waiters[0]);
    }
    b->waiters[b->waiter_count++] = t;
    dm_map_set(t->touched, b->part->number);
    t->pending++;
    if (t->push->trace.on && !b->op.trace.on)
        b->op.trace = kl_trace_child(b->gate->options->tracer, &t->push->trace);
}

struct dm_batch *dm_batch_of(struct dm_gate *g, struct dm_part *p, struct dm_ticket *t)
{
    size_t      open_bytes = p->open != NULL ? tsp_record_size(p->open->writer) : 0;
    const char *no_room = p->admitted == t->serial ? NULL : dm_room_refusal(g, p->number);

    if (no_room != NULL) {
        dm_ticket_fail(t, 503, 10, "%s", no_room);
        return NULL;
    }
    /* A few bytes of a push may name much (symbols, a resource's attributes), for each of many series. */
    if (t->made > g->doorman->inflight.cap_bytes) {
        dm_map_set(t->failed, p->number);
        dm_ticket_fail(t, 413, 0, "the push becomes records of more than doorman.inflight_bytes_max\n");
        return NULL;
    }
    /* Asked once a push: else one that is larger than the bound could never pass. */
    if (p->admitted != t->serial &&
        p->inflight_bytes + open_bytes > g->options->partition_inflight_bytes_max) {
        dm_map_set(t->failed, p->number);
        dm_ticket_fail(t, 503, 1, "partition %u: %zu bytes wait for the log already", p->number,
                       p->inflight_bytes + open_bytes);
        return NULL;
    }
    p->admitted = t->serial;
    if (p->open == NULL) {
        p->open = batch_new(g, p);
        if (g->options->linger_ms > 0)
            g->env->sched->arm(g->loop, &p->open->timer, g->options->linger_ms);
        else if (!g->flush.queued)
            g->env->sched->post(g->loop, &g->flush);
    }
    add_waiter(p->open, t);
    return p->open;
}

void dm_batch_defined(struct dm_gate *g, struct dm_batch *b, struct dm_row *row)
{
    if (b->defined_count == b->defined_room) {
        b->defined_room = b->defined_room == 0 ? 64 : b->defined_room * 2;
        b->defined = kl_resize(b->defined, b->defined_room * sizeof b->defined[0]);
    }
    b->defined[b->defined_count++] =
        (struct dm_defined){ .ref = row->ref, .row = dm_table_index(g->table, row) };
    row->in_batch = b->serial;
    kl_count(g->counters->c[DM_C_DEFINITIONS], 1);
}

void dm_batch_grown(struct dm_gate *g, struct dm_batch *b)
{
    if (tsp_record_size(b->writer) >= TSP_RECORD_CLOSE)
        close_batch(g, b);
}

/* ---- the end ---- */

/* Those the bus has are coming back canceled; nobody else will speak for the rest. */
void dm_batches_end(struct dm_gate *g)
{
    static const struct kl_err stopping = { KL_ECANCELED, "the doorman is stopping" };

    for (struct dm_batch *b = g->live, *next; b != NULL; b = next) {
        next = b->next;
        if (b->appending)
            continue;
        g->env->sched->disarm(g->loop, &b->timer);
        if (b->part->open == b) {
            b->part->open = NULL;
            b->part->under_way++;
            b->charged = 0;
            give_writer_back(g, b);
        }
        settle(g, b, &stopping);
    }
}

/* Tickets that still wait go with the last batch they wait for: a killed process answers nobody. */
void dm_batches_free(struct dm_gate *g)
{
    for (struct dm_batch *b = g->live, *next; b != NULL; b = next) {
        next = b->next;
        for (size_t i = 0; i < b->waiter_count; i++)
            if (--b->waiters[i]->pending == 0)
                free(b->waiters[i]);
        batch_free(b);
    }
    for (struct dm_batch *b = g->spare, *next; b != NULL; b = next) {
        next = b->next;
        batch_free(b);
    }
    while (g->writer_count > 0)
        tsp_record_writer_free(g->writers[--g->writer_count]);
}
