/*
 * The simulated env: one thread, virtual time, every choice from one seed. A step picks, of all
 * loops with something to run and all queued work, one at random, and runs one task of it; when
 * there is none, time jumps to the next timer. Processes share the clock and the choices, and die
 * alone.
 */
#include "libkoal/env/env.h"

#include "libkoal/base/mem.h"
#include "libkoal/env/env_priv.h"

#include <assert.h>
#include <stdlib.h>

#define WALL_START_MS INT64_C(1700000000000)
#define STEPS_AT_ONE_INSTANT_MAX UINT64_C(100000000)   /* past it, tasks that never let time pass */

struct queue { struct kl_env_task *first, **last; size_t count; };

struct process {
    struct kl_env       env;
    struct kl_env_clock  clock;
    struct kl_env_random random;
    struct kl_env_sched  sched;
    struct kl_env_sim   *sim;
    struct process      *next;
    struct kl_env_loop  *loops;                        /* in the order they were made */
    struct queue         work;
    unsigned             workers;
    bool                 dead, paused;
    int64_t              ahead_ms;                     /* its wall clock, of the others' */
};

struct kl_env_loop {
    struct process      *in;
    struct kl_env_loop  *next;
    struct queue         queue;
    size_t               queue_max;
    struct kl_env_timers timers;
    bool                 dead;
};

struct kl_env_sim {
    struct process     *processes, *first;
    struct kl_env_loop *graves;                        /* dead loops: what is posted there is lost */
    struct kl_env_loop *running;                       /* NULL between steps and in work */
    int64_t             now_ns;
    uint64_t            choices, randomness, draws;    /* three streams: states of splitmix64 */
    uint64_t            steps;                         /* since time last moved */
};

static uint64_t draw(uint64_t *seed)
{
    uint64_t z = *seed += 0x9e3779b97f4a7c15;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static struct process *process_of(struct kl_env_sched *s)
{
    return kl_container_of(s, struct process, sched);
}

static int64_t wall_ms(struct kl_env_clock *c)
{
    const struct process *p = kl_container_of(c, struct process, clock);

    return WALL_START_MS + p->ahead_ms + p->sim->now_ns / 1000000;
}

static int64_t mono_ns(struct kl_env_clock *c)
{
    return kl_container_of(c, struct process, clock)->sim->now_ns;
}

static void fill(struct kl_env_random *r, void *bytes, size_t size)
{
    struct kl_env_sim *s = kl_container_of(r, struct process, random)->sim;
    uint8_t           *at = bytes;

    for (size_t i = 0; i < size; i += 8) {
        uint64_t v = draw(&s->randomness);
        for (size_t k = i; k < size && k < i + 8; k++, v >>= 8)
            at[k] = (uint8_t)v;
    }
}

static void add(struct queue *q, struct kl_env_task *task)
{
    assert(!task->queued && task->run != NULL);
    task->queued = true;
    task->next = NULL;
    *q->last = task;
    q->last = &task->next;
    q->count++;
}

/* Takes the nth from the front. */
static struct kl_env_task *take(struct queue *q, size_t nth)
{
    struct kl_env_task **at = &q->first, *task;

    for (size_t i = 0; i < nth; i++)
        at = &(*at)->next;
    task = *at;
    *at = task->next;
    if (*at == NULL)
        q->last = at;
    q->count--;
    task->next = NULL;
    task->queued = false;
    return task;
}

static void drop_all(struct queue *q)
{
    while (q->first != NULL)
        take(q, 0);
}

static void queue_init(struct queue *q) { *q = (struct queue){ .last = &q->first }; }

static struct kl_env_loop *loop_new(struct kl_env_sched *sched, const char *name, size_t queue_max)
{
    struct process      *p = process_of(sched);
    struct kl_env_loop  *l = kl_new(sizeof *l), **at = &p->loops;

    (void)name;
    assert(!p->dead);
    l->in = p;
    l->queue_max = queue_max;
    queue_init(&l->queue);
    while (*at != NULL)
        at = &(*at)->next;
    *at = l;
    return l;
}

static void bury(struct kl_env_loop *l)
{
    struct kl_env_loop **at = &l->in->loops;

    while (*at != l)
        at = &(*at)->next;
    *at = l->next;
    l->next = NULL;
    drop_all(&l->queue);
    kl_env_timers_deinit(&l->timers);
}

static void loop_free(struct kl_env_loop *l)
{
    struct kl_env_sim  *s;
    struct kl_env_loop *before;

    if (l == NULL || l->dead)
        return;                                        /* a grave stays until the simulation ends */
    s = l->in->sim;
    before = s->running;
    assert(before != l);
    s->running = l;
    while (l->queue.first != NULL) {
        struct kl_env_task *task = take(&l->queue, 0);
        task->run(task);
    }
    s->running = before;
    bury(l);
    free(l);
}

static void post(struct kl_env_loop *l, struct kl_env_task *task)
{
    if (!l->dead)
        add(&l->queue, task);
}

static bool offer(struct kl_env_loop *l, struct kl_env_task *task)
{
    if (l->dead || l->queue.count >= l->queue_max)
        return false;
    add(&l->queue, task);
    return true;
}

static void lend(struct kl_env_loop *l) { (void)l; }
static void no_guest(struct kl_env_sched *s) { (void)s; }
static bool on_loop(struct kl_env_loop *l) { return l->in->sim->running == l; }

static void arm(struct kl_env_loop *l, struct kl_env_timer *timer, int64_t delay_ms)
{
    assert(on_loop(l));
    kl_env_timers_arm(&l->timers, timer, kl_env_due_ns(l->in->sim->now_ns, delay_ms));
}

static void disarm(struct kl_env_loop *l, struct kl_env_timer *timer)
{
    if (l->dead) {
        assert(!timer->armed);
        return;
    }
    assert(on_loop(l));
    kl_env_timers_disarm(&l->timers, timer);
}

static void work(struct kl_env_sched *sched, struct kl_env_task *task)
{
    struct process *p = process_of(sched);

    if (!p->dead)
        add(&p->work, task);
}

static unsigned workers(struct kl_env_sched *sched) { return process_of(sched)->workers; }

struct kl_env *kl_env_sim_process(struct kl_env_sim *s)
{
    struct process *p = kl_new(sizeof *p), **at = &s->processes;

    p->sim = s;
    p->workers = 1 + (unsigned)(draw(&s->choices) % 4);
    p->clock = (struct kl_env_clock){ .wall_ms = wall_ms, .mono_ns = mono_ns };
    p->random = (struct kl_env_random){ .fill = fill };
    p->sched = (struct kl_env_sched){ .loop_new = loop_new, .loop_free = loop_free, .post = post,
                                      .offer = offer, .on_loop = on_loop, .arm = arm,
                                      .disarm = disarm, .work = work, .errand = work,
                                      .workers = workers, .lend = lend, .enter = no_guest,
                                      .leave = no_guest };
    p->env = (struct kl_env){ .clock = &p->clock, .random = &p->random, .sched = &p->sched };
    queue_init(&p->work);
    while (*at != NULL)
        at = &(*at)->next;
    *at = p;
    return &p->env;
}

static void empty(struct process *p)
{
    struct kl_env_sim *s = p->sim;

    assert(s->running == NULL);
    while (p->loops != NULL) {
        struct kl_env_loop *l = p->loops;

        bury(l);
        l->dead = true;
        l->next = s->graves;
        s->graves = l;
    }
    drop_all(&p->work);
}

void kl_env_sim_kill(struct kl_env_sim *s, struct kl_env *process)
{
    struct process *p = kl_container_of(process, struct process, env);

    assert(p->sim == s && p != s->first);
    empty(p);
    p->dead = true;
}

void kl_env_sim_pause(struct kl_env_sim *s, struct kl_env *process, bool paused)
{
    assert(kl_container_of(process, struct process, env)->sim == s);
    kl_container_of(process, struct process, env)->paused = paused;
}

void kl_env_sim_ahead(struct kl_env_sim *s, struct kl_env *process, int64_t ms)
{
    assert(kl_container_of(process, struct process, env)->sim == s);
    kl_container_of(process, struct process, env)->ahead_ms = ms;
}

void kl_env_sim_kill_all(struct kl_env_sim *s)
{
    for (struct process *p = s->processes; p != NULL; p = p->next) {
        empty(p);
        p->dead = p != s->first;
    }
}

struct kl_env_sim *kl_env_sim_new(uint64_t seed)
{
    struct kl_env_sim *s = kl_new(sizeof *s);

    s->choices = draw(&seed);
    s->randomness = draw(&seed);
    s->draws = draw(&seed);
    s->first = kl_container_of(kl_env_sim_process(s), struct process, env);
    return s;
}

void kl_env_sim_free(struct kl_env_sim *s)
{
    if (s == NULL)
        return;
    kl_env_sim_kill_all(s);
    while (s->graves != NULL) {
        struct kl_env_loop *l = s->graves;
        s->graves = l->next;
        free(l);
    }
    while (s->processes != NULL) {
        struct process *p = s->processes;
        s->processes = p->next;
        free(p);
    }
    free(s);
}

struct kl_env *kl_env_sim_env(struct kl_env_sim *s) { return &s->first->env; }
uint64_t       kl_env_sim_draw(struct kl_env_sim *s) { return draw(&s->draws); }

static bool timer_due(const struct kl_env_loop *l)
{
    return kl_env_timers_next_ns(&l->timers) <= l->in->sim->now_ns;
}

/* A due timer and a waiting task of one loop: which is first is a choice, too. */
static void run_loop(struct kl_env_loop *l)
{
    struct kl_env_sim *s = l->in->sim;
    bool               fires = timer_due(l);

    if (fires && l->queue.first != NULL)
        fires = draw(&s->choices) % 2 == 0;
    s->running = l;
    if (fires) {
        struct kl_env_timer *timer = kl_env_timers_due(&l->timers, s->now_ns);
        timer->fire(timer);
    } else {
        struct kl_env_task *task = take(&l->queue, 0);
        task->run(task);
    }
    s->running = NULL;
}

/* Runs one task of those that could run now; false when there is none. */
static bool run_one(struct kl_env_sim *s)
{
    size_t count = 0, pick;

    for (struct process *p = s->processes; p != NULL; p = p->next) {
        if (p->paused)
            continue;
        for (struct kl_env_loop *l = p->loops; l != NULL; l = l->next)
            count += l->queue.first != NULL || timer_due(l);
        count += p->work.count;
    }
    if (count == 0)
        return false;
    assert(++s->steps <= STEPS_AT_ONE_INSTANT_MAX);
    pick = (size_t)(draw(&s->choices) % count);
    for (struct process *p = s->processes; p != NULL; p = p->next) {
        if (p->paused)
            continue;
        for (struct kl_env_loop *l = p->loops; l != NULL; l = l->next)
            if ((l->queue.first != NULL || timer_due(l)) && pick-- == 0) {
                run_loop(l);
                return true;
            }
        if (pick < p->work.count) {
            struct kl_env_task *task = take(&p->work, pick);
            task->run(task);
            return true;
        }
        pick -= p->work.count;
    }
    abort();                                           /* the second look saw less than the first */
}

bool kl_env_sim_step(struct kl_env_sim *s, int64_t until_ns)
{
    int64_t next_ns = INT64_MAX;

    assert(s->running == NULL);
    if (run_one(s))
        return true;
    for (struct process *p = s->processes; p != NULL; p = p->next)
        for (struct kl_env_loop *l = p->loops; l != NULL && !p->paused; l = l->next)
            if (kl_env_timers_next_ns(&l->timers) < next_ns)
                next_ns = kl_env_timers_next_ns(&l->timers);
    if (next_ns == INT64_MAX || next_ns > until_ns)
        return false;
    s->now_ns = next_ns;
    s->steps = 0;
    return run_one(s);
}

void kl_env_sim_run(struct kl_env_sim *s, int64_t for_ms)
{
    int64_t until_ns = kl_env_due_ns(s->now_ns, for_ms);

    while (kl_env_sim_step(s, until_ns))
        ;
    if (until_ns > s->now_ns) {
        s->now_ns = until_ns;
        s->steps = 0;
    }
}
