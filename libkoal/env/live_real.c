#include "libkoal/env/live.h"

#include "libkoal/base/mem.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct kl_env_live {
    pthread_mutex_t   replacing;                       /* by one at a time; the next below it */
    pthread_mutex_t   lock;                            /* of what follows; held for moments */
    pthread_cond_t    settled;
    struct kl_config *now;
    struct kl_env_listener *listeners;
    _Atomic uint64_t  turn;
    /* Under `replacing`. */
    struct kl_config *file;
    struct kl_config_said *said;                       /* texts are one run of bytes behind them */
    size_t            said_count;
};

struct kl_env_live *kl_env_live_new(const struct kl_config *file)
{
    struct kl_env_live *l = kl_new(sizeof *l);
    pthread_condattr_t  attr;

    pthread_mutex_init(&l->replacing, NULL);
    pthread_mutex_init(&l->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&l->settled, &attr);
    pthread_condattr_destroy(&attr);
    l->file = kl_config_ref(file);
    l->now = kl_config_ref(file);
    atomic_store(&l->turn, 1);
    return l;
}

void kl_env_live_free(struct kl_env_live *l)
{
    if (l == NULL)
        return;
    kl_config_free(l->now);
    kl_config_free(l->file);
    free(l->said);
    pthread_mutex_destroy(&l->replacing);
    pthread_mutex_destroy(&l->lock);
    pthread_cond_destroy(&l->settled);
    free(l);
}

struct kl_config *kl_env_live_get(struct kl_env_live *l)
{
    struct kl_config *c;

    pthread_mutex_lock(&l->lock);
    c = kl_config_ref(l->now);
    pthread_mutex_unlock(&l->lock);
    return c;
}

struct kl_config *kl_env_live_below(struct kl_env_live *l)
{
    struct kl_config *c;

    pthread_mutex_lock(&l->replacing);
    c = kl_config_ref(l->file);
    pthread_mutex_unlock(&l->replacing);
    return c;
}

uint64_t kl_env_live_turn(const struct kl_env_live *l)
{
    return atomic_load_explicit(&l->turn, memory_order_acquire);
}

/* Under `replacing`. The listeners' loops take a task each, unless one is on its way already: it will find
 * what is in force when it runs. */
static void replace(struct kl_env_live *l, void (*refused)(void *ctx, const struct kl_err *err), void *ctx)
{
    struct kl_config *next = l->said_count == 0 ? kl_config_ref(l->file)
                           : kl_config_over(l->file, l->said, l->said_count, refused, ctx), *last;

    pthread_mutex_lock(&l->lock);
    last = l->now;
    l->now = next;
    atomic_fetch_add_explicit(&l->turn, 1, memory_order_release);
    for (struct kl_env_listener *x = l->listeners; x != NULL; x = x->next)
        if (!x->posted) {
            x->posted = true;
            x->sched->post(x->loop, &x->task);
        }
    pthread_mutex_unlock(&l->lock);
    kl_config_free(last);
}

void kl_env_live_file(struct kl_env_live *l, const struct kl_config *file)
{
    pthread_mutex_lock(&l->replacing);
    kl_config_free(l->file);
    l->file = kl_config_ref(file);
    replace(l, NULL, NULL);
    pthread_mutex_unlock(&l->replacing);
}

static struct kl_config_said *copy_of(const struct kl_config_said *said, size_t count)
{
    size_t bytes = count * sizeof *said;
    struct kl_config_said *copy;
    char  *at;

    for (size_t i = 0; i < count; i++)
        bytes += said[i].tenant.size + said[i].all.size;
    copy = kl_new(bytes + 1);
    at = (char *)&copy[count];
    for (size_t i = 0; i < count; i++) {
        copy[i] = (struct kl_config_said){ kl_span(at, said[i].tenant.size),
                                           kl_span(at + said[i].tenant.size, said[i].all.size) };
        memcpy(at, said[i].tenant.at, said[i].tenant.size);
        memcpy(at + said[i].tenant.size, said[i].all.at, said[i].all.size);
        at += said[i].tenant.size + said[i].all.size;
    }
    return copy;
}

void kl_env_live_over(struct kl_env_live *l, const struct kl_config_said *said, size_t count,
                      void (*refused)(void *ctx, const struct kl_err *err), void *ctx)
{
    pthread_mutex_lock(&l->replacing);
    free(l->said);
    l->said = count == 0 ? NULL : copy_of(said, count);
    l->said_count = count;
    replace(l, refused, ctx);
    pthread_mutex_unlock(&l->replacing);
}

static void run(struct kl_env_task *task)
{
    struct kl_env_listener *x = kl_container_of(task, struct kl_env_listener, task);
    struct kl_env_live     *l = x->live;
    bool gone;

    pthread_mutex_lock(&l->lock);
    x->posted = false;
    gone = x->gone;
    x->runs = !gone;
    pthread_mutex_unlock(&l->lock);
    if (gone)
        return;
    x->changed(x);
    pthread_mutex_lock(&l->lock);
    x->runs = false;
    pthread_cond_broadcast(&l->settled);
    pthread_mutex_unlock(&l->lock);
}

static bool is_settled(const struct kl_env_live *l)
{
    for (const struct kl_env_listener *x = l->listeners; x != NULL; x = x->next)
        if (x->posted || x->runs)
            return false;
    return true;
}

bool kl_env_live_settle(struct kl_env_live *l, int64_t patience_ms)
{
    struct timespec until;
    bool            well;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += patience_ms / 1000;
    until.tv_nsec += patience_ms % 1000 * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_mutex_lock(&l->lock);
    while (!(well = is_settled(l)) && pthread_cond_timedwait(&l->settled, &l->lock, &until) == 0)
        ;
    pthread_mutex_unlock(&l->lock);
    return well;
}

void kl_env_live_listen(struct kl_env_live *l, struct kl_env_listener *listener)
{
    listener->live = l;
    listener->task.run = run;
    listener->posted = true;
    listener->gone = listener->runs = false;
    pthread_mutex_lock(&l->lock);
    listener->next = l->listeners;
    l->listeners = listener;
    listener->sched->post(listener->loop, &listener->task);
    pthread_mutex_unlock(&l->lock);
}

void kl_env_live_unlisten(struct kl_env_live *l, struct kl_env_listener *listener)
{
    pthread_mutex_lock(&l->lock);
    for (struct kl_env_listener **at = &l->listeners; *at != NULL; at = &(*at)->next)
        if (*at == listener) {
            *at = listener->next;
            break;
        }
    listener->gone = true;
    pthread_cond_broadcast(&l->settled);
    pthread_mutex_unlock(&l->lock);
}
