#include "doorman/dm_priv.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * A batch is one record on its way: open (its bytes still grow in the route's writer), then sealed and
 * with the bus, perhaps several times under one id, then done. At its end every push in it is told.
 */
struct defined { struct kl_fp key; uint64_t ref; };
struct dm_batch {
    struct kl_bus_append op;
    struct dm_route  *route;
    struct dm_batch **self, *next;                     /* in the gate's list of live ones */
    uint32_t number, epoch;
    struct kl_buf    record;
    struct dm_work **works;
    size_t work_count, work_room;
    struct defined *defined;
    size_t defined_count, defined_room;
    bool   retried, waiting;                           /* waiting: for the retry timer */
    int64_t give_up_ns, delay_ms;
    struct kl_env_timer retry;
};

static void batch_fail(struct dm_batch *b, const char *why);
static void route_close(struct dm_route *r);
static void linger_over(struct kl_env_timer *t);

void dm_routes_make(struct dm_gate *g, uint32_t partitions)
{
    g->route_count = partitions;
    g->routes = kl_new(partitions * sizeof *g->routes);
    for (uint32_t i = 0; i < partitions; i++)
        g->routes[i] = (struct dm_route){ .gate = g, .partition = i, .epoch = 1,
                                          .linger.fire = linger_over,
                                          .writer = tsp_record_writer_new() };
}

void dm_routes_free(struct dm_gate *g)
{
    for (uint32_t i = 0; i < g->route_count; i++)
        tsp_record_writer_free(g->routes[i].writer);
    free(g->routes);
}

/* ---- filling ---- */

static struct dm_batch *batch_new(struct dm_route *r)
{
    struct dm_gate  *g = r->gate;
    struct dm_batch *b = kl_new(sizeof *b);

    b->route = r;
    b->number = ++g->batches;
    b->epoch = r->epoch;
    kl_buf_init(&b->record, TSP_RECORD_MAX);
    b->next = g->live;
    b->self = &g->live;
    if (b->next != NULL)
        b->next->self = &b->next;
    g->live = b;
    tsp_record_start(r->writer);
    return b;
}

static void batch_free(struct dm_batch *b)
{
    *b->self = b->next;
    if (b->next != NULL)
        b->next->self = b->self;
    kl_buf_deinit(&b->record);
    free(b->works);
    free(b->defined);
    free(b);
}

struct tsp_record_writer *dm_route_open(struct dm_route *r, struct dm_work *w)
{
    struct dm_batch *b = r->open;

    if (r->inflight_bytes + tsp_record_size(r->writer) >
        r->gate->doorman->options.partition_inflight_bytes_max) {
        if (!w->failed) {
            char why[120];
            snprintf(why, sizeof why, "the log does not keep up: partition %" PRIu32 " has %" PRIu64
                     " bytes in flight", r->partition, r->inflight_bytes);
            dm_work_fail(w, why);
        }
        return NULL;
    }
    if (b == NULL)
        b = r->open = batch_new(r);
    if (b->work_count == 0 || b->works[b->work_count - 1] != w) {
        if (b->work_count == b->work_room) {
            b->work_room = b->work_room == 0 ? 8 : 2 * b->work_room;
            b->works = kl_resize(b->works, b->work_room * sizeof *b->works);
        }
        b->works[b->work_count++] = w;
        w->pending++;
    }
    return r->writer;
}

bool dm_route_knows(const struct dm_route *r, const struct dm_entry *e)
{
    if (r->open != NULL && e->defined_batch == r->open->number)
        return true;
    return e->defined_epoch == r->epoch && r->gate->now_s - e->defined_s < DM_REDEFINE_S;
}

void dm_route_define(struct dm_route *r, struct dm_entry *e, struct kl_span tenant, struct kl_fp fp,
                     struct kl_labels labels)
{
    struct dm_batch *b = r->open;

    tsp_record_define(r->writer, tenant, e->ref, fp, labels);
    e->defined_batch = b->number;
    if (b->defined_count == b->defined_room) {
        b->defined_room = b->defined_room == 0 ? 64 : 2 * b->defined_room;
        b->defined = kl_resize(b->defined, b->defined_room * sizeof *b->defined);
    }
    b->defined[b->defined_count++] = (struct defined){ .key = e->key, .ref = e->ref };
    kl_count(r->gate->doorman->metrics.definitions, 1);
}

void dm_route_added(struct dm_route *r)
{
    if (tsp_record_size(r->writer) >= TSP_RECORD_CLOSE)
        route_close(r);
}

/* Without a linger a record leaves at once while nothing is in flight, and gathers behind what is. */
void dm_routes_after_push(struct dm_gate *g)
{
    int64_t linger_ms = g->doorman->options.linger_ms;

    for (uint32_t i = 0; i < g->route_count; i++) {
        struct dm_route *r = &g->routes[i];
        if (r->open == NULL)
            continue;
        if (linger_ms == 0 && r->inflight_records == 0)
            route_close(r);
        else if (linger_ms > 0 && !r->linger.armed)
            g->doorman->env->sched->arm(g->loop, &r->linger, linger_ms);
    }
}

/* ---- sending ---- */

static void batch_done(struct kl_bus_append *op);

static void send(struct dm_batch *b)
{
    struct kl_bus *bus = b->route->gate->doorman->bus;

    b->op.done = batch_done;
    bus->append(bus, &b->op);
}

static void retry(struct kl_env_timer *t)
{
    struct dm_batch *b = kl_container_of(t, struct dm_batch, retry);

    b->waiting = false;
    b->retried = true;
    kl_count(b->route->gate->doorman->metrics.retries, 1);
    send(b);
}

static void linger_over(struct kl_env_timer *t)
{
    struct dm_route *r = kl_container_of(t, struct dm_route, linger);

    if (r->open != NULL)
        route_close(r);
}

static void route_close(struct dm_route *r)
{
    struct dm_gate    *g = r->gate;
    struct dm_doorman *d = g->doorman;
    struct dm_batch   *b = r->open;
    struct kl_err      err;
    size_t             at = 0;

    r->open = NULL;
    d->env->sched->disarm(g->loop, &r->linger);
    if (tsp_record_finish(r->writer, g->who, ++g->counter, &b->record, &err) != KL_OK) {
        batch_fail(b, err.text);
        return;
    }
    tsp_record_start(r->writer);
    b->op = (struct kl_bus_append){ .partition = r->partition, .record = kl_buf_span(&b->record),
                                    .loop = g->loop };
    for (size_t i = 0; i < sizeof g->who.bytes; i++)
        at += (size_t)snprintf(b->op.id + at, sizeof b->op.id - at, "%02x", g->who.bytes[i]);
    /* 32 digits of the incarnation leave 15 characters: 60 bits of the counter. */
    snprintf(b->op.id + at, sizeof b->op.id - at, "%" PRIx64, g->counter & 0x0fffffffffffffff);
    b->give_up_ns = kl_env_mono_ns(d->env) + d->options.append_timeout_ms * 1000000;
    b->delay_ms = DM_RETRY_FIRST_MS;
    b->retry.fire = retry;
    r->inflight_bytes += b->record.size;
    r->inflight_records++;
    atomic_fetch_add(&d->inflight_bytes, b->record.size);
    kl_count(d->metrics.records, 1);
    kl_count(d->metrics.record_bytes, b->record.size);
    send(b);
}

/* ---- the end of a batch ---- */

static void tell(struct dm_batch *b, const char *why)
{
    struct dm_gate *g = b->route->gate;

    for (size_t i = 0; i < b->work_count; i++) {
        if (why != NULL)
            dm_work_fail(b->works[i], why);
        dm_work_done(g, b->works[i]);
    }
}

static void batch_fail(struct dm_batch *b, const char *why)
{
    tell(b, why);
    batch_free(b);
}

/* The definitions that this ack makes known. Entries may have gone, or be others', meanwhile. */
static void remember(struct dm_batch *b)
{
    struct dm_gate *g = b->route->gate;

    for (size_t i = 0; i < b->defined_count; i++) {
        struct dm_entry *e = dm_table_find(g->table, b->defined[i].key);
        if (e != NULL && e->ref == b->defined[i].ref) {
            e->defined_epoch = b->epoch;
            e->defined_s = g->now_s;
        }
    }
}

static const char *alarm_foreign(struct dm_batch *b, char *why, size_t size)
{
    struct dm_gate *g = b->route->gate;

    snprintf(why, size, "the log of partition %" PRIu32 " is not the one that was written to before; "
             "the push was not counted, send it again", b->route->partition);
    kl_count(g->doorman->metrics.alarms, 1);
    kl_logf(g->doorman->options.log, KL_ERROR, "partition %" PRIu32 ": acked at sequence %" PRIu64
            " of incarnation %" PRIu64 "%s, after sequence %" PRIu64 " of %" PRIu64,
            b->route->partition, b->op.seq, b->op.incarnation, b->op.duplicate ? ", as a duplicate" : "",
            b->route->last_seq, b->route->incarnation);
    return why;
}

/* Whether an ack may be believed; else the words for the pusher. */
static const char *judge(struct dm_batch *b, char *why, size_t size)
{
    struct dm_route *r = b->route;

    if (b->op.incarnation != r->incarnation) {
        bool first = r->incarnation == 0;
        if (first) {
            r->incarnation = b->op.incarnation;
            r->last_seq = b->op.seq;
            return b->op.duplicate && !b->retried ? alarm_foreign(b, why, size) : NULL;
        }
        alarm_foreign(b, why, size);
        r->incarnation = b->op.incarnation;            /* in it nothing is defined yet */
        r->last_seq = b->op.seq;
        r->epoch++;
        return why;
    }
    if (b->epoch != r->epoch)                          /* sealed before, without the definitions */
        return alarm_foreign(b, why, size);
    if (b->op.duplicate)
        return b->retried ? NULL : alarm_foreign(b, why, size);
    if (b->op.seq <= r->last_seq)
        return alarm_foreign(b, why, size);
    r->last_seq = b->op.seq;
    return NULL;
}

static void batch_done(struct kl_bus_append *op)
{
    struct dm_batch   *b = kl_container_of(op, struct dm_batch, op);
    struct dm_route   *r = b->route;
    struct dm_gate    *g = r->gate;
    struct dm_doorman *d = g->doorman;
    char               words[200];
    const char        *why = NULL;

    if ((op->code == KL_EAGAIN || op->code == KL_ETIMEOUT) && !g->stopping &&
        kl_env_mono_ns(d->env) < b->give_up_ns) {
        b->waiting = true;
        d->env->sched->arm(g->loop, &b->retry, b->delay_ms);
        b->delay_ms = b->delay_ms * 2 < DM_RETRY_MOST_MS ? b->delay_ms * 2 : DM_RETRY_MOST_MS;
        return;
    }
    r->inflight_bytes -= b->record.size;
    r->inflight_records--;
    atomic_fetch_sub(&d->inflight_bytes, b->record.size);
    if (op->code != KL_OK)
        why = op->err.text;
    else if ((why = judge(b, words, sizeof words)) == NULL)
        remember(b);
    tell(b, why);
    batch_free(b);
    if (r->open != NULL && (d->options.linger_ms == 0 || g->stopping) && r->inflight_records == 0)
        route_close(r);
}

void dm_routes_stop(struct dm_gate *g)
{
    struct dm_batch *next;

    g->stopping = true;
    for (uint32_t i = 0; i < g->route_count; i++)
        g->routes[i].open = NULL;
    for (struct dm_batch *b = g->live; b != NULL; b = next) {
        next = b->next;
        if (b->record.size > 0 && !b->waiting)
            continue;                                  /* with the bus, which will complete it */
        if (b->waiting) {
            g->doorman->env->sched->disarm(g->loop, &b->retry);
            atomic_fetch_sub(&g->doorman->inflight_bytes, b->record.size);
        }
        batch_fail(b, "stopping");
    }
}
