/* libkoal/http/told: ids, and what is told of a request, seen from a raw socket, a log and a tracer. */
#include "libkoal/http/http.h"
#include "tests/suite.h"

#include <check.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static char           answer[64 * 1024], logged[256 * 1024];
static atomic_uint    lines;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void keep(struct kl_log *log, enum kl_level level, const char *line,
                 const struct kl_log_field *fields, size_t field_count)
{
    size_t n;

    (void)log;
    pthread_mutex_lock(&lock);
    n = strlen(logged);
    n += (size_t)snprintf(logged + n, sizeof logged - n, "%d %s", level, line);
    for (size_t i = 0; i < field_count && n < sizeof logged - 1000; i++)
        if (fields[i].is_number)
            n += (size_t)snprintf(logged + n, sizeof logged - n, " %s=%ld", fields[i].name,
                                  (long)fields[i].number);
        else
            n += (size_t)snprintf(logged + n, sizeof logged - n, " %s=%.*s", fields[i].name,
                                  (int)fields[i].text.size, (const char *)fields[i].text.at);
    snprintf(logged + n, sizeof logged - n, "\n");
    pthread_mutex_unlock(&lock);
    atomic_fetch_add(&lines, 1);
}

static struct kl_trace_span emitted[64];
static atomic_uint emits;
static void emit(struct kl_tracer *t, const struct kl_trace_span *s)
{
    (void)t;
    emitted[atomic_fetch_add(&emits, 1) % 64] = *s;
}

static void draw(struct kl_tracer *t, void *bytes, size_t size)
{
    static atomic_uint turn;

    (void)t;
    memset(bytes, (int)atomic_fetch_add(&turn, 1), size);
}

static struct kl_log    sink = { .write = keep, .least = KL_INFO };
static struct kl_tracer tracer = { .emit = emit, .draw = draw };
static struct kl_http_server *server;

static void good(void *ctx, struct kl_http_request *r)
{
    char text[200], parent[KL_TRACE_TEXT + 1];

    (void)ctx;
    kl_trace_text(kl_http_trace(r), parent);
    snprintf(text, sizeof text, "id=%s at=%s", kl_http_id(r), parent);
    kl_http_answer(r, 200, "text/plain", kl_span_str(text));
}

static void bad(void *ctx, struct kl_http_request *r)
{
    (void)ctx;
    kl_http_answer(r, 503, "text/plain; charset=utf-8", kl_span_str("partition 3: the log is full\n"));
}

/* Knows nobody who shows something. */
static void judge(void *ctx, const struct kl_guard_ask *a, struct kl_guard_verdict *v)
{
    (void)ctx;
    v->status = a->authorization != NULL ? 401 : 0;
}

static void start(enum kl_http_logs logs)
{
    static const struct kl_guard guard = { .judge = judge };
    struct kl_err err;

    server = kl_http_server_new(&(struct kl_http_options){ .listen = "127.0.0.1:0", .threads = 2,
                                                           .log = &sink, .logs = logs, .tracer = &tracer,
                                                           .guard = &guard });
    kl_http_route_add(server, &(struct kl_http_route){ "GET", "/good", 0, good, NULL });
    kl_http_route_add(server, &(struct kl_http_route){ "GET", "/bad", 0, bad, NULL });
    kl_http_route_add(server, &(struct kl_http_route){ "GET", "/-/ready", 0, bad, NULL });
    ck_assert_int_eq(kl_http_server_start(server, &err), KL_OK);
    logged[0] = '\0';
    atomic_store(&lines, 0);
    atomic_store(&emits, 0);
    tracer.one_in = 0;
}

static void stop(void)
{
    kl_http_server_stop(server, 1000);
    kl_http_server_free(server);
}

static void ask(const char *path, const char *headers)
{
    struct sockaddr_in a = { .sin_family = AF_INET,
                             .sin_port = htons((uint16_t)kl_http_server_port(server)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int     fd = socket(AF_INET, SOCK_STREAM, 0);
    size_t  size = 0;
    ssize_t n;

    ck_assert_int_eq(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    dprintf(fd, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%s\r\n", path, headers);
    while ((n = recv(fd, answer + size, sizeof answer - 1 - size, 0)) > 0)
        size += (size_t)n;
    answer[size] = '\0';
    close(fd);
}

static bool has(const char *text) { return strstr(answer, text) != NULL; }

START_TEST(a_request_keeps_the_id_it_came_with)
{
    ask("/good", "X-Request-Id: build-17/of:today\r\n");
    ck_assert(has("\r\nX-Request-Id: build-17/of:today\r\n") && has("id=build-17/of:today at="));
}
END_TEST

START_TEST(a_request_without_an_id_or_with_one_that_is_unfit_gets_one_of_its_own)
{
    static const char *const unfit[] = { "", "X-Request-Id: \r\n", "X-Request-Id: a b\r\n", "X-Request-Id: <b>\r\n",
        "X-Request-Id: 0123456789012345678901234567890123456789012345678901234567890123456789\r\n" };
    char first[40];

    for (size_t i = 0; i < sizeof unfit / sizeof unfit[0]; i++) {
        const char *id;

        ask("/good", unfit[i]);
        id = strstr(answer, "\r\nX-Request-Id: ");
        ck_assert_ptr_nonnull(id);
        ck_assert_uint_eq(strspn(id + 16, "0123456789abcdef"), 16);
        if (i > 0)
            ck_assert_int_ne(memcmp(first, id + 16, 16), 0);
        memcpy(first, id + 16, 16);
    }
}
END_TEST

START_TEST(a_refused_request_has_an_id_too)
{
    ask("/none", "");
    ck_assert(has(" 404 ") && has("\r\nX-Request-Id: "));
    ask("/good", "Transfer-Encoding: gzip\r\n");       /* before its headers are looked at */
    ck_assert(has(" 400 ") && has("\r\nX-Request-Id: "));
}
END_TEST

START_TEST(a_failed_request_is_told_with_its_id_and_why_and_others_are_not)
{
    ask("/good", "");
    ask("/none", "");
    ask("/-/ready", "");
    ck_assert_uint_eq(atomic_load(&lines), 0);
    ask("/bad?secret=1", "X-Request-Id: me\r\nX-Scope-OrgID: acme\r\n");
    ck_assert_uint_eq(atomic_load(&lines), 1);
    ck_assert_ptr_nonnull(strstr(logged, "2 answered 503 request_id=me trace_id= method=GET path=/bad "
                                         "status=503 duration_us="));
    ck_assert_ptr_nonnull(strstr(logged, " tenant=acme answer=partition 3: the log is full\n"));
    ck_assert_ptr_null(strstr(logged, "secret"));
}
END_TEST

START_TEST(of_many_failures_only_so_many_a_second_are_told_and_the_rest_are_counted)
{
    unsigned most = 5 * KL_HTTP_LOGGED_PER_S, first;

    for (unsigned i = 0; i < most; i++)
        ask("/bad", "");
    first = atomic_load(&lines);
    ck_assert_uint_ge(first, KL_HTTP_LOGGED_PER_S);
    if (first == most)
        return;                                        /* so slow a machine has nothing to leave out */
    nanosleep(&(struct timespec){ .tv_sec = 1, .tv_nsec = 50000000 }, NULL);
    ask("/bad", "");
    ck_assert_ptr_nonnull(strstr(logged, " more were not told"));
}
END_TEST

START_TEST(all_requests_are_told_where_that_is_wanted)
{
    ask("/good", "X-Request-Id: a\r\n");
    ask("/none", "X-Request-Id: b\r\n");
    ask("/-/ready", "");
    ck_assert_uint_eq(atomic_load(&lines), 2);
    ck_assert_ptr_nonnull(strstr(logged, "1 answered 200 request_id=a"));
    ck_assert_ptr_nonnull(strstr(logged, "1 answered 404 request_id=b"));
}
END_TEST

#define PARENT "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7"

START_TEST(a_request_of_a_sampled_trace_gets_a_span_below_its_senders)
{
    static const uint8_t above[8] = { 0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7 };

    ask("/good", "traceparent: 00-" PARENT "-00\r\n");
    ck_assert_uint_eq(atomic_load(&emits), 0);
    ask("/bad", "traceparent: 00-" PARENT "-01\r\n");
    ck_assert_uint_eq(atomic_load(&emits), 1);
    ck_assert_str_eq(emitted[0].name, "/bad");
    ck_assert_mem_eq(emitted[0].parent, above, 8);
    ck_assert(emitted[0].failed && emitted[0].kind == KL_TRACE_SERVER);
    ck_assert_int_ge(emitted[0].end_ns, emitted[0].begin_ns);
    ask("/good", "traceparent: 00-" PARENT "-01\r\n");
    ck_assert(has("at=00-4bf92f3577b34da6a3ce929d0e0e4736-") && !has(PARENT));
}
END_TEST

START_TEST(what_nobody_samples_is_sampled_here_but_no_probe)
{
    tracer.one_in = 1;
    ask("/-/ready", "");
    ck_assert_uint_eq(atomic_load(&emits), 0);
    ask("/good", "");
    ask("/none", "");
    ck_assert_uint_eq(atomic_load(&emits), 2);
    ck_assert_str_eq(emitted[1].name, "unknown path");
}
END_TEST

START_TEST(a_stranger_makes_no_spans)
{
    tracer.one_in = 1;
    ask("/good", "Authorization: x\r\ntraceparent: 00-" PARENT "-01\r\n");
    ask("/none", "Authorization: x\r\n");
    ck_assert(has(" 401 "));
    ck_assert_uint_eq(atomic_load(&emits), 0);
}
END_TEST

static void start_errors(void) { start(KL_HTTP_LOG_ERRORS); }
static void start_all(void) { start(KL_HTTP_LOG_ALL); }

int main(void)
{
    Suite *s = suite_create("libkoal/http/told");
    TCase *t = tcase_create("errors"), *all = tcase_create("all");

    tcase_add_checked_fixture(t, start_errors, stop);
    tcase_add_test(t, a_request_keeps_the_id_it_came_with);
    tcase_add_test(t, a_request_without_an_id_or_with_one_that_is_unfit_gets_one_of_its_own);
    tcase_add_test(t, a_refused_request_has_an_id_too);
    tcase_add_test(t, a_failed_request_is_told_with_its_id_and_why_and_others_are_not);
    tcase_add_test(t, of_many_failures_only_so_many_a_second_are_told_and_the_rest_are_counted);
    tcase_add_test(t, a_request_of_a_sampled_trace_gets_a_span_below_its_senders);
    tcase_add_test(t, what_nobody_samples_is_sampled_here_but_no_probe);
    tcase_add_test(t, a_stranger_makes_no_spans);
    tcase_add_checked_fixture(all, start_all, stop);
    tcase_add_test(all, all_requests_are_told_where_that_is_wanted);
    suite_add_tcase(s, t);
    suite_add_tcase(s, all);
    return run_suite(s);
}
