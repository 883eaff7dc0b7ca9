/* Threads for what may block, messages to publish, jobs that are tried until their time is up. */
#include "libkoal/bus/bus_nats_priv.h"

#include <assert.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

static void *body(void *arg)
{
    struct kl_busn_crew *c = arg;

    pthread_mutex_lock(&c->lock);
    for (;;) {
        struct kl_busn_task *t = c->first;

        if (t != NULL) {
            c->first = t->next;
            if (c->first == NULL)
                c->last = &c->first;
            pthread_mutex_unlock(&c->lock);
            t->run(t);
            pthread_mutex_lock(&c->lock);
        } else if (c->ending) {
            break;
        } else {
            pthread_cond_wait(&c->more, &c->lock);
        }
    }
    pthread_mutex_unlock(&c->lock);
    nats_ReleaseThreadMemory();
    return NULL;
}

void kl_busn_crew_start(struct kl_busn_crew *c, unsigned count)
{
    sigset_t all, before;

    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->more, NULL);
    c->last = &c->first;
    c->count = count;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);       /* signals are for the main thread */
    for (unsigned i = 0; i < count; i++) {
        int failed = pthread_create(&c->threads[i], NULL, body, c);

        assert(failed == 0);
        (void)failed;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void kl_busn_crew_add(struct kl_busn_crew *c, struct kl_busn_task *t)
{
    pthread_mutex_lock(&c->lock);
    t->next = NULL;
    *c->last = t;
    c->last = &t->next;
    pthread_cond_signal(&c->more);
    pthread_mutex_unlock(&c->lock);
}

void kl_busn_crew_end(struct kl_busn_crew *c)
{
    pthread_mutex_lock(&c->lock);
    c->ending = true;
    pthread_cond_broadcast(&c->more);
    pthread_mutex_unlock(&c->lock);
    for (unsigned i = 0; i < c->count; i++)
        pthread_join(c->threads[i], NULL);
    pthread_cond_destroy(&c->more);
    pthread_mutex_destroy(&c->lock);
}

/* ---- messages to publish ---- */

struct send { struct kl_busn_task task; struct kl_busn *bus; natsConnection *nc; natsMsg *msg;
              uint64_t call, reconnects; };

uint64_t kl_busn_reconnects(natsConnection *nc)
{
    natsStatistics *s = NULL;
    uint64_t count = KL_BUSN_ANY, in, in_bytes, out, out_bytes;

    if (natsStatistics_Create(&s) == NATS_OK && natsConnection_GetStats(nc, s) == NATS_OK)
        natsStatistics_GetCounts(s, &in, &in_bytes, &out, &out_bytes, &count);
    natsStatistics_Destroy(s);
    return count;
}

static void on_unsent(struct kl_env_task *task)
{
    struct kl_busn_reply *r = kl_container_of(task, struct kl_busn_reply, task);
    struct kl_busn_call  *c = kl_busn_call_find(r->bus, r->call);

    if (c != NULL && c->append != NULL)
        kl_busn_append_reply(r->bus, c, r);
    else if (c != NULL)
        kl_busn_ask_reply(r->bus, c, r);
    free(r);
}

static void on_send(struct kl_busn_task *task)
{
    struct send *s = kl_container_of(task, struct send, task);
    natsStatus   status = NATS_CONNECTION_DISCONNECTED;

    /* On a later connection it would overtake what was lost with the one it was meant for. */
    if (s->reconnects == KL_BUSN_ANY || s->reconnects == kl_busn_reconnects(s->nc))
        status = natsConnection_PublishMsg(s->nc, s->msg);
    natsMsg_Destroy(s->msg);
    if (status != NATS_OK && s->call != 0) {
        struct kl_busn_reply *r = kl_new(sizeof *r);

        r->bus = s->bus;
        r->call = s->call;
        r->kind = KL_BUSN_UNSENT;
        strncpy(r->text, natsStatus_GetText(status), KL_BUSN_TEXT_MAX);
        r->task.run = on_unsent;
        kl_busn_post(s->bus, s->bus->loop, &r->task);
    }
    free(s);
}

void kl_busn_send(struct kl_busn *b, struct kl_busn_crew *crew, natsConnection *nc, natsMsg *msg,
                  uint64_t call, uint64_t reconnects)
{
    struct send *s;

    if (atomic_load(&b->closed)) {
        natsMsg_Destroy(msg);
        return;
    }
    s = kl_new(sizeof *s);
    *s = (struct send){ .task.run = on_send, .bus = b, .nc = nc, .msg = msg, .call = call,
                         .reconnects = reconnects };
    kl_busn_crew_add(crew, &s->task);
}

/* ---- subscriptions that end ---- */

struct kl_busn_parting { struct kl_busn_task task; struct kl_busn *bus;
                         struct kl_busn_parting *next; natsSubscription *sub; };

static void on_parting(struct kl_busn_task *task)
{
    struct kl_busn_parting *p = kl_container_of(task, struct kl_busn_parting, task);

    natsSubscription_Unsubscribe(p->sub);
    p->next = p->bus->parted;
    p->bus->parted = p;
}

void kl_busn_unsubscribe(struct kl_busn *b, natsSubscription *sub)
{
    struct kl_busn_parting *p;

    if (sub == NULL)
        return;
    p = kl_new(sizeof *p);
    p->task.run = on_parting;
    p->bus = b;
    p->sub = sub;
    if (atomic_load(&b->closed))
        on_parting(&p->task);                          /* the connection ended it; nobody else is */
    else
        kl_busn_crew_add(&b->fast, &p->task);
}

void kl_busn_subscriptions_free(struct kl_busn *b)
{
    for (int i = 0; i < KL_BUSN_CONNECTIONS; i++)
        natsSubscription_Destroy(b->replies[i]);
    while (b->parted != NULL) {
        struct kl_busn_parting *p = b->parted;

        b->parted = p->next;
        natsSubscription_Destroy(p->sub);
        free(p);
    }
}

/* ---- jobs ---- */

static void on_back(struct kl_env_task *task);

static void on_job(struct kl_busn_task *task)
{
    struct kl_busn_job *j = kl_container_of(task, struct kl_busn_job, task);
    struct kl_busn     *b = j->bus;
    int64_t left_ms = (j->deadline_ns - kl_env_mono_ns(b->env)) / 1000000;

    j->err = (struct kl_err){ 0 };
    if (atomic_load(&b->closed))
        j->code = kl_busn_canceled(&j->err);
    else
        j->code = j->run(j, left_ms > 50 ? left_ms : 50, &j->err);
    if (j->code == KL_OK || j->code == KL_EAGAIN || j->code == KL_ETIMEOUT)
        kl_busn_trouble(b, &j->err);
    j->back.run = on_back;
    kl_busn_post(b, b->loop, &j->back);
}

static void dispatch(struct kl_busn *b, struct kl_busn_job *j)
{
    j->task.run = on_job;
    kl_busn_crew_add(j->look ? &b->looks : &b->jobs, &j->task);
}

static void finish(struct kl_busn *b, struct kl_busn_job *j, enum kl_code code)
{
    b->job_count--;
    j->over(j, code, &j->err);
}

static void wait_for_turn(struct kl_busn *b, struct kl_busn_job *j)
{
    j->next = NULL;
    *b->last_waiting = j;
    b->last_waiting = &j->next;
}

static void on_back(struct kl_env_task *task)
{
    struct kl_busn_job *j = kl_container_of(task, struct kl_busn_job, back);
    struct kl_busn     *b = j->bus;

    if (j->code == KL_EAGAIN && !atomic_load(&b->closed)) {
        j->not_before_ns = kl_busn_deadline(b, KL_BUSN_AGAIN_MS);
        wait_for_turn(b, j);
    } else {
        if (atomic_load(&b->closed) && j->code != KL_OK)
            j->code = kl_busn_canceled(&j->err);
        finish(b, j, j->code);
    }
}

void kl_busn_job_start(struct kl_busn *b, struct kl_busn_job *j)
{
    j->bus = b;
    j->not_before_ns = 0;
    b->job_count++;
    if (atomic_load(&b->closed)) {
        finish(b, j, kl_busn_canceled(&j->err));
    } else if (b->job_count > KL_BUSN_JOBS_MAX && j->deadline_ns != INT64_MAX) {
        finish(b, j, kl_fail(&j->err, KL_EAGAIN, "more than %d operations wait for %s",
                             KL_BUSN_JOBS_MAX, b->url));
    } else if (kl_busn_up(b, KL_BUSN_FAST)) {
        dispatch(b, j);
    } else {
        kl_busn_unreachable(b, &j->err);
        wait_for_turn(b, j);
    }
}

void kl_busn_jobs_tick(struct kl_busn *b, int64_t now_ns)
{
    struct kl_busn_job *all = b->waiting_jobs;
    bool up = kl_busn_up(b, KL_BUSN_FAST);

    b->waiting_jobs = NULL;
    b->last_waiting = &b->waiting_jobs;
    for (struct kl_busn_job *j = all, *next; j != NULL; j = next) {
        next = j->next;
        if (now_ns >= j->deadline_ns)
            finish(b, j, KL_EAGAIN);
        else if (up && now_ns >= j->not_before_ns)
            dispatch(b, j);
        else
            wait_for_turn(b, j);
    }
}

void kl_busn_jobs_cancel(struct kl_busn *b)
{
    struct kl_busn_job *all = b->waiting_jobs;

    b->waiting_jobs = NULL;
    b->last_waiting = &b->waiting_jobs;
    while (all != NULL) {
        struct kl_busn_job *j = all;

        all = j->next;
        finish(b, j, kl_busn_canceled(&j->err));
    }
}

enum kl_code kl_busn_code(struct kl_busn *b, natsStatus s, jsErrCode e, const char *what,
                          struct kl_err *err)
{
    switch (e) {
    case JSStreamWrongLastSequenceErr:
        return kl_fail(err, KL_EEXIST, "%s: somebody else was first", what);
    case JSStreamNotFoundErr:
    case JSNoMessageFoundErr:
        return kl_fail(err, KL_ENOENT, "%s: there is none", what);
    case JSStorageResourcesExceededErr:
    case JSMemoryResourcesExceededErr:
    case JSAccountResourcesExceededErr:
        return kl_fail(err, KL_ELIMIT, "%s: JetStream at %s has no room for it (error %d): log.bytes_max of every "
                       "partition has to fit its max_file_store", what, b->url, e);
    case JSClusterNoPeersErr:
    case JSStreamReplicasNotSupportedErr:
    case JSInsufficientResourcesErr:
        return kl_fail(err, KL_EAGAIN, "%s: JetStream at %s has not enough servers with room for it "
                       "(error %d)", what, b->url, e);
    default:
        break;
    }
    switch (s) {
    case NATS_NOT_FOUND:
        return kl_fail(err, KL_ENOENT, "%s: there is none", what);
    case NATS_TIMEOUT:
        return kl_fail(err, KL_ETIMEOUT, "%s: no answer from %s", what, b->url);
    default:
        return kl_fail(err, KL_EAGAIN, "%s: %s at %s (JetStream error %d)", what,
                       natsStatus_GetText(s), b->url, e);
    }
}
