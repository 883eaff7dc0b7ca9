/*
 * The log over JetStream: a stream a partition.
 *
 * Appends of a partition are sent in order. They wait while the partition's stream is not known
 * (at the start, after each reconnection: its incarnation is read first). What was sent and not
 * acked when the connection broke is sent again, in order, under its id. What JetStream had nobody
 * for (503) waits until all that was sent after it has its answer: if none of that landed it is
 * sent again, in order; if some did, it fails, for it must not land behind it.
 *
 * What a stream's leader had when it died has no answer at all, where our connection is to another
 * server. So when acks fail to come the stream is looked at: where it has another leader than
 * the one that was sent to, all is sent again as after a reconnection.
 *
 * A stream with replicas does not look for repeats: whatever such a stream of nats-server 2.9 refuses
 * after its leader proposed it is counted, but not by a server that restarts; it then takes as many
 * records, as its leader, that the others pass over as old, acked and lost. So the id travels under a
 * name that the server does not know, and readers find the repeats (bus_nats_read.c).
 */
#include "libkoal/bus/bus_nats_priv.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- a partition's lists ---- */

static void push(struct kl_busn_call **first, struct kl_busn_call **last, struct kl_busn_call *c)
{
    c->next = NULL;
    c->previous = *last;
    if (*last != NULL)
        (*last)->next = c;
    else
        *first = c;
    *last = c;
}

static void push_front(struct kl_busn_call **first, struct kl_busn_call **last,
                       struct kl_busn_call *c)
{
    c->previous = NULL;
    c->next = *first;
    if (*first != NULL)
        (*first)->previous = c;
    else
        *last = c;
    *first = c;
}

static void take(struct kl_busn_call **first, struct kl_busn_call **last, struct kl_busn_call *c)
{
    if (c->previous != NULL)
        c->previous->next = c->next;
    else
        *first = c->next;
    if (c->next != NULL)
        c->next->previous = c->previous;
    else
        *last = c->previous;
    c->next = c->previous = NULL;
}

static struct kl_busn_partition *partition_of(struct kl_busn *b, const struct kl_busn_call *c)
{
    return &b->partitions[c->append->partition];
}

/* ---- completing ---- */

static void done(struct kl_env_task *task)
{
    struct kl_bus_append *op = kl_container_of(task, struct kl_bus_append, task);

    op->done(op);
}

static void complete(struct kl_busn *b, struct kl_bus_append *op, enum kl_code code)
{
    op->code = code;
    op->task.run = done;
    if (code == KL_OK && !op->duplicate) {
        kl_count(b->appended_records, 1);
        kl_count(b->appended_bytes, op->record.size);
    } else {
        kl_count(code == KL_OK ? b->duplicates : b->refused, 1);
    }
    kl_busn_post(b, op->loop, &op->task);
}

/* The call is in no list any more. */
static void finish(struct kl_busn *b, struct kl_busn_call *c, enum kl_code code)
{
    kl_busn_call_close(b, c);
    complete(b, c->append, code);
    free(c);
}

static void unsend(struct kl_busn *b, struct kl_busn_call *c)
{
    struct kl_busn_partition *p = partition_of(b, c);

    take(&p->sent, &p->last_sent, c);
    b->sent_count--;
    b->sent_bytes -= c->append->record.size;
    kl_busn_call_close(b, c);
}

/* ---- what the stream is ---- */

static void send_what_fits(struct kl_busn *b, uint32_t partition);

struct check { struct kl_busn_job job; uint32_t partition; unsigned unanswered; struct kl_busn_state state; };

static enum kl_code check_run(struct kl_busn_job *j, int64_t wait_ms, struct kl_err *err)
{
    struct check *k = kl_container_of(j, struct check, job);
    int64_t       look_ms = kl_busn_look_ms(j->bus, k->unanswered), begin_ns = kl_env_mono_ns(j->bus->env);

    if (wait_ms > look_ms)
        wait_ms = look_ms;
    if (kl_busn_stream(j->bus, k->partition, wait_ms, &k->state, err) == KL_OK)
        return KL_OK;
    k->unanswered += kl_env_mono_ns(j->bus->env) - begin_ns >= wait_ms * 1000000;
    return err->code;
}

static void resend(struct kl_busn *b, struct kl_busn_partition *p, bool only_bounced);

static void check_over(struct kl_busn_job *j, enum kl_code code, struct kl_err *err)
{
    struct check   *k = kl_container_of(j, struct check, job);
    struct kl_busn *b = j->bus;
    struct kl_busn_partition *p = &b->partitions[k->partition];

    p->state = code == KL_OK ? KL_BUSN_READY : KL_BUSN_UNKNOWN;
    p->unanswered = code == KL_OK ? 0 : k->unanswered;
    if (code == KL_OK) {
        if (p->incarnation != 0 && p->incarnation != k->state.incarnation)
            kl_logf(b->log, KL_WARN, "the stream of partition %" PRIu32 " at %s was made anew: "
                    "incarnation %" PRIu64 " is now %" PRIu64, k->partition, b->url,
                    p->incarnation, k->state.incarnation);
        if (p->incarnation != k->state.incarnation && k->state.replicas < b->options.log_replicas)
            kl_logf(b->log, KL_WARN, "the stream of partition %" PRIu32 " at %s has %" PRIu64
                    " replicas; the configuration wants %" PRIu32, k->partition, b->url,
                    k->state.replicas, b->options.log_replicas);
        if (p->incarnation != k->state.incarnation)
            p->last_acked = 0;
        p->incarnation = k->state.incarnation;
        if (p->leader != 0 && k->state.leader != p->leader)
            resend(b, p, false);
        p->leader = k->state.leader;
    }
    while (p->held != NULL) {
        struct kl_busn_call *c = p->held;

        p->held = c->next;
        c->append->incarnation = p->incarnation;
        if (code != KL_OK)                             /* it landed, but in what? */
            kl_fail(&c->append->err, KL_ETIMEOUT, "%s", err->text);
        else if (c->append->seq > p->last_acked)
            p->last_acked = c->append->seq;
        finish(b, c, code != KL_OK ? KL_ETIMEOUT : KL_OK);
    }
    /* Those that wait are told these words when their own time is up. */
    for (struct kl_busn_call *c = p->waiting; code != KL_OK && c != NULL; c = c->next)
        c->err = *err;
    free(k);
    if (p->state == KL_BUSN_READY)
        send_what_fits(b, (uint32_t)(p - b->partitions));
}

static void check(struct kl_busn *b, uint32_t partition)
{
    struct kl_busn_partition *p = &b->partitions[partition];
    struct check *k;

    if (p->state == KL_BUSN_CHECKING)
        return;
    p->state = KL_BUSN_CHECKING;
    k = kl_new(sizeof *k);
    k->partition = partition;
    k->unanswered = p->unanswered;
    k->job.look = true;
    k->job.run = check_run;
    k->job.over = check_over;
    k->job.deadline_ns = kl_busn_deadline(b, b->options.op_timeout_ms);
    kl_busn_job_start(b, &k->job);
}

/* ---- sending ---- */

static natsMsg *message(struct kl_busn *b, struct kl_busn_call *c, uint64_t call)
{
    char subject[KL_BUSN_NAME_MAX + 1], reply[KL_BUSN_INBOX_MAX + 32];
    struct kl_bus_append *op = c->append;
    natsMsg   *msg = NULL;
    natsStatus s;

    kl_busn_log_subject(b, op->partition, subject);
    snprintf(reply, sizeof reply, "%s.a.%" PRIu64, b->inbox, call);
    s = natsMsg_Create(&msg, subject, reply, op->record.at, (int)op->record.size);
    if (s == NATS_OK && op->id[0] != '\0')
        s = natsMsgHeader_Set(msg, b->options.log_replicas > 1 ? KL_BUSN_ID : "Nats-Msg-Id", op->id);
    if (s == NATS_OK && op->trace.on) {
        char text[KL_TRACE_TEXT + 1];

        kl_trace_text(&op->trace, text);
        s = natsMsgHeader_Set(msg, KL_BUSN_TRACE, text);
    }
    if (s != NATS_OK) {
        natsMsg_Destroy(msg);
        return NULL;
    }
    return msg;
}

static bool send_one(struct kl_busn *b, struct kl_busn_call *c)
{
    struct kl_busn_partition *p = partition_of(b, c);
    size_t   size = c->append->record.size;
    uint64_t call;
    natsMsg *msg;

    b->starved = b->sent_count >= KL_BUSN_SENT_MAX ||
                 (b->sent_count > 0 && b->sent_bytes + size > KL_BUSN_SENT_BYTES_MAX) ||
                 (call = kl_busn_call_open(b, c)) == 0;
    if (b->starved)
        return false;
    take(&p->waiting, &p->last_waiting, c);
    if ((msg = message(b, c, call)) == NULL) {
        kl_fail(&c->append->err, KL_EAGAIN, "no memory for a record of %zu bytes", size);
        finish(b, c, KL_EAGAIN);
        return true;
    }
    c->state = KL_BUSN_SENT;
    c->sent_ns = kl_env_mono_ns(b->env);
    push(&p->sent, &p->last_sent, c);
    b->sent_count++;
    b->sent_bytes += size;
    kl_busn_send(b, &b->bulk, kl_busn_nc(b, KL_BUSN_BULK), msg, call, b->bulk_reconnects);
    return true;
}

static void send_what_fits(struct kl_busn *b, uint32_t partition)
{
    struct kl_busn_partition *p = &b->partitions[partition];

    /* Behind one that bounced nothing is sent: see settle_bounced. */
    for (struct kl_busn_call *c = p->sent; c != NULL; c = c->next)
        if (c->state == KL_BUSN_BOUNCED)
            return;
    while (p->waiting != NULL && p->state == KL_BUSN_READY && kl_busn_up(b, KL_BUSN_BULK) &&
           send_one(b, p->waiting))
        ;
    if (p->waiting != NULL && p->state == KL_BUSN_UNKNOWN)
        check(b, partition);
}

static void send_all(struct kl_busn *b)
{
    for (uint32_t i = 0; i < b->options.partitions; i++)
        if (b->partitions[i].waiting != NULL)
            send_what_fits(b, i);
}

/* Puts what was sent back in front of what waits, in order. */
static void resend(struct kl_busn *b, struct kl_busn_partition *p, bool only_bounced)
{
    for (struct kl_busn_call *c = p->last_sent, *previous; c != NULL; c = previous) {
        previous = c->previous;
        /* Without an id a repeat could be a second record: it waits for its ack, or its end. */
        if (only_bounced ? c->state != KL_BUSN_BOUNCED : c->append->id[0] == '\0')
            continue;
        unsend(b, c);
        c->again |= !only_bounced;
        c->state = KL_BUSN_WAITING;
        push_front(&p->waiting, &p->last_waiting, c);
    }
}

/* When all that was sent has its answer: bounced ones before one that landed fail, the others are
 * tried again. */
static void settle_bounced(struct kl_busn *b, struct kl_busn_partition *p)
{
    for (struct kl_busn_call *c = p->sent; c != NULL; c = c->next)
        if (c->state != KL_BUSN_BOUNCED)
            return;
    if (p->sent != NULL)
        resend(b, p, true);
}

static void landed_behind_bounced(struct kl_busn *b, struct kl_busn_call *landed)
{
    struct kl_busn_partition *p = partition_of(b, landed);

    for (struct kl_busn_call *c = p->sent, *next; c != landed; c = next) {
        next = c->next;
        if (c->state != KL_BUSN_BOUNCED)
            continue;
        unsend(b, c);
        c->append->err = c->err;
        finish(b, c, KL_EAGAIN);
    }
}

static void landed(struct kl_busn *b, struct kl_busn_call *c, const struct kl_busn_reply *r)
{
    struct kl_busn_partition *p = partition_of(b, c);
    uint32_t partition = c->append->partition;

    landed_behind_bounced(b, c);
    unsend(b, c);
    c->append->seq = r->seq;
    /* A duplicate of what we sent ourselves, before the connection broke, is the first. */
    c->append->duplicate = r->duplicate && !c->again;
    c->append->incarnation = p->incarnation;
    if (r->duplicate || r->seq > p->last_acked) {
        if (r->seq > p->last_acked)
            p->last_acked = r->seq;
        kl_busn_trouble(b, &(struct kl_err){ 0 });
        finish(b, c, KL_OK);
    } else {
        /* The stream went back, or is another: which one this ack is from has to be looked up. */
        c->next = p->held;
        p->held = c;
        if (p->state == KL_BUSN_READY)
            p->state = KL_BUSN_UNKNOWN;
        check(b, partition);
    }
}

static enum kl_code refusal(struct kl_busn *b, const struct kl_busn_reply *r, struct kl_err *err)
{
    bool full = strstr(r->text, "maximum bytes") != NULL || strstr(r->text, "maximum messages") ||
                strstr(r->text, "maximum size") != NULL ||
                r->err_code == JSStorageResourcesExceededErr ||
                r->err_code == JSStreamMessageExceedsMaximumErr;

    if (full)
        return kl_fail(err, KL_ELIMIT, "the log is full: %s (JetStream error %" PRId64 " at %s)",
                       r->text, r->err_code, b->url);
    return kl_fail(err, KL_EAGAIN, "%s (JetStream error %" PRId64 " at %s)", r->text, r->err_code,
                   b->url);
}

void kl_busn_append_reply(struct kl_busn *b, struct kl_busn_call *c, struct kl_busn_reply *r)
{
    struct kl_busn_partition *p = partition_of(b, c);
    uint32_t partition = c->append->partition;

    if (c->state != KL_BUSN_SENT)
        return;
    if (r->kind == KL_BUSN_ANSWER && r->ok) {
        landed(b, c, r);
    } else if (r->kind == KL_BUSN_ANSWER) {
        unsend(b, c);
        finish(b, c, refusal(b, r, &c->append->err));
    } else {
        if (r->kind == KL_BUSN_NOBODY)
            kl_fail(&c->err, KL_EAGAIN, "no JetStream answers at %s for partition %" PRIu32,
                    b->url, partition);
        else
            kl_fail(&c->err, KL_EAGAIN, "publish to %s: %s", b->url, r->text);
        c->state = KL_BUSN_BOUNCED;
        if (p->state == KL_BUSN_READY)
            p->state = KL_BUSN_UNKNOWN;                /* the stream may be gone */
    }
    settle_bounced(b, p);
    if (b->starved)
        send_all(b);
    else if (p->waiting != NULL)
        send_what_fits(b, partition);
}

void kl_busn_log_up(struct kl_busn *b)
{
    b->bulk_reconnects = kl_busn_reconnects(kl_busn_nc(b, KL_BUSN_BULK));
    for (uint32_t i = 0; i < b->options.partitions; i++) {
        struct kl_busn_partition *p = &b->partitions[i];

        if (p->state == KL_BUSN_READY)
            p->state = KL_BUSN_UNKNOWN;
        resend(b, p, false);
    }
    send_all(b);
}

static void expire(struct kl_busn *b, struct kl_busn_partition *p, int64_t now_ns)
{
    for (struct kl_busn_call *c = p->waiting, *next; c != NULL; c = next) {
        next = c->next;
        if (now_ns < c->deadline_ns)
            continue;
        take(&p->waiting, &p->last_waiting, c);
        if (!kl_busn_up(b, KL_BUSN_BULK))
            kl_busn_unreachable(b, &c->append->err);
        else if (c->err.code != KL_OK)
            c->append->err = c->err;
        else
            kl_fail(&c->append->err, KL_EAGAIN, "too many appends wait for %s", b->url);
        kl_busn_trouble(b, &c->append->err);
        finish(b, c, c->again ? (c->append->err.code = KL_ETIMEOUT) : KL_EAGAIN);
    }
    for (struct kl_busn_call *c = p->sent, *next; c != NULL; c = next) {
        next = c->next;
        if (now_ns < c->deadline_ns)
            continue;
        unsend(b, c);
        if (c->state == KL_BUSN_BOUNCED) {
            c->append->err = c->err;
        } else {
            kl_fail(&c->append->err, KL_ETIMEOUT, "no ack from %s", b->url);
        }
        kl_busn_trouble(b, &c->append->err);
        finish(b, c, c->append->err.code);
    }
    settle_bounced(b, p);
}

/* Whoever was sent the first that waits for its ack may have died. Nothing follows it until that is known. */
static void look_for_leader(struct kl_busn *b, uint32_t partition, int64_t now_ns)
{
    struct kl_busn_partition  *p = &b->partitions[partition];
    const struct kl_busn_call *c = p->sent;
    int64_t before_ns = now_ns - KL_BUSN_UNHEARD_MS * INT64_C(1000000);

    if (c == NULL || b->options.log_replicas == 1 || p->state == KL_BUSN_CHECKING || c->sent_ns > before_ns ||
        p->looked_ns > before_ns)
        return;
    p->looked_ns = now_ns;
    check(b, partition);
}

void kl_busn_log_tick(struct kl_busn *b, int64_t now_ns)
{
    for (uint32_t i = 0; i < b->options.partitions; i++) {
        expire(b, &b->partitions[i], now_ns);
        look_for_leader(b, i, now_ns);
    }
    send_all(b);
}

void kl_busn_log_cancel(struct kl_busn *b)
{
    for (uint32_t i = 0; i < b->options.partitions; i++) {
        struct kl_busn_partition *p = &b->partitions[i];

        while (p->sent != NULL) {
            struct kl_busn_call *c = p->sent;

            unsend(b, c);
            finish(b, c, kl_busn_canceled(&c->append->err));
        }
        while (p->waiting != NULL) {
            struct kl_busn_call *c = p->waiting;

            take(&p->waiting, &p->last_waiting, c);
            finish(b, c, kl_busn_canceled(&c->append->err));
        }
    }
}

static void on_append(struct kl_env_task *task)
{
    struct kl_bus_append *op = kl_container_of(task, struct kl_bus_append, task);
    struct kl_busn       *b = op->own;
    struct kl_busn_partition *p = &b->partitions[op->partition];
    struct kl_busn_call  *c;

    if (atomic_load(&b->closed)) {
        complete(b, op, kl_busn_canceled(&op->err));
        return;
    }
    c = kl_new(sizeof *c);
    c->append = op;
    c->deadline_ns = kl_busn_deadline(b, b->options.op_timeout_ms);
    push(&p->waiting, &p->last_waiting, c);
    send_what_fits(b, op->partition);
}

void kl_busn_append(struct kl_bus *bus, struct kl_bus_append *op)
{
    struct kl_busn *b = kl_busn(bus);

    op->seq = op->incarnation = 0;
    op->duplicate = false;
    op->err = (struct kl_err){ 0 };
    op->own = b;
    if (kl_bus_fit_append(op, b->options.partitions, &op->err) != KL_OK ||
        kl_busn_hand(b, &op->task, on_append, &op->err) != KL_OK)
        complete(b, op, op->err.code);
}
