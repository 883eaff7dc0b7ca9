/* libkoal/env/live: what is in force while it is replaced, and who hears of it. */
#include "libkoal/env/live.h"

#include "libkoal/env/box.h"
#include "tests/suite.h"

#include <check.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

static const struct kl_option table[] = {
    { "limits.past", KL_OPT_MS, "1h", 0, 600000000, NULL, "How old.", true, NULL, true },
    { "level", KL_OPT_TEXT, "info", 0, 0, NULL, "How much.", .live = true },
    { 0 },
};
static struct kl_env_sim  *sim;
static struct kl_env      *env;
static struct kl_env_live *live;
static struct kl_err       err;

static struct kl_config *config(const char *yaml)
{
    struct kl_config *c = NULL;

    ck_assert_msg(kl_config_load(table, "f", kl_span_str(yaml), NULL, NULL, &c, &err) == KL_OK, "%s", err.text);
    return c;
}

static void put_file(const char *yaml)
{
    struct kl_config *c = config(yaml);

    kl_env_live_file(live, c);
    kl_config_free(c);
}

static void setup(void)
{
    struct kl_config *c = config("level: first");

    sim = kl_env_sim_new(1);
    env = kl_env_sim_env(sim);
    live = kl_env_live_new(c);
    kl_config_free(c);
}

static void teardown(void)
{
    kl_env_live_free(live);
    kl_env_sim_free(sim);
}

static int64_t past_of(const char *tenant)
{
    struct kl_config *c = kl_env_live_get(live);
    int64_t past = kl_config_int(kl_config_tenant(c, kl_span_str(tenant)), "limits.past");

    kl_config_free(c);
    return past;
}

START_TEST(who_holds_one_keeps_it_while_another_is_in_force)
{
    struct kl_config *held = kl_env_live_get(live), *now;
    uint64_t          turn = kl_env_live_turn(live);

    put_file("level: second");
    now = kl_env_live_get(live);
    ck_assert_str_eq(kl_config_text(held, "level"), "first");
    ck_assert_str_eq(kl_config_text(now, "level"), "second");
    ck_assert_uint_eq(kl_env_live_turn(live), turn + 1);
    kl_config_free(held);
    kl_config_free(now);
}
END_TEST

START_TEST(what_is_said_elsewhere_stays_when_the_file_changes_and_goes_when_it_is_taken_back)
{
    const struct kl_config_said said[] = { { kl_span_str("a"), kl_span_str("{\"limits.past\": \"5m\"}") } };

    put_file("tenants: {a: {limits: {past: 3m}}}");
    ck_assert_int_eq(past_of("a"), 180000);
    kl_env_live_over(live, said, 1, NULL, NULL);
    ck_assert_int_eq(past_of("a"), 300000);
    put_file("limits: {past: 9m}");
    ck_assert_int_eq(past_of("a"), 300000);
    ck_assert_int_eq(past_of("b"), 540000);
    kl_env_live_over(live, NULL, 0, NULL, NULL);
    ck_assert_int_eq(past_of("a"), 540000);
}
END_TEST

static int heard;
static void on_change(struct kl_env_listener *x) { (void)x; heard++; }

START_TEST(a_listener_hears_at_once_then_of_changes_and_never_after_it_left)
{
    struct kl_env_listener x = { .sched = env->sched, .changed = on_change };

    heard = 0;
    x.loop = env->sched->loop_new(env->sched, "listener", 10);
    kl_env_live_listen(live, &x);
    kl_env_sim_run(sim, 1);
    ck_assert_int_eq(heard, 1);
    put_file("level: a");
    put_file("level: b");
    kl_env_sim_run(sim, 1);
    ck_assert_int_eq(heard, 2);
    put_file("level: c");
    kl_env_sim_run(sim, 1);
    ck_assert_int_eq(heard, 3);
    put_file("level: d");
    kl_env_live_unlisten(live, &x);                    /* one is on its way */
    env->sched->loop_free(x.loop);
    put_file("level: e");
    ck_assert_int_eq(heard, 3);
}
END_TEST

static void *step_later(void *ctx)
{
    struct timespec soon = { .tv_nsec = 20000000 };

    (void)ctx;
    nanosleep(&soon, NULL);
    kl_env_sim_run(sim, 1);
    return NULL;
}

START_TEST(who_waits_until_all_go_by_a_change_is_told_when_they_do_and_when_they_do_not)
{
    struct kl_env_listener x = { .sched = env->sched, .changed = on_change };
    pthread_t              thread;

    ck_assert(kl_env_live_settle(live, 0));            /* nobody listens */
    heard = 0;
    x.loop = env->sched->loop_new(env->sched, "listener", 10);
    kl_env_live_listen(live, &x);
    ck_assert(!kl_env_live_settle(live, 10));
    ck_assert_int_eq(heard, 0);
    pthread_create(&thread, NULL, step_later, NULL);
    ck_assert(kl_env_live_settle(live, 60000));
    ck_assert_int_eq(heard, 1);
    pthread_join(thread, NULL);
    put_file("level: a");
    ck_assert(!kl_env_live_settle(live, 0));
    kl_env_live_unlisten(live, &x);                    /* who is gone is waited for no more */
    ck_assert(kl_env_live_settle(live, 0));
    env->sched->loop_free(x.loop);
}
END_TEST

/* ---- many threads ---- */

static void *replace_often(void *ctx)
{
    for (int i = 0; i < 300; i++)
        if (ctx != NULL)
            put_file(i % 2 != 0 ? "level: x" : "level: y");
        else
            kl_env_live_over(live, (const struct kl_config_said[]){
                { kl_span_str("a"), kl_span_str("{\"limits.past\": \"5m\"}") } }, (size_t)(i % 2), NULL, NULL);
    return NULL;
}

START_TEST(readers_and_writers_of_many_threads_see_whole_ones)
{
    pthread_t files, others;

    pthread_create(&files, NULL, replace_often, live);
    pthread_create(&others, NULL, replace_often, NULL);
    for (int i = 0; i < 2000; i++) {
        int64_t past = past_of("a");
        ck_assert(past == 300000 || past == 3600000);
    }
    pthread_join(files, NULL);
    pthread_join(others, NULL);
    ck_assert_uint_eq(kl_env_live_turn(live), 601);
}
END_TEST

/* ---- the box ---- */

struct thing { struct kl_env_held held; int *dropped; };
static void drop(struct kl_env_held *h)
{
    struct thing *t = kl_container_of(h, struct thing, held);

    ++*t->dropped;
    free(t);
}

static struct kl_env_held *thing(int *dropped)
{
    struct thing *t = kl_new(sizeof *t);

    kl_env_held_init(&t->held, drop);
    t->dropped = dropped;
    return &t->held;
}

START_TEST(what_lay_in_a_box_is_dropped_by_the_last_who_lets_go)
{
    int                 first = 0, second = 0;
    struct kl_env_box  *b = kl_env_box_new(thing(&first));
    struct kl_env_held *h = kl_env_box_get(b);

    kl_env_box_set(b, thing(&second));
    ck_assert_int_eq(first, 0);
    kl_env_held_unref(h);
    ck_assert_int_eq(first, 1);
    kl_env_box_free(b);
    ck_assert_int_eq(second, 1);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("libkoal/env/live");
    TCase *t = tcase_create("all");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, who_holds_one_keeps_it_while_another_is_in_force);
    tcase_add_test(t, what_is_said_elsewhere_stays_when_the_file_changes_and_goes_when_it_is_taken_back);
    tcase_add_test(t, a_listener_hears_at_once_then_of_changes_and_never_after_it_left);
    tcase_add_test(t, who_waits_until_all_go_by_a_change_is_told_when_they_do_and_when_they_do_not);
    tcase_add_test(t, readers_and_writers_of_many_threads_see_whole_ones);
    tcase_add_test(t, what_lay_in_a_box_is_dropped_by_the_last_who_lets_go);
    suite_add_tcase(s, t);
    return run_suite(s);
}
