#include "libkoal/app/app.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

struct kl_app_wait { pthread_mutex_t lock; pthread_cond_t cond; bool told; };

struct kl_app_wait *kl_app_wait_new(void)
{
    struct kl_app_wait *w = kl_new(sizeof *w);
    pthread_condattr_t  attr;

    pthread_mutex_init(&w->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&w->cond, &attr);
    pthread_condattr_destroy(&attr);
    return w;
}

void kl_app_wait_free(struct kl_app_wait *w)
{
    pthread_cond_destroy(&w->cond);
    pthread_mutex_destroy(&w->lock);
    free(w);
}

void kl_app_wait_tell(struct kl_app_wait *w)
{
    pthread_mutex_lock(&w->lock);
    w->told = true;
    pthread_cond_signal(&w->cond);
    pthread_mutex_unlock(&w->lock);
}

bool kl_app_wait_for(struct kl_app_wait *w, int64_t most_ms)
{
    struct timespec until;
    bool            told;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += most_ms / 1000;
    until.tv_nsec += most_ms % 1000 * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_mutex_lock(&w->lock);
    while (!w->told && pthread_cond_timedwait(&w->cond, &w->lock, &until) != ETIMEDOUT) {}
    told = w->told;
    pthread_mutex_unlock(&w->lock);
    return told;
}
