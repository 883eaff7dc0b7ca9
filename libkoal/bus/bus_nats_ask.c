/*
 * Questions over core NATS, on koa.<cell>.<subject>. An answer is a byte of enum kl_code, then the
 * bytes asked for, or the words why not. Who serves a subject in several processes shares its
 * questions (one queue group).
 */
#include "libkoal/bus/bus_nats_priv.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { WAITING_MAX = 1024 };                           /* questions a service has before it */
enum { ASK_SUBJECT_MAX = KL_BUS_SUBJECT_MAX + 48 };
enum { PENDING_BYTES_MAX = 64 << 20, WAITING_BYTES_MAX = 64 << 20 };
enum { FAREWELL_MS = 1000 };
static const char no_more[] = "it is served no more";

/* ---- asking ---- */

static void op_done(struct kl_env_task *task)
{
    struct kl_bus_ask *op = kl_container_of(task, struct kl_bus_ask, task);

    op->done(op);
}

static void complete(struct kl_busn *b, struct kl_bus_ask *op, enum kl_code code)
{
    op->code = code;
    op->task.run = op_done;
    kl_busn_post(b, op->loop, &op->task);
}

static void finish(struct kl_busn *b, struct kl_busn_call *c, enum kl_code code)
{
    kl_busn_call_close(b, c);
    complete(b, c->ask, code);
    free(c);
}

void kl_busn_ask_reply(struct kl_busn *b, struct kl_busn_call *c, struct kl_busn_reply *r)
{
    struct kl_bus_ask *op = c->ask;

    if (r->kind == KL_BUSN_NOBODY) {
        finish(b, c, kl_fail(&op->err, KL_EAGAIN, "nobody serves %s at %s", op->subject, b->url));
    } else if (r->kind == KL_BUSN_UNSENT) {
        finish(b, c, kl_fail(&op->err, KL_EAGAIN, "ask %s at %s: %s", op->subject, b->url,
                             r->text));
    } else if (r->code != KL_OK) {
        finish(b, c, kl_fail(&op->err, r->code, "%s", r->text));
    } else {
        op->answer = r->bytes;
        op->answer_size = r->size;
        r->bytes = NULL;
        finish(b, c, KL_OK);
    }
}

static void subject_of(const struct kl_busn *b, const char *s, char out[ASK_SUBJECT_MAX + 1])
{
    snprintf(out, ASK_SUBJECT_MAX + 1, "koa.%s.%s", b->cell, s);
}

static void on_ask(struct kl_env_task *task)
{
    struct kl_bus_ask   *op = kl_container_of(task, struct kl_bus_ask, task);
    struct kl_busn      *b = op->own;
    struct kl_busn_call *c;
    char     subject[ASK_SUBJECT_MAX + 1], reply[KL_BUSN_INBOX_MAX + 32];
    natsMsg *msg = NULL;
    uint64_t call;

    if (atomic_load(&b->closed)) {
        complete(b, op, kl_busn_canceled(&op->err));
        return;
    }
    if (!kl_busn_up(b, KL_BUSN_FAST)) {
        complete(b, op, kl_busn_unreachable(b, &op->err));
        return;
    }
    c = kl_new(sizeof *c);
    c->ask = op;
    c->deadline_ns = kl_busn_deadline(b, op->timeout_ms);
    if ((call = kl_busn_call_open(b, c)) == 0) {
        finish(b, c, kl_fail(&op->err, KL_EAGAIN, "too many questions wait for %s", b->url));
        return;
    }
    subject_of(b, op->subject, subject);
    snprintf(reply, sizeof reply, "%s.q.%" PRIu64, b->inbox, call);
    if (natsMsg_Create(&msg, subject, reply, op->question.at, (int)op->question.size) != NATS_OK) {
        finish(b, c, kl_fail(&op->err, KL_EAGAIN, "no memory for a question of %zu bytes",
                             op->question.size));
        return;
    }
    kl_busn_send(b, &b->fast, kl_busn_nc(b, KL_BUSN_FAST), msg, call, KL_BUSN_ANY);
}

void kl_busn_ask(struct kl_bus *bus, struct kl_bus_ask *op)
{
    struct kl_busn *b = kl_busn(bus);

    op->err = (struct kl_err){ 0 };
    op->answer = NULL;
    op->answer_size = 0;
    op->own = b;
    if (kl_bus_fit_ask(op, &op->err) != KL_OK ||
        kl_busn_hand(b, &op->task, on_ask, &op->err) != KL_OK)
        complete(b, op, op->err.code);
}

void kl_busn_asks_tick(struct kl_busn *b, int64_t now_ns)
{
    for (uint32_t i = 0; i < b->calls_room; i++) {
        struct kl_busn_call *c = b->calls[i];

        if (c != NULL && c->ask != NULL && now_ns >= c->deadline_ns)
            finish(b, c, kl_fail(&c->ask->err, KL_ETIMEOUT, "%s did not answer within %lld ms",
                                 c->ask->subject, (long long)c->ask->timeout_ms));
    }
}

void kl_busn_asks_cancel(struct kl_busn *b)
{
    for (uint32_t i = 0; i < b->calls_room; i++)
        if (b->calls[i] != NULL && b->calls[i]->ask != NULL)
            finish(b, b->calls[i], kl_busn_canceled(&b->calls[i]->ask->err));
}

/* ---- serving ---- */

struct kl_busn_host {                                          /* one open kl_bus_service */
    _Atomic unsigned refs;                             /* who serves, libnats, each question */
    _Atomic unsigned waiting;
    _Atomic size_t   waiting_bytes;
    struct kl_busn *bus;
    struct kl_bus_service *service;                    /* touched on its loop only */
    struct kl_env_loop *loop;
    struct kl_env_task open, close;
    natsSubscription *sub;                             /* the bus's loop's */
    struct kl_busn_job job;
    bool unserved;                                     /* the bus's loop's */
    bool closed;                                       /* by unserve, on the service's loop */
    bool plain;
    const char *refusal;
    size_t prefix;                                     /* of its subject, before what ".>" stands for */
    char subject[ASK_SUBJECT_MAX + 1];
    struct kl_busn_host *next, **at;                           /* in the bus's list */
};
struct asked {
    struct kl_bus_question question;                   /* what the service sees; own: this */
    struct kl_env_task task;
    struct kl_busn_host *host;
    natsMsg *msg;
};

static void host_unref(void *arg)
{
    struct kl_busn_host *h = arg;

    if (atomic_fetch_sub(&h->refs, 1) == 1)
        free(h);
}

static void asked_free(struct asked *a)
{
    natsMsg_Destroy(a->msg);
    host_unref(a->host);
    free(a);
}

static void send_plain(struct kl_busn *b, natsMsg *question, struct kl_span bytes)
{
    natsMsg *msg = NULL;

    if (natsMsg_GetReply(question) != NULL &&
        natsMsg_Create(&msg, natsMsg_GetReply(question), NULL, bytes.at,
                       (int)(bytes.size < KL_BUS_MESSAGE_MAX ? bytes.size : KL_BUS_MESSAGE_MAX)) == NATS_OK)
        kl_busn_send(b, &b->fast, kl_busn_nc(b, KL_BUSN_FAST), msg, 0, KL_BUSN_ANY);
}

/* Any thread: one copy, made here, so that the answer's bytes are the service's again. */
static void send_answer(struct kl_busn_host *h, natsMsg *question, enum kl_code code,
                        struct kl_span bytes)
{
    struct kl_busn *b = h->bus;
    natsMsg *msg = NULL;
    uint8_t *copy;

    if (h->plain) {
        send_plain(b, question, bytes);
        return;
    }
    if (bytes.size > KL_BUS_MESSAGE_MAX) {
        code = KL_ELIMIT;
        bytes = kl_span_str("the answer is longer than a message may be");
    }
    copy = malloc(bytes.size + 1);
    if (copy == NULL) {
        code = KL_ELIMIT;
        bytes = kl_span_str("no memory for the answer");
        copy = kl_new(bytes.size + 1);
    }
    copy[0] = (uint8_t)code;
    if (bytes.size > 0)
        memcpy(copy + 1, bytes.at, bytes.size);
    if (natsMsg_Create(&msg, natsMsg_GetReply(question), NULL, (char *)copy,
                       (int)bytes.size + 1) == NATS_OK)
        kl_busn_send(b, &b->fast, kl_busn_nc(b, KL_BUSN_FAST), msg, 0, KL_BUSN_ANY);
    free(copy);
}

void kl_busn_answer(struct kl_bus *bus, struct kl_bus_question *q, enum kl_code code,
                    struct kl_span bytes)
{
    struct kl_busn *b = kl_busn(bus);
    struct asked   *a = q->own;

    atomic_fetch_sub(&a->host->waiting, 1);
    atomic_fetch_sub(&a->host->waiting_bytes, q->bytes.size);
    if (kl_busn_enter(b)) {
        send_answer(a->host, a->msg, code, bytes);
        kl_busn_leave(b);
    }
    asked_free(a);
    atomic_fetch_sub(&b->questions, 1);                /* the answer is queued: see farewell */
}

const char *kl_busn_header(struct kl_bus *bus, struct kl_bus_question *q, const char *name)
{
    const char *value = NULL;

    (void)bus;
    return natsMsgHeader_Get(((struct asked *)q->own)->msg, name, &value) == NATS_OK ? value : NULL;
}

static struct kl_span refusal(const struct kl_busn_host *h, const char *words)
{
    return kl_span_str(h->plain ? h->refusal : words);
}

/* On the service's loop. */
static void on_asked(struct kl_env_task *task)
{
    struct asked *a = kl_container_of(task, struct asked, task);
    struct kl_busn_host  *h = a->host;

    if (h->closed || atomic_load(&h->bus->closed))
        kl_busn_answer(&h->bus->bus, &a->question, KL_EAGAIN, refusal(h, no_more));
    else
        h->service->question(h->service, &a->question);
}

/* On a thread of libnats. */
static void on_question(natsConnection *nc, natsSubscription *sub, natsMsg *msg, void *closure)
{
    struct kl_busn_host    *h = closure;
    struct kl_busn *b = h->bus;
    size_t          size = (size_t)natsMsg_GetDataLength(msg);
    struct asked   *a;

    (void)nc, (void)sub;
    if ((natsMsg_GetReply(msg) == NULL && !h->plain) || !kl_busn_enter(b)) {
        natsMsg_Destroy(msg);
        return;
    }
    if (atomic_load(&b->leaving) || atomic_load(&h->waiting) >= WAITING_MAX ||
        atomic_load(&h->waiting_bytes) + size > WAITING_BYTES_MAX) {
        send_answer(h, msg, KL_EAGAIN, refusal(h, atomic_load(&b->leaving)
                                                  ? no_more : "it has too many questions"));
        natsMsg_Destroy(msg);
    } else {
        a = kl_new(sizeof *a);
        atomic_fetch_add(&h->refs, 1);
        atomic_fetch_add(&h->waiting, 1);
        atomic_fetch_add(&h->waiting_bytes, size);
        atomic_fetch_add(&b->questions, 1);
        a->host = h;
        a->msg = msg;
        a->question.bytes = kl_span(natsMsg_GetData(msg), size);
        if (h->plain && strlen(natsMsg_GetSubject(msg)) >= h->prefix)
            a->question.subject = natsMsg_GetSubject(msg) + h->prefix;
        a->question.own = a;
        a->task.run = on_asked;
        kl_busn_post(b, h->loop, &a->task);
    }
    kl_busn_leave(b);
}

static enum kl_code subscribe_run(struct kl_busn_job *j, int64_t wait_ms, struct kl_err *err)
{
    struct kl_busn_host *h = kl_container_of(j, struct kl_busn_host, job);
    natsStatus   s;

    (void)wait_ms;
    atomic_fetch_add(&h->refs, 1);
    s = kl_busn_subscribe(j->bus, &h->sub, KL_BUSN_FAST, h->subject, "koa", on_question, h,
                          host_unref);
    if (s != NATS_OK) {
        host_unref(h);
        kl_busn_code(j->bus, s, 0, "serve", err);
        return err->code = KL_EAGAIN;
    }
    natsSubscription_SetPendingLimits(h->sub, 2 * WAITING_MAX, PENDING_BYTES_MAX);
    return KL_OK;
}

static void let_go(struct kl_busn_host *h)
{
    kl_busn_unsubscribe(h->bus, h->sub);
    h->sub = NULL;
    *h->at = h->next;
    if (h->next != NULL)
        h->next->at = h->at;
    host_unref(h);
}

static void subscribe_over(struct kl_busn_job *j, enum kl_code code, struct kl_err *err)
{
    struct kl_busn_host *h = kl_container_of(j, struct kl_busn_host, job);

    (void)code, (void)err;
    h->job.bus = NULL;                                 /* no longer under way */
    if (h->unserved)
        let_go(h);
}

static void on_open(struct kl_env_task *task)
{
    struct kl_busn_host    *h = kl_container_of(task, struct kl_busn_host, open);
    struct kl_busn *b = h->bus;

    h->next = b->hosts;
    h->at = (struct kl_busn_host **)(void *)&b->hosts;
    if (h->next != NULL)
        h->next->at = &h->next;
    b->hosts = h;
    h->job.run = subscribe_run;
    h->job.over = subscribe_over;
    h->job.deadline_ns = INT64_MAX;
    kl_busn_job_start(b, &h->job);
}

static void on_close(struct kl_env_task *task)
{
    struct kl_busn_host *h = kl_container_of(task, struct kl_busn_host, close);

    h->unserved = true;
    if (h->job.bus == NULL)
        let_go(h);
}

void kl_busn_serve(struct kl_bus *bus, struct kl_bus_service *s)
{
    struct kl_busn *b = kl_busn(bus);
    struct kl_busn_host    *h;

    s->own = NULL;
    if (!kl_busn_enter(b))
        return;
    h = kl_new(sizeof *h);
    atomic_init(&h->refs, 1);
    h->bus = b;
    h->service = s;
    h->loop = s->loop;
    h->plain = s->plain;
    h->refusal = s->refusal;
    subject_of(b, s->subject, h->subject);
    h->prefix = strlen(h->subject);
    if (s->plain && strlen(s->subject) > 2 && strcmp(s->subject + strlen(s->subject) - 2, ".>") == 0)
        h->prefix--;
    else
        assert(kl_bus_fit_subject(s->subject));
    h->open.run = on_open;
    h->close.run = on_close;
    s->own = h;
    kl_busn_post(b, b->loop, &h->open);
    kl_busn_leave(b);
}

void kl_busn_unserve(struct kl_bus *bus, struct kl_bus_service *s)
{
    struct kl_busn *b = kl_busn(bus);
    struct kl_busn_host    *h = s->own;

    if (h == NULL)
        return;
    s->own = NULL;
    h->closed = true;
    if (kl_busn_enter(b)) {
        kl_busn_post(b, b->loop, &h->close);
        kl_busn_leave(b);
    }
}

/* ---- leaving ---- */

struct farewell {
    struct kl_busn *bus;
    struct kl_env_task list;
    struct kl_busn_task flush;
    int64_t until_ns;
    natsSubscription **subs;
    size_t count;
    atomic_bool is_listed, is_flushed;
};

static int64_t left_ms(const struct farewell *f)
{
    int64_t left = (f->until_ns - kl_env_mono_ns(f->bus->env)) / 1000000;

    return left > 1 ? left : 1;
}

/* On the loop. A subscription outlives its host: it is freed with the bus. */
static void on_list(struct kl_env_task *task)
{
    struct farewell *f = kl_container_of(task, struct farewell, list);
    size_t room = 0;

    for (struct kl_busn_host *h = f->bus->hosts; h != NULL; h = h->next)
        room++;
    f->subs = kl_new((room + 1) * sizeof *f->subs);
    for (struct kl_busn_host *h = f->bus->hosts; h != NULL; h = h->next)
        if (h->job.bus == NULL && h->sub != NULL)      /* else a job thread is at it */
            f->subs[f->count++] = h->sub;
    atomic_store(&f->is_listed, true);
}

/* On the fast thread, behind all answers. */
static void on_flush(struct kl_busn_task *task)
{
    struct farewell *f = kl_container_of(task, struct farewell, flush);

    natsConnection_FlushTimeout(kl_busn_nc(f->bus, KL_BUSN_FAST), left_ms(f));
    atomic_store(&f->is_flushed, true);
}

/*
 * What the server sent us before it knew that we serve no more is still read and refused (a drain;
 * an unsubscribe would drop it), later questions it refuses itself: nobody serves. What the services
 * hold they may answer, for as long as there is time.
 */
void kl_busn_farewell(struct kl_busn *b)
{
    struct farewell f = { .bus = b, .list.run = on_list, .flush.run = on_flush,
                          .until_ns = kl_busn_deadline(b, FAREWELL_MS) };

    if (!kl_busn_up(b, KL_BUSN_FAST))
        return;
    atomic_store(&b->leaving, true);
    kl_busn_post(b, b->loop, &f.list);
    while (!atomic_load(&f.is_listed))
        usleep(100);
    for (size_t i = 0; i < f.count; i++)
        natsSubscription_DrainTimeout(f.subs[i], FAREWELL_MS);
    for (size_t i = 0; i < f.count; i++)
        natsSubscription_WaitForDrainCompletion(f.subs[i], left_ms(&f));
    free(f.subs);
    while (atomic_load(&b->questions) > 0 && kl_env_mono_ns(b->env) < f.until_ns)
        usleep(500);
    kl_busn_crew_add(&b->fast, &f.flush);
    while (!atomic_load(&f.is_flushed))
        usleep(100);
}

/* After the loops have ended. */
void kl_busn_hosts_free(struct kl_busn *b)
{
    while (b->hosts != NULL)
        let_go(b->hosts);
}
