/*
 * libkoal/env: loops, timers and work, over real threads and in the simulation; then what only
 * the simulation promises: one seed one run, virtual time, death.
 */
#include "libkoal/env/env.h"
#include "tests/suite.h"

#include <check.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { REAL, SIM, KINDS };
enum { TASKS = 1000 };

static struct kl_env     *envs[KINDS];
static struct kl_env_sim *sim;

static void setup(void)
{
    envs[REAL] = kl_env_real_new(3);
    sim = kl_env_sim_new(7);
    envs[SIM] = kl_env_sim_env(sim);
}

static void teardown(void)
{
    kl_env_real_free(envs[REAL]);
    kl_env_sim_free(sim);
}

/* Lets things happen until `*flag` is `want`: real ones have ten seconds. */
static void until(int kind, atomic_uint *flag, unsigned want)
{
    for (int i = 0; i < 10000 && atomic_load(flag) != want; i++)
        if (kind == SIM)
            kl_env_sim_run(sim, 1);
        else
            nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
    ck_assert_uint_eq(atomic_load(flag), want);
}

struct numbered { struct kl_env_task task; unsigned number; };
static struct numbered     many[TASKS];
static unsigned            next_number;
static atomic_uint         done;
static struct kl_env_loop *loop;
static struct kl_env      *env;

static void count_in_order(struct kl_env_task *task)
{
    ck_assert_uint_eq(kl_container_of(task, struct numbered, task)->number, next_number++);
    ck_assert(env->sched->on_loop(loop));
    atomic_fetch_add(&done, 1);
}

static void start(int kind)
{
    env = envs[kind];
    next_number = 0;
    atomic_store(&done, 0);
    loop = env->sched->loop_new(env->sched, "test", 3);
}

START_TEST(tasks_of_one_poster_run_in_order_on_their_loop)
{
    start(_i);
    for (unsigned i = 0; i < TASKS; i++) {
        many[i] = (struct numbered){ .task.run = count_in_order, .number = i };
        env->sched->post(loop, &many[i].task);
    }
    ck_assert(!env->sched->on_loop(loop));
    env->sched->loop_free(loop);                       /* runs what is queued */
    ck_assert_uint_eq(atomic_load(&done), TASKS);
}
END_TEST

static atomic_uint gate;
static void wait_for_gate(struct kl_env_task *task)
{
    (void)task;
    while (atomic_load(&gate) == 0)
        ;
    atomic_fetch_add(&done, 1);
}

START_TEST(offer_is_refused_when_the_queue_is_full)
{
    struct kl_env_task first = { .run = wait_for_gate };

    start(_i);
    atomic_store(&gate, 0);
    env->sched->post(loop, &first);                    /* may or may not run already */
    for (unsigned i = 0; i < 6; i++)
        many[i] = (struct numbered){ .task.run = wait_for_gate };
    unsigned taken = 0;
    for (unsigned i = 0; i < 6; i++)
        taken += env->sched->offer(loop, &many[i].task);
    ck_assert_uint_ge(taken, 2);
    ck_assert_uint_le(taken, 3);
    ck_assert(!many[5].task.queued);
    atomic_store(&gate, 1);
    env->sched->loop_free(loop);
    ck_assert_uint_eq(atomic_load(&done), taken + 1);
}
END_TEST

struct ticking { struct kl_env_task task; struct kl_env_timer a, b, never; int64_t began_ns; };
static struct ticking ticking;
static unsigned       fired_b;

static void fire_a(struct kl_env_timer *timer)
{
    ck_assert(!timer->armed);
    ck_assert_int_ge(kl_env_mono_ns(env) - ticking.began_ns, 30000000);
    ck_assert_uint_eq(fired_b, 3);
    env->sched->disarm(loop, &ticking.never);
    atomic_fetch_add(&done, 1);
}
static void fire_b(struct kl_env_timer *timer)
{
    if (++fired_b < 3)
        env->sched->arm(loop, timer, 1);
}
static void fire_never(struct kl_env_timer *timer)
{
    (void)timer;
    ck_abort_msg("a disarmed timer fired");
}
static void arm_all(struct kl_env_task *task)
{
    (void)task;
    ticking.began_ns = kl_env_mono_ns(env);
    env->sched->arm(loop, &ticking.never, 5);
    env->sched->arm(loop, &ticking.a, 1);
    env->sched->arm(loop, &ticking.b, 1);
    env->sched->arm(loop, &ticking.never, 40);         /* moves it */
    env->sched->arm(loop, &ticking.a, 30);
}

START_TEST(timers_fire_in_time_and_disarmed_ones_do_not)
{
    start(_i);
    fired_b = 0;
    ticking = (struct ticking){ .task.run = arm_all, .a.fire = fire_a, .b.fire = fire_b,
                                .never.fire = fire_never };
    env->sched->post(loop, &ticking.task);
    until(_i, &done, 1);
    if (_i == SIM)
        kl_env_sim_run(sim, 100);
    else
        nanosleep(&(struct timespec){ .tv_nsec = 20000000 }, NULL);
    env->sched->loop_free(loop);
}
END_TEST

static void arm_late(struct kl_env_task *task)
{
    (void)task;
    env->sched->arm(loop, &ticking.never, 1000000000);
}

START_TEST(freeing_a_loop_disarms_its_timers)
{
    start(_i);
    ticking = (struct ticking){ .task.run = arm_late, .never.fire = fire_never };
    env->sched->post(loop, &ticking.task);
    env->sched->loop_free(loop);
    ck_assert(!ticking.never.armed);
}
END_TEST

struct job { struct kl_env_task work, back; };
static struct job jobs[TASKS];
static void come_back(struct kl_env_task *task)
{
    (void)task;
    ck_assert(env->sched->on_loop(loop));
    atomic_fetch_add(&done, 1);
}
static void do_work(struct kl_env_task *task)
{
    ck_assert(!env->sched->on_loop(loop));
    env->sched->post(loop, &kl_container_of(task, struct job, work)->back);
}

START_TEST(work_runs_beside_the_loops_and_posts_its_result)
{
    start(_i);
    ck_assert_uint_ge(env->sched->workers(env->sched), 1);
    for (unsigned i = 0; i < TASKS; i++) {
        jobs[i] = (struct job){ .work.run = do_work, .back.run = come_back };
        env->sched->work(env->sched, &jobs[i].work);
    }
    until(_i, &done, TASKS);
    env->sched->loop_free(loop);
}
END_TEST

static _Atomic bool let_go;
static _Atomic unsigned hanging;
static void hang(struct kl_env_task *task)
{
    (void)task;
    atomic_fetch_add(&hanging, 1);
    while (!atomic_load(&let_go))
        nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
}

START_TEST(errands_that_hang_keep_no_worker_from_its_work)
{
    enum { MANY = 50 };
    static struct kl_env_task errands[MANY];

    start(REAL);
    for (unsigned i = 0; i < MANY; i++) {
        errands[i] = (struct kl_env_task){ .run = hang };
        env->sched->errand(env->sched, &errands[i]);
    }
    for (unsigned i = 0; i < TASKS; i++) {
        jobs[i] = (struct job){ .work.run = do_work, .back.run = come_back };
        env->sched->work(env->sched, &jobs[i].work);
    }
    until(REAL, &done, TASKS);
    ck_assert_uint_lt(atomic_load(&hanging), MANY);    /* some wait their turn: they are bounded */
    atomic_store(&let_go, true);
    until(REAL, &hanging, MANY);
    env->sched->loop_free(loop);
}
END_TEST

static void post_itself(struct kl_env_task *task)
{
    if (atomic_fetch_add(&done, 1) < TASKS)
        env->sched->post(loop, task);
}

START_TEST(task_may_be_posted_again_from_its_own_run)
{
    struct kl_env_task task = { .run = post_itself };

    start(_i);
    env->sched->post(loop, &task);
    env->sched->loop_free(loop);
    ck_assert_uint_eq(atomic_load(&done), TASKS + 1);
}
END_TEST

START_TEST(time_passes_and_random_bytes_differ)
{
    uint64_t a = kl_env_draw(envs[_i]), b = kl_env_draw(envs[_i]);
    int64_t  mono = kl_env_mono_ns(envs[_i]), wall = kl_env_now_ms(envs[_i]);

    ck_assert_uint_ne(a, b);
    if (_i == SIM) {
        ck_assert_int_eq(wall, INT64_C(1700000000000));
        kl_env_sim_run(sim, 1500);
        ck_assert_int_eq(kl_env_now_ms(envs[_i]) - wall, 1500);
        ck_assert_int_eq(kl_env_mono_ns(envs[_i]) - mono, INT64_C(1500000000));
    } else {
        ck_assert_int_gt(wall, INT64_C(1700000000000));
        ck_assert_int_ge(kl_env_mono_ns(envs[_i]), mono);
    }
}
END_TEST

/* Threads posting to a loop at once: each task runs, once, and none is lost on the way. */
static void *post_many(void *arg)
{
    struct numbered *mine = arg;

    for (unsigned i = 0; i < TASKS / 4; i++)
        env->sched->post(loop, &mine[i].task);
    return NULL;
}
static void count(struct kl_env_task *task)
{
    (void)task;
    next_number++;                                     /* the loop's own: needs no lock */
}

START_TEST(many_threads_post_to_one_loop)
{
    pthread_t threads[4];

    start(REAL);
    for (unsigned i = 0; i < TASKS; i++)
        many[i] = (struct numbered){ .task.run = count };
    for (unsigned i = 0; i < 4; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, post_many, many + i * (TASKS / 4)), 0);
    for (unsigned i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    env->sched->loop_free(loop);
    ck_assert_uint_eq(next_number, TASKS);
}
END_TEST

/* ---- guests: a loop that is lent is run by who posted to it ---- */

struct visit {
    struct kl_env_task  task;
    struct kl_env_loop *to;                            /* where it posts `next`, when it runs */
    struct visit       *next;
    unsigned            order;
    pthread_t           ran_on;
};
static void visited(struct kl_env_task *task)
{
    struct visit *v = kl_container_of(task, struct visit, task);

    v->ran_on = pthread_self();
    v->order = atomic_load(&done);
    if (v->to != NULL)
        env->sched->post(v->to, &v->next->task);
    atomic_fetch_add(&done, 1);
}

START_TEST(guest_runs_what_it_posted_to_loops_that_are_lent_and_what_that_posted)
{
    struct kl_env_loop *other, *kept;
    struct visit        back = { .task.run = visited }, there = { .task.run = visited },
                        first = { .task.run = visited }, own = { .task.run = visited };

    start(REAL);
    other = env->sched->loop_new(env->sched, "other", 3);
    kept = env->sched->loop_new(env->sched, "kept", 3);
    env->sched->lend(loop);
    env->sched->lend(other);
    first.to = other, first.next = &there;
    there.to = loop, there.next = &back;
    env->sched->enter(env->sched);
    env->sched->post(kept, &own.task);                 /* not lent: its thread's */
    until(REAL, &done, 1);
    env->sched->post(loop, &first.task);
    ck_assert(first.task.queued);
    ck_assert_uint_eq(atomic_load(&done), 1);
    env->sched->leave(env->sched);
    ck_assert_uint_eq(atomic_load(&done), 4);
    ck_assert(!pthread_equal(own.ran_on, pthread_self()));
    ck_assert(pthread_equal(first.ran_on, pthread_self()));
    ck_assert(pthread_equal(there.ran_on, pthread_self()));
    ck_assert(pthread_equal(back.ran_on, pthread_self()));
    ck_assert_uint_lt(first.order, there.order);
    ck_assert_uint_lt(there.order, back.order);
    first = (struct visit){ .task.run = visited };
    env->sched->post(loop, &first.task);               /* no guest any more */
    env->sched->loop_free(loop);
    env->sched->loop_free(other);
    env->sched->loop_free(kept);
    ck_assert(!pthread_equal(first.ran_on, pthread_self()));
}
END_TEST

static void *post_one(void *arg)
{
    env->sched->post(loop, arg);
    return NULL;
}

START_TEST(what_a_guest_has_promised_is_run_at_once_when_somebody_else_posts)
{
    struct visit mine = { .task.run = visited }, theirs = { .task.run = visited };
    pthread_t    thread;

    start(REAL);
    env->sched->lend(loop);
    env->sched->enter(env->sched);
    env->sched->post(loop, &mine.task);
    ck_assert_int_eq(pthread_create(&thread, NULL, post_one, &theirs.task), 0);
    until(REAL, &done, 2);                             /* by the loop's thread: the guest is still at it */
    pthread_join(thread, NULL);
    env->sched->leave(env->sched);
    env->sched->loop_free(loop);
    ck_assert_uint_lt(mine.order, theirs.order);
    ck_assert(!pthread_equal(mine.ran_on, pthread_self()));
}
END_TEST

static void arm_soon(struct kl_env_task *task)
{
    (void)task;
    ticking.began_ns = kl_env_mono_ns(env);
    env->sched->arm(loop, &ticking.a, 30);
}
static void fire_once(struct kl_env_timer *timer)
{
    (void)timer;
    ck_assert(env->sched->on_loop(loop));
    ck_assert_int_ge(kl_env_mono_ns(env) - ticking.began_ns, 30000000);
    atomic_fetch_add(&done, 1);
}

START_TEST(timer_that_a_guest_arms_fires_on_the_loop)
{
    start(REAL);
    env->sched->lend(loop);
    ticking = (struct ticking){ .task.run = arm_soon, .a.fire = fire_once };
    env->sched->enter(env->sched);
    env->sched->post(loop, &ticking.task);
    env->sched->leave(env->sched);
    until(REAL, &done, 1);
    env->sched->loop_free(loop);
}
END_TEST

/* Guests and others at once, while a timer goes round: nothing is lost, no two run the loop. */
static unsigned    beats;
static atomic_uint inside;
static void        beat(struct kl_env_timer *timer)
{
    beats++;
    env->sched->arm(loop, timer, 1);
}
static void begin_beats(struct kl_env_task *task) { beat(&kl_container_of(task, struct ticking, task)->a); }

static void alone(struct kl_env_task *task)
{
    (void)task;
    ck_assert_uint_eq(atomic_fetch_add(&inside, 1), 0);
    ck_assert(env->sched->on_loop(loop));
    next_number++;
    atomic_fetch_sub(&inside, 1);
    atomic_fetch_add(&done, 1);
}
static void *be_guest(void *arg)
{
    struct numbered *mine = arg;

    for (unsigned i = 0; i < TASKS / 4; i++) {
        if (i % 5 > 0)
            env->sched->enter(env->sched);
        env->sched->post(loop, &mine[i].task);
        if (i % 5 > 0)
            env->sched->leave(env->sched);
    }
    return NULL;
}

START_TEST(guests_and_the_loops_thread_take_turns)
{
    pthread_t threads[4];

    start(REAL);
    env->sched->lend(loop);
    beats = 0;
    ticking = (struct ticking){ .task.run = begin_beats, .a.fire = beat };
    env->sched->post(loop, &ticking.task);
    for (unsigned round = 1; round <= 20; round++) {
        for (unsigned i = 0; i < TASKS; i++)
            many[i] = (struct numbered){ .task.run = alone };
        for (unsigned i = 0; i < 4; i++)
            ck_assert_int_eq(pthread_create(&threads[i], NULL, be_guest, many + i * (TASKS / 4)), 0);
        for (unsigned i = 0; i < 4; i++)
            pthread_join(threads[i], NULL);
        until(REAL, &done, round * TASKS);
    }
    env->sched->loop_free(loop);
    ck_assert_uint_eq(next_number, 20 * TASKS);
    ck_assert_uint_gt(beats, 0);
}
END_TEST

static struct kl_env_loop *short_lived;
static void to_the_short_lived(struct kl_env_task *task)
{
    struct job *j = kl_container_of(task, struct job, work);

    env->sched->post(short_lived, &j->back);
}
static void note(struct kl_env_task *task)
{
    (void)task;
    atomic_fetch_add(&done, 1);
}

START_TEST(loop_may_be_freed_while_guests_are_on_their_way_to_it)
{
    start(REAL);
    for (unsigned round = 0; round < 200; round++) {
        short_lived = env->sched->loop_new(env->sched, "short", 3);
        env->sched->lend(short_lived);
        atomic_store(&done, 0);
        for (unsigned i = 0; i < 8; i++) {
            jobs[i] = (struct job){ .work.run = to_the_short_lived, .back.run = note };
            env->sched->work(env->sched, &jobs[i].work);
        }
        until(REAL, &done, 8);
        env->sched->loop_free(short_lived);            /* perhaps before the last guest has left */
    }
    env->sched->loop_free(loop);
}
END_TEST

/* Two loops and work write who ran when; the story is a function of the seed. */
static char     story[64];
static unsigned told;
struct teller { struct kl_env_task task; char letter; };
static void tell(struct kl_env_task *task)
{
    story[told++] = kl_container_of(task, struct teller, task)->letter;
}

static void tell_story(uint64_t seed, char out[64])
{
    struct kl_env_sim   *s = kl_env_sim_new(seed);
    struct kl_env       *e = kl_env_sim_env(s), *other = kl_env_sim_process(s);
    struct kl_env_loop  *a = e->sched->loop_new(e->sched, "a", 1);
    struct kl_env_loop  *b = other->sched->loop_new(other->sched, "b", 1);
    struct teller        t[30];

    memset(story, 0, sizeof story);
    told = 0;
    for (unsigned i = 0; i < 30; i++) {
        t[i] = (struct teller){ .task.run = tell, .letter = "ABC"[i % 3] };
        if (i % 3 == 0)
            e->sched->post(a, &t[i].task);
        else if (i % 3 == 1)
            other->sched->post(b, &t[i].task);
        else
            e->sched->work(e->sched, &t[i].task);
    }
    kl_env_sim_run(s, 1);
    ck_assert_uint_eq(told, 30);
    memcpy(out, story, 64);
    kl_env_sim_free(s);
}

START_TEST(one_seed_is_one_run_and_another_seed_another)
{
    char one[64], again[64], other[64];

    tell_story(1, one);
    tell_story(1, again);
    tell_story(2, other);
    ck_assert_str_eq(one, again);
    ck_assert_str_ne(one, other);
}
END_TEST

START_TEST(killed_process_runs_nothing_more_and_the_others_go_on)
{
    struct kl_env      *dead = kl_env_sim_process(sim);
    struct kl_env_loop *theirs = dead->sched->loop_new(dead->sched, "theirs", 5);
    struct teller       t[3], later = { .task.run = tell, .letter = 'x' };

    start(SIM);
    told = 0;
    for (unsigned i = 0; i < 3; i++)
        t[i] = (struct teller){ .task.run = tell, .letter = (char)('a' + (char)i) };
    dead->sched->post(theirs, &t[0].task);
    dead->sched->work(dead->sched, &t[1].task);
    env->sched->post(loop, &t[2].task);
    kl_env_sim_kill(sim, dead);
    ck_assert(!t[0].task.queued && !t[1].task.queued);
    dead->sched->post(theirs, &later.task);
    ck_assert(!dead->sched->offer(theirs, &later.task));
    dead->sched->work(dead->sched, &later.task);
    kl_env_sim_run(sim, 10);
    ck_assert_uint_eq(told, 1);
    ck_assert_int_eq(story[0], 'c');
    dead->sched->loop_free(theirs);
    env->sched->loop_free(loop);
}
END_TEST

START_TEST(paused_process_runs_nothing_until_it_goes_on_and_its_clock_may_be_another)
{
    struct kl_env      *still = kl_env_sim_process(sim);
    struct kl_env_loop *theirs = still->sched->loop_new(still->sched, "theirs", 5);
    struct teller       t[2];

    start(SIM);
    told = 0;
    for (unsigned i = 0; i < 2; i++)
        t[i] = (struct teller){ .task.run = tell, .letter = (char)('a' + (char)i) };
    kl_env_sim_pause(sim, still, true);
    kl_env_sim_ahead(sim, still, -5000);
    still->sched->post(theirs, &t[0].task);
    env->sched->post(loop, &t[1].task);
    kl_env_sim_run(sim, 10);
    ck_assert_uint_eq(told, 1);
    kl_env_sim_pause(sim, still, false);
    kl_env_sim_run(sim, 10);
    ck_assert_uint_eq(told, 2);
    ck_assert_int_eq(kl_env_now_ms(still), kl_env_now_ms(env) - 5000);
    ck_assert_int_eq(kl_env_mono_ns(still), kl_env_mono_ns(env));
    still->sched->loop_free(theirs);
    env->sched->loop_free(loop);
}
END_TEST

START_TEST(time_does_not_move_while_something_can_run)
{
    int64_t begin = kl_env_mono_ns(envs[SIM]);

    start(SIM);
    ticking = (struct ticking){ .task.run = arm_late, .never.fire = fire_never };
    env->sched->post(loop, &ticking.task);
    ck_assert(kl_env_sim_step(sim, INT64_MAX));
    ck_assert_int_eq(kl_env_mono_ns(env), begin);
    ck_assert(!kl_env_sim_step(sim, begin + 1000000));
    ck_assert_int_eq(kl_env_mono_ns(env), begin);
    env->sched->loop_free(loop);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("libkoal/env/sched");
    TCase *t = tcase_create("all");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 30);
    tcase_add_loop_test(t, tasks_of_one_poster_run_in_order_on_their_loop, 0, KINDS);
    tcase_add_loop_test(t, offer_is_refused_when_the_queue_is_full, 0, KINDS);
    tcase_add_loop_test(t, timers_fire_in_time_and_disarmed_ones_do_not, 0, KINDS);
    tcase_add_loop_test(t, freeing_a_loop_disarms_its_timers, 0, KINDS);
    tcase_add_loop_test(t, work_runs_beside_the_loops_and_posts_its_result, 0, KINDS);
    tcase_add_test(t, errands_that_hang_keep_no_worker_from_its_work);
    tcase_add_loop_test(t, task_may_be_posted_again_from_its_own_run, 0, KINDS);
    tcase_add_loop_test(t, time_passes_and_random_bytes_differ, 0, KINDS);
    tcase_add_test(t, many_threads_post_to_one_loop);
    tcase_add_test(t, guest_runs_what_it_posted_to_loops_that_are_lent_and_what_that_posted);
    tcase_add_test(t, what_a_guest_has_promised_is_run_at_once_when_somebody_else_posts);
    tcase_add_test(t, timer_that_a_guest_arms_fires_on_the_loop);
    tcase_add_test(t, guests_and_the_loops_thread_take_turns);
    tcase_add_test(t, loop_may_be_freed_while_guests_are_on_their_way_to_it);
    tcase_add_test(t, one_seed_is_one_run_and_another_seed_another);
    tcase_add_test(t, killed_process_runs_nothing_more_and_the_others_go_on);
    tcase_add_test(t, paused_process_runs_nothing_until_it_goes_on_and_its_clock_may_be_another);
    tcase_add_test(t, time_does_not_move_while_something_can_run);
    suite_add_tcase(s, t);
    return run_suite(s);
}
