/*
 * A tap: a pull consumer of our own making, renewed whenever it may have stopped: after a
 * reconnection, when its heartbeats stay away, when a gap shows. It brings what was asked for, so
 * what is read ahead is bounded whatever the reader's speed, in bytes, for all taps together. The
 * consumer is ephemeral: the server forgets it when we are gone.
 *
 * The library's ordered consumer is not used: it renews itself without asking whether the stream
 * is still the same one, and would go on in a stream made anew. Nor is there a subscription a tap,
 * because libnats 3.4 frees one that is ended while it may still be looking at it: one, for ever,
 * takes all that comes to "<inbox>.t.<tap>.<epoch>.<request>". A record comes under its own
 * subject; the consumer's name, in where its ack would go, tells whose it is.
 */
#include "libkoal/bus/bus_nats_priv.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const int64_t second_ns = 1000000000;
enum { FORGOTTEN_AFTER_S = 30, REQUEST_S = 30 };

void kl_busn_tap_ref(struct kl_busn_tap *t) { atomic_fetch_add(&t->refs, 1); }

void kl_busn_tap_unref(struct kl_busn_tap *t)
{
    if (atomic_fetch_sub(&t->refs, 1) == 1)
        t->free(t);
}

static void drop_free(struct kl_busn_drop *d)
{
    natsMsg_Destroy(d->msg);
    if (d->tap != NULL)
        kl_busn_tap_unref(d->tap);
    free(d);
}

void kl_busn_drops_free(struct kl_busn_drop *d)
{
    while (d != NULL) {
        struct kl_busn_drop *next = d->next;

        drop_free(d);
        d = next;
    }
}

/* ---- messages, on a thread of libnats ---- */

/*
 * $JS.ACK.<stream>.<consumer>.<delivered>.<seq>.<consumer seq>.<time ns>.<pending>
 * $JS.ACK.<domain>.<account>.<stream>.<consumer>.<delivered>.<seq>.<cseq>.<time>.<pending>
 * and there, perhaps, one token more
 */
static bool describe(const char *reply, struct kl_busn_drop *d)
{
    enum { TOKENS_MAX = 13 };
    const char *token[TOKENS_MAX];
    int    count = 0, from;
    size_t size;

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
    size = (size_t)(token[from - 1] - token[from - 2]) - 1;
    if (size > KL_BUSN_CONSUMER_MAX)
        return false;
    memcpy(d->consumer, token[from - 2], size);
    d->seq = strtoull(token[from], NULL, 10);
    d->time_ms = strtoll(token[from + 2], NULL, 10) / 1000000;
    d->pending = strtoull(token[from + 3], NULL, 10);
    return d->seq > 0;
}

/* A status in place of a record. 408: the request's time is up; 409: its bytes are, or the
 * consumer is gone; 503: it is gone, too. */
static int kind_of(natsMsg *msg, const char *status)
{
    const char *why = "";

    if (strcmp(status, "100") == 0)
        return KL_BUSN_HEARTBEAT;
    if (strcmp(status, "408") == 0)
        return KL_BUSN_SPENT;
    if (strcmp(status, "409") == 0 && natsMsgHeader_Get(msg, "Description", &why) == NATS_OK &&
        strstr(why, "MaxBytes") != NULL)
        return KL_BUSN_SPENT;
    return KL_BUSN_ODD;
}

static void on_drop(struct kl_env_task *task);

void kl_busn_on_drop(natsConnection *nc, natsSubscription *sub, natsMsg *msg, void *closure)
{
    struct kl_busn      *b = closure;
    struct kl_busn_drop *d = kl_new(sizeof *d);
    const char *subject = natsMsg_GetSubject(msg), *status = NULL;
    size_t inbox = strlen(b->inbox);

    (void)nc, (void)sub;
    d->bus = b;
    d->msg = msg;
    d->size = (size_t)natsMsg_GetDataLength(msg);
    if (describe(natsMsg_GetReply(msg), d)) {
        d->kind = KL_BUSN_RECORD;
    } else if (strncmp(subject, b->inbox, inbox) == 0 &&
               sscanf(subject + inbox, ".t.%" SCNu64 ".%" SCNu64 ".%" SCNu64, &d->number,
                      &d->epoch, &d->request) == 3 &&
               natsMsgHeader_Get(msg, "Status", &status) == NATS_OK) {
        d->kind = kind_of(msg, status);
    } else {
        drop_free(d);
        return;
    }
    d->task.run = on_drop;
    kl_busn_post(b, b->loop, &d->task);
}

/* ---- asking, on the loop ---- */

static size_t credit(const struct kl_busn *b)
{
    size_t share = KL_BUSN_CREDIT_BYTES_MAX / (b->tap_count > 0 ? b->tap_count : 1);

    return share < KL_BUSN_CREDIT_BYTES_LEAST ? KL_BUSN_CREDIT_BYTES_LEAST
           : share > KL_BUSN_CREDIT_BYTES_MOST ? KL_BUSN_CREDIT_BYTES_MOST
                                                : share;
}

/* One request at a time: the next when this one is spent and its messages are mostly dealt with. */
static void ask(struct kl_busn_tap *t)
{
    struct kl_busn *b = t->bus;
    size_t   bytes = credit(b);
    char     subject[2 * KL_BUSN_NAME_MAX + 64], reply[KL_BUSN_INBOX_MAX + 80], text[160];
    natsMsg *msg = NULL;
    int      size;

    if (!t->running || t->asked || t->closed || t->held_bytes > bytes / 2)
        return;
    t->request++;
    snprintf(subject, sizeof subject, "$JS.API.CONSUMER.MSG.NEXT.%s.%s", t->stream, t->consumer);
    snprintf(reply, sizeof reply, "%s.t.%" PRIu64 ".%" PRIu64 ".%" PRIu64, b->inbox, t->number,
             t->epoch, t->request);
    size = snprintf(text, sizeof text, "{\"batch\":%d,\"max_bytes\":%zu,\"expires\":%" PRId64
                    ",\"idle_heartbeat\":%" PRId64 "}", KL_BUSN_CREDIT_MESSAGES, bytes,
                    REQUEST_S * second_ns, KL_BUSN_HEARTBEAT_MS * (second_ns / 1000));
    if (natsMsg_Create(&msg, subject, reply, text, size) != NATS_OK)
        return;                                        /* the tick asks again */
    t->asked = true;
    t->asked_left = KL_BUSN_CREDIT_MESSAGES;
    t->heard_ns = kl_env_mono_ns(b->env);
    kl_busn_send(b, &b->fast, kl_busn_nc(b, KL_BUSN_READ), msg, 0, KL_BUSN_ANY);
}

/* Whose it is, if it still matters. */
static struct kl_busn_tap *tap_of(struct kl_busn *b, const struct kl_busn_drop *d)
{
    for (struct kl_busn_tap *t = b->taps; t != NULL; t = t->next)
        if (d->kind == KL_BUSN_RECORD
                ? t->running && strcmp(t->consumer, d->consumer) == 0
                : t->running && t->number == d->number && t->epoch == d->epoch &&
                      t->request == d->request)
            return t;
    return NULL;
}

static void on_drop(struct kl_env_task *task)
{
    struct kl_busn_drop *d = kl_container_of(task, struct kl_busn_drop, task);
    struct kl_busn      *b = d->bus;
    struct kl_busn_tap  *t = tap_of(b, d);

    if (t == NULL || atomic_load(&b->closed)) {
        drop_free(d);
        return;
    }
    t->heard_ns = kl_env_mono_ns(b->env);
    if (d->kind == KL_BUSN_RECORD) {
        kl_busn_tap_ref(t);
        d->tap = t;
        t->held_bytes += d->size;
        if (t->asked)
            t->asked = --t->asked_left > 0;
        t->drop(t, d);
        ask(t);
    } else if (d->kind == KL_BUSN_SPENT) {
        t->asked = false;
        drop_free(d);
        ask(t);
    } else if (d->kind == KL_BUSN_ODD) {
        drop_free(d);
        kl_busn_tap_renew(t);
    } else {
        drop_free(d);
    }
}

void kl_busn_tap_done(struct kl_busn_tap *t, struct kl_busn_drop *d)
{
    for (struct kl_busn_drop *one = d; one != NULL; one = one->next)
        t->held_bytes -= one->size;
    kl_busn_tap_ref(t);
    kl_busn_drops_free(d);
    if (!atomic_load(&t->bus->closed))
        ask(t);
    kl_busn_tap_unref(t);
}

/* ---- attaching, on a job thread ---- */

struct attach { struct kl_busn_job job; struct kl_busn_tap *tap; bool may; uint64_t pending;
                char consumer[KL_BUSN_CONSUMER_MAX + 1]; };

static enum kl_code attach_run(struct kl_busn_job *j, int64_t wait_ms, struct kl_err *err)
{
    struct attach      *a = kl_container_of(j, struct attach, job);
    struct kl_busn_tap *t = a->tap;
    jsConsumerConfig c;
    jsConsumerInfo  *ci = NULL;
    jsErrCode  e = 0;
    jsOptions  o;
    natsStatus s;

    if (wait_ms > t->bus->options.op_timeout_ms)
        wait_ms = t->bus->options.op_timeout_ms;
    if (wait_ms > KL_BUSN_TRY_MS)
        wait_ms = KL_BUSN_TRY_MS;
    if (t->check(t, wait_ms, &a->may, err) != KL_OK)
        return err->code = KL_EAGAIN;
    if (!a->may)
        return KL_OK;
    jsOptions_Init(&o);
    o.Wait = wait_ms;
    jsConsumerConfig_Init(&c);
    c.DeliverPolicy = t->start_seq > 0 ? js_DeliverByStartSequence : js_DeliverLastPerSubject;
    c.OptStartSeq = t->start_seq;
    c.FilterSubject = t->start_seq > 0 ? NULL : t->filter;
    c.AckPolicy = js_AckNone;
    c.InactiveThreshold = FORGOTTEN_AFTER_S * second_ns;
    c.MemoryStorage = true;
    s = js_AddConsumer(&ci, t->bus->js, t->stream, &c, &o, &e);
    if (s != NATS_OK) {
        kl_busn_code(t->bus, s, e, "read a stream", err);
        return err->code = KL_EAGAIN;                  /* whatever it is: it is tried again */
    }
    a->pending = ci->NumPending;
    snprintf(a->consumer, sizeof a->consumer, "%s", ci->Name);
    jsConsumerInfo_Destroy(ci);
    return KL_OK;
}

static void attach_over(struct kl_busn_job *j, enum kl_code code, struct kl_err *err)
{
    struct attach      *a = kl_container_of(j, struct attach, job);
    struct kl_busn_tap *t = a->tap;

    (void)err;
    t->attaching = false;
    if (!t->closed && t->again) {
        kl_busn_tap_renew(t);
    } else if (!t->closed && code == KL_OK) {
        t->running = a->may;
        memcpy(t->consumer, a->consumer, sizeof t->consumer);
        t->attached(t, a->may, a->pending);
        ask(t);
    }
    kl_busn_tap_unref(t);
    free(a);
}

/* ---- on the loop ---- */

void kl_busn_tap_renew(struct kl_busn_tap *t)
{
    struct attach *a;

    if (t->closed || atomic_load(&t->bus->closed))
        return;
    t->again = t->attaching;                           /* too late for the one under way */
    if (t->attaching)
        return;
    t->running = false;
    t->asked = false;
    t->attaching = true;
    t->epoch++;
    a = kl_new(sizeof *a);
    a->tap = t;
    kl_busn_tap_ref(t);
    a->job.look = true;
    a->job.run = attach_run;
    a->job.over = attach_over;
    a->job.deadline_ns = INT64_MAX;                    /* for ever */
    kl_busn_job_start(t->bus, &a->job);
}

void kl_busn_tap_open(struct kl_busn *b, struct kl_busn_tap *t)
{
    t->number = ++b->tap_number;
    b->tap_count++;
    t->next = b->taps;
    t->at = &b->taps;
    if (t->next != NULL)
        t->next->at = &t->next;
    b->taps = t;
    kl_busn_tap_renew(t);
}

void kl_busn_tap_close(struct kl_busn_tap *t)
{
    struct kl_busn_drop *queued = t->first;

    if (t->closed)
        return;
    t->closed = true;
    t->bus->tap_count--;
    *t->at = t->next;
    if (t->next != NULL)
        t->next->at = t->at;
    t->first = NULL;
    t->last = &t->first;
    kl_busn_drops_free(queued);
    kl_busn_tap_unref(t);
}

void kl_busn_taps_up(struct kl_busn *b)
{
    for (struct kl_busn_tap *t = b->taps; t != NULL; t = t->next)
        if (t->running || t->attaching)
            kl_busn_tap_renew(t);
}

void kl_busn_taps_tick(struct kl_busn *b, int64_t now_ns)
{
    for (struct kl_busn_tap *t = b->taps; t != NULL; t = t->next) {
        if (!t->running || !kl_busn_up(b, KL_BUSN_READ))
            continue;
        if (t->asked && now_ns - t->heard_ns > KL_BUSN_SILENCE_MS * INT64_C(1000000))
            kl_busn_tap_renew(t);
        else
            ask(t);
        if (t->running && t->tick != NULL)
            t->tick(t, now_ns);
    }
}
