/*
 * Reads on their way. A get is a flight: threads of this store make its requests, and whoever asked
 * waits. So
 *
 *   - who asks for a range that lies in one that is on its way waits for that one;
 *   - a flight that takes longer than all but one in twenty of the last ones is asked for once more, and
 *     the first good answer counts: but not more than one in `hedge_percent` of a hundred, so that a
 *     store that is slow as a whole is not asked twice as much;
 *   - a range may be asked for ahead, and nobody waits.
 *
 * At most THREADS requests are made at once, others wait in a queue; a thread is started when all are
 * busy. One lock guards all of it; requests are made outside it, each into bytes of its own.
 */
#include "libkoal/store/store_over_priv.h"

#include "libkoal/base/hash.h"
#include "libkoal/base/hedge.h"
#include "libkoal/base/metrics.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { THREADS = 32, SHARED_MAX = 64 << 20 };
enum { AHEAD = 16, AHEAD_MAX = 2 << 20 };
enum { HEDGE_FIRST_MS = 500, HEDGE_LEAST_MS = 20, HEDGE_MOST_MS = 5000, HEDGE_BURST = 8 };

struct request {
    struct flight  *of;
    void           *bytes;
    bool            second;
    struct kl_store_tally took;
    struct request *next;
};
struct flight {
    char     key[KL_STORE_KEY_MAX + 1];
    struct kl_fp fp;
    uint64_t offset;
    size_t   size;
    unsigned waiting, requests;                        /* who holds it: askers, and requests under way */
    bool     done;
    enum kl_code code; struct kl_err err;
    void    *bytes;                                    /* of the request that came first */
    struct kl_store_tally took;
    pthread_cond_t came;
    struct flight *next;
};
struct flights {
    struct kl_store_over over;
    struct kl_env   *env;
    unsigned         hedge_percent;
    struct kl_hedge  hedge;
    pthread_mutex_t  lock;
    pthread_cond_t   work;
    struct flight   *list;                             /* all, newest first */
    struct request  *first, **last;                    /* wait for a thread */
    pthread_t        threads[THREADS];
    unsigned         thread_count, idle;
    struct flight   *ahead[AHEAD]; unsigned ahead_next;    /* held, until as many more were asked for */
    bool             closing;
    struct kl_metric own[3], *shared, *hedged, *won;
};

/* ---- requests ---- */

static void let_go(struct flights *s, struct flight *f)
{
    struct flight **at = &s->list;

    if (f->waiting + f->requests > 0)
        return;
    while (*at != f)
        at = &(*at)->next;
    *at = f->next;
    pthread_cond_destroy(&f->came);
    free(f->bytes);
    free(f);
}

static void answered(struct flights *s, struct request *r, enum kl_code code, const struct kl_err *err,
                     int64_t took_ns)
{
    struct flight *f = r->of;

    f->requests--;
    if (code == KL_OK)
        kl_hedge_answered(&s->hedge, took_ns);
    /* A failure counts when nothing better can come. */
    if (!f->done && (code == KL_OK || f->requests == 0)) {
        f->done = true;
        f->code = code;
        f->took = r->took;
        if (code == KL_OK) {
            f->bytes = r->bytes;
            r->bytes = NULL;
            kl_count(s->won, r->second);
        } else {
            f->err = *err;
        }
        pthread_cond_broadcast(&f->came);
    }
    free(r->bytes);
    free(r);
    let_go(s, f);
}

static void *thread(void *ctx)
{
    struct flights *s = ctx;

    pthread_mutex_lock(&s->lock);
    for (;;) {
        struct request *r;
        struct kl_err   err = { 0 };
        enum kl_code    code;
        int64_t         begin;

        while (s->first == NULL && !s->closing) {
            s->idle++;
            pthread_cond_wait(&s->work, &s->lock);
            s->idle--;
        }
        if (s->first == NULL)
            break;
        r = s->first;
        s->first = r->next;
        if (s->first == NULL)
            s->last = &s->first;
        if (r->of->done) {                             /* the other request was quicker than the queue */
            answered(s, r, KL_ECANCELED, &err, 0);
            continue;
        }
        pthread_mutex_unlock(&s->lock);
        begin = kl_env_mono_ns(s->env);
        code = kl_store_get(s->over.inner, r->of->key, r->of->offset, r->bytes, r->of->size, &r->took, &err);
        begin = kl_env_mono_ns(s->env) - begin;
        pthread_mutex_lock(&s->lock);
        answered(s, r, code, &err, begin);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

/* False: no memory, or no thread. */
static bool request(struct flights *s, struct flight *f, bool second)
{
    struct request *r = kl_new(sizeof *r);

    r->bytes = malloc(f->size);
    if (s->idle == 0 && s->thread_count < THREADS &&
        pthread_create(&s->threads[s->thread_count], NULL, thread, s) == 0)
        s->thread_count++;
    if (r->bytes == NULL || s->thread_count == 0) {
        free(r->bytes);
        free(r);
        return false;
    }
    r->of = f;
    r->second = second;
    f->requests++;
    *s->last = r;
    s->last = &r->next;
    pthread_cond_signal(&s->work);
    return true;
}

static struct flight *begin_flight(struct flights *s, const char *key, struct kl_fp fp, uint64_t offset,
                                   size_t size)
{
    struct flight     *f = kl_new(sizeof *f);
    pthread_condattr_t attr;

    strcpy(f->key, key);
    f->fp = fp;
    f->offset = offset;
    f->size = size;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&f->came, &attr);
    pthread_condattr_destroy(&attr);
    f->next = s->list;
    s->list = f;
    kl_hedge_asked(&s->hedge, s->hedge_percent);
    if (request(s, f, false))
        return f;
    let_go(s, f);
    return NULL;
}

/* A flight under way, or just over, that has all of it. One that failed is nobody's answer but of those
 * who waited. */
static struct flight *join(struct flights *s, struct kl_fp fp, uint64_t offset, size_t size)
{
    for (struct flight *f = s->list; f != NULL; f = f->next)
        if (kl_fp_cmp(f->fp, fp) == 0 && f->offset <= offset && offset - f->offset <= f->size &&
            size <= f->size - (offset - f->offset) && !(f->done && f->code != KL_OK))
            return f;
    return NULL;
}

static void wait_for(struct flights *s, struct flight *f)
{
    int64_t         after_ms = kl_hedge_after_ms(&s->hedge);
    struct timespec at;

    clock_gettime(CLOCK_MONOTONIC, &at);
    at.tv_sec += after_ms / 1000;
    at.tv_nsec += after_ms % 1000 * 1000000;
    at.tv_sec += at.tv_nsec / 1000000000;
    at.tv_nsec %= 1000000000;
    while (!f->done && f->requests == 1)
        if (pthread_cond_timedwait(&f->came, &s->lock, &at) != 0)
            break;
    /* Where requests wait for a thread, one more would wait behind the first. */
    if (!f->done && f->requests == 1 && s->first == NULL && s->hedge_percent > 0 &&
        kl_hedge_may(&s->hedge) && request(s, f, true))
        kl_count(s->hedged, 1);
    while (!f->done)
        pthread_cond_wait(&f->came, &s->lock);
}

static enum kl_code get_tallied(struct kl_store *store, const char *key, uint64_t offset, void *bytes,
                                size_t size, struct kl_store_tally *t, struct kl_err *err)
{
    struct flights *s = (struct flights *)store;
    struct kl_fp    fp = kl_hash128(key, strlen(key));
    struct flight  *f;
    bool            mine = false;
    enum kl_code    code;

    if (size == 0 || size > SHARED_MAX || !kl_store_key_fit(key))
        return kl_store_get(s->over.inner, key, offset, bytes, size, t, err);
    pthread_mutex_lock(&s->lock);
    f = join(s, fp, offset, size);
    if (f == NULL) {
        mine = true;
        f = begin_flight(s, key, fp, offset, size);
    }
    if (f == NULL) {
        pthread_mutex_unlock(&s->lock);
        return kl_store_get(s->over.inner, key, offset, bytes, size, t, err);
    }
    f->waiting++;
    wait_for(s, f);
    pthread_mutex_unlock(&s->lock);
    code = f->code;                                    /* it changes no more, and is held */
    if (code == KL_OK)
        memcpy(bytes, (char *)f->bytes + (offset - f->offset), size);
    else
        *err = f->err;
    if (mine) {                                        /* more than `size` perhaps: whole frames, a header */
        t->requests += f->took.requests;
        t->store_bytes += f->took.store_bytes;
    } else if (code == KL_OK) {
        t->shared_bytes += size;
    }
    kl_count(s->shared, !mine);
    pthread_mutex_lock(&s->lock);
    f->waiting--;
    let_go(s, f);
    pthread_mutex_unlock(&s->lock);
    return code;
}

static enum kl_code get(struct kl_store *store, const char *key, uint64_t offset, void *bytes, size_t size,
                        struct kl_err *err)
{
    struct kl_store_tally unasked = { 0 };

    return get_tallied(store, key, offset, bytes, size, &unasked, err);
}

/* ---- ahead ---- */

static void ahead(struct kl_store *store, const char *key, uint64_t offset, size_t size)
{
    struct flights *s = (struct flights *)store;
    struct kl_fp    fp = kl_hash128(key, strlen(key));
    struct flight  *f = NULL, *old;

    if (size == 0 || size > AHEAD_MAX || !kl_store_key_fit(key))
        return;
    pthread_mutex_lock(&s->lock);
    if (join(s, fp, offset, size) == NULL && s->first == NULL)     /* not before those that are waited for */
        f = begin_flight(s, key, fp, offset, size);
    if (f != NULL) {
        f->waiting++;
        old = s->ahead[s->ahead_next % AHEAD];
        s->ahead[s->ahead_next++ % AHEAD] = f;
        if (old != NULL) {
            old->waiting--;
            let_go(s, old);
        }
    }
    pthread_mutex_unlock(&s->lock);
}

/* Requests that nobody waits for any more may be under way still: they are waited for. */
static void close_store(struct kl_store *store)
{
    struct flights *s = (struct flights *)store;

    pthread_mutex_lock(&s->lock);
    s->closing = true;
    pthread_cond_broadcast(&s->work);
    pthread_mutex_unlock(&s->lock);
    for (unsigned i = 0; i < s->thread_count; i++)
        pthread_join(s->threads[i], NULL);
    for (unsigned i = 0; i < AHEAD; i++)
        if (s->ahead[i] != NULL) {
            s->ahead[i]->waiting--;
            let_go(s, s->ahead[i]);
        }
    assert(s->list == NULL && s->first == NULL);
    pthread_cond_destroy(&s->work);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

struct kl_store *kl_store_flights_new(struct kl_env *env, struct kl_store *inner, unsigned hedge_percent,
                                      struct kl_metrics *metrics)
{
    struct flights *s = kl_new(sizeof *s);

    *s = (struct flights){ .env = env, .hedge_percent = hedge_percent,
                           .last = &s->first,
                           .hedge = { .first_ms = HEDGE_FIRST_MS, .least_ms = HEDGE_LEAST_MS,
                                      .most_ms = HEDGE_MOST_MS, .burst = HEDGE_BURST } };
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->work, NULL);
    s->shared = metrics == NULL ? &s->own[0]
        : kl_metrics_add(metrics, KL_COUNTER, "koalemos_store_reads_shared_total", "",
                         "Reads of the object storage that another one's request answered.");
    s->hedged = metrics == NULL ? &s->own[1]
        : kl_metrics_add(metrics, KL_COUNTER, "koalemos_store_reads_hedged_total", "",
                         "Reads of the object storage that were slow, and asked for once more.");
    s->won = metrics == NULL ? &s->own[2]
        : kl_metrics_add(metrics, KL_COUNTER, "koalemos_store_reads_hedges_won_total", "",
                         "Of these, such as the second request answered.");
    kl_store_over_init(&s->over, inner);
    s->over.store.get = get;
    s->over.store.get_tallied = get_tallied;
    s->over.store.ahead = ahead;
    s->over.store.close = close_store;
    return &s->over.store;
}
