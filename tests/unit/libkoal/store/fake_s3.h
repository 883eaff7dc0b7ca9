#ifndef TEST_FAKE_S3_H
#define TEST_FAKE_S3_H
/*
 * A service on loopback that answers each request with the next of a list of answers, however odd,
 * and remembers what it was asked. One connection at a time; a thread.
 */
#include <arpa/inet.h>
#include <check.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* An answer is its text, MARK standing for the mark of the last put; or one of these. */
#define FAKE_RESET "reset"                             /* the connection, without an answer */
#define FAKE_STALL "stall"                             /* says nothing until it is stopped */
enum { FAKE_ANSWERS_MAX = 16, FAKE_REQUEST_MAX = 8192 };

struct fake {
    int       listener, port;
    pthread_t thread;
    const char *answers[FAKE_ANSWERS_MAX];             /* the last is repeated */
    unsigned  count;
    _Atomic unsigned asked;
    char      requests[FAKE_ANSWERS_MAX][FAKE_REQUEST_MAX];    /* head and beginning of the body */
    char      mark[64];
    _Atomic bool stop;
    _Atomic int  connection;                           /* -1: none */
};

static inline bool fake_serve(struct fake *f, int c)
{
    char   *text = calloc(1, FAKE_REQUEST_MAX), *end, *length, answer[4096];
    size_t  n = 0, body;
    unsigned i;
    ssize_t got;
    const char *a, *mark;

    while ((end = strstr(text, "\r\n\r\n")) == NULL && n < FAKE_REQUEST_MAX - 1 &&
           (got = recv(c, text + n, FAKE_REQUEST_MAX - 1 - n, 0)) > 0)
        n += (size_t)got;
    if (end == NULL) {
        free(text);
        return false;
    }
    length = strcasestr(text, "content-length:");
    body = length != NULL ? strtoul(length + 15, NULL, 10) : 0;
    for (size_t have = n - (size_t)(end + 4 - text); have < body; have += (size_t)got)
        if ((got = recv(c, answer, sizeof answer, 0)) <= 0)
            break;
    i = atomic_load(&f->asked);
    if (i < FAKE_ANSWERS_MAX)
        memcpy(f->requests[i], text, FAKE_REQUEST_MAX);
    if ((mark = strstr(text, "x-amz-meta-koalemos-put: ")) != NULL)
        sscanf(mark + 25, "%60[0-9a-f]", f->mark);
    a = f->answers[i < f->count ? i : f->count - 1];
    atomic_fetch_add(&f->asked, 1);
    free(text);
    if (strcmp(a, FAKE_RESET) == 0) {
        struct linger now = { .l_onoff = 1 };
        setsockopt(c, SOL_SOCKET, SO_LINGER, &now, sizeof now);
        return false;
    }
    if (strcmp(a, FAKE_STALL) == 0) {
        while (!atomic_load(&f->stop))
            usleep(10000);
        return false;
    }
    if ((mark = strstr(a, "MARK")) != NULL) {
        snprintf(answer, sizeof answer, "%.*s%s%s", (int)(mark - a), a, f->mark, mark + 4);
        a = answer;
    }
    return send(c, a, strlen(a), MSG_NOSIGNAL) == (ssize_t)strlen(a) && strstr(a, "Connection: close") == NULL;
}

static inline void *fake_run(void *ctx)
{
    struct fake *f = ctx;
    int          c;

    while ((c = accept(f->listener, NULL, NULL)) >= 0) {
        atomic_store(&f->connection, c);
        while (!atomic_load(&f->stop) && fake_serve(f, c))
            ;
        atomic_store(&f->connection, -1);
        close(c);
    }
    return NULL;
}

static inline void fake_start(struct fake *f)
{
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t          n = sizeof at;

    f->listener = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_eq(bind(f->listener, (struct sockaddr *)&at, n), 0);
    ck_assert_int_eq(listen(f->listener, 16), 0);
    ck_assert_int_eq(getsockname(f->listener, (struct sockaddr *)&at, &n), 0);
    f->port = ntohs(at.sin_port);
    atomic_store(&f->connection, -1);
    ck_assert_int_eq(pthread_create(&f->thread, NULL, fake_run, f), 0);
}

static inline void fake_stop(struct fake *f)
{
    int c = atomic_load(&f->connection);

    atomic_store(&f->stop, true);
    shutdown(f->listener, SHUT_RDWR);
    if (c >= 0)                                        /* the client may keep it for its next request */
        shutdown(c, SHUT_RDWR);
    pthread_join(f->thread, NULL);
    close(f->listener);
}
#endif
