/*
 * A tap: a push consumer of our own making, renewed whenever it may have stopped: after a
 * reconnection, when its heartbeats stay away, when a gap shows. Messages are acked in the order
 * they are dealt with (ack all, KL_BUSN_UNACKED_MAX at a time), so what is read ahead is bounded
 * whatever the reader's speed. The consumer is ephemeral: the server forgets it when we are gone.
 *
 * The library's ordered consumer is not used: it renews itself without asking whether the stream
 * is still the same one, and would go on in a stream made anew.
 */
#include "libkoal/bus/bus_nats_priv.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const int64_t second_ns = 1000000000;

void kl_busn_tap_ref(struct kl_busn_tap *t) { atomic_fetch_add(&t->refs, 1); }

void kl_busn_tap_unref(struct kl_busn_tap *t)
{
    if (atomic_fetch_sub(&t->refs, 1) == 1)
        t->free(t);
}

void kl_busn_drop_free(struct kl_busn_drop *d)
{
    natsMsg_Destroy(d->msg);
    if (d->tap != NULL)
        kl_busn_tap_unref(d->tap);
    free(d);
}

/* ---- messages, on a thread of libnats ---- */

struct source { struct kl_busn_tap *tap; unsigned epoch; };

/*
 * $JS.ACK.<stream>.<consumer>.<delivered>.<seq>.<consumer seq>.<time ns>.<pending>
 * $JS.ACK.<domain>.<account>.<stream>.<consumer>.<delivered>.<seq>.<cseq>.<time>.<pending>
 * and there, perhaps, one token more
 */
static bool describe(const char *reply, struct kl_busn_drop *d)
{
    enum { TOKENS_MAX = 13 };
    const char *token[TOKENS_MAX];
    int count = 0, from;

    if (reply == NULL || strncmp(reply, "$JS.ACK.", 8) != 0)
        return false;
    for (const char *at = reply; at != NULL && count < TOKENS_MAX; count++) {
        token[count] = at;
        at = strchr(at, '.');
        if (at != NULL)
            at++;
    }
    if (count != 9 && count != 11 && count != 12)
        return false;
    from = count == 9 ? 5 : 7;
    d->seq = strtoull(token[from], NULL, 10);
    d->time_ms = strtoll(token[from + 2], NULL, 10) / 1000000;
    d->pending = strtoull(token[from + 3], NULL, 10);
    return d->seq > 0;
}

static void on_drop(struct kl_env_task *task)
{
    struct kl_busn_drop *d = kl_container_of(task, struct kl_busn_drop, task);
    struct kl_busn_tap  *t = d->tap;

    if (d->epoch != t->epoch || t->closed || atomic_load(&t->bus->closed)) {
        kl_busn_drop_free(d);
    } else if (t->attaching) {
        d->next = NULL;
        *t->last_early = d;
        t->last_early = &d->next;
    } else if (d->odd) {
        kl_busn_drop_free(d);
        kl_busn_tap_renew(t);
    } else {
        t->drop(t, d);
    }
}

static void on_message(natsConnection *nc, natsSubscription *sub, natsMsg *msg, void *closure)
{
    struct source      *s = closure;
    struct kl_busn_tap *t = s->tap;
    struct kl_busn_drop *d;
    const char *status = NULL;

    (void)nc, (void)sub;
    atomic_store(&t->heard_ns, kl_env_mono_ns(t->bus->env));
    if (natsMsg_GetDataLength(msg) == 0 && natsMsgHeader_Get(msg, "Status", &status) == NATS_OK &&
        strcmp(status, "100") == 0) {
        natsMsg_Destroy(msg);                          /* a heartbeat: it has been heard */
        return;
    }
    d = kl_new(sizeof *d);
    d->tap = t;
    kl_busn_tap_ref(t);
    d->epoch = s->epoch;
    d->msg = msg;
    d->odd = status != NULL || !describe(natsMsg_GetReply(msg), d);
    d->task.run = on_drop;
    kl_busn_post(t->bus, t->bus->loop, &d->task);
}

static void on_source_complete(void *closure)
{
    struct source *s = closure;

    kl_busn_tap_unref(s->tap);
    free(s);
}

/* ---- attaching, on a job thread ---- */

struct attach { struct kl_busn_job job; struct kl_busn_tap *tap; unsigned epoch; bool may;
                natsSubscription *sub; uint64_t pending; };

static enum kl_code consume(struct attach *a, const char *inbox, int64_t wait_ms,
                            struct kl_err *err)
{
    struct kl_busn_tap *t = a->tap;
    jsConsumerConfig c;
    jsConsumerInfo  *ci = NULL;
    jsErrCode  e = 0;
    jsOptions  o;
    natsStatus s;

    jsOptions_Init(&o);
    o.Wait = wait_ms;
    jsConsumerConfig_Init(&c);
    c.DeliverSubject = inbox;
    c.DeliverPolicy = t->start_seq > 0 ? js_DeliverByStartSequence : js_DeliverLastPerSubject;
    c.OptStartSeq = t->start_seq;
    c.FilterSubject = t->start_seq > 0 ? NULL : t->filter;
    c.AckPolicy = js_AckAll;
    c.AckWait = 600 * second_ns;
    c.MaxAckPending = KL_BUSN_UNACKED_MAX;
    c.Heartbeat = KL_BUSN_HEARTBEAT_MS * (second_ns / 1000);
    c.InactiveThreshold = 10 * second_ns;
    c.MemoryStorage = true;
    s = js_AddConsumer(&ci, t->bus->js, t->stream, &c, &o, &e);
    if (s != NATS_OK) {
        kl_busn_code(t->bus, s, e, "read the log", err);
        return err->code = KL_EAGAIN;                  /* whatever it is: it is tried again */
    }
    a->pending = ci->NumPending;
    jsConsumerInfo_Destroy(ci);
    return KL_OK;
}

static enum kl_code attach_run(struct kl_busn_job *j, int64_t wait_ms, struct kl_err *err)
{
    struct attach      *a = kl_container_of(j, struct attach, job);
    struct kl_busn_tap *t = a->tap;
    char           inbox[KL_BUSN_INBOX_MAX + 64];
    struct source *source;
    natsStatus     s;

    if (wait_ms > t->bus->options.op_timeout_ms)
        wait_ms = t->bus->options.op_timeout_ms;
    if (t->check(t, wait_ms, &a->may, err) != KL_OK)
        return err->code = KL_EAGAIN;
    if (!a->may)
        return KL_OK;
    snprintf(inbox, sizeof inbox, "%s.t.%" PRIu64 ".%u.%llx", t->bus->inbox, t->number, a->epoch,
             (unsigned long long)kl_env_draw(t->bus->env));
    source = kl_new(sizeof *source);
    *source = (struct source){ .tap = t, .epoch = a->epoch };
    kl_busn_tap_ref(t);
    s = kl_busn_subscribe(t->bus, &a->sub, KL_BUSN_READ, inbox, NULL, on_message, source,
                          on_source_complete);
    if (s != NATS_OK) {
        on_source_complete(source);
        kl_busn_code(t->bus, s, 0, "read the log", err);
        return err->code = KL_EAGAIN;
    }
    /* What it may hold is bounded by what may be unacked. */
    natsSubscription_SetPendingLimits(a->sub, -1, -1);
    if (consume(a, inbox, wait_ms, err) != KL_OK) {
        natsSubscription_Unsubscribe(a->sub);
        natsSubscription_Destroy(a->sub);
        a->sub = NULL;
        return err->code;
    }
    return KL_OK;
}

static void free_early(struct kl_busn_tap *t)
{
    struct kl_busn_drop *all = t->early;

    t->early = NULL;
    t->last_early = &t->early;
    kl_busn_drops_free(all);
}

static void take_early(struct kl_busn_tap *t)
{
    struct kl_busn_drop *all = t->early;

    t->early = NULL;
    t->last_early = &t->early;
    for (struct kl_busn_drop *d = all, *next; d != NULL; d = next) {
        next = d->next;
        on_drop(&d->task);                             /* may renew: the others are stale then */
    }
}

static void attach_over(struct kl_busn_job *j, enum kl_code code, struct kl_err *err)
{
    struct attach      *a = kl_container_of(j, struct attach, job);
    struct kl_busn_tap *t = a->tap;
    struct kl_busn     *b = j->bus;

    (void)err;
    t->attaching = false;
    if (t->closed || code != KL_OK || t->again) {
        kl_busn_unsubscribe(b, a->sub);
        if (!t->closed && code == KL_OK)
            kl_busn_tap_renew(t);
    } else {
        t->sub = a->sub;
        t->running = a->may;
        atomic_store(&t->heard_ns, kl_env_mono_ns(b->env));
        t->attached(t, a->may, a->pending);
        take_early(t);
    }
    kl_busn_tap_unref(t);
    free(a);
}

/* ---- on the loop ---- */

void kl_busn_tap_renew(struct kl_busn_tap *t)
{
    struct attach *a;

    if (t->closed)
        return;
    t->again = t->attaching;                           /* too late for the one under way */
    if (t->attaching)
        return;
    kl_busn_unsubscribe(t->bus, t->sub);
    t->sub = NULL;
    t->running = false;
    t->attaching = true;
    free_early(t);
    a = kl_new(sizeof *a);
    a->tap = t;
    a->epoch = ++t->epoch;
    kl_busn_tap_ref(t);
    a->job.run = attach_run;
    a->job.over = attach_over;
    a->job.deadline_ns = INT64_MAX;                    /* for ever */
    kl_busn_job_start(t->bus, &a->job);
}

void kl_busn_tap_open(struct kl_busn *b, struct kl_busn_tap *t)
{
    t->bus = b;
    t->number = ++b->tap_count;
    t->last_early = &t->early;
    t->next = b->taps;
    t->at = &b->taps;
    if (t->next != NULL)
        t->next->at = &t->next;
    b->taps = t;
    kl_busn_tap_renew(t);
}

void kl_busn_tap_close(struct kl_busn_tap *t)
{
    if (t->closed)
        return;
    t->closed = true;
    *t->at = t->next;
    if (t->next != NULL)
        t->next->at = t->at;
    kl_busn_unsubscribe(t->bus, t->sub);
    t->sub = NULL;
    t->cancel(t);
    free_early(t);
    kl_busn_tap_unref(t);
}

void kl_busn_drops_free(struct kl_busn_drop *d)
{
    while (d != NULL) {
        struct kl_busn_drop *next = d->next;

        kl_busn_drop_free(d);
        d = next;
    }
}

void kl_busn_tap_ack(struct kl_busn_tap *t, const struct kl_busn_drop *d)
{
    natsMsg *msg = NULL;

    if (d->epoch == t->epoch && !t->closed &&
        natsMsg_Create(&msg, natsMsg_GetReply(d->msg), NULL, "+ACK", 4) == NATS_OK)
        kl_busn_send(t->bus, &t->bus->fast, kl_busn_nc(t->bus, KL_BUSN_READ), msg, 0);
}

void kl_busn_taps_up(struct kl_busn *b)
{
    for (struct kl_busn_tap *t = b->taps; t != NULL; t = t->next)
        if (t->running || t->attaching)
            kl_busn_tap_renew(t);
}

void kl_busn_taps_tick(struct kl_busn *b, int64_t now_ns)
{
    for (struct kl_busn_tap *t = b->taps; t != NULL; t = t->next)
        if (t->running && kl_busn_up(b, KL_BUSN_READ) &&
            now_ns - atomic_load(&t->heard_ns) > KL_BUSN_SILENCE_MS * INT64_C(1000000))
            kl_busn_tap_renew(t);
}
