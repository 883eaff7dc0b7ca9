#ifndef TEST_HTTP_SERVER_KIT_H
#define TEST_HTTP_SERVER_KIT_H
/* What suites of the HTTP server begin with: a server with handlers of each kind, and a client that sees each byte. */
#include "libkoal/http/around.h"
#include "libkoal/http/http.h"
#include "tests/suite.h"

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

enum { SMALL_MAX = 1000, LARGE_MAX = 4 << 20, BUFFERED_MAX = 6 << 20 };

static struct kl_http_server *server;
static struct kl_metrics     *metrics;
static struct kl_err          err;
static char                   answer[1 << 20];         /* the last one, whole */
static size_t                 answer_size;

/* ---- handlers */

static struct kl_http_request *_Atomic kept;
static atomic_uint                     calls;

static inline void echo(void *ctx, struct kl_http_request *r)
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

static inline void number(void *ctx, struct kl_http_request *r)
{
    char text[20];

    (void)ctx;
    snprintf(text, sizeof text, "%u", kl_http_connection(r));
    kl_http_answer(r, 200, "text/plain", kl_span_str(text));
}

static inline void nothing(void *ctx, struct kl_http_request *r)
{
    (void)ctx;
    kl_http_answer(r, 204, NULL, kl_span("", 0));
}

static inline void keep(void *ctx, struct kl_http_request *r)
{
    (void)ctx;
    atomic_store(&kept, r);
}

static inline void *answer_later(void *arg)
{
    struct kl_http_request *r = arg;

    if (kl_http_path(r)[1] == 'l')                     /* /later waits, /race does not */
        nanosleep(&(struct timespec){ .tv_nsec = 20000000 }, NULL);
    kl_http_answer(r, 200, "text/plain", kl_span_str("later"));
    return NULL;
}

static inline void later(void *ctx, struct kl_http_request *r)
{
    pthread_t t;

    (void)ctx;
    ck_assert_int_eq(pthread_create(&t, NULL, answer_later, r), 0);
    pthread_detach(t);
}

static inline void large(void *ctx, struct kl_http_request *r)
{
    struct kl_buf b = { 0 };

    (void)ctx;
    for (int i = 0; i < 20000; i++)
        kl_buf_addf(&b, "line %d\n", i);
    kl_http_answer_take(r, 200, "text/plain", &b);
}

static inline void packed(void *ctx, struct kl_http_request *r)
{
    kl_http_set(r, "Content-Encoding", "snappy");
    large(ctx, r);
}

static inline void take(void *ctx, struct kl_http_request *r)
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

static inline void before(void *ctx) { atomic_fetch_add(&((struct rounds *)ctx)->before, 1); }
static inline void after(void *ctx)
{
    atomic_fetch_add(&((struct rounds *)ctx)->after, 1);
    if (put_off != NULL)
        kl_http_answer(put_off, 200, "text/plain", kl_span_str("afterwards"));
    put_off = NULL;
}
static inline void put_it_off(void *ctx, struct kl_http_request *r)
{
    (void)ctx;
    put_off = r;
}

static unsigned               idle_s = 2;
static const struct kl_guard *guard;

static inline void setup(void)
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
static inline void setup_patient(void)
{
    idle_s = 600;
    setup();
}

static inline void teardown(void)
{
    kl_http_server_stop(server, 2000);
    kl_http_server_free(server);
    kl_metrics_free(metrics);
}

/* ---- a client */

static inline int dial(void)
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

static inline bool put(int fd, const void *bytes, size_t size)
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

static inline void say(int fd, const char *text) { ck_assert(put(fd, text, strlen(text))); }

/* Reads one answer, with a body as long as Content-Length says unless `no_body`; its status, or 0
 * when the connection ended before. */
static inline unsigned hear(int fd, bool no_body)
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

static inline const char *body(void) { return strstr(answer, "\r\n\r\n") + 4; }
static inline bool has(const char *text) { return strcasestr(answer, text) != NULL; }

static inline unsigned ask(const char *request)
{
    int      fd = dial();
    unsigned status;

    say(fd, request);
    status = hear(fd, strncmp(request, "HEAD", 4) == 0);
    close(fd);
    return status;
}

#define H " HTTP/1.1\r\nHost: x\r\n"

static inline struct kl_http_request *wait_kept(void)
{
    for (int i = 0; i < 5000 && atomic_load(&kept) == NULL; i++)
        nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
    ck_assert_ptr_nonnull(atomic_load(&kept));
    return atomic_load(&kept);
}
#endif
