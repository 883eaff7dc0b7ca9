/* The simulated bus: the log of each partition, and who reads it. */
#include "libkoal/bus/bus_sim_priv.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { UNDER_WAY_MAX = 24 };                           /* records on their way to one reader */
#define DUPLICATE_MS (2 * 60 * 1000)

static void pump_soon(struct kl_bus_sim *s)
{
    if (!s->pump.queued)
        s->env->sched->post(s->loop, &s->pump);
}

/* ---- appends ---- */

static const struct kl_bsim_record *same_id(const struct kl_bsim_stream *t, const char *id, int64_t now_ms)
{
    const struct kl_bsim_record *found = NULL;

    if (id[0] == '\0')
        return NULL;
    for (const struct kl_bsim_record *r = t->oldest; r != NULL; r = r->next)
        if (now_ms - r->time_ms < DUPLICATE_MS && strcmp(r->id, id) == 0)
            found = r;
    return found;
}

static void append_arrives(struct kl_bsim_call *call)
{
    struct kl_bus_sim           *s = call->client->sim;
    struct kl_bsim_stream       *t = &s->streams[call->partition];
    int64_t                      now_ms = kl_env_now_ms(s->env);
    const struct kl_bsim_record *before = same_id(t, call->name, now_ms);
    struct kl_bsim_record       *r;

    call->incarnation = t->incarnation;
    call->duplicate = before != NULL;
    if (before != NULL) {
        call->seq = before->seq;
        kl_bsim_reply(call, KL_OK);
        return;
    }
    r = kl_new(sizeof *r + call->size);
    r->seq = call->seq = ++t->last;
    r->time_ms = now_ms;
    r->size = call->size;
    snprintf(r->id, sizeof r->id, "%.*s", KL_BUS_ID_MAX, call->name);
    memcpy(r->bytes, call->bytes, call->size);
    if (t->newest == NULL)
        t->oldest = r;
    else
        t->newest->next = r;
    t->newest = r;
    t->size_bytes += r->size;
    kl_bsim_reply(call, KL_OK);
    pump_soon(s);
}

static void bus_append(struct kl_bus *b, struct kl_bus_append *op)
{
    struct kl_bsim_call *call;

    assert(op->partition < kl_bsim_client_of(b)->sim->partitions);
    assert(op->record.size > 0 && op->record.size <= KL_BUS_MESSAGE_MAX);
    op->err = (struct kl_err){ 0 };
    call = kl_bsim_call(b, KL_BSIM_APPEND, op, 0, op->record, append_arrives);
    if (call == NULL)
        return;
    call->partition = op->partition;
    snprintf(call->name, sizeof call->name, "%s", op->id);
    kl_bsim_send(&call->client->up, &call->up, true);
}

static void info_arrives(struct kl_bsim_call *call)
{
    const struct kl_bsim_stream *t = &call->client->sim->streams[call->partition];

    call->incarnation = t->incarnation;
    call->first = t->first;
    call->seq = t->last;
    call->stored = t->size_bytes;
    kl_bsim_reply(call, KL_OK);
}

static void bus_info(struct kl_bus *b, struct kl_bus_info *op)
{
    struct kl_bsim_call *call;

    assert(op->partition < kl_bsim_client_of(b)->sim->partitions);
    op->err = (struct kl_err){ 0 };
    call = kl_bsim_call(b, KL_BSIM_INFO, op, 0, kl_span(NULL, 0), info_arrives);
    if (call == NULL)
        return;
    call->partition = op->partition;
    kl_bsim_send(&call->client->up, &call->up, true);
}

static void forget_to(struct kl_bsim_stream *t, uint64_t up_to)
{
    while (t->oldest != NULL && t->oldest->seq <= up_to) {
        struct kl_bsim_record *r = t->oldest;

        t->oldest = r->next;
        if (t->oldest == NULL)
            t->newest = NULL;
        t->size_bytes -= r->size;
        t->first = r->seq + 1;
        free(r);
    }
}

static void purge_arrives(struct kl_bsim_call *call)
{
    forget_to(&call->client->sim->streams[call->partition], call->number);
    kl_bsim_reply(call, KL_OK);
}

static void bus_purge(struct kl_bus *b, struct kl_bus_purge *op)
{
    struct kl_bsim_call *call;

    op->err = (struct kl_err){ 0 };
    call = kl_bsim_call(b, KL_BSIM_PURGE, op, 0, kl_span(NULL, 0), purge_arrives);
    if (call == NULL)
        return;
    call->partition = op->partition;
    call->number = op->up_to;
    kl_bsim_send(&call->client->up, &call->up, true);
}

/* ---- readers ---- */

enum what { RECORD, END, BROKEN, ENDS_AT };
struct delivery {                                      /* a message first, then a task */
    struct kl_bsim_message m;
    struct kl_env_task task;
    struct kl_bsim_reader *to;
    enum what what;
    uint64_t seq, incarnation, behind, first;
    int64_t time_ms, asked_ns;
    struct kl_err err;
    size_t size;
    char bytes[];
};

static void reader_unref(struct kl_bsim_reader *r)
{
    struct kl_bsim_reader **at = &r->client->readers;

    if (--r->refs > 0)
        return;
    while (*at != r)
        at = &(*at)->next;
    *at = r->next;
    free(r);
}

static void drop(struct kl_bsim_message *m)
{
    struct delivery *d = kl_container_of(m, struct delivery, m);

    d->to->under_way--;
    reader_unref(d->to);
    free(d);
}

static void told(struct kl_env_task *task)
{
    struct delivery       *d = kl_container_of(task, struct delivery, task);
    struct kl_bsim_reader *to = d->to;
    struct kl_bus_reader  *r = to->r;

    if (r != NULL && d->what == RECORD) {
        struct kl_bus_record rec = { .seq = d->seq, .incarnation = d->incarnation, .behind = d->behind,
                                     .time_ms = d->time_ms, .bytes = kl_span(d->bytes, d->size) };
        r->record(r, &rec);
    } else if (r != NULL && d->what == END) {
        r->caught_up(r, d->seq);
    } else if (r != NULL && d->what == ENDS_AT) {
        r->end(r, d->seq, d->asked_ns);
    } else if (r != NULL) {
        r->broken(r, d->err.code, d->incarnation, d->first, &d->err);
    }
    pump_soon(to->client->sim);
    drop(&d->m);
}

/* From the connection to the reader's loop: from here on a cut changes nothing. */
static void delivery_arrives(struct kl_bsim_message *m)
{
    struct delivery *d = kl_container_of(m, struct delivery, m);

    if (d->to->r == NULL) {
        drop(m);
        return;
    }
    if (d->what == RECORD)
        d->to->delivered = d->seq;
    d->task.run = told;
    d->to->client->bus.env->sched->post(d->to->r->loop, &d->task);
}

static struct delivery *delivery_new(struct kl_bsim_reader *to, enum what what, size_t size)
{
    struct delivery *d = kl_new(sizeof *d + size);

    d->m = (struct kl_bsim_message){ .arrive = delivery_arrives, .lost = drop };
    d->to = to;
    d->what = what;
    d->size = size;
    d->incarnation = to->client->sim->streams[to->r->partition].incarnation;
    to->refs++;
    to->under_way++;
    return d;
}

static void send_broken(struct kl_bsim_reader *to, enum kl_code code, const char *words)
{
    struct delivery *d = delivery_new(to, BROKEN, 0);

    d->first = to->client->sim->streams[to->r->partition].first;
    kl_fail(&d->err, code, "partition %" PRIu32 ": %s", to->r->partition, words);
    to->stopped = true;
    kl_bsim_send(&to->client->down, &d->m, false);
}

static void send_record(struct kl_bsim_reader *to, const struct kl_bsim_record *r, uint64_t last)
{
    struct delivery *d = delivery_new(to, RECORD, r->size);

    d->seq = r->seq;
    d->time_ms = r->time_ms;
    d->behind = last - r->seq;
    memcpy(d->bytes, r->bytes, r->size);
    to->to_send = r->seq + 1;
    if (d->behind > 0)
        to->said_end = false;
    kl_bsim_send(&to->client->down, &d->m, false);
}

static void pump_one(struct kl_bsim_reader *to)
{
    struct kl_bsim_stream       *t = &to->client->sim->streams[to->r->partition];
    const struct kl_bsim_record *r = t->oldest;

    if (to->incarnation != t->incarnation) {
        send_broken(to, KL_ECORRUPT, "the stream was made anew");
        return;
    }
    if (to->to_send < t->first) {
        send_broken(to, KL_ENOENT, "what is to be read was purged");
        return;
    }
    if (to->to_send > t->last + 1) {
        send_broken(to, KL_ECORRUPT, "the log ends before what is to be read");
        return;
    }
    while (r != NULL && r->seq < to->to_send)
        r = r->next;
    for (; r != NULL && to->under_way < UNDER_WAY_MAX; r = r->next)
        send_record(to, r, t->last);
    if (r == NULL && !to->said_end) {
        struct delivery *d = delivery_new(to, END, 0);

        d->seq = t->last;
        to->said_end = true;
        kl_bsim_send(&to->client->down, &d->m, false);
    }
}

void kl_bsim_pump(struct kl_bus_sim *s)
{
    for (struct kl_bsim_client *c = s->clients; c != NULL; c = c->next)
        for (struct kl_bsim_reader *r = c->readers, *next; r != NULL && !c->cut && !c->gone; r = next) {
            next = r->next;
            if (r->r != NULL && !r->stopped)
                pump_one(r);
        }
}

/* Where their logs end, to all who want to know. */
void kl_bsim_tell_ends(struct kl_bsim_client *c)
{
    for (struct kl_bsim_reader *to = c->readers; to != NULL && !c->cut && !c->gone; to = to->next) {
        struct delivery *d;

        if (to->r == NULL || to->stopped || to->r->end == NULL)
            continue;
        d = delivery_new(to, ENDS_AT, 0);
        d->seq = c->sim->streams[to->r->partition].last;
        d->asked_ns = kl_env_mono_ns(c->bus.env);
        kl_bsim_send(&c->down, &d->m, false);
    }
}

void kl_bsim_readers_again(struct kl_bsim_client *c)
{
    for (struct kl_bsim_reader *r = c->readers; r != NULL; r = r->next) {
        r->to_send = r->delivered + 1;
        r->said_end = r->stopped = false;
    }
    pump_soon(c->sim);
}

static void bus_read_open(struct kl_bus *b, struct kl_bus_reader *r)
{
    struct kl_bsim_client *c = kl_bsim_client_of(b);
    struct kl_bsim_reader *to;

    assert(r->partition < c->sim->partitions && r->from_seq > 0);
    r->own = NULL;
    if (c->closed)
        return;
    to = kl_new(sizeof *to);
    *to = (struct kl_bsim_reader){ .client = c, .r = r, .refs = 1, .to_send = r->from_seq,
                                   .delivered = r->from_seq - 1, .next = c->readers,
                                   .incarnation = c->sim->streams[r->partition].incarnation };
    c->readers = to;
    r->own = to;
    pump_soon(c->sim);
}

static void bus_read_close(struct kl_bus *b, struct kl_bus_reader *r)
{
    struct kl_bsim_reader *to = r->own;

    (void)b;
    if (to == NULL)
        return;
    r->own = NULL;
    to->r = NULL;
    reader_unref(to);
}

void kl_bus_sim_recreate(struct kl_bus_sim *s, uint32_t partition)
{
    struct kl_bsim_stream *t = &s->streams[partition];

    forget_to(t, UINT64_MAX);
    *t = (struct kl_bsim_stream){ .incarnation = t->incarnation + 1, .first = 1 };
    pump_soon(s);
}

void kl_bsim_log_ops(struct kl_bus *b)
{
    b->append = bus_append;
    b->info = bus_info;
    b->purge = bus_purge;
    b->read_open = bus_read_open;
    b->read_close = bus_read_close;
}

void kl_bsim_log_free(struct kl_bus_sim *s)
{
    for (uint32_t i = 0; i < s->partitions; i++)
        forget_to(&s->streams[i], UINT64_MAX);
    free(s->streams);
}
