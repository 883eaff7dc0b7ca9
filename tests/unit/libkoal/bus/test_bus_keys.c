/*
 * libkoal/bus, keys, watches and questions: one suite over the local bus, really and simulated, and
 * over NATS.
 */
#include "calls.h"

/* ---- keys ---- */

START_TEST(compare_and_set_loses_to_whoever_was_first)
{
    struct kl_bus_kv a, b;

    ENTER(_i);
    a = kv(KL_BUS_KV_GET, "lease.3", NULL, 0);
    ck_assert_int_eq(a.code, KL_ENOENT);
    a = kv(KL_BUS_KV_PUT, "lease.3", "mine", 0);
    ck_assert_msg(a.code == KL_OK, "%s", a.err.text);
    b = kv(KL_BUS_KV_PUT, "lease.3", "theirs", 0);
    ck_assert_msg(b.code == KL_EEXIST, "%d %s", b.code, b.err.text);
    b = kv(KL_BUS_KV_PUT, "lease.3", "mine still", a.revision);
    ck_assert_int_eq(b.code, KL_OK);
    ck_assert_uint_gt(b.revision, a.revision);
    ck_assert_int_eq(kv(KL_BUS_KV_PUT, "lease.3", "stale", a.revision).code, KL_EEXIST);
    ck_assert_int_eq(kv(KL_BUS_KV_DELETE, "lease.3", NULL, a.revision).code, KL_EEXIST);
    a = kv(KL_BUS_KV_GET, "lease.3", NULL, 0);
    ck_assert_int_eq(a.code, KL_OK);
    ck_assert_uint_eq(a.revision, b.revision);
    ck_assert_uint_eq(a.got_size, 10);
    ck_assert_int_eq(memcmp(a.got, "mine still", 10), 0);
    free(a.got);
    b = kv(KL_BUS_KV_PUT, "lease.3", "whatever", UINT64_MAX);
    ck_assert_int_eq(b.code, KL_OK);
    ck_assert_int_eq(kv(KL_BUS_KV_DELETE, "lease.3", NULL, b.revision).code, KL_OK);
    ck_assert_int_eq(kv(KL_BUS_KV_GET, "lease.3", NULL, 0).code, KL_ENOENT);
    a = kv(KL_BUS_KV_PUT, "lease.3", "anew", 0);
    ck_assert_msg(a.code == KL_OK, "%s", a.err.text);
    ck_assert_uint_gt(a.revision, b.revision);
    bus_reopen();
    b = kv(KL_BUS_KV_GET, "lease.3", NULL, 0);
    ck_assert_msg(b.code == KL_OK, "%s", b.err.text);
    ck_assert_uint_eq(b.revision, a.revision);
    free(b.got);
}
END_TEST

START_TEST(of_many_who_want_one_key_one_gets_it)
{
    struct kl_bus_kv_wait a[20];
    unsigned won = 0;

    ENTER(_i);
    for (int i = 0; i < 20; i++) {
        a[i] = (struct kl_bus_kv_wait){ .op = { .kind = KL_BUS_KV_PUT, .key = "one", .expect = 0,
                                                .value = kl_span_str("v"), .loop = w.loop,
                                                .done = kl_bus_kv_over } };
        w.bus->kv(w.bus, &a[i].op);
    }
    for (int i = 0; i < 20; i++) {
        wait_for(&a[i].done, 1);
        won += a[i].op.code == KL_OK;
        ck_assert_msg(a[i].op.code == KL_OK || a[i].op.code == KL_EEXIST, "%s", a[i].op.err.text);
    }
    ck_assert_uint_eq(won, 1);
}
END_TEST

START_TEST(unfit_keys_and_values_are_refused)
{
    char *big = calloc(1, KL_BUS_VALUE_MAX + 2);

    ENTER(_i);
    memset(big, 'x', KL_BUS_VALUE_MAX + 1);
    ck_assert_int_eq(kv(KL_BUS_KV_PUT, "a key", "v", 0).code, KL_EINVAL);
    ck_assert_int_eq(kv(KL_BUS_KV_PUT, "", "v", 0).code, KL_EINVAL);
    ck_assert_int_eq(kv(KL_BUS_KV_PUT, "a*", "v", 0).code, KL_EINVAL);
    ck_assert_int_eq(kv(KL_BUS_KV_PUT, ".a", "v", 0).code, KL_EINVAL);
    ck_assert_int_eq(kv(KL_BUS_KV_PUT, "a.", "v", 0).code, KL_EINVAL);
    ck_assert_int_eq(kv(KL_BUS_KV_PUT, "a..b", "v", 0).code, KL_EINVAL);
    ck_assert_int_eq(kv(KL_BUS_KV_PUT, "a.b.c", "v", 0).code, KL_OK);
    ck_assert_int_eq(kv(KL_BUS_KV_PUT, "big", big, 0).code, KL_ELIMIT);
    big[KL_BUS_VALUE_MAX] = '\0';
    ck_assert_int_eq(kv(KL_BUS_KV_PUT, "big", big, 0).code, KL_OK);
    free(big);
}
END_TEST

START_TEST(watch_tells_the_present_state_then_each_change_in_order)
{
    static const char *const want[] = { "a.1=x", "a.2=y", "current", "a.3=z", "a.1 gone",
                                        "a.2=" };
    struct watched x = { .watch = { .prefix = "a.", .change = watched_change,
                                    .current = watched_current, .ctx = &x } };

    ENTER(_i);
    x.watch.loop = w.loop;
    kv(KL_BUS_KV_PUT, "a.1", "x", UINT64_MAX);
    kv(KL_BUS_KV_PUT, "a.2", "y", UINT64_MAX);
    kv(KL_BUS_KV_PUT, "b.1", "not mine", UINT64_MAX);
    on_loop(watch_begin, &x);
    wait_for(&x.current, 1);
    kv(KL_BUS_KV_PUT, "a.3", "z", UINT64_MAX);
    kv(KL_BUS_KV_DELETE, "a.1", NULL, UINT64_MAX);
    kv(KL_BUS_KV_PUT, "b.2", "nor this", UINT64_MAX);
    kv(KL_BUS_KV_PUT, "a.2", "", UINT64_MAX);          /* empty is not gone */
    wait_for(&x.count, 6);
    for (int i = 0; i < 6; i++)
        ck_assert_str_eq(x.text[i], want[i]);
    on_loop(watch_end, &x);
    kv(KL_BUS_KV_PUT, "a.9", "late", UINT64_MAX);
    settle(50);
    ck_assert_uint_eq(x.count, 6);
}
END_TEST

/* ---- requests ---- */

static struct kl_bus_question *kept;
static _Atomic unsigned kept_count;

static void serve_question(struct kl_bus_service *s, struct kl_bus_question *q)
{
    char text[64];

    (void)s;
    if (q->bytes.size == 4 && memcmp(q->bytes.at, "keep", 4) == 0) {
        kept = q;
        atomic_fetch_add(&kept_count, 1);
    } else if (q->bytes.size == 4 && memcmp(q->bytes.at, "fail", 4) == 0) {
        w.bus->answer(w.bus, q, KL_EINVAL, kl_span_str("that cannot be"));
    } else if (q->bytes.size == 3 && memcmp(q->bytes.at, "big", 3) == 0) {
        void *big = calloc(1, KL_BUS_MESSAGE_MAX);

        w.bus->answer(w.bus, q, KL_OK, kl_span(big, KL_BUS_MESSAGE_MAX));
        free(big);
    } else if (q->bytes.size == 4 && memcmp(q->bytes.at, "take", 4) == 0) {
        struct kl_buf b = { 0 };

        kl_buf_adds(&b, "taken");
        kl_bus_answer_take(w.bus, q, &b);
        ck_assert_ptr_null(b.at);
    } else if (q->bytes.size == 4 && memcmp(q->bytes.at, "much", 4) == 0) {
        struct kl_buf b = { 0 };

        kl_buf_reserve(&b, KL_BUS_MESSAGE_MAX + 1);
        memset(b.at, 'x', KL_BUS_MESSAGE_MAX + 1);
        b.size = KL_BUS_MESSAGE_MAX + 1;
        kl_bus_answer_take(w.bus, q, &b);
    } else {
        snprintf(text, sizeof text, "re: %.*s", (int)q->bytes.size, (const char *)q->bytes.at);
        w.bus->answer(w.bus, q, KL_OK, kl_span_str(text));
    }
}

START_TEST(a_question_gets_its_answer_or_the_words_why_not)
{
    struct kl_bus_service s = { .subject = "ingestor.1.select", .question = serve_question };
    struct kl_bus_ask a;

    ENTER(_i);
    s.loop = w.loop;
    kept_count = 0;
    on_loop(serve_begin, &s);
    settle(50);
    a = ask("ingestor.1.select", "up", 5000);
    ck_assert_msg(a.code == KL_OK, "%s", a.err.text);
    ck_assert_uint_eq(a.answer_size, 6);
    ck_assert_int_eq(memcmp(a.answer, "re: up", 6), 0);
    free(a.answer);
    a = ask("ingestor.1.select", "fail", 5000);
    ck_assert_int_eq(a.code, KL_EINVAL);
    ck_assert_ptr_nonnull(strstr(a.err.text, "that cannot be"));
    a = ask("ingestor.1.select", "big", 5000);
    ck_assert_msg(a.code == KL_OK, "%s", a.err.text);
    ck_assert_uint_eq(a.answer_size, KL_BUS_MESSAGE_MAX);
    free(a.answer);
    a = ask("ingestor.1.select", "take", 5000);
    ck_assert_msg(a.code == KL_OK, "%s", a.err.text);
    ck_assert(a.answer_size == 5 && memcmp(a.answer, "taken", 5) == 0);
    free(a.answer);
    a = ask("ingestor.1.select", "much", 5000);
    ck_assert_int_eq(a.code, KL_ELIMIT);
    a = ask("ingestor.2.select", "up", 500);
    ck_assert_msg(a.code == KL_EAGAIN || a.code == KL_ETIMEOUT, "%s", a.err.text);
    a = ask("ingestor.1.select", "keep", 100);
    ck_assert_int_eq(a.code, KL_ETIMEOUT);
    wait_for(&kept_count, 1);
    w.bus->answer(w.bus, kept, KL_OK, kl_span_str("too late"));
    a = ask("ingestor.1.select", "again", 5000);
    ck_assert_int_eq(a.code, KL_OK);
    free(a.answer);
    on_loop(serve_end, &s);
    settle(50);
    a = ask("ingestor.1.select", "up", 500);
    ck_assert_msg(a.code == KL_EAGAIN || a.code == KL_ETIMEOUT, "%s", a.err.text);
}
END_TEST

START_TEST(unfit_questions_are_refused_with_words)
{
    static const char *const bad[] = { "", "a b", "a.*", "a.>", ".a", "a.", "a..b", "log.0001" };
    struct kl_bus_ask a;
    char             *big = calloc(1, KL_BUS_MESSAGE_MAX + 2);

    ENTER(_i);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        a = ask(bad[i], "x", 5000);
        ck_assert_msg(a.code == KL_EINVAL, "%s: %d %s", bad[i], a.code, a.err.text);
        ck_assert_ptr_nonnull(strstr(a.err.text, "unfit subject"));
    }
    memset(big, 'x', KL_BUS_MESSAGE_MAX + 1);
    ck_assert_int_eq(ask("a", big, 5000).code, KL_ELIMIT);
    free(big);
}
END_TEST

START_TEST(closing_completes_what_is_under_way)
{
    struct kl_bus_service s = { .subject = "slow", .question = serve_question };
    struct kl_bus_ask_wait a = { .op = { .subject = "slow", .question = kl_span_str("keep"),
                                         .timeout_ms = 60000, .done = kl_bus_ask_over } };
    struct kl_bus_append_wait late = { .op = { .record = kl_span_str("late"),
                                               .done = kl_bus_append_over } };
    struct tape t;

    ENTER(_i);
    s.loop = a.op.loop = late.op.loop = w.loop;
    kept_count = 0;
    tape_open(&t, 0, 1);
    on_loop(serve_begin, &s);
    settle(50);
    w.bus->ask(w.bus, &a.op);
    wait_for(&kept_count, 1);
    w.bus->close(w.bus);
    wait_for(&a.done, 1);
    ck_assert_int_eq(a.op.code, KL_ECANCELED);
    w.bus->append(w.bus, &late.op);
    wait_for(&late.done, 1);
    ck_assert_int_eq(late.op.code, KL_ECANCELED);
    w.bus->answer(w.bus, kept, KL_OK, kl_span_str("nobody listens"));
    on_loop(serve_end, &s);
    on_loop(tape_end, &t);
    free(t.at);
    w.env->sched->loop_free(w.loop);
    w.bus->free(w.bus);
    w.bus = NULL;
}
END_TEST

int main(void)
{
    Suite *s = suite_create("libkoal/bus");
    TCase *t = tcase_create("all");

    tcase_add_checked_fixture(t, world_unopened, world_close);
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, compare_and_set_loses_to_whoever_was_first, 0, WORLDS);
    tcase_add_loop_test(t, of_many_who_want_one_key_one_gets_it, 0, WORLDS);
    tcase_add_loop_test(t, unfit_keys_and_values_are_refused, 0, WORLDS);
    tcase_add_loop_test(t, watch_tells_the_present_state_then_each_change_in_order, 0, WORLDS);
    tcase_add_loop_test(t, a_question_gets_its_answer_or_the_words_why_not, 0, WORLDS);
    tcase_add_loop_test(t, unfit_questions_are_refused_with_words, 0, WORLDS);
    tcase_add_loop_test(t, closing_completes_what_is_under_way, 0, WORLDS);
    suite_add_tcase(s, t);

    return run_suite(s);
}
