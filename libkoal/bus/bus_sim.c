/* The simulated bus: pipes, calls, clients; what comes and goes. */
#include "libkoal/bus/bus_sim_priv.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TICK_MS = 50, ENDS_TICKS = 20, OP_TIMEOUT_MS = 5000, REFUSED_MS = 1000 };

uint64_t kl_bsim_draw(struct kl_bus_sim *s)
{
    uint64_t z = s->draws += 0x9e3779b97f4a7c15;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

struct kl_bsim_client *kl_bsim_client_of(struct kl_bus *b)
{
    return kl_container_of(b, struct kl_bsim_client, bus);
}

/* ---- pipes ---- */

static void pipe_wait(struct kl_bsim_pipe *p)
{
    int64_t wait_ns = p->first == NULL ? 0 : p->first->due_ns - kl_env_mono_ns(p->sim->env);

    if (p->first != NULL && !p->timer.armed)
        p->sim->env->sched->arm(p->sim->loop, &p->timer, wait_ns <= 0 ? 0 : (wait_ns + 999999) / 1000000);
}

static void on_timer(struct kl_env_timer *timer)
{
    struct kl_bsim_pipe *p = kl_container_of(timer, struct kl_bsim_pipe, timer);

    while (p->first != NULL && p->first->due_ns <= kl_env_mono_ns(p->sim->env)) {
        struct kl_bsim_message *m = p->first;

        p->first = m->next;
        m->arrive(m);
    }
    pipe_wait(p);
}

static void on_wake(struct kl_env_task *task)
{
    pipe_wait(kl_container_of(task, struct kl_bsim_pipe, wake));
}

static void pipe_init(struct kl_bsim_pipe *p, struct kl_bus_sim *s)
{
    *p = (struct kl_bsim_pipe){ .sim = s, .timer.fire = on_timer, .wake.run = on_wake };
}

static void pipe_break(struct kl_bsim_pipe *p)
{
    while (p->first != NULL) {
        struct kl_bsim_message *m = p->first;

        p->first = m->next;
        m->lost(m);
    }
}

static int64_t delay_ns(struct kl_bus_sim *s)
{
    int64_t ns = (int64_t)(kl_bsim_draw(s) % 1500000);

    if (kl_bsim_draw(s) % 1000 < s->weather.slow && s->weather.slow_ms > 0)
        ns += (int64_t)(kl_bsim_draw(s) % (uint64_t)(s->weather.slow_ms * 1000000));
    return ns;
}

static bool broken(const struct kl_bsim_pipe *p)
{
    const struct kl_bsim_client *c = p->sim->clients;

    while (c != NULL && p != &c->up && p != &c->down)
        c = c->next;
    return c == NULL || c->cut || c->gone || p->sim->freeing;
}

void kl_bsim_send(struct kl_bsim_pipe *p, struct kl_bsim_message *m, bool losable)
{
    struct kl_bus_sim *s = p->sim;
    bool               lost = losable && kl_bsim_draw(s) % 1000 < s->weather.lose;

    m->next = NULL;
    m->due_ns = kl_env_mono_ns(s->env) + delay_ns(s);
    if (lost || broken(p)) {
        m->lost(m);
        return;
    }
    if (p->first == NULL) {
        p->first = m;
    } else {
        if (m->due_ns < p->last->due_ns)
            m->due_ns = p->last->due_ns;
        p->last->next = m;
    }
    p->last = m;
    if (!p->wake.queued)
        s->env->sched->post(s->loop, &p->wake);
}

/* ---- calls ---- */

void kl_bsim_unref(struct kl_bsim_call *call)
{
    if (--call->refs > 0)
        return;
    assert(call->op == NULL);
    free(call->bytes);
    free(call->got);
    free(call);
}

#define DONE(type) static void done_##type(struct kl_env_task *task) \
{ \
    struct kl_bus_##type *op = kl_container_of(task, struct kl_bus_##type, task); \
    op->done(op); \
}
DONE(append) DONE(info) DONE(purge) DONE(ask) DONE(kv)

#define SETTLE(type) \
    struct kl_bus_##type *op = call->op; \
    op->code = code; \
    op->err = call->err; \
    op->task.run = done_##type; \
    loop = op->loop; \
    task = &op->task

static void settle(struct kl_bsim_call *call, enum kl_code code)
{
    struct kl_bsim_call **at = &call->client->calls;
    struct kl_env_loop   *loop = NULL;
    struct kl_env_task   *task = NULL;

    if (call->op == NULL)
        return;
    while (*at != call)
        at = &(*at)->next;
    *at = call->next;
    switch (call->kind) {
    case KL_BSIM_APPEND: {
        SETTLE(append);
        op->seq = call->seq;
        op->incarnation = call->incarnation;
        op->duplicate = call->duplicate;
        break;
    }
    case KL_BSIM_INFO: {
        SETTLE(info);
        op->incarnation = call->incarnation;
        op->first_seq = call->first;
        op->last_seq = call->seq;
        op->size_bytes = call->stored;
        break;
    }
    case KL_BSIM_PURGE: {
        SETTLE(purge);
        break;
    }
    case KL_BSIM_ASK: {
        SETTLE(ask);
        op->answer = code == KL_OK ? call->got : NULL;
        op->answer_size = code == KL_OK ? call->got_size : 0;
        call->got = code == KL_OK ? NULL : call->got;
        break;
    }
    case KL_BSIM_KV: {
        SETTLE(kv);
        op->got = code == KL_OK ? call->got : NULL;
        op->got_size = code == KL_OK ? call->got_size : 0;
        op->revision = call->seq;
        call->got = code == KL_OK ? NULL : call->got;
        break;
    }
    }
    call->op = NULL;
    call->client->bus.env->sched->post(loop, task);
    kl_bsim_unref(call);
}

struct request { struct kl_bsim_call call; void (*arrive)(struct kl_bsim_call *call); };

static void up_arrives(struct kl_bsim_message *m)
{
    struct kl_bsim_call *call = kl_container_of(m, struct kl_bsim_call, up);

    kl_container_of(call, struct request, call)->arrive(call);
}

static void up_lost(struct kl_bsim_message *m) { kl_bsim_unref(kl_container_of(m, struct kl_bsim_call, up)); }

static void down_arrives(struct kl_bsim_message *m)
{
    struct kl_bsim_call *call = kl_container_of(m, struct kl_bsim_call, down);

    settle(call, call->code);
    kl_bsim_unref(call);
}

static void down_lost(struct kl_bsim_message *m)
{
    kl_bsim_unref(kl_container_of(m, struct kl_bsim_call, down));
}

/* The reference of the request becomes the answer's. */
void kl_bsim_reply(struct kl_bsim_call *call, enum kl_code code)
{
    call->code = code;
    call->down = (struct kl_bsim_message){ .arrive = down_arrives, .lost = down_lost };
    kl_bsim_send(&call->client->down, &call->down, true);
}

struct kl_bsim_call *kl_bsim_call(struct kl_bus *b, enum kl_bsim_kind kind, void *op, int64_t timeout_ms,
                                  struct kl_span bytes, void (*arrive)(struct kl_bsim_call *call))
{
    struct kl_bsim_client *c = kl_bsim_client_of(b);
    struct request        *r = kl_new(sizeof *r);
    struct kl_bsim_call   *call = &r->call;
    int64_t                most_ms = timeout_ms > 0 ? timeout_ms : OP_TIMEOUT_MS;

    r->arrive = arrive;
    call->client = c;
    call->kind = kind;
    call->op = op;
    call->refs = 1;
    call->next = c->calls;
    c->calls = call;
    if (c->closed) {
        settle(call, kl_fail(&call->err, KL_ECANCELED, "the bus is closed"));
        return NULL;
    }
    /* Out of reach: known at once, told after a while. */
    if (c->cut && most_ms > REFUSED_MS)
        most_ms = REFUSED_MS;
    call->code = c->cut ? KL_EAGAIN : KL_ETIMEOUT;
    call->until_ns = kl_env_mono_ns(c->sim->env) + most_ms * 1000000;
    call->bytes = kl_new(bytes.size + 1);
    call->size = bytes.size;
    if (bytes.size > 0)
        memcpy(call->bytes, bytes.at, bytes.size);
    call->up = (struct kl_bsim_message){ .arrive = up_arrives, .lost = up_lost };
    call->refs++;
    return call;
}

static void expire(struct kl_bsim_client *c, int64_t now_ns)
{
    for (struct kl_bsim_call *call = c->calls, *next; call != NULL; call = next) {
        next = call->next;
        if (now_ns >= call->until_ns)
            settle(call, c->cut && call->code == KL_EAGAIN
                         ? kl_fail(&call->err, KL_EAGAIN, "the servers are out of reach")
                         : kl_fail(&call->err, KL_ETIMEOUT, "no answer from the servers in time"));
    }
}

/* ---- the servers ---- */

static void on_tick(struct kl_env_timer *timer)
{
    struct kl_bus_sim *s = kl_container_of(timer, struct kl_bus_sim, tick);

    s->ticks++;
    for (struct kl_bsim_client *c = s->clients; c != NULL; c = c->next) {
        expire(c, kl_env_mono_ns(s->env));
        if (s->ticks % ENDS_TICKS == 0)
            kl_bsim_tell_ends(c);
    }
    s->env->sched->arm(s->loop, &s->tick, TICK_MS);
}

static void on_begin(struct kl_env_task *task)
{
    struct kl_bus_sim *s = kl_container_of(task, struct kl_bus_sim, begin);

    s->env->sched->arm(s->loop, &s->tick, TICK_MS);
}

static void on_pump(struct kl_env_task *task)
{
    kl_bsim_pump(kl_container_of(task, struct kl_bus_sim, pump));
}

struct kl_bus_sim *kl_bus_sim_new(struct kl_env *servers, uint32_t partitions, uint64_t seed)
{
    struct kl_bus_sim *s = kl_new(sizeof *s);

    assert(partitions > 0 && partitions <= KL_BUS_PARTITIONS_MAX);
    *s = (struct kl_bus_sim){ .env = servers, .partitions = partitions, .draws = seed,
                              .tick.fire = on_tick, .begin.run = on_begin, .pump.run = on_pump };
    s->streams = kl_new(partitions * sizeof *s->streams);
    for (uint32_t i = 0; i < partitions; i++)
        s->streams[i] = (struct kl_bsim_stream){ .first = 1, .incarnation = 1 + kl_bsim_draw(s) % UINT32_MAX };
    s->loop = servers->sched->loop_new(servers->sched, "nats", SIZE_MAX);
    servers->sched->post(s->loop, &s->begin);
    return s;
}

void kl_bus_sim_weather(struct kl_bus_sim *s, const struct kl_bus_sim_weather *w) { s->weather = *w; }

/* ---- clients ---- */

static bool healthy(struct kl_bus *b, struct kl_err *err)
{
    struct kl_bsim_client *c = kl_bsim_client_of(b);

    if (!c->cut && !c->closed)
        return true;
    kl_fail(err, KL_EAGAIN, c->closed ? "the bus is closed" : "the servers are out of reach");
    return false;
}

static void leave(struct kl_bsim_client *c)
{
    c->closed = true;
    for (struct kl_bsim_reader *r = c->readers; r != NULL; r = r->next)
        r->r = NULL;
    for (struct kl_bsim_watch *w = c->watches; w != NULL; w = w->next)
        w->w = NULL;
    for (struct kl_bsim_service *v = c->services; v != NULL; v = v->next)
        v->s = NULL;
}

static void bus_close(struct kl_bus *b)
{
    struct kl_bsim_client *c = kl_bsim_client_of(b);

    if (c->closed)
        return;
    leave(c);
    while (c->calls != NULL)
        settle(c->calls, kl_fail(&c->calls->err, KL_ECANCELED, "the bus is closed"));
}

/* Its memory goes with the servers: a message of it may be under way. */
static void bus_free(struct kl_bus *b)
{
    struct kl_bsim_client *c = kl_bsim_client_of(b);

    assert(c->closed);
    kl_bus_sim_gone(b);
}

void kl_bus_sim_gone(struct kl_bus *client)
{
    struct kl_bsim_client *c = kl_bsim_client_of(client);

    leave(c);
    c->gone = true;
    while (c->calls != NULL) {                         /* of whom nobody waits any more */
        struct kl_bsim_call *call = c->calls;

        c->calls = call->next;
        call->op = NULL;
        kl_bsim_unref(call);
    }
    pipe_break(&c->down);                              /* what it sent may still arrive */
}

void kl_bus_sim_cut(struct kl_bus *client, bool cut)
{
    struct kl_bsim_client *c = kl_bsim_client_of(client);

    if (c->cut == cut || c->gone)
        return;
    c->cut = cut;
    if (cut) {
        pipe_break(&c->up);
        pipe_break(&c->down);
    } else {
        kl_bsim_readers_again(c);
        kl_bsim_watches_again(c);
    }
}

struct kl_bus *kl_bus_sim_client(struct kl_bus_sim *s, struct kl_env *process)
{
    struct kl_bsim_client *c = kl_new(sizeof *c);

    c->sim = s;
    c->bus = (struct kl_bus){ .healthy = healthy, .close = bus_close, .free = bus_free, .env = process };
    kl_bsim_log_ops(&c->bus);
    kl_bsim_kv_ops(&c->bus);
    kl_bsim_ask_ops(&c->bus);
    pipe_init(&c->up, s);
    pipe_init(&c->down, s);
    c->next = s->clients;
    s->clients = c;
    return &c->bus;
}

#define FREE_ALL(type, list) \
    for (type *x = (list), *then; x != NULL; x = then) { \
        then = x->next; \
        free(x); \
    }

void kl_bus_sim_free(struct kl_bus_sim *s)
{
    if (s == NULL)
        return;
    s->freeing = true;
    for (struct kl_bsim_client *c = s->clients; c != NULL; c = c->next) {
        if (!c->gone)
            kl_bus_sim_gone(&c->bus);
        pipe_break(&c->up);
    }
    s->env->sched->loop_free(s->loop);
    for (struct kl_bsim_client *c = s->clients, *next; c != NULL; c = next) {
        next = c->next;
        FREE_ALL(struct kl_bsim_reader, c->readers);
        FREE_ALL(struct kl_bsim_watch, c->watches);
        FREE_ALL(struct kl_bsim_service, c->services);
        free(c);
    }
    kl_bsim_log_free(s);
    kl_bsim_kv_free(s);
    free(s);
}
