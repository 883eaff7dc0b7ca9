/*
 * Real scheduling: a thread a loop, and a pool of threads for work. A queue is an intrusive list
 * behind a mutex; its reader takes all of it at once, so under load one lock serves many tasks.
 *
 * Who waits sleeps on a futex, not on a condition variable: the lock is let go before the sleeper is
 * woken, so that it does not wake only to wait for the lock. By then the queue may be gone, with its
 * loop: the kernel takes its address as a name, and whoever sleeps under it looks again anyway (futex(2)).
 *
 * A loop that is lent is run by its own thread or by a guest, never both (`busy`). A guest that posts to
 * one that is idle promises to come; until it does, anybody else's post wakes the thread, which then
 * takes all there is. A thread that finds a guest there has the next turn, for its timers' sake.
 */
#include "libkoal/env/sched.h"

#include "libkoal/base/mem.h"
#include "libkoal/env/env_priv.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { WORKERS_MAX = 1024, ERRANDS_MORE = 2 };         /* of errands twice as many run at once, and two */
enum { TIMERS_EVERY = 64 };                            /* tasks between two looks at the timers */
enum { GUEST_LOOPS_MAX = 8, GUEST_NS = 2000000 };      /* a guest stays that long, and the task that it is at */

struct queue {
    pthread_mutex_t lock;
    struct kl_env_task *first, **last;
    _Atomic uint32_t turn;                             /* the futex: changes when there is something */
    unsigned sleepers;                                 /* at least as many as sleep and nobody woke */
    bool     ending;
};

/* What a thread is to the loops; its address is the thread's name. */
struct guest {
    bool          here;                                /* it is one */
    unsigned      count;
    struct kl_env_loop *loops[GUEST_LOOPS_MAX];        /* where it shall come, in this order */
    struct queue *works;                               /* a worker's, while it is some loop's guest */
    bool          claimed;                             /* it takes the next of them, so nobody else need */
};
static _Thread_local struct guest me;

struct kl_env_loop {
    pthread_t     thread;
    struct queue  queue;
    size_t        queue_max;
    _Atomic size_t waiting;                            /* queued and not yet begun */
    struct kl_env_timers timers;                       /* of who runs the loop */
    _Atomic(struct guest *) runner;
    char          name[16];
    /* Under the queue's lock. */
    bool          lent, busy;                          /* busy: somebody runs it */
    bool          waits;                               /* its thread, for a guest to go */
    struct guest *promised;                            /* will come for what is queued */
    unsigned      coming;                              /* on how many lists it is */
    int64_t       sleeps_until_ns;                     /* its thread */
};

struct real {
    struct kl_env_sched sched;
    struct queue        queue, errands;
    unsigned            worker_count, errand_count;
    pthread_t           workers[];                     /* then those of errands */
};

static int64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void queue_init(struct queue *q)
{
    *q = (struct queue){ 0 };
    q->last = &q->first;
    pthread_mutex_init(&q->lock, NULL);
}

static void queue_deinit(struct queue *q)
{
    assert(q->first == NULL);
    pthread_mutex_destroy(&q->lock);
}

/* Under the lock; false when `until_ns` (of the monotonic clock; INT64_MAX: never) has come. */
static bool queue_wait(struct queue *q, int64_t until_ns)
{
    struct timespec until = { .tv_sec = until_ns / 1000000000, .tv_nsec = until_ns % 1000000000 };
    uint32_t        turn = atomic_load_explicit(&q->turn, memory_order_relaxed);
    bool            woken;

    q->sleepers++;
    pthread_mutex_unlock(&q->lock);
    woken = syscall(SYS_futex, &q->turn, FUTEX_WAIT_BITSET_PRIVATE, turn, until_ns == INT64_MAX ? NULL : &until,
                    NULL, FUTEX_BITSET_MATCH_ANY) == 0 || errno == EAGAIN || errno == EINTR;
    pthread_mutex_lock(&q->lock);
    return woken;
}

/* Under the lock: how many are to be woken, by queue_wake, after it is let go. Quiet: nobody. */
static int queue_add(struct queue *q, struct kl_env_task *task, bool quiet)
{
    assert(!task->queued && task->run != NULL);
    task->queued = true;
    task->next = NULL;
    *q->last = task;
    q->last = &task->next;
    atomic_fetch_add_explicit(&q->turn, 1, memory_order_relaxed);
    if (quiet || q->sleepers == 0)
        return 0;
    q->sleepers--;
    return 1;
}

static struct kl_env_task *queue_take(struct queue *q)
{
    struct kl_env_task *all = q->first;

    q->first = NULL;
    q->last = &q->first;
    return all;
}

static void queue_wake(struct queue *q, int count)
{
    if (count > 0)
        syscall(SYS_futex, &q->turn, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0);
}

static void queue_end(struct queue *q)
{
    pthread_mutex_lock(&q->lock);
    q->ending = true;
    atomic_fetch_add_explicit(&q->turn, 1, memory_order_relaxed);
    pthread_mutex_unlock(&q->lock);
    queue_wake(q, INT_MAX);
}

static void run(struct kl_env_task *task)
{
    task->next = NULL;
    task->queued = false;                              /* from here it is the poster's again */
    task->run(task);
}

/* Signals are for the thread that waits for them: ours take none. */
static void start(pthread_t *thread, void *(*body)(void *), void *arg)
{
    sigset_t all, before;
    int      failed;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    failed = pthread_create(thread, NULL, body, arg);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed != 0) {
        fprintf(stderr, "cannot start a thread: %s\n", strerror(failed));
        abort();
    }
}

/* Waits for tasks, a due timer or the end; takes all tasks there are. It is over when no guest is to
 * come any more: each has the loop on its list. */
static struct kl_env_task *loop_take(struct kl_env_loop *l, bool *ending, bool *over)
{
    struct queue       *q = &l->queue;
    struct kl_env_task *all;

    pthread_mutex_lock(&q->lock);
    if (atomic_load_explicit(&l->runner, memory_order_relaxed) == &me) {
        atomic_store_explicit(&l->runner, NULL, memory_order_relaxed);
        l->busy = false;
    }
    for (;;) {
        l->waits = l->busy;
        l->sleeps_until_ns = l->busy || q->ending ? INT64_MAX : kl_env_timers_next_ns(&l->timers);
        if (!l->busy && (q->first != NULL || (q->ending && l->coming == 0)))
            break;
        if (!queue_wait(q, l->sleeps_until_ns) && !l->busy)
            break;
    }
    q->sleepers = 0;                                   /* only the loop's thread sleeps here */
    l->busy = true;
    l->waits = false;
    l->promised = NULL;
    atomic_store_explicit(&l->runner, &me, memory_order_relaxed);
    all = queue_take(q);
    *ending = q->ending;
    *over = q->ending && l->coming == 0;
    pthread_mutex_unlock(&q->lock);
    return all;
}

/* Only what was due when it began: a timer that arms itself for now lets tasks run in between. */
static void loop_fire(struct kl_env_loop *l)
{
    int64_t              now = now_ns();
    struct kl_env_timer *timer;

    while ((timer = kl_env_timers_due(&l->timers, now)) != NULL)
        timer->fire(timer);
}

static void loop_run(struct kl_env_loop *l, struct kl_env_task *task, bool timers)
{
    struct kl_env_task *next;

    for (unsigned n = 1; task != NULL; task = next, n++) {
        next = task->next;
        atomic_fetch_sub_explicit(&l->waiting, 1, memory_order_relaxed);
        run(task);
        if (n % TIMERS_EVERY == 0 && timers)
            loop_fire(l);
    }
}

static void *loop_body(void *arg)
{
    struct kl_env_loop *l = arg;
    bool                ending = false, over = false;

    pthread_setname_np(pthread_self(), l->name);
    for (;;) {
        struct kl_env_task *task = loop_take(l, &ending, &over);

        if (task == NULL && over)
            break;                                     /* the queue was empty when it ended */
        if (!ending)
            loop_fire(l);
        loop_run(l, task, !ending);
    }
    kl_env_timers_deinit(&l->timers);
    return NULL;
}

/* ---- guests ---- */

/* Under the lock, of a loop that is lent: will what is queued now be run without waking its thread? */
static bool guest_sees_to(struct kl_env_loop *l)
{
    if (l->busy)
        return true;                                   /* whoever runs it looks again before he goes */
    if (!me.here || l->waits || l->queue.ending)
        return false;
    if (l->promised == &me)
        return true;
    if (l->queue.first != NULL || me.count == GUEST_LOOPS_MAX)
        return false;
    me.loops[me.count++] = l;
    l->promised = &me;
    l->coming++;
    return true;
}

/* Runs the loop, unless somebody does. From when the lock is let go it may be gone. */
static void guest_visit(struct kl_env_loop *l)
{
    struct queue *q = &l->queue;
    int           wake = 0;

    pthread_mutex_lock(&q->lock);
    l->coming--;
    if (l->promised == &me)
        l->promised = NULL;
    if (!l->busy && !l->waits && q->first != NULL) {
        int64_t until_ns = now_ns() + GUEST_NS;

        l->busy = true;
        atomic_store_explicit(&l->runner, &me, memory_order_relaxed);
        do {
            struct kl_env_task *all = queue_take(q);

            pthread_mutex_unlock(&q->lock);
            loop_run(l, all, false);
            pthread_mutex_lock(&q->lock);
        } while (q->first != NULL && !l->waits && now_ns() < until_ns);
        atomic_store_explicit(&l->runner, NULL, memory_order_relaxed);
        l->busy = false;
    }
    if (!l->busy && (q->first != NULL || q->ending || kl_env_timers_next_ns(&l->timers) < l->sleeps_until_ns)) {
        atomic_fetch_add_explicit(&q->turn, 1, memory_order_relaxed);
        wake = q->sleepers > 0;
        q->sleepers -= (unsigned)wake;
    }
    pthread_mutex_unlock(&q->lock);
    queue_wake(q, wake);
}

static void guest_go(void)
{
    while (me.count > 0) {
        struct kl_env_loop *l = me.loops[0];

        me.count--;
        memmove(me.loops, me.loops + 1, me.count * sizeof me.loops[0]);
        guest_visit(l);
    }
}

static void enter(struct kl_env_sched *s)
{
    (void)s;
    assert(!me.here);
    me.here = true;
}

static void leave(struct kl_env_sched *s)
{
    (void)s;
    assert(me.here);
    guest_go();
    me.here = false;
}

static void lend(struct kl_env_loop *l)
{
    pthread_mutex_lock(&l->queue.lock);
    l->lent = true;
    pthread_mutex_unlock(&l->queue.lock);
}

/* ---- loops ---- */

static struct kl_env_loop *loop_new(struct kl_env_sched *s, const char *name, size_t queue_max)
{
    struct kl_env_loop *l = kl_new(sizeof *l);

    (void)s;
    l->queue_max = queue_max;
    snprintf(l->name, sizeof l->name, "%s", name);     /* a thread's name is cut at 15 bytes */
    queue_init(&l->queue);
    start(&l->thread, loop_body, l);
    return l;
}

static bool on_loop(struct kl_env_loop *l)
{
    return atomic_load_explicit(&l->runner, memory_order_relaxed) == &me;
}

static void loop_free(struct kl_env_loop *l)
{
    if (l == NULL)
        return;
    assert(!on_loop(l));
    queue_end(&l->queue);
    pthread_join(l->thread, NULL);
    queue_deinit(&l->queue);
    free(l);
}

static bool add(struct kl_env_loop *l, struct kl_env_task *task, size_t most)
{
    struct queue *q = &l->queue;
    bool          taken;
    int           wake = 0;

    pthread_mutex_lock(&q->lock);
    taken = atomic_load_explicit(&l->waiting, memory_order_relaxed) < most;
    if (taken) {
        atomic_fetch_add_explicit(&l->waiting, 1, memory_order_relaxed);
        wake = queue_add(q, task, l->lent && guest_sees_to(l));
    }
    pthread_mutex_unlock(&q->lock);
    queue_wake(q, wake);                               /* the task may run already, and free the loop */
    return taken;
}

static void post(struct kl_env_loop *l, struct kl_env_task *task) { add(l, task, SIZE_MAX); }
static bool offer(struct kl_env_loop *l, struct kl_env_task *task)
{
    return add(l, task, l->queue_max);
}

static void arm(struct kl_env_loop *l, struct kl_env_timer *timer, int64_t delay_ms)
{
    assert(on_loop(l));
    kl_env_timers_arm(&l->timers, timer, kl_env_due_ns(now_ns(), delay_ms));
}

static void disarm(struct kl_env_loop *l, struct kl_env_timer *timer)
{
    assert(on_loop(l));
    kl_env_timers_disarm(&l->timers, timer);
}

static void *worker_body(void *arg)
{
    struct queue *q = arg;

    pthread_setname_np(pthread_self(), "worker");
    me.here = true;
    pthread_mutex_lock(&q->lock);
    for (;;) {
        struct kl_env_task *task = q->first;

        if (task != NULL) {
            q->first = task->next;
            if (q->first == NULL)
                q->last = &q->first;
            pthread_mutex_unlock(&q->lock);
            run(task);
            me.works = q;
            guest_go();
            me.works = NULL;
            me.claimed = false;
            pthread_mutex_lock(&q->lock);
        } else if (q->ending) {
            break;
        } else {
            queue_wait(q, INT64_MAX);
        }
    }
    pthread_mutex_unlock(&q->lock);
    return NULL;
}

static void add_work(struct queue *q, struct kl_env_task *task)
{
    bool mine = me.works == q && !me.claimed;
    int  wake;

    me.claimed |= mine;
    pthread_mutex_lock(&q->lock);
    wake = queue_add(q, task, mine);
    pthread_mutex_unlock(&q->lock);
    queue_wake(q, wake);
}

static void work(struct kl_env_sched *s, struct kl_env_task *task)
{
    add_work(&kl_container_of(s, struct real, sched)->queue, task);
}

static void errand(struct kl_env_sched *s, struct kl_env_task *task)
{
    add_work(&kl_container_of(s, struct real, sched)->errands, task);
}

static unsigned workers(struct kl_env_sched *s)
{
    return kl_container_of(s, struct real, sched)->worker_count;
}

struct kl_env_sched *kl_env_sched_real_new(unsigned worker_count)
{
    struct real *r;

    if (worker_count == 0) {
        long cores = sysconf(_SC_NPROCESSORS_ONLN);
        worker_count = cores > 0 ? (unsigned)cores : 1;
    }
    if (worker_count > WORKERS_MAX)
        worker_count = WORKERS_MAX;
    r = kl_new(sizeof *r + (3 * worker_count + ERRANDS_MORE) * sizeof r->workers[0]);
    r->worker_count = worker_count;
    r->errand_count = 2 * worker_count + ERRANDS_MORE;
    r->sched = (struct kl_env_sched){ .loop_new = loop_new, .loop_free = loop_free, .post = post,
                                      .offer = offer, .on_loop = on_loop, .arm = arm,
                                      .disarm = disarm, .work = work, .errand = errand,
                                      .workers = workers, .lend = lend, .enter = enter,
                                      .leave = leave };
    queue_init(&r->queue);
    queue_init(&r->errands);
    for (unsigned i = 0; i < r->worker_count + r->errand_count; i++)
        start(&r->workers[i], worker_body, i < worker_count ? &r->queue : &r->errands);
    return &r->sched;
}

void kl_env_sched_real_free(struct kl_env_sched *s)
{
    struct real *r = kl_container_of(s, struct real, sched);

    if (s == NULL)
        return;
    queue_end(&r->queue);
    queue_end(&r->errands);
    for (unsigned i = 0; i < r->worker_count + r->errand_count; i++)
        pthread_join(r->workers[i], NULL);
    queue_deinit(&r->queue);
    queue_deinit(&r->errands);
    free(r);
}
