/* libkoal/bus/bus_nats: over one server that hangs, lags, or comes back with another past. */
#include "calls.h"

#include <nats/nats.h>

START_TEST(without_a_server_operations_fail_with_words_until_there_is_one)
{
    struct kl_bus_append a;
    struct kl_bus_kv k;
    struct tape t;
    char   secret[96];

    if (!has_server())
        return;
    snprintf(secret, sizeof secret, "nats://user:hush@127.0.0.1:%d", w.ports[0]);
    w.nats.url = secret;
    w.nats.op_timeout_ms = 600;
    bus_open();
    ck_assert(!w.bus->healthy(w.bus, &err));
    ck_assert_ptr_nonnull(strstr(err.text, w.url));
    a = append(0, "x", "id");
    ck_assert_int_eq(a.code, KL_EAGAIN);
    ck_assert_ptr_nonnull(strstr(a.err.text, w.url));
    ck_assert_ptr_null(strstr(a.err.text, "hush"));
    k = kv(KL_BUS_KV_GET, "a", NULL, 0);
    ck_assert_int_eq(k.code, KL_EAGAIN);
    ck_assert_ptr_nonnull(strstr(k.err.text, w.url));
    ck_assert_int_eq(info(0).code, KL_EAGAIN);
    ck_assert_int_eq(ask("nobody", "x", 300).code, KL_EAGAIN);
    tape_open(&t, 0, 1);
    server_start();
    for (int i = 0; !w.bus->healthy(w.bus, &err); i++) {
        ck_assert_msg(i < 200, "%s", err.text);
        usleep(50000);
    }
    for (int i = 0; (a = append(0, "y", "id-2")).code != KL_OK; i++)
        ck_assert_msg(i < 50, "%s", a.err.text);
    ck_assert_int_eq(kv(KL_BUS_KV_PUT, "a", "b", 0).code, KL_OK);
    wait_for(&t.count, 1);
    ck_assert_str_eq(t.at[0].text, "y");
    tape_close(&t);
}
END_TEST

START_TEST(a_server_that_hangs_costs_time_and_no_more)
{
    struct kl_bus_append a;
    struct timespec from, to;

    if (!has_server())
        return;
    server_start();
    w.nats.op_timeout_ms = 700;
    bus_open();
    for (int i = 0; append(0, "before", "").code != KL_OK; i++)
        ck_assert_int_lt(i, 50);
    server_halt();
    a = append(0, "during", "id");
    ck_assert_msg(a.code == KL_ETIMEOUT || a.code == KL_EAGAIN, "%d %s", a.code, a.err.text);
    ck_assert_ptr_nonnull(strstr(a.err.text, w.url));
    ck_assert_int_ne(info(0).code, KL_OK);
    ck_assert_int_ne(kv(KL_BUS_KV_PUT, "a", "b", 0).code, KL_OK);
    kill(w.servers[0], SIGCONT);
    for (int i = 0; (a = append(0, "during", "id")).code != KL_OK; i++)
        ck_assert_msg(i < 50, "%s", a.err.text);
    ck_assert_uint_eq(a.seq, 2);
    server_halt();
    clock_gettime(CLOCK_MONOTONIC, &from);
    bus_close();
    clock_gettime(CLOCK_MONOTONIC, &to);
    ck_assert_int_lt(to.tv_sec - from.tv_sec, 5);
}
END_TEST

static void delete_stream(const char *name)
{
    natsConnection *nc = NULL;
    jsCtx *js = NULL;

    ck_assert_int_eq(natsConnection_ConnectTo(&nc, w.url), NATS_OK);
    ck_assert_int_eq(natsConnection_JetStream(&js, nc, NULL), NATS_OK);
    ck_assert_int_eq(js_DeleteStream(js, name, NULL, NULL), NATS_OK);
    jsCtx_Destroy(js);
    natsConnection_Destroy(nc);
}

START_TEST(a_stream_made_anew_under_a_reader_breaks_it_with_the_new_incarnation)
{
    struct kl_bus_append before, after;
    struct tape t;

    if (!has_server())
        return;
    server_start();
    bus_open();
    for (int i = 0; i < 5; i++)
        before = append(0, "x", "");
    tape_open(&t, 0, 1);
    wait_for(&t.caught_up, 1);
    delete_stream("KOA_L_t_0000");
    for (int i = 0; (after = append(0, "y", "")).code != KL_OK; i++)
        ck_assert_msg(i < 20, "%s", after.err.text);
    ck_assert_uint_eq(after.seq, 1);
    ck_assert_uint_gt(after.incarnation, before.incarnation);
    wait_for(&t.broken, 1);
    ck_assert_int_eq(t.code, KL_ECORRUPT);
    ck_assert_uint_eq(t.incarnation, after.incarnation);
    ck_assert_uint_eq(t.first_seq, 1);
    ck_assert_uint_eq(t.count, 5);
    tape_close(&t);
    tape_open(&t, 0, 1);
    wait_for(&t.count, 1);
    ck_assert_uint_eq(t.at[0].incarnation, after.incarnation);
    tape_close(&t);
}
END_TEST

START_TEST(a_stream_made_anew_while_the_server_was_away_breaks_its_reader)
{
    struct kl_bus_append a;
    struct tape t;

    if (!has_server())
        return;
    server_start();
    bus_open();
    for (int i = 0; i < 3; i++)
        appended(0, "x");
    tape_open(&t, 0, 1);
    wait_for(&t.caught_up, 1);
    server_kill();                                     /* the reader sleeps through what follows */
    server_start();
    delete_stream("KOA_L_t_0000");
    for (int i = 0; (a = append(0, "y", "")).code != KL_OK; i++)
        ck_assert_msg(i < 20, "%s", a.err.text);
    wait_for(&t.broken, 1);
    ck_assert_int_eq(t.code, KL_ECORRUPT);
    ck_assert_uint_eq(t.incarnation, a.incarnation);
    tape_close(&t);
}
END_TEST

/* Past the bus: a message as any server's replica may have it. */
static void publish_raw(const char *subject, const char *headers, const char *value)
{
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons((uint16_t)w.ports[0]),
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int    fd = socket(AF_INET, SOCK_STREAM, 0);
    char   text[600], answer[4096] = "";
    size_t h = strlen(headers) + strlen("NATS/1.0\r\n\r\n");
    int    n = snprintf(text, sizeof text, "CONNECT {\"verbose\":false,\"headers\":true}\r\n"
                        "HPUB %s %zu %zu\r\nNATS/1.0\r\n%s\r\n%s\r\nPING\r\n", subject, h,
                        h + strlen(value), headers, value);

    ck_assert_int_eq(connect(fd, (struct sockaddr *)&at, sizeof at), 0);
    ck_assert_int_eq(write(fd, text, (size_t)n), n);
    while (strstr(answer, "PONG") == NULL) {
        size_t have = strlen(answer);

        ck_assert_int_gt(read(fd, answer + have, sizeof answer - 1 - have), 0);
    }
    close(fd);
}

/* As by a server that lags, or passed a change over. */
START_TEST(a_watch_tells_no_older_state_of_a_key_than_it_told)
{
    struct watched x = { .watch = { .prefix = "a.", .change = watched_change,
                                    .current = watched_current, .ctx = &x } };
    static const char *const want[] = { "current", "a.1=new", "a.2=x", "a.1=theirs", "a.1=last" };
    char subject[64];

    ENTER(NATS);
    x.watch.loop = w.loop;
    on_loop(watch_begin, &x);
    wait_for(&x.current, 1);
    snprintf(subject, sizeof subject, "$KV.KOA_%s.a.1", w.nats.cell);
    kv(KL_BUS_KV_PUT, "a.1", "new", 0);
    publish_raw(subject, "Koa-Revision: 1000 somebody.1\r\n", "old");
    kv(KL_BUS_KV_PUT, "a.2", "x", 0);
    publish_raw(subject, "", "theirs");                /* a tool's: it has no revision */
    kv(KL_BUS_KV_PUT, "a.1", "last", UINT64_MAX);
    wait_for(&x.count, 5);
    for (int i = 0; i < 5; i++)
        ck_assert_str_eq(x.text[i], want[i]);
    on_loop(watch_end, &x);
}
END_TEST

START_TEST(a_reader_is_told_each_second_where_the_log_ends)
{
    struct tape t;

    if (!has_server())
        return;
    server_start();
    bus_open();
    for (int i = 0; i < 3; i++)
        appended(0, "x");
    tape_open(&t, 0, 1);
    for (int i = 0; atomic_load(&t.end_at) != 3; i++) {
        ck_assert_int_lt(i, 1000);
        usleep(10000);
    }
    appended(0, "x");
    for (int i = 0; atomic_load(&t.end_at) != 4; i++) {
        ck_assert_int_lt(i, 1000);
        usleep(10000);
    }
    tape_close(&t);
}
END_TEST

/* A server whose disk is that of an hour ago, and which goes on from there. */
START_TEST(a_log_that_was_rolled_back_and_went_on_breaks_its_reader_although_it_is_long_enough)
{
    char          command[256];
    struct tape   t;
    natsConnection *nc = NULL;

    if (!has_server())
        return;
    server_start();
    bus_open();
    for (int i = 0; i < 3; i++)
        appended(0, "x");
    tape_open(&t, 0, 1);
    wait_for(&t.count, 3);
    server_kill();
    snprintf(command, sizeof command, "cp -a %s/js0 %s/before", w.path, w.path);
    ck_assert_int_eq(system(command), 0);
    server_start();
    for (int i = 0; append(0, "fourth", "").code != KL_OK; i++)
        ck_assert_int_lt(i, 20);
    wait_for(&t.count, 4);
    server_kill();
    snprintf(command, sizeof command, "rm -rf %s/js0 && mv %s/before %s/js0", w.path, w.path, w.path);
    ck_assert_int_eq(system(command), 0);
    server_start();
    ck_assert_int_eq(natsConnection_ConnectTo(&nc, w.url), NATS_OK);
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(natsConnection_PublishString(nc, "koa.t.log.0000", "another"), NATS_OK);
    ck_assert_int_eq(natsConnection_Flush(nc), NATS_OK);
    natsConnection_Destroy(nc);
    wait_for(&t.broken, 1);
    ck_assert_int_eq(t.code, KL_ECORRUPT);
    ck_assert_msg(strstr(t.err.text, "is not the one that was read before") != NULL, "%s", t.err.text);
    ck_assert_uint_eq(t.count, 4);
    tape_close(&t);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("libkoal/bus");
    TCase *t = tcase_create("nats");

    tcase_add_checked_fixture(t, world_unopened, world_close);
    tcase_set_timeout(t, 240);
    tcase_add_test(t, without_a_server_operations_fail_with_words_until_there_is_one);
    tcase_add_test(t, a_stream_made_anew_under_a_reader_breaks_it_with_the_new_incarnation);
    tcase_add_test(t, a_stream_made_anew_while_the_server_was_away_breaks_its_reader);
    tcase_add_test(t, a_server_that_hangs_costs_time_and_no_more);
    tcase_add_test(t, a_watch_tells_no_older_state_of_a_key_than_it_told);
    tcase_add_test(t, a_reader_is_told_each_second_where_the_log_ends);
    tcase_add_test(t,
                   a_log_that_was_rolled_back_and_went_on_breaks_its_reader_although_it_is_long_enough);
    suite_add_tcase(s, t);

    return run_suite(s);
}
