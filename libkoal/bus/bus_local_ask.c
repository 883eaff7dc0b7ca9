/*
 * Requests in one process: a question is copied, travels to the service's loop, and its answer
 * back; either may come too late. A question belongs to the asks' loop until it is handed to the
 * service, and to the service until it is answered.
 */
#include "libkoal/bus/bus_local_priv.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { WAITING_MAX = 1024 };                           /* questions a service has before it */

struct host {                                          /* one open kl_bus_service */
    _Atomic unsigned refs;                             /* the list, and each question under way */
    struct kl_busl_asks *asks;
    struct kl_bus_service *service;                    /* touched on its loop only */
    struct kl_env_loop *loop;
    struct host *next;
    struct kl_env_task open, close;
    unsigned waiting;                                  /* the asks' loop's */
    bool closed;                                       /* by unserve, on the service's loop */
    char subject[KL_BUS_SUBJECT_MAX + 1];
};
struct asked {
    struct kl_bus_question question;                   /* what the service sees; own: this */
    struct kl_env_task task;                           /* to the service, then back */
    struct kl_env_timer timer;                         /* the asks' loop's, as what follows */
    struct host *host;
    struct kl_bus_ask *op;                             /* NULL: it has been told already */
    struct asked *next, **at;                          /* in the list of those under way */
    enum kl_code code;                                 /* the answer */
    struct kl_err err;
    void  *answer;
    size_t answer_size;
    uint8_t bytes[];
};
struct kl_busl_asks {
    struct kl_busl *bus;
    struct kl_env_loop *loop;
    struct kl_env_task end;
    struct host *hosts;
    struct asked *under_way;
    bool ending;
};

static void host_unref(struct host *h)
{
    if (atomic_fetch_sub(&h->refs, 1) == 1)
        free(h);
}

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

static void asked_free(struct asked *a)
{
    free(a->answer);
    host_unref(a->host);
    free(a);
}

/* On the asks' loop: the asker has been told, one way or another. */
static void settle(struct kl_busl_asks *asks, struct asked *a, enum kl_code code)
{
    struct kl_bus_ask *op = a->op;

    asks->bus->env->sched->disarm(asks->loop, &a->timer);
    a->op = NULL;
    *a->at = a->next;
    if (a->next != NULL)
        a->next->at = a->at;
    complete(asks->bus, op, code);
}

static void on_answer(struct kl_env_task *task)
{
    struct asked *a = kl_container_of(task, struct asked, task);

    a->host->waiting--;
    if (a->op != NULL) {
        a->op->answer = a->answer;
        a->op->answer_size = a->answer_size;
        a->op->err = a->err;
        a->answer = NULL;
        settle(a->host->asks, a, a->code);
    }
    asked_free(a);
}

static void on_timeout(struct kl_env_timer *timer)
{
    struct asked *a = kl_container_of(timer, struct asked, timer);

    kl_fail(&a->op->err, KL_ETIMEOUT, "%s did not answer within %lld ms", a->host->subject,
            (long long)a->op->timeout_ms);
    settle(a->host->asks, a, KL_ETIMEOUT);             /* the answer, when it comes, is dropped */
}

void kl_busl_answer(struct kl_bus *bus, struct kl_bus_question *q, enum kl_code code,
                    struct kl_span bytes)
{
    struct kl_busl *b = kl_busl(bus);
    struct asked   *a = q->own;

    a->code = code;
    if (code != KL_OK) {
        kl_fail(&a->err, code, "%.*s", (int)(bytes.size < KL_ERR_TEXT_MAX ? bytes.size
                                                                          : KL_ERR_TEXT_MAX - 1),
                bytes.size > 0 ? (const char *)bytes.at : "");
    } else if (bytes.size > KL_BUS_MESSAGE_MAX) {
        a->code = kl_fail(&a->err, KL_ELIMIT, "an answer of %zu bytes: at most %d", bytes.size,
                          KL_BUS_MESSAGE_MAX);
    } else if ((a->answer = malloc(bytes.size > 0 ? bytes.size : 1)) == NULL) {
        a->code = kl_fail(&a->err, KL_ELIMIT, "no memory for an answer of %zu bytes", bytes.size);
    } else {
        if (bytes.size > 0)
            memcpy(a->answer, bytes.at, bytes.size);
        a->answer_size = bytes.size;
    }
    if (!kl_busl_enter(b)) {
        asked_free(a);                                 /* closed: the asker knows already */
        return;
    }
    a->task.run = on_answer;
    kl_busl_post(b, b->asks->loop, &a->task);
    kl_busl_leave(b);
}

/* On the service's loop. */
static void on_question(struct kl_env_task *task)
{
    static const char gone[] = "it is served no more";
    struct asked *a = kl_container_of(task, struct asked, task);
    struct host  *h = a->host;

    if (h->closed || atomic_load(&h->asks->bus->closed))
        kl_busl_answer(&h->asks->bus->bus, &a->question, KL_EAGAIN, kl_span_str(gone));
    else
        h->service->question(h->service, &a->question);
}

static void on_ask(struct kl_env_task *task)
{
    struct kl_bus_ask   *op = kl_container_of(task, struct kl_bus_ask, task);
    struct kl_busl_asks *asks = op->own;
    struct host  *h = asks->hosts;
    struct asked *a;

    while (h != NULL && strcmp(h->subject, op->subject) != 0)
        h = h->next;
    if (asks->ending) {
        complete(asks->bus, op, kl_busl_closed(&op->err));
        return;
    }
    if (h == NULL || h->waiting >= WAITING_MAX) {
        kl_fail(&op->err, KL_EAGAIN, h == NULL ? "nobody serves %s" : "%s has too many questions",
                op->subject);
        complete(asks->bus, op, KL_EAGAIN);
        return;
    }
    if ((a = malloc(sizeof *a + op->question.size)) == NULL) {
        kl_fail(&op->err, KL_ELIMIT, "no memory for a question of %zu bytes", op->question.size);
        complete(asks->bus, op, KL_ELIMIT);
        return;
    }
    *a = (struct asked){ .host = h, .op = op, .next = asks->under_way, .at = &asks->under_way,
                         .question.bytes = kl_span(a->bytes, op->question.size),
                         .question.own = a, .task.run = on_question, .timer.fire = on_timeout };
    if (op->question.size > 0)
        memcpy(a->bytes, op->question.at, op->question.size);
    if (a->next != NULL)
        a->next->at = &a->next;
    asks->under_way = a;
    h->waiting++;
    atomic_fetch_add(&h->refs, 1);
    asks->bus->env->sched->arm(asks->loop, &a->timer, op->timeout_ms);
    kl_busl_post(asks->bus, h->loop, &a->task);
}

void kl_busl_ask(struct kl_bus *bus, struct kl_bus_ask *op)
{
    struct kl_busl *b = kl_busl(bus);

    op->err = (struct kl_err){ 0 };
    op->answer = NULL;
    op->answer_size = 0;
    if (op->question.size > KL_BUS_MESSAGE_MAX) {
        complete(b, op, kl_fail(&op->err, KL_ELIMIT, "a question of %zu bytes: at most %d",
                                op->question.size, KL_BUS_MESSAGE_MAX));
    } else if (!kl_busl_enter(b)) {
        complete(b, op, kl_busl_closed(&op->err));
    } else {
        op->own = b->asks;
        op->task.run = on_ask;
        kl_busl_post(b, b->asks->loop, &op->task);
        kl_busl_leave(b);
    }
}

/* ---- services ---- */

static void on_open(struct kl_env_task *task)
{
    struct host *h = kl_container_of(task, struct host, open);

    h->next = h->asks->hosts;
    h->asks->hosts = h;
}

static void on_close(struct kl_env_task *task)
{
    struct host  *h = kl_container_of(task, struct host, close);
    struct host **at = &h->asks->hosts;

    while (*at != h)
        at = &(*at)->next;
    *at = h->next;
    host_unref(h);
}

void kl_busl_serve(struct kl_bus *bus, struct kl_bus_service *s)
{
    struct kl_busl *b = kl_busl(bus);
    struct host    *h;

    s->own = NULL;
    if (!kl_busl_enter(b))
        return;
    h = kl_new(sizeof *h);
    atomic_init(&h->refs, 1);
    h->asks = b->asks;
    h->service = s;
    h->loop = s->loop;
    strcpy(h->subject, s->subject);
    h->open.run = on_open;
    h->close.run = on_close;
    s->own = h;
    kl_busl_post(b, b->asks->loop, &h->open);
    kl_busl_leave(b);
}

void kl_busl_unserve(struct kl_bus *bus, struct kl_bus_service *s)
{
    struct kl_busl *b = kl_busl(bus);
    struct host    *h = s->own;

    if (h == NULL)
        return;
    s->own = NULL;
    h->closed = true;
    if (kl_busl_enter(b)) {
        kl_busl_post(b, b->asks->loop, &h->close);
        kl_busl_leave(b);
    }
}

/* ---- the part as a whole ---- */

static void on_end(struct kl_env_task *task)
{
    struct kl_busl_asks *asks = kl_container_of(task, struct kl_busl_asks, end);

    asks->ending = true;
    while (asks->under_way != NULL) {
        kl_busl_closed(&asks->under_way->op->err);
        settle(asks, asks->under_way, KL_ECANCELED);
    }
}

void kl_busl_asks_open(struct kl_busl *b)
{
    struct kl_busl_asks *asks = kl_new(sizeof *asks);

    asks->bus = b;
    asks->end.run = on_end;
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
    for (struct host *h = asks->hosts, *next; h != NULL; h = next) {
        next = h->next;
        host_unref(h);
    }
    free(asks);
}
