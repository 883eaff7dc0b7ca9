/*
 * Requests in one process. A question is copied and posted straight to its service's loop, and its
 * answer straight back to the asker's: two hops, as few as there can be. Who settles it first (the
 * answer, the time that is over, the end of the bus) tells the asker; that is one exchange.
 *
 * The asks' loop keeps what no hop needs: a list of the questions under way, looked through each
 * TICK_MS while there are any, for those whose time is over and those that are done with. Services
 * are found in a table that only grows: a reader needs no lock. Nothing of it is freed before the
 * bus is; a service that comes back takes its old place.
 */
#include "libkoal/bus/bus_local_priv.h"

#include "libkoal/base/hash.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { WAITING_MAX = 1024 };                           /* questions a service has before it */
enum { BUCKETS = 1024 };                               /* a power of two */
enum { TICK_MS = 50, TIMEOUT_MAX_MS = 24 * 3600 * 1000 };

struct host {                                          /* a subject that is, or was, served */
    struct host *next;                                 /* in its bucket; never changes */
    struct kl_busl_asks *asks;
    struct kl_env_loop *loop;                          /* never changes */
    struct kl_bus_service *service;                    /* touched on that loop only */
    atomic_bool taken, open;                           /* by a service; which takes questions */
    atomic_uint waiting;
    char subject[KL_BUS_SUBJECT_MAX + 1];
};
struct asked {
    struct kl_bus_question question;                   /* what the service sees; own: this */
    struct kl_env_task task;                           /* to the service */
    struct host *host;
    struct kl_bus_ask *op;                             /* whoever settles it may touch it, once */
    struct asked *next;                                /* fresh, then under way */
    int64_t until_ns;
    atomic_bool settled;
    atomic_bool answered;                              /* the service is done with it: free it */
    uint8_t bytes[];
};
struct kl_busl_asks {
    struct kl_busl *bus;
    struct kl_env_loop *loop;
    struct kl_env_task end, wake;
    struct kl_env_timer tick;
    _Atomic(struct host *) buckets[BUCKETS];
    _Atomic(struct asked *) fresh;                     /* a stack; the loop takes all of it */
    atomic_bool ticking;                               /* or the loop knows that it shall */
    struct asked *under_way;                           /* the loop's */
};

static void op_done(struct kl_env_task *task)
{
    struct kl_bus_ask *op = kl_container_of(task, struct kl_bus_ask, task);

    op->done(op);
}

static void complete(struct kl_busl *b, struct kl_bus_ask *op, enum kl_code code)
{
    op->code = code;
    op->task.run = op_done;
    kl_busl_post(b, op->loop, &op->task);
}

/* ---- the list of those under way; on the asks' loop, or when it has ended ---- */

static void take_fresh(struct kl_busl_asks *asks)
{
    struct asked *a = atomic_exchange(&asks->fresh, NULL);

    while (a != NULL) {
        struct asked *next = a->next;

        a->next = asks->under_way;
        asks->under_way = a;
        a = next;
    }
}

static void expire(struct kl_busl_asks *asks, struct asked *a)
{
    if (atomic_exchange(&a->settled, true))
        return;
    kl_fail(&a->op->err, KL_ETIMEOUT, "%s did not answer within %lld ms", a->host->subject,
            (long long)a->op->timeout_ms);
    complete(asks->bus, a->op, KL_ETIMEOUT);           /* the answer, when it comes, is dropped */
}

static void sweep(struct kl_busl_asks *asks, int64_t now_ns)
{
    for (struct asked **at = &asks->under_way; *at != NULL;) {
        struct asked *a = *at;

        if (atomic_load(&a->answered)) {
            *at = a->next;
            free(a);
            continue;
        }
        if (now_ns >= a->until_ns)
            expire(asks, a);
        at = &a->next;
    }
}

static void on_tick(struct kl_env_timer *timer)
{
    struct kl_busl_asks *asks = kl_container_of(timer, struct kl_busl_asks, tick);

    take_fresh(asks);
    sweep(asks, kl_env_mono_ns(asks->bus->env));
    if (asks->under_way == NULL) {
        atomic_store(&asks->ticking, false);
        /* One that came just before has not woken us. */
        if (atomic_load(&asks->fresh) == NULL || atomic_exchange(&asks->ticking, true))
            return;
    }
    asks->bus->env->sched->arm(asks->loop, &asks->tick, TICK_MS);
}

static void on_wake(struct kl_env_task *task)
{
    struct kl_busl_asks *asks = kl_container_of(task, struct kl_busl_asks, wake);

    asks->bus->env->sched->arm(asks->loop, &asks->tick, TICK_MS);
}

/* ---- asking ---- */

static struct host *find(struct kl_busl_asks *asks, const char *subject)
{
    struct host *h = atomic_load(&asks->buckets[kl_hash64(subject, strlen(subject)) & (BUCKETS - 1)]);

    while (h != NULL && (strcmp(h->subject, subject) != 0 || !atomic_load(&h->open)))
        h = h->next;
    return h;
}

static void on_question(struct kl_env_task *task)
{
    static const char gone[] = "it is served no more";
    struct asked *a = kl_container_of(task, struct asked, task);
    struct host  *h = a->host;

    if (!atomic_load(&h->open) || atomic_load(&h->asks->bus->closed))
        kl_busl_answer(&h->asks->bus->bus, &a->question, KL_EAGAIN, kl_span_str(gone));
    else
        h->service->question(h->service, &a->question);
}

static void push(struct kl_busl_asks *asks, struct asked *a)
{
    a->next = atomic_load(&asks->fresh);
    while (!atomic_compare_exchange_weak(&asks->fresh, &a->next, a))
        ;
    if (!atomic_load(&asks->ticking) && !atomic_exchange(&asks->ticking, true))
        kl_busl_post(asks->bus, asks->loop, &asks->wake);
}

static int64_t until_ns(const struct kl_busl *b, const struct kl_bus_ask *op)
{
    int64_t ms = op->timeout_ms < TIMEOUT_MAX_MS ? op->timeout_ms : TIMEOUT_MAX_MS;

    return kl_env_mono_ns(b->env) + (ms > 0 ? ms : 0) * 1000000;
}

static void ask(struct kl_busl *b, struct kl_bus_ask *op)
{
    struct kl_busl_asks *asks = b->asks;
    struct host  *h = find(asks, op->subject);
    struct asked *a;

    if (h == NULL || atomic_load(&h->waiting) >= WAITING_MAX) {
        complete(b, op, kl_fail(&op->err, KL_EAGAIN, h == NULL ? "nobody serves %s"
                                                               : "%s has too many questions",
                                op->subject));
        return;
    }
    if ((a = malloc(sizeof *a + op->question.size)) == NULL) {
        complete(b, op, kl_fail(&op->err, KL_ELIMIT, "no memory for a question of %zu bytes",
                                op->question.size));
        return;
    }
    *a = (struct asked){ .host = h, .op = op, .question.own = a, .task.run = on_question,
                         .question.bytes = kl_span(a->bytes, op->question.size),
                         .until_ns = until_ns(b, op) };
    if (op->question.size > 0)
        memcpy(a->bytes, op->question.at, op->question.size);
    atomic_fetch_add(&h->waiting, 1);
    push(asks, a);
    kl_busl_post(b, h->loop, &a->task);
}

void kl_busl_ask(struct kl_bus *bus, struct kl_bus_ask *op)
{
    struct kl_busl *b = kl_busl(bus);

    op->err = (struct kl_err){ 0 };
    op->answer = NULL;
    op->answer_size = 0;
    if (kl_bus_fit_ask(op, &op->err) != KL_OK) {
        complete(b, op, op->err.code);
    } else if (!kl_busl_enter(b)) {
        complete(b, op, kl_busl_closed(&op->err));
    } else {
        ask(b, op);
        kl_busl_leave(b);
    }
}

/* ---- answering ---- */

/* Takes `answer`. After the end of the bus the asker knows already: then it only lets go. */
static void settle(struct kl_busl *b, struct asked *a, enum kl_code code, const char *words,
                   void *answer, size_t size)
{
    atomic_fetch_sub(&a->host->waiting, 1);
    if (kl_busl_enter(b)) {
        if (!atomic_exchange(&a->settled, true)) {
            struct kl_bus_ask *op = a->op;

            if (code != KL_OK)
                kl_fail(&op->err, code, "%s", words);
            op->answer = answer;
            op->answer_size = size;
            answer = NULL;
            complete(b, op, code);
        }
        kl_busl_leave(b);
    }
    free(answer);
    atomic_store(&a->answered, true);                  /* from here it may be gone */
}

static void too_long(struct kl_busl *b, struct asked *a, size_t size)
{
    struct kl_err err;

    kl_fail(&err, KL_ELIMIT, "an answer of %zu bytes: at most %d", size, KL_BUS_MESSAGE_MAX);
    settle(b, a, KL_ELIMIT, err.text, NULL, 0);
}

void kl_busl_answer(struct kl_bus *bus, struct kl_bus_question *q, enum kl_code code,
                    struct kl_span bytes)
{
    struct kl_busl *b = kl_busl(bus);
    struct asked   *a = q->own;
    struct kl_err   err;
    void           *answer;

    if (code != KL_OK) {
        kl_fail(&err, code, "%.*s", (int)(bytes.size < KL_ERR_TEXT_MAX ? bytes.size
                                                                        : KL_ERR_TEXT_MAX - 1),
                bytes.size > 0 ? (const char *)bytes.at : "");
        settle(b, a, code, err.text, NULL, 0);
    } else if (bytes.size > KL_BUS_MESSAGE_MAX) {
        too_long(b, a, bytes.size);
    } else if ((answer = malloc(bytes.size > 0 ? bytes.size : 1)) == NULL) {
        kl_fail(&err, KL_ELIMIT, "no memory for an answer of %zu bytes", bytes.size);
        settle(b, a, KL_ELIMIT, err.text, NULL, 0);
    } else {
        if (bytes.size > 0)
            memcpy(answer, bytes.at, bytes.size);
        settle(b, a, KL_OK, NULL, answer, bytes.size);
    }
}

void kl_busl_answer_take(struct kl_bus *bus, struct kl_bus_question *q, struct kl_buf *bytes_take)
{
    struct kl_buf bytes = *bytes_take;

    *bytes_take = (struct kl_buf){ .cap = bytes.cap };
    if (bytes.size > KL_BUS_MESSAGE_MAX) {
        too_long(kl_busl(bus), q->own, bytes.size);
        kl_buf_deinit(&bytes);
    } else {
        settle(kl_busl(bus), q->own, KL_OK, NULL, bytes.at != NULL ? bytes.at : kl_new(1),
               bytes.size);
    }
}

/* ---- services ---- */

/* A place that this subject had on this loop, or a new one. Two that serve one subject on two loops
 * have one each. */
static struct host *place(struct kl_busl_asks *asks, const struct kl_bus_service *s)
{
    _Atomic(struct host *) *bucket =
        &asks->buckets[kl_hash64(s->subject, strlen(s->subject)) & (BUCKETS - 1)];
    struct host *h = atomic_load(bucket);

    while (h != NULL && (h->loop != s->loop || strcmp(h->subject, s->subject) != 0 ||
                         atomic_exchange(&h->taken, true)))
        h = h->next;
    if (h != NULL)
        return h;
    h = kl_new(sizeof *h);
    h->asks = asks;
    h->loop = s->loop;
    atomic_store(&h->taken, true);
    strcpy(h->subject, s->subject);
    h->next = atomic_load(bucket);
    while (!atomic_compare_exchange_weak(bucket, &h->next, h))
        ;
    return h;
}

void kl_busl_serve(struct kl_bus *bus, struct kl_bus_service *s)
{
    struct kl_busl *b = kl_busl(bus);
    struct host    *h;

    s->own = NULL;
    if (s->plain || !kl_busl_enter(b))
        return;
    h = place(b->asks, s);
    h->service = s;                                    /* not open, so nobody looks at it */
    s->own = h;
    atomic_store(&h->open, true);
    kl_busl_leave(b);
}

void kl_busl_unserve(struct kl_bus *bus, struct kl_bus_service *s)
{
    struct host *h = s->own;

    (void)bus;
    if (h == NULL)
        return;
    s->own = NULL;
    atomic_store(&h->open, false);
    atomic_store(&h->taken, false);
}

/* ---- the part as a whole ---- */

static void on_end(struct kl_env_task *task)
{
    struct kl_busl_asks *asks = kl_container_of(task, struct kl_busl_asks, end);

    take_fresh(asks);
    for (struct asked *a = asks->under_way; a != NULL; a = a->next)
        if (!atomic_exchange(&a->settled, true))
            complete(asks->bus, a->op, kl_busl_closed(&a->op->err));
    if (asks->tick.armed)
        asks->bus->env->sched->disarm(asks->loop, &asks->tick);
}

void kl_busl_asks_open(struct kl_busl *b)
{
    struct kl_busl_asks *asks = kl_new(sizeof *asks);

    asks->bus = b;
    asks->end.run = on_end;
    asks->wake.run = on_wake;
    asks->tick.fire = on_tick;
    asks->loop = b->env->sched->loop_new(b->env->sched, "bus-ask", SIZE_MAX);
    b->asks = asks;
}

void kl_busl_asks_close(struct kl_busl_asks *asks)
{
    kl_busl_post(asks->bus, asks->loop, &asks->end);
    asks->bus->env->sched->loop_free(asks->loop);
    asks->loop = NULL;
}

void kl_busl_asks_free(struct kl_busl_asks *asks)
{
    if (asks == NULL)
        return;
    take_fresh(asks);
    for (struct asked *a = asks->under_way, *next; a != NULL; a = next) {
        next = a->next;
        free(a);
    }
    for (size_t i = 0; i < BUCKETS; i++)
        for (struct host *h = atomic_load(&asks->buckets[i]), *next; h != NULL; h = next) {
            next = h->next;
            free(h);
        }
    free(asks);
}
