/* overrides: what is said of tenants in the KV is in force in every service, with history and rollback. */
#include "overrides/overrides.h"
#include "tests/suite.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SERVICES = 2 };

static const struct kl_option table[] = {
    { "limits.past", KL_OPT_MS, "1h", 0, 600000000, NULL, "How old.", true, NULL, true },
    { "limits.count", KL_OPT_INT, "7", 1, 100, NULL, "How many.", true, NULL, true },
    { "listen", KL_OPT_TEXT, "x", 0, 0, NULL, "Where." },
    { "rules", KL_OPT_LIST, NULL, 0, 0, NULL, "What.", true, NULL, true },
    { 0 },
};
static struct {
    struct kl_env_sim      *sim;
    struct kl_env          *env;
    struct kl_env_disk_sim *disk;
    struct kl_env_dir      *root;
    struct kl_bus          *bus;
    struct kl_env_loop     *loop;
    struct kl_env_live     *live[SERVICES];
    struct ov              *ov[SERVICES];
    bool                    closed;
} w;
static struct kl_err err;

/* More than 50 needs more than an hour: what only two options together can be wrong in. */
static enum kl_code check(const struct kl_config *c, const char *tenant, struct kl_err *e)
{
    const struct kl_config *view = kl_config_tenant(c, kl_span_str(tenant));

    return kl_config_int(view, "limits.count") <= 50 || kl_config_int(view, "limits.past") > 3600000
               ? KL_OK : kl_fail(e, KL_EINVAL, "tenant %s: too many for an hour", tenant);
}

static void setup(void)
{
    struct kl_bus_local_options bo = { .partitions = 1 };
    struct kl_config *c;

    memset(&w, 0, sizeof w);
    w.sim = kl_env_sim_new(1);
    w.env = kl_env_sim_env(w.sim);
    w.disk = kl_env_disk_sim_new();
    w.root = kl_env_disk_sim_root(w.disk);
    ck_assert_int_eq(kl_bus_local_open(w.env, w.root, &bo, &w.bus, &err), KL_OK);
    w.loop = w.env->sched->loop_new(w.env->sched, "test", 100);
    for (int i = 0; i < SERVICES; i++) {
        ck_assert_int_eq(kl_config_load(table, "f", kl_span_str("tenants: {filed: {limits: {count: 9}}}"), NULL, NULL,
                                        &c, &err), KL_OK);
        w.live[i] = kl_env_live_new(c);
        kl_config_free(c);
        w.ov[i] = ov_new(w.env, w.bus, &(struct ov_options){ .live = w.live[i], .table = table, .check = check });
    }
    kl_env_sim_run(w.sim, 100);
}

static void teardown(void)
{
    if (!w.closed)
        w.bus->close(w.bus);
    for (int i = 0; i < SERVICES; i++) {
        ov_free(w.ov[i]);
        kl_env_live_free(w.live[i]);
    }
    w.env->sched->loop_free(w.loop);
    w.bus->free(w.bus);
    w.root->leave(w.root);
    kl_env_disk_sim_free(w.disk);
    kl_env_sim_free(w.sim);
}

static int  done_count;
static void on_done(struct ov_change *c) { (void)c; done_count++; }

static struct ov_change begun(enum ov_kind kind, const char *tenant, const char *yaml)
{
    struct ov_change c = { .kind = kind, .yaml = kl_span_str(yaml), .expect = UINT64_MAX, .done = on_done };

    strcpy(c.tenant, tenant);
    return c;
}

static enum kl_code awaited(int service, struct ov_change *c)
{
    done_count = 0;
    ov_change(w.ov[service], c);
    kl_env_sim_run(w.sim, 100);
    ck_assert_int_eq(done_count, 1);
    return c->code;
}

static enum kl_code set(const char *tenant, const char *yaml)
{
    struct ov_change c = begun(OV_SET, tenant, yaml);
    enum kl_code     code = awaited(0, &c);

    err = c.err;
    return code;
}

static int64_t option(int service, const char *tenant, const char *path)
{
    struct kl_config *c = kl_env_live_get(w.live[service]);
    int64_t           v = kl_config_int(kl_config_tenant(c, kl_span_str(tenant)), path);

    kl_config_free(c);
    return v;
}

START_TEST(what_is_set_in_one_service_is_in_force_in_all_and_over_the_file)
{
    ck_assert_int_eq(option(1, "filed", "limits.count"), 9);
    ck_assert_int_eq(set("filed", "limits: {past: 2h}\nrules: [{a: b}]"), KL_OK);
    for (int i = 0; i < SERVICES; i++) {
        ck_assert_int_eq(option(i, "filed", "limits.past"), 7200000);
        ck_assert_int_eq(option(i, "filed", "limits.count"), 9);
        ck_assert_int_eq(option(i, "other", "limits.past"), 3600000);
    }
    ck_assert_int_eq(set("filed", "limits: {count: 8}"), KL_OK);
    ck_assert_int_eq(option(1, "filed", "limits.past"), 3600000);
    ck_assert_int_eq(option(1, "filed", "limits.count"), 8);
}
END_TEST

static const struct { const char *tenant, *yaml, *words; } wrong[] = {
    { "a", "limits: {past: soon}", "duration" }, { "a", "limits: {count: 101}", "from 1 to 100" },
    { "a", "listen: y", "cannot be said of one tenant" }, { "a", "limits: {cuont: 1}", "did you mean \"limits.count\"?" },
    { "a", "[", "the body, line" }, { "..", "{}", "a tenant is" }, { "", "{}", "a tenant is" },
};

START_TEST(what_the_table_refuses_is_refused_with_words_and_changes_nothing)
{
    ck_assert_int_eq(set("a", "limits: {count: 3}"), KL_OK);
    ck_assert_int_eq(set(wrong[_i].tenant, wrong[_i].yaml), KL_EINVAL);
    ck_assert_msg(strstr(err.text, wrong[_i].words) != NULL, "%s", err.text);
    ck_assert_int_eq(option(1, "a", "limits.count"), 3);
}
END_TEST

/* The file and all that would be said of him, and not only what changes. */
START_TEST(what_does_not_fit_what_else_holds_for_the_tenant_is_refused)
{
    static const char *const past[] = { "limits.past", NULL };
    struct ov_change         c = begun(OV_MERGE, "a", "limits: {count: 60}"), back = begun(OV_MERGE, "a", "{}"),
                             roll = begun(OV_ROLLBACK, "a", "");

    ck_assert_int_eq(set("a", "limits: {count: 60}"), KL_EINVAL);
    ck_assert_str_eq(err.text, "tenant a: too many for an hour");
    ck_assert_int_eq(set("a", "limits: {past: 2h}"), KL_OK);
    ck_assert_int_eq(awaited(1, &c), KL_OK);
    back.unset = past;
    ck_assert_int_eq(awaited(0, &back), KL_EINVAL);
    ck_assert_int_eq(option(0, "a", "limits.past"), 7200000);
    ck_assert_int_eq(option(1, "a", "limits.count"), 60);
    roll.to = 1;
    ck_assert_int_eq(awaited(0, &roll), KL_OK);
    ck_assert_int_eq(option(1, "a", "limits.count"), 7);
}
END_TEST

START_TEST(what_is_too_much_is_refused)
{
    struct kl_buf b = { 0 };

    kl_buf_adds(&b, "rules:\n");
    while (b.size < TSP_OVERRIDE_ALL_MAX)
        kl_buf_adds(&b, "- {a: bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb}\n");
    kl_buf_add8(&b, 0);
    ck_assert_int_eq(set("a", b.at), KL_ELIMIT);
    kl_buf_deinit(&b);
}
END_TEST

START_TEST(a_rollback_says_again_what_a_version_said)
{
    struct ov_change c;

    for (int i = 1; i <= 5; i++) {
        char yaml[40];
        snprintf(yaml, sizeof yaml, "limits: {count: %d}", i * 10);
        ck_assert_int_eq(set("a", yaml), KL_OK);
    }
    c = begun(OV_ROLLBACK, "a", "");
    c.to = 2;
    ck_assert_int_eq(awaited(1, &c), KL_OK);
    ck_assert_uint_eq(c.version, 6);
    ck_assert_int_eq(option(0, "a", "limits.count"), 20);
    c.to = 77;
    ck_assert_int_eq(awaited(1, &c), KL_ENOENT);
    c = begun(OV_ROLLBACK, "nobody", "");
    c.to = 1;
    ck_assert_int_eq(awaited(1, &c), KL_ENOENT);
    for (int i = 0; i < TSP_OVERRIDE_VERSIONS_MAX; i++)
        ck_assert_int_eq(set("a", i % 2 != 0 ? "{}" : "limits: {count: 1}"), KL_OK);
    c = begun(OV_ROLLBACK, "a", "");
    c.to = 2;
    ck_assert_int_eq(awaited(1, &c), KL_ENOENT);       /* the oldest have given way */
}
END_TEST

START_TEST(who_says_which_version_he_saw_changes_no_other)
{
    struct ov_change c = begun(OV_SET, "a", "limits: {count: 3}");

    c.expect = 0;
    ck_assert_int_eq(awaited(0, &c), KL_OK);
    ck_assert_int_eq(awaited(1, &c), KL_EEXIST);
    c.expect = 1;
    c.yaml = kl_span_str("limits: {count: 4}");
    ck_assert_int_eq(awaited(1, &c), KL_OK);
    ck_assert_int_eq(option(0, "a", "limits.count"), 4);
}
END_TEST

START_TEST(two_at_once_are_both_in_the_history)
{
    struct ov_change a = begun(OV_MERGE, "a", "limits: {count: 3}"), b = begun(OV_MERGE, "a", "limits: {past: 3m}");

    done_count = 0;
    ov_change(w.ov[0], &a);
    ov_change(w.ov[1], &b);
    kl_env_sim_run(w.sim, 200);
    ck_assert_int_eq(done_count, 2);
    ck_assert_int_eq(a.code, KL_OK);
    ck_assert_int_eq(b.code, KL_OK);
    ck_assert_uint_eq(a.version + b.version, 3);
    for (int i = 0; i < SERVICES; i++) {
        ck_assert_int_eq(option(i, "a", "limits.count"), 3);
        ck_assert_int_eq(option(i, "a", "limits.past"), 180000);
    }
}
END_TEST

START_TEST(what_is_forgotten_is_as_if_it_had_never_been_said)
{
    struct ov_change c = begun(OV_FORGET, "a", "");

    ck_assert_int_eq(awaited(0, &c), KL_ENOENT);
    ck_assert_int_eq(set("a", "limits: {count: 3}"), KL_OK);
    ck_assert_int_eq(awaited(1, &c), KL_OK);
    ck_assert_int_eq(option(0, "a", "limits.count"), 7);
    ck_assert_int_eq(option(1, "a", "limits.count"), 7);
    c = begun(OV_SET, "a", "limits: {count: 4}");
    ck_assert_int_eq(awaited(0, &c), KL_OK);
    ck_assert_uint_eq(c.version, 1);
    ck_assert_int_eq(option(1, "a", "limits.count"), 4);
}
END_TEST

/* ---- what others may have put there ---- */

static void on_put(struct kl_bus_kv *op) { ck_assert_int_eq(op->code, KL_OK); }

static void put_key(const char *key, struct kl_span value)
{
    struct kl_bus_kv kv = { .kind = KL_BUS_KV_PUT, .value = value, .expect = UINT64_MAX, .loop = w.loop, .done = on_put };

    strcpy(kv.key, key);
    w.bus->kv(w.bus, &kv);
    kl_env_sim_run(w.sim, 200);
}

static struct kl_span value_of(const char *tenant, const char *all)
{
    static struct kl_buf b;
    struct tsp_override  o = { .tenant = kl_span_str(tenant), .count = 1,
                               .versions = { { .number = 9, .all = kl_span_str(all) } } };

    kl_buf_reset(&b);
    ck_assert_int_eq(tsp_override_write(&o, &b, &err), KL_OK);
    return kl_buf_span(&b);
}

START_TEST(a_value_that_is_damaged_or_anothers_leaves_in_force_what_was)
{
    char key[KL_BUS_KEY_MAX + 1];

    ck_assert_int_eq(set("a", "limits: {count: 3}"), KL_OK);
    tsp_override_key(kl_span_str("a"), key, sizeof key);
    put_key(key, kl_span_str("rubbish"));
    ck_assert_int_eq(option(1, "a", "limits.count"), 3);
    put_key(key, value_of("b", "{\"limits.count\": \"5\"}"));
    ck_assert_int_eq(option(1, "a", "limits.count"), 3);
    ck_assert_int_eq(option(1, "b", "limits.count"), 7);
    ck_assert_int_ne(set("a", "limits: {count: 4}"), KL_OK);
    ck_assert_ptr_nonnull(strstr(err.text, "the key of tenant a holds that of b"));
    put_key(key, value_of("a", "{\"limits.count\": \"6\"}"));
    ck_assert_int_eq(option(1, "a", "limits.count"), 6);
}
END_TEST

START_TEST(of_what_a_newer_program_said_the_known_is_in_force_and_nothing_is_lost_unsaid)
{
    struct ov_change c = begun(OV_MERGE, "a", "limits: {past: 2h}");
    char             key[KL_BUS_KEY_MAX + 1];

    tsp_override_key(kl_span_str("a"), key, sizeof key);
    put_key(key, value_of("a", "{\"of.tomorrow\": \"1\", \"limits.count\": \"6\", \"limits.past\": \"never\"}"));
    ck_assert_int_eq(option(1, "a", "limits.count"), 6);
    ck_assert_int_eq(option(1, "a", "limits.past"), 3600000);
    ck_assert_int_eq(awaited(0, &c), KL_EINVAL);       /* it would take of.tomorrow back, and say nothing of it */
    ck_assert_int_eq(set("a", "limits: {past: 2h}"), KL_OK);
    ck_assert_int_eq(option(1, "a", "limits.past"), 7200000);
}
END_TEST

START_TEST(a_service_that_starts_is_ready_when_it_knows_what_was_said)
{
    ck_assert_int_eq(set("a", "limits: {count: 3}"), KL_OK);
    ck_assert_int_eq(set("b", "limits: {count: 4}"), KL_OK);
    ov_free(w.ov[1]);
    kl_env_live_over(w.live[1], NULL, 0, NULL, NULL);
    w.ov[1] = ov_new(w.env, w.bus, &(struct ov_options){ .live = w.live[1], .table = table, .check = check });
    ck_assert(!ov_known(w.ov[1], &err));
    for (int i = 0; i < 1000 && !ov_known(w.ov[1], &err); i++)
        kl_env_sim_run(w.sim, 1);
    ck_assert_int_eq(option(1, "a", "limits.count"), 3);
    ck_assert_int_eq(option(1, "b", "limits.count"), 4);
}
END_TEST

START_TEST(a_change_under_way_when_the_bus_closes_is_answered)
{
    struct ov_change c = begun(OV_SET, "a", "limits: {count: 3}");

    done_count = 0;
    ov_change(w.ov[0], &c);
    w.bus->close(w.bus);
    w.closed = true;
    kl_env_sim_run(w.sim, 100);
    ck_assert_int_eq(done_count, 1);
    ck_assert_int_eq(c.code, KL_ECANCELED);
}
END_TEST

/* ---- answers of the KV that come after what its watch tells ---- */

static struct kl_bus     slow;                         /* the bus, but that it keeps the answer to a put or a deletion */
static struct kl_bus_kv *late;
static void            (*late_done)(struct kl_bus_kv *op);

static void hold(struct kl_bus_kv *op) { late = op; }

static void slow_kv(struct kl_bus *b, struct kl_bus_kv *op)
{
    (void)b;
    if (op->kind != KL_BUS_KV_GET) {
        late_done = op->done;
        op->done = hold;
    }
    w.bus->kv(w.bus, op);
}

static void slow_watch(struct kl_bus *b, struct kl_bus_watch *x)
{
    (void)b;
    w.bus->watch(w.bus, x);
}

static void slow_unwatch(struct kl_bus *b, struct kl_bus_watch *x)
{
    (void)b;
    w.bus->unwatch(w.bus, x);
}

static void let_go(struct kl_env_task *task)
{
    (void)task;
    late_done(late);
}

/* Service 1 changes what it hears of at once, and is told how that went only after service 0 has done another thing. */
static void overtaken(struct ov_change *first, struct ov_change *second)
{
    struct kl_env_task task = { .run = let_go };

    ov_free(w.ov[1]);
    slow = *w.bus;
    slow.kv = slow_kv;
    slow.watch = slow_watch;
    slow.unwatch = slow_unwatch;
    w.ov[1] = ov_new(w.env, &slow, &(struct ov_options){ .live = w.live[1], .table = table, .check = check });
    kl_env_sim_run(w.sim, 100);
    late = NULL;
    done_count = 0;
    ov_change(w.ov[1], first);
    kl_env_sim_run(w.sim, 100);
    ck_assert_ptr_nonnull(late);
    ov_change(w.ov[0], second);
    kl_env_sim_run(w.sim, 100);
    ck_assert_int_eq(second->code, KL_OK);
    w.env->sched->post(late->loop, &task);
    kl_env_sim_run(w.sim, 100);
    ck_assert_int_eq(done_count, 2);
    ck_assert_int_eq(first->code, KL_OK);
}

START_TEST(what_was_said_anew_while_the_kv_answered_is_not_forgotten)
{
    struct ov_change first = begun(OV_FORGET, "a", ""), second = begun(OV_SET, "a", "limits: {count: 4}");

    ck_assert_int_eq(set("a", "limits: {count: 3}"), KL_OK);
    overtaken(&first, &second);
    ck_assert_int_eq(option(0, "a", "limits.count"), 4);
    ck_assert_int_eq(option(1, "a", "limits.count"), 4);
}
END_TEST

START_TEST(what_was_forgotten_while_the_kv_answered_is_not_said_again)
{
    struct ov_change first = begun(OV_SET, "a", "limits: {count: 3}"), second = begun(OV_FORGET, "a", "");

    overtaken(&first, &second);
    ck_assert_int_eq(option(0, "a", "limits.count"), 7);
    ck_assert_int_eq(option(1, "a", "limits.count"), 7);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("overrides");
    TCase *t = tcase_create("all");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, what_is_set_in_one_service_is_in_force_in_all_and_over_the_file);
    tcase_add_loop_test(t, what_the_table_refuses_is_refused_with_words_and_changes_nothing, 0, sizeof wrong / sizeof wrong[0]);
    tcase_add_test(t, what_does_not_fit_what_else_holds_for_the_tenant_is_refused);
    tcase_add_test(t, what_is_too_much_is_refused);
    tcase_add_test(t, a_rollback_says_again_what_a_version_said);
    tcase_add_test(t, who_says_which_version_he_saw_changes_no_other);
    tcase_add_test(t, two_at_once_are_both_in_the_history);
    tcase_add_test(t, what_is_forgotten_is_as_if_it_had_never_been_said);
    tcase_add_test(t, a_value_that_is_damaged_or_anothers_leaves_in_force_what_was);
    tcase_add_test(t, of_what_a_newer_program_said_the_known_is_in_force_and_nothing_is_lost_unsaid);
    tcase_add_test(t, a_service_that_starts_is_ready_when_it_knows_what_was_said);
    tcase_add_test(t, a_change_under_way_when_the_bus_closes_is_answered);
    tcase_add_test(t, what_was_said_anew_while_the_kv_answered_is_not_forgotten);
    tcase_add_test(t, what_was_forgotten_while_the_kv_answered_is_not_said_again);
    suite_add_tcase(s, t);
    return run_suite(s);
}
