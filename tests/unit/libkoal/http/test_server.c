/*
 * libkoal/http: the server as a client sees it, byte for byte, over real sockets on loopback.
 */
#include "libkoal/http/around.h"
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
#include <zlib.h>

enum { SMALL_MAX = 1000, LARGE_MAX = 4 << 20, BUFFERED_MAX = 6 << 20 };

static struct kl_http_server *server;
static struct kl_metrics     *metrics;
static struct kl_err          err;
static char                   answer[1 << 20];         /* the last one, whole */
static size_t                 answer_size;

/* ---- handlers */

static struct kl_http_request *_Atomic kept;
static atomic_uint                     calls;

static void echo(void *ctx, struct kl_http_request *r)
{
    struct kl_buf b = { 0 };
    const char   *value;

    (void)ctx;
    atomic_fetch_add(&calls, 1);
    kl_buf_addf(&b, "%s %s wild=%s body=%zu local=%d", kl_http_method(r), kl_http_path(r),
                kl_http_wild(r), kl_http_body(r).size, kl_http_is_local(r));
    for (size_t i = 0; (value = kl_http_param(r, "match[]", i)) != NULL; i++)
        kl_buf_addf(&b, " match=%s", value);
    if (kl_http_header(r, "x-scope-orgid") != NULL)
        kl_buf_addf(&b, " tenant=%s", kl_http_header(r, "X-Scope-OrgID"));
    kl_http_set(r, "X-Extra", "yes");
    kl_http_answer_take(r, 200, "text/plain", &b);
}

static void number(void *ctx, struct kl_http_request *r)
{
    char text[20];

    (void)ctx;
    snprintf(text, sizeof text, "%u", kl_http_connection(r));
    kl_http_answer(r, 200, "text/plain", kl_span_str(text));
}

static void nothing(void *ctx, struct kl_http_request *r)
{
    (void)ctx;
    kl_http_answer(r, 204, NULL, kl_span("", 0));
}

static void keep(void *ctx, struct kl_http_request *r)
{
    (void)ctx;
    atomic_store(&kept, r);
}

static void *answer_later(void *arg)
{
    struct kl_http_request *r = arg;

    if (kl_http_path(r)[1] == 'l')                     /* /later waits, /race does not */
        nanosleep(&(struct timespec){ .tv_nsec = 20000000 }, NULL);
    kl_http_answer(r, 200, "text/plain", kl_span_str("later"));
    return NULL;
}

static void later(void *ctx, struct kl_http_request *r)
{
    pthread_t t;

    (void)ctx;
    ck_assert_int_eq(pthread_create(&t, NULL, answer_later, r), 0);
    pthread_detach(t);
}

static void large(void *ctx, struct kl_http_request *r)
{
    struct kl_buf b = { 0 };

    (void)ctx;
    for (int i = 0; i < 20000; i++)
        kl_buf_addf(&b, "line %d\n", i);
    kl_http_answer_take(r, 200, "text/plain", &b);
}

static void packed(void *ctx, struct kl_http_request *r)
{
    kl_http_set(r, "Content-Encoding", "snappy");
    large(ctx, r);
}

static void take(void *ctx, struct kl_http_request *r)
{
    char  *bytes;
    size_t size;
    char   text[40];

    (void)ctx;
    kl_http_body_take(r, &bytes, &size);
    snprintf(text, sizeof text, "%zu %02x %zu", size, size > 0 ? (uint8_t)bytes[size - 1] : 0,
             kl_http_body(r).size);
    free(bytes);
    kl_http_answer(r, 200, "text/plain", kl_span_str(text));
}

/* Around each call: one that the handler has put there is answered afterwards, by the same thread. */
struct rounds { atomic_uint before, after; };
static struct rounds rounds;
static _Thread_local struct kl_http_request *put_off;

static void before(void *ctx) { atomic_fetch_add(&((struct rounds *)ctx)->before, 1); }
static void after(void *ctx)
{
    atomic_fetch_add(&((struct rounds *)ctx)->after, 1);
    if (put_off != NULL)
        kl_http_answer(put_off, 200, "text/plain", kl_span_str("afterwards"));
    put_off = NULL;
}
static void put_it_off(void *ctx, struct kl_http_request *r)
{
    (void)ctx;
    put_off = r;
}

static unsigned               idle_s = 2;
static const struct kl_guard *guard;

static void setup(void)
{
    static const struct kl_http_route routes[] = {
        { "GET", "/", 0, echo, NULL },
        { "GET,POST", "/echo", SMALL_MAX, echo, NULL },
        { "GET", "/api/v1/label/*/values", 0, echo, NULL },
        { "POST", "/write", LARGE_MAX, take, NULL },
        { "GET", "/number", 0, number, NULL },
        { "POST", "/nothing", SMALL_MAX, nothing, NULL },
        { "GET", "/keep", 0, keep, NULL },
        { "GET,POST", "/later", LARGE_MAX, later, NULL },
        { "GET", "/race", 0, later, NULL },
        { "GET", "/off", 0, put_it_off, NULL },
        { "GET", "/large", 0, large, NULL },
        { "GET", "/packed", 0, packed, NULL },
    };
    metrics = kl_metrics_new();
    struct kl_http_options o = { .listen = "127.0.0.1:0", .threads = 2, .metrics = metrics,
                                 .buffered_bytes_max = BUFFERED_MAX, .idle_timeout_s = idle_s,
                                 .connections_max = 200 };

    server = kl_http_server_new(&o);
    kl_http_guard(server, guard);
    kl_http_around(server, &(struct kl_http_around){ .before = before, .after = after, .ctx = &rounds });
    for (size_t i = 0; i < sizeof routes / sizeof routes[0]; i++)
        kl_http_route_add(server, &routes[i]);
    ck_assert_msg(kl_http_server_start(server, &err) == KL_OK, "%s", err.text);
    atomic_store(&kept, NULL);
    atomic_store(&calls, 0);
}

/* For connections that stand still longer than a busy machine takes. */
static void setup_patient(void)
{
    idle_s = 600;
    setup();
}

static void teardown(void)
{
    kl_http_server_stop(server, 2000);
    kl_http_server_free(server);
    kl_metrics_free(metrics);
}

/* ---- a client */

static int dial(void)
{
    struct sockaddr_in a = { .sin_family = AF_INET,
                             .sin_port = htons((uint16_t)kl_http_server_port(server)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    struct timeval     t = { .tv_sec = 10 };
    int                fd = socket(AF_INET, SOCK_STREAM, 0);

    ck_assert_int_eq(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
    return fd;
}

static bool put(int fd, const void *bytes, size_t size)
{
    for (const char *at = bytes; size > 0;) {
        ssize_t n = send(fd, at, size, MSG_NOSIGNAL);
        if (n <= 0)
            return false;
        at += n;
        size -= (size_t)n;
    }
    return true;
}

static void say(int fd, const char *text) { ck_assert(put(fd, text, strlen(text))); }

/* Reads one answer, with a body as long as Content-Length says unless `no_body`; its status, or 0
 * when the connection ended before. */
static unsigned hear(int fd, bool no_body)
{
    size_t end = 0, length = 0;

    answer_size = 0;
    for (;;) {
        char   *stop, *header;
        ssize_t n;

        answer[answer_size] = '\0';
        if (end == 0 && (stop = strstr(answer, "\r\n\r\n")) != NULL) {
            end = (size_t)(stop + 4 - answer);
            header = strcasestr(answer, "\r\nContent-Length:");
            if (header != NULL && header < stop && !no_body)
                length = strtoull(header + 17, NULL, 10);
        }
        if (end > 0 && answer_size >= end + length)
            break;
        ck_assert_uint_lt(answer_size, sizeof answer - 1);
        n = recv(fd, answer + answer_size,
                 end > 0 ? end + length - answer_size : 1, 0);   /* bytewise: no answer is split */
        if (n <= 0)
            return 0;
        answer_size += (size_t)n;
    }
    return (unsigned)atoi(answer + strlen("HTTP/1.1 "));
}

static const char *body(void) { return strstr(answer, "\r\n\r\n") + 4; }
static bool        has(const char *text) { return strcasestr(answer, text) != NULL; }

static unsigned ask(const char *request)
{
    int      fd = dial();
    unsigned status;

    say(fd, request);
    status = hear(fd, strncmp(request, "HEAD", 4) == 0);
    close(fd);
    return status;
}

#define H " HTTP/1.1\r\nHost: x\r\n"

/* ---- what is promised */

START_TEST(handler_sees_method_path_headers_and_sets_its_own)
{
    ck_assert_uint_eq(ask("GET /echo" H "X-Scope-OrgID: acme\r\n\r\n"), 200);
    ck_assert_str_eq(body(), "GET /echo wild= body=0 local=1 tenant=acme");
    ck_assert(has("X-Extra: yes") && has("Content-Type: text/plain"));
    ck_assert_uint_eq(ask("GET /" H "\r\n"), 200);
    ck_assert_uint_eq(ask("GET /echo" H "X-Forwarded-For: 1.2.3.4\r\n\r\n"), 200);
    ck_assert(has("local=0"));
}
END_TEST

START_TEST(star_matches_one_decoded_part_that_may_hold_a_slash)
{
    ck_assert_uint_eq(ask("GET /api/v1/label/a%2Fb%20c/values?x=1" H "\r\n"), 200);
    ck_assert_str_eq(body(), "GET /api/v1/label/a/b c/values wild=a/b c body=0 local=1");
    ck_assert_uint_eq(ask("GET /api/v1/label//values" H "\r\n"), 404);
    ck_assert_uint_eq(ask("GET /api/v1/label/a/b/values" H "\r\n"), 404);
}
END_TEST

START_TEST(parameters_repeat_and_a_form_comes_before_the_query)
{
    ck_assert_uint_eq(ask("POST /echo?match%5B%5D=up%7Ba%3D%22b+c%22%7D&&match[]=three" H
                          "Content-Type: application/x-www-form-urlencoded; charset=utf-8\r\n"
                          "Content-Length: 11\r\n\r\nmatch[]=one"), 200);
    ck_assert(has("body=11 local=1 match=one match=up{a=\"b c\"} match=three"));
    ck_assert_uint_eq(ask("POST /echo" H "Content-Type: application/json\r\n"
                          "Content-Length: 11\r\n\r\nmatch[]=one"), 200);
    ck_assert(!has("match="));
}
END_TEST

START_TEST(unfit_requests_are_refused_with_words)
{
    ck_assert_uint_eq(ask("GET /none" H "\r\n"), 404);
    ck_assert_uint_eq(ask("POST /number" H "Content-Length: 0\r\n\r\n"), 405);
    ck_assert(has("Allow: GET"));
    ck_assert_uint_eq(ask("GET /echo?match[]=%zz" H "\r\n"), 400);
    ck_assert_str_eq(body(), "a % without two hex digits in a parameter\n");
    ck_assert_uint_eq(ask("GET /echo%0" H "\r\n"), 400);
    ck_assert_uint_eq(ask("GET /echo%00" H "\r\n"), 400);
    ck_assert_uint_eq(ask("nonsense\r\n\r\n"), 0);
    ck_assert_uint_eq(atomic_load(&calls), 0);
}
END_TEST

START_TEST(too_many_parameters_and_headers_are_refused)
{
    static char request[60000];
    size_t      size = (size_t)sprintf(request, "GET /echo?");

    for (int i = 0; i <= KL_HTTP_PARAMS_MAX; i++)
        size += (size_t)sprintf(request + size, "a=%d&", i);
    sprintf(request + size, H "\r\n");
    ck_assert_uint_eq(ask(request), 400);
    ck_assert(has("more than 1000 parameters"));
    size = (size_t)sprintf(request, "GET /echo" H);
    for (int i = 0; i <= KL_HTTP_HEADERS_MAX; i++)
        size += (size_t)sprintf(request + size, "A%d: b\r\n", i);
    sprintf(request + size, "\r\n");
    ck_assert_uint_eq(ask(request), 431);
}
END_TEST

START_TEST(head_is_answered_as_get_without_a_body)
{
    int fd = dial();

    say(fd, "HEAD /echo" H "\r\n");
    ck_assert_uint_eq(hear(fd, true), 200);
    ck_assert(!has("Content-Length: 0"));
    say(fd, "GET /nothing" H "\r\n");                  /* the next answer begins where it should */
    ck_assert_uint_eq(hear(fd, false), 405);
    close(fd);
}
END_TEST

START_TEST(connection_is_kept_and_named_until_it_ends)
{
    int      fd = dial(), other = dial();
    unsigned first, second;

    say(fd, "GET /number" H "\r\n");
    ck_assert_uint_eq(hear(fd, false), 200);
    first = (unsigned)atoi(body());
    say(fd, "POST /nothing" H "Content-Length: 3\r\n\r\nabc");
    ck_assert_uint_eq(hear(fd, false), 204);
    ck_assert(!has("Content-Length:"));
    say(fd, "GET /none" H "\r\n");
    ck_assert_uint_eq(hear(fd, false), 404);
    say(fd, "GET /later" H "\r\n");
    ck_assert_uint_eq(hear(fd, false), 200);
    say(fd, "GET /number" H "\r\n");
    ck_assert_uint_eq(hear(fd, false), 200);
    ck_assert_uint_eq((unsigned)atoi(body()), first);
    say(other, "GET /number" H "\r\n");
    ck_assert_uint_eq(hear(other, false), 200);
    second = (unsigned)atoi(body());
    ck_assert_uint_ne(first, second);
    close(fd);
    close(other);
}
END_TEST

START_TEST(pipelined_requests_are_answered_in_order)
{
    int fd = dial();

    say(fd, "GET /later" H "\r\nGET /echo?match[]=2" H "\r\nGET /race" H "\r\n");
    ck_assert_uint_eq(hear(fd, false), 200);
    ck_assert_str_eq(body(), "later");
    ck_assert_uint_eq(hear(fd, false), 200);
    ck_assert(has("match=2"));
    ck_assert_uint_eq(hear(fd, false), 200);
    ck_assert_str_eq(body(), "later");
    close(fd);
}
END_TEST

/* The answer may come before the connection is suspended, while, or after. */
START_TEST(answers_that_race_with_the_handlers_return_all_arrive)
{
    int fd = dial();

    for (int i = 0; i < 2000; i++) {
        say(fd, "GET /race" H "\r\n");
        ck_assert_uint_eq(hear(fd, false), 200);
    }
    close(fd);
}
END_TEST

static unsigned send_body(int fd, const char *path, size_t size, const char *more)
{
    char *bytes = malloc(size + 1), head[200];

    memset(bytes, 'x', size);
    bytes[size > 0 ? size - 1 : 0] = 'y';
    snprintf(head, sizeof head, "POST %s" H "%sContent-Length: %zu\r\n\r\n", path, more, size);
    say(fd, head);
    put(fd, bytes, size);                              /* may be cut short by a refusal */
    free(bytes);
    return hear(fd, false);
}

START_TEST(body_up_to_the_routes_bound_is_taken_and_past_it_refused)
{
    int fd = dial();

    ck_assert_uint_eq(send_body(fd, "/write", LARGE_MAX, ""), 200);
    ck_assert_str_eq(body(), "4194304 79 0");
    ck_assert_uint_eq(send_body(fd, "/echo", SMALL_MAX, ""), 200);
    ck_assert_uint_eq(send_body(fd, "/echo", SMALL_MAX + 1, ""), 413);
    ck_assert(has("the body has 1001 bytes; at most 1000 are taken"));
    ck_assert_uint_eq(send_body(fd, "/write", 0, ""), 200);     /* the connection is still good */
    close(fd);
    fd = dial();
    say(fd, "POST /write" H "Content-Length: 4194305\r\n\r\n"); /* not one byte of it */
    ck_assert_uint_eq(hear(fd, false), 413);
    ck_assert(has("Connection: close"));
    ck_assert_int_eq(recv(fd, answer, 1, 0), 0);
    close(fd);
    fd = dial();
    say(fd, "POST /write" H "Content-Length: 99999999999999999999999\r\n\r\n");
    ck_assert_uint_eq(hear(fd, false), 413);
    close(fd);
}
END_TEST

START_TEST(client_that_writes_on_still_reads_its_413)
{
    for (int i = 0; i < 20; i++) {
        int fd = dial();

        ck_assert_uint_eq(send_body(fd, "/write", LARGE_MAX + 1, ""), 413);
        close(fd);
    }
}
END_TEST

static bool send_chunks(int fd, size_t count)
{
    static char chunk[1024 * 16 + 10];
    size_t      size = (size_t)sprintf(chunk, "4000\r\n");

    memset(chunk + size, 'z', 0x4000);
    memcpy(chunk + size + 0x4000, "\r\n", 2);
    for (size_t i = 0; i < count; i++)
        if (!put(fd, chunk, size + 0x4000 + 2))
            return false;
    return put(fd, "0\r\n\r\n", 5);
}

START_TEST(chunked_body_is_bounded_as_it_grows)
{
    static const char head[] = "POST /write" H "Transfer-Encoding: chunked\r\n\r\n";
    int               fd = dial();

    say(fd, head);
    ck_assert(send_chunks(fd, LARGE_MAX / 0x4000));
    ck_assert_uint_eq(hear(fd, false), 200);
    ck_assert_str_eq(body(), "4194304 7a 0");
    say(fd, head);
    ck_assert(send_chunks(fd, LARGE_MAX / 0x4000 + 1));
    ck_assert_uint_eq(hear(fd, false), 413);
    say(fd, head);
    ck_assert(send_chunks(fd, 1));                     /* still good */
    ck_assert_uint_eq(hear(fd, false), 200);
    say(fd, head);
    ck_assert(!send_chunks(fd, 4 * LARGE_MAX / 0x4000));        /* closed on */
    close(fd);
}
END_TEST

START_TEST(bodies_of_all_together_are_bounded)
{
    int  a = dial(), b = dial();
    char half[4096];

    say(a, "POST /write" H "Content-Length: 4194304\r\n\r\n");
    memset(half, 'x', sizeof half);
    for (int i = 0; i < 1023; i++)
        ck_assert(put(a, half, sizeof half));
    nanosleep(&(struct timespec){ .tv_nsec = 100000000 }, NULL);
    ck_assert_uint_eq(send_body(b, "/write", LARGE_MAX, "Expect: 100-continue\r\n"), 503);
    ck_assert(has("Retry-After: 1"));
    close(b);
    b = dial();
    say(b, "POST /write" H "Transfer-Encoding: chunked\r\n\r\n");
    send_chunks(b, LARGE_MAX / 0x4000);
    ck_assert_uint_ne(hear(b, false), 200);            /* 503, or closed on as too much to drop */
    close(b);
    ck_assert(put(a, half, sizeof half));
    ck_assert_uint_eq(hear(a, false), 200);
    b = dial();
    ck_assert_uint_eq(send_body(b, "/write", LARGE_MAX, ""), 200);      /* all is given back */
    close(a);
    close(b);
}
END_TEST

/* A form is kept as it was sent, and once more, decoded. */
START_TEST(a_form_counts_twice_among_the_bodies)
{
    static const char form[] = "Content-Type: application/x-www-form-urlencoded\r\n";
    int               fd = dial();

    ck_assert_uint_eq(send_body(fd, "/write", BUFFERED_MAX / 2 - 100, form), 200);
    ck_assert_uint_eq(send_body(fd, "/write", BUFFERED_MAX / 2 + 100, form), 503);
    ck_assert(has("Retry-After: 1"));
    ck_assert_uint_eq(send_body(fd, "/write", BUFFERED_MAX / 2 + 100, ""), 200);
    ck_assert_uint_eq(send_body(fd, "/write", BUFFERED_MAX / 2 - 100, form), 200);      /* all is given back */
    close(fd);
}
END_TEST

START_TEST(long_heads_count_among_the_bodies_and_short_ones_always_pass)
{
    enum { LONG = 20000, MANY = 150 };
    static char line[LONG + 64];
    char half[4096];
    int  a = dial(), fds[MANY], last;
    unsigned status;

    say(a, "POST /write" H "Content-Length: 4194304\r\n\r\n");
    memset(half, 'x', sizeof half);
    for (int i = 0; i < 1023; i++)
        ck_assert(put(a, half, sizeof half));
    nanosleep(&(struct timespec){ .tv_nsec = 100000000 }, NULL);
    strcpy(line, "GET /echo?a=");
    memset(line + strlen(line), 'x', LONG);
    strcpy(line + strlen("GET /echo?a=") + LONG, H);
    for (int i = 0; i < MANY; i++) {                   /* each stops before its end */
        fds[i] = dial();
        say(fds[i], line);
    }
    do {                                               /* until the server has read all of them */
        last = dial();
        say(last, line);
        say(last, "\r\n");
        status = hear(last, false);
        close(last);
    } while (status == 200);
    ck_assert_uint_eq(status, 503);
    ck_assert_uint_eq(ask("GET /echo" H "\r\n"), 200);
    for (int i = 0; i < MANY; i++)
        close(fds[i]);
    ck_assert(put(a, half, sizeof half));
    ck_assert_uint_eq(hear(a, false), 200);
    close(a);
    do {                                               /* all is given back */
        last = dial();
        say(last, line);
        say(last, "\r\n");
        status = hear(last, false);
        close(last);
    } while (status == 503);
    ck_assert_uint_eq(status, 200);
}
END_TEST

START_TEST(client_that_waits_is_told_to_go_on_or_not)
{
    int fd = dial();

    say(fd, "POST /write" H "Expect: 100-continue\r\nContent-Length: 3\r\n\r\n");
    ck_assert_uint_eq(hear(fd, true), 100);
    say(fd, "abc");
    ck_assert_uint_eq(hear(fd, false), 200);
    say(fd, "POST /echo" H "Expect: 100-continue\r\nContent-Length: 1001\r\n\r\n");
    ck_assert_uint_eq(hear(fd, false), 413);
    close(fd);
}
END_TEST

START_TEST(unclear_ends_of_bodies_are_refused_and_end_the_connection)
{
    static const char *const unclear[] = {
        "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
        "Content-Length: 3\r\nContent-Length: 4\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Content-Length: 3 4\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 0x3\r\n",
    };
    char request[300];
    int  fd = dial();

    snprintf(request, sizeof request,
             "POST /write" H "%s\r\nabcGET /echo" H "\r\n", unclear[_i]);
    say(fd, request);
    ck_assert_uint_eq(hear(fd, false), 400);
    ck_assert_uint_eq(hear(fd, false), 0);
    ck_assert_uint_eq(atomic_load(&calls), 0);
    close(fd);
}
END_TEST

START_TEST(large_answers_are_compressed_for_those_who_take_it)
{
    uLongf   size;
    z_stream z = { .zalloc = Z_NULL };
    static char plain[300000];

    ck_assert_uint_eq(ask("GET /large" H "\r\n"), 200);
    ck_assert(!has("Content-Encoding") && has("Vary: Accept-Encoding"));
    ck_assert_uint_eq(ask("GET /large" H "Accept-Encoding: gzip;q=0\r\n\r\n"), 200);
    ck_assert(!has("Content-Encoding"));
    size = strlen(body());
    ck_assert_uint_eq(ask("GET /large" H "Accept-Encoding: deflate, gzip\r\n\r\n"), 200);
    ck_assert(has("Content-Encoding: gzip"));
    z.next_in = (Bytef *)(uintptr_t)body();
    z.avail_in = (uInt)(answer_size - (size_t)(body() - answer));
    z.next_out = (Bytef *)plain;
    z.avail_out = sizeof plain;
    ck_assert_int_eq(inflateInit2(&z, 31), Z_OK);
    ck_assert_int_eq(inflate(&z, Z_FINISH), Z_STREAM_END);
    inflateEnd(&z);
    ck_assert_uint_eq(z.total_out, size);
    ck_assert_int_eq(memcmp(plain, "line 0\nline 1\n", 14), 0);
    ck_assert_uint_eq(ask("GET /echo" H "Accept-Encoding: gzip\r\n\r\n"), 200);
    ck_assert(!has("Content-Encoding"));
}
END_TEST

START_TEST(what_a_handler_packed_is_not_packed_again)
{
    ck_assert_uint_eq(ask("GET /packed" H "Accept-Encoding: gzip\r\n\r\n"), 200);
    ck_assert(has("Content-Encoding: snappy") && !has("Content-Encoding: gzip"));
    ck_assert_int_eq(memcmp(body(), "line 0\nline 1\n", 14), 0);
}
END_TEST

static struct kl_http_request *wait_kept(void)
{
    for (int i = 0; i < 5000 && atomic_load(&kept) == NULL; i++)
        nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
    ck_assert_ptr_nonnull(atomic_load(&kept));
    return atomic_load(&kept);
}

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

static enum kl_code try_listen(const char *listen)
{
    struct kl_http_server *s = kl_http_server_new(&(struct kl_http_options){ .listen = listen });
    enum kl_code           code = kl_http_server_start(s, &err);

    kl_http_server_free(s);
    return code;
}

START_TEST(address_that_cannot_be_had_is_named_with_the_reason)
{
    char taken[40], want[100];

    snprintf(taken, sizeof taken, "127.0.0.1:%u", kl_http_server_port(server));
    snprintf(want, sizeof want, "cannot listen on %s: Address already in use", taken);
    ck_assert_int_eq(try_listen(taken), KL_EIO);
    ck_assert_str_eq(err.text, want);
    ck_assert_int_eq(try_listen("nonsense"), KL_EINVAL);
    ck_assert_ptr_nonnull(strstr(err.text, "\"nonsense\": it should read host:port"));
    ck_assert_int_eq(try_listen("127.0.0.1:99999"), KL_EINVAL);
    ck_assert_int_eq(try_listen("::1:80"), KL_EINVAL);
    ck_assert_int_eq(try_listen("192.0.2.1:0"), KL_EIO);
    ck_assert_int_eq(try_listen(":0"), KL_OK);
}
END_TEST

START_TEST(answers_are_counted_by_route_and_class)
{
    struct kl_buf b = { 0 };

    ask("GET /echo" H "\r\n");
    ask("GET /echo?%" H "\r\n");
    ask("GET /none" H "\r\n");
    kl_metrics_write(metrics, &b);
    kl_buf_add8(&b, 0);
    ck_assert_ptr_nonnull(strstr(b.at, "koalemos_http_requests_total{code=\"2xx\",method=\"GET,POST"
                                       "\",path=\"/echo\"} 1\n"));
    ck_assert_ptr_nonnull(strstr(b.at, "{code=\"4xx\",method=\"GET,POST\",path=\"/echo\"} 1\n"));
    ck_assert_ptr_nonnull(strstr(b.at, "{code=\"4xx\",method=\"\",path=\"\"} 1\n"));
    kl_buf_deinit(&b);
}
END_TEST

START_TEST(who_is_around_a_handler_may_answer_for_it)
{
    int fd = dial();

    atomic_store(&rounds.before, 0);
    atomic_store(&rounds.after, 0);
    for (unsigned i = 1; i <= 20; i++) {
        say(fd, "GET /off HTTP/1.1\r\nHost: x\r\n\r\n");
        ck_assert_uint_eq(hear(fd, false), 200);
        ck_assert_ptr_nonnull(strstr(answer, "\r\n\r\nafterwards"));
        ck_assert_uint_eq(atomic_load(&rounds.before), i);
        ck_assert_uint_eq(atomic_load(&rounds.after), i);
    }
    close(fd);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("libkoal/http/server");
    TCase *t = tcase_create("all"), *patient = tcase_create("patient");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 30);
    tcase_add_test(t, handler_sees_method_path_headers_and_sets_its_own);
    tcase_add_test(t, star_matches_one_decoded_part_that_may_hold_a_slash);
    tcase_add_test(t, parameters_repeat_and_a_form_comes_before_the_query);
    tcase_add_test(t, unfit_requests_are_refused_with_words);
    tcase_add_test(t, too_many_parameters_and_headers_are_refused);
    tcase_add_test(t, head_is_answered_as_get_without_a_body);
    tcase_add_test(t, connection_is_kept_and_named_until_it_ends);
    tcase_add_test(t, pipelined_requests_are_answered_in_order);
    tcase_add_test(t, answers_that_race_with_the_handlers_return_all_arrive);
    tcase_add_test(t, body_up_to_the_routes_bound_is_taken_and_past_it_refused);
    tcase_add_test(t, client_that_writes_on_still_reads_its_413);
    tcase_add_test(t, chunked_body_is_bounded_as_it_grows);
    tcase_add_test(t, bodies_of_all_together_are_bounded);
    tcase_add_checked_fixture(patient, setup_patient, teardown);
    tcase_set_timeout(patient, 60);
    tcase_add_test(t, a_form_counts_twice_among_the_bodies);
    tcase_add_test(patient, long_heads_count_among_the_bodies_and_short_ones_always_pass);
    tcase_add_test(t, client_that_waits_is_told_to_go_on_or_not);
    tcase_add_loop_test(t, unclear_ends_of_bodies_are_refused_and_end_the_connection, 0, 8);
    tcase_add_test(t, large_answers_are_compressed_for_those_who_take_it);
    tcase_add_test(t, what_a_handler_packed_is_not_packed_again);
    tcase_add_test(t, client_that_left_is_noticed_and_its_answer_dropped);
    tcase_add_test(t, stop_waits_for_answers_under_way);
    tcase_add_test(t, stop_answers_503_for_who_does_not_and_a_later_answer_is_harmless);
    tcase_add_test(t, a_guard_hears_of_answers_before_their_clients_and_of_none_after_its_server_has_stopped);
    tcase_add_test(t, idle_connections_are_closed_but_waiting_ones_are_not);
    tcase_add_test(t, address_that_cannot_be_had_is_named_with_the_reason);
    tcase_add_test(t, answers_are_counted_by_route_and_class);
    tcase_add_test(t, who_is_around_a_handler_may_answer_for_it);
    suite_add_tcase(s, t);
    suite_add_tcase(s, patient);
    return run_suite(s);
}
