/* libkoal/http: a client that leaves, a server that stops, and what becomes of answers then. */
#include "server_kit.h"

START_TEST(client_that_left_is_noticed_and_its_answer_dropped)
{
    int                     fd = dial();
    struct kl_http_request *r;

    say(fd, "GET /keep" H "\r\n");
    r = wait_kept();
    nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
    ck_assert(!kl_http_gone(r));
    close(fd);
    for (int i = 0; i < 1000 && !kl_http_gone(r); i++)
        nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
    ck_assert(kl_http_gone(r));
    kl_http_answer(r, 200, "text/plain", kl_span_str("too late"));
    ck_assert_uint_eq(ask("GET /echo" H "\r\n"), 200);
}
END_TEST

START_TEST(stop_waits_for_answers_under_way)
{
    int fd = dial();

    say(fd, "GET /later" H "\r\n");
    nanosleep(&(struct timespec){ .tv_nsec = 5000000 }, NULL);
    kl_http_server_stop(server, 5000);
    ck_assert_uint_eq(hear(fd, false), 200);
    close(fd);
}
END_TEST

START_TEST(stop_answers_503_for_who_does_not_and_a_later_answer_is_harmless)
{
    int                     fd = dial(), other;
    struct kl_http_request *r;
    struct sockaddr_in      a = { .sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)kl_http_server_port(server)),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

    say(fd, "GET /keep" H "X-Scope-OrgID: acme\r\n\r\n");
    r = wait_kept();
    kl_http_server_stop(server, 10);
    ck_assert_uint_eq(hear(fd, false), 503);
    ck_assert(has("the server is stopping"));
    ck_assert(kl_http_gone(r));
    other = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_ne(connect(other, (struct sockaddr *)&a, sizeof a), 0);
    close(other);
    kl_http_server_free(server);
    kl_metrics_free(metrics);
    ck_assert_str_eq(kl_http_header(r, "X-Scope-OrgID"), "acme");
    kl_http_answer(r, 200, "text/plain", kl_span_str("into the void"));
    close(fd);
    setup();                                           /* for teardown */
}
END_TEST

static atomic_uint told_done;

static void let_through(void *ctx, const struct kl_guard_ask *ask, struct kl_guard_verdict *v)
{
    (void)ctx;
    (void)ask;
    *v = (struct kl_guard_verdict){ 0 };
}

static void tell_done(void *ctx, const struct kl_guard_ask *ask, const char *key, unsigned status)
{
    (void)ctx;
    (void)ask;
    (void)key;
    (void)status;
    atomic_fetch_add(&told_done, 1);
}

/* The guard goes with its server, or soon after: an answer into the void must not look for it. */
START_TEST(a_guard_hears_of_answers_before_their_clients_and_of_none_after_its_server_has_stopped)
{
    struct kl_guard        *own = malloc(sizeof *own);
    struct kl_http_request *r;
    int                     fd;

    *own = (struct kl_guard){ .judge = let_through, .done = tell_done };
    guard = own;
    teardown();
    setup();
    ck_assert_uint_eq(ask("GET /echo" H "\r\n"), 200);
    ck_assert_uint_eq(atomic_load(&told_done), 1);
    ck_assert_uint_eq(ask("GET /later" H "\r\n"), 200);
    ck_assert_uint_eq(atomic_load(&told_done), 2);
    fd = dial();
    say(fd, "GET /keep" H "\r\n");
    r = wait_kept();
    kl_http_server_stop(server, 10);
    ck_assert_uint_eq(hear(fd, false), 503);
    kl_http_server_free(server);
    kl_http_answer(r, 200, "text/plain", kl_span_str("into the void"));
    ck_assert_uint_eq(atomic_load(&told_done), 2);
    kl_metrics_free(metrics);
    free(own);
    close(fd);
    guard = NULL;
    setup();                                           /* for teardown */
}
END_TEST

START_TEST(idle_connections_are_closed_but_waiting_ones_are_not)
{
    int                     fd = dial(), waiting = dial();
    struct kl_http_request *r;

    say(waiting, "GET /keep" H "\r\n");
    r = wait_kept();
    say(fd, "GET /ec");
    ck_assert_uint_eq(hear(fd, false), 0);             /* after idle_timeout_s: 2 */
    nanosleep(&(struct timespec){ .tv_nsec = 500000000 }, NULL);
    kl_http_answer(r, 200, "text/plain", kl_span_str("patience"));
    ck_assert_uint_eq(hear(waiting, false), 200);
    close(fd);
    close(waiting);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("libkoal/http/server: ends");
    TCase *t = tcase_create("all");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 30);
    tcase_add_test(t, client_that_left_is_noticed_and_its_answer_dropped);
    tcase_add_test(t, stop_waits_for_answers_under_way);
    tcase_add_test(t, stop_answers_503_for_who_does_not_and_a_later_answer_is_harmless);
    tcase_add_test(t,
                   a_guard_hears_of_answers_before_their_clients_and_of_none_after_its_server_has_stopped);
    tcase_add_test(t, idle_connections_are_closed_but_waiting_ones_are_not);
    suite_add_tcase(s, t);

    return run_suite(s);
}
