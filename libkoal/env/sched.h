#ifndef KL_ENV_SCHED_H
#define KL_ENV_SCHED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Scheduling, handed in. A loop is a serial executor: its tasks run one at a time, in the order
 * given, never two at once; what a loop owns needs no lock. Really a loop is a thread; simulated,
 * all loops share one thread and a seed picks who runs next.
 *
 * A task is a node that lives inside the thing it is about (a request, an append, a batch), so
 * posting allocates nothing and cannot fail, and whoever makes a request has reserved the place of
 * its reply. A task is posted at most once at a time (asserted): it is the poster's again when its
 * function begins to run. What bounds a queue is how many such things there may be; `offer` is for
 * work that comes from outside and may be refused.
 *
 * To wake a thread costs more than most tasks do. So a loop whose tasks never wait for anything may be
 * lent: a thread that is a *guest* does not wake it when it has nothing to do, but runs it itself, once
 * it has done what it was at. Still one task at a time, in order: who else posts meanwhile wakes the
 * loop's own thread, or finds it run already.
 */
struct kl_env_loop;                                    /* opaque */
struct kl_env_sched;

struct kl_env_task {
    void (*run)(struct kl_env_task *task);             /* container of: kl_container_of below */
    struct kl_env_task *next;                          /* the scheduler's */
    bool queued;                                       /* the scheduler's */
};

/* Fires once, on its loop. In the owner's storage; touched only on its loop. */
struct kl_env_timer {
    void (*fire)(struct kl_env_timer *timer);
    int64_t due_ns;                                    /* the scheduler's, as what follows */
    size_t  slot;
    bool    armed;
};

struct kl_env_sched {
    /* Never NULL. `queue_max` bounds what `offer` accepts. `name` is copied, for threads and logs. */
    struct kl_env_loop *(*loop_new)(struct kl_env_sched *s, const char *name, size_t queue_max);
    /* Runs what is queued, disarms timers, then ends the loop: nothing runs on it afterwards.
     * Not from the loop itself. */
    void (*loop_free)(struct kl_env_loop *loop);

    void (*post)(struct kl_env_loop *loop, struct kl_env_task *task);         /* any thread */
    bool (*offer)(struct kl_env_loop *loop, struct kl_env_task *task);        /* false: full */
    bool (*on_loop)(struct kl_env_loop *loop);         /* is this code running on it? */

    /* On the loop only. Arming an armed timer moves it. */
    void (*arm)(struct kl_env_loop *loop, struct kl_env_timer *timer, int64_t delay_ms);
    void (*disarm)(struct kl_env_loop *loop, struct kl_env_timer *timer);

    /* Runs on some worker thread, beside others, in no order; it posts its own result. Work may
     * take long and may read and write files; it never waits for other work. */
    void (*work)(struct kl_env_sched *s, struct kl_env_task *task);
    /* The same for work that waits for somebody else, as a store over the network lets it: on threads of
     * its own, so that what waits there keeps nothing from being computed. */
    void (*errand)(struct kl_env_sched *s, struct kl_env_task *task);
    unsigned (*workers)(struct kl_env_sched *s);       /* how many run at once, at least 1 */

    void (*lend)(struct kl_env_loop *loop);            /* right after loop_new */
    /* The thread that calls, which is no loop's, is a guest until it leaves: what it has posted since to
     * loops that are lent, and what that has posted, is run in leave; past some ms the loop's thread goes
     * on with it. Not nested. Those of work and errands are guests always. Simulated nobody is one. */
    void (*enter)(struct kl_env_sched *s);
    void (*leave)(struct kl_env_sched *s);
};

#define kl_container_of(ptr, type, member) ((type *)((char *)(ptr) - offsetof(type, member)))

/* Real threads: `workers` of them for work (0: one a core). free runs the work that is queued, then
 * ends them; all loops freed before. They take no signals. */
struct kl_env_sched *kl_env_sched_real_new(unsigned workers);
void                 kl_env_sched_real_free(struct kl_env_sched *s);
#endif
