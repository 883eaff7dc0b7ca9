/* The server, over libmicrohttpd: its connections, how it starts and how it stops. */
#include "libkoal/http/http_mhd_priv.h"
#include "libkoal/http/tls_priv.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { CONNECTIONS_DEFAULT = 10000, IDLE_DEFAULT_S = 60, ANSWERS_LEAVE_MS = 1000 };
#define BUFFERED_DEFAULT ((size_t)128 << 20)

static void on_connection(void *cls, struct MHD_Connection *connection, void **socket_context,
                          enum MHD_ConnectionNotificationCode what)
{
    struct kl_http_server *s = cls;
    struct connection     *c;

    (void)connection;
    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        c = kl_new(sizeof *c);
        c->server = s;
        c->number = atomic_fetch_add(&s->connections, 1) + 1;
        *socket_context = c;
    } else if (what == MHD_CONNECTION_NOTIFY_CLOSED) {
        free(*socket_context);
        *socket_context = NULL;
    }
}

/* Nobody any more, once the server stops. The library's own way, MHD_quiesce_daemon, takes the socket out of the
 * threads' sets while they may do so themselves, and the second to come ends the process. */
static enum MHD_Result may_connect(void *cls, const struct sockaddr *peer, socklen_t size)
{
    struct kl_http_server *s = cls;
    bool                   draining;

    (void)peer;
    (void)size;
    pthread_mutex_lock(&s->lock);
    draining = s->draining;
    pthread_mutex_unlock(&s->lock);
    return draining ? MHD_NO : MHD_YES;
}

/* In a handshake: the library lets a session carry its connection. */
struct kl_tls *kl_tls_of_connection(void *connection)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

    return ((const struct connection *)info->socket_context)->server->tls;
}

__attribute__((format(printf, 2, 0)))
static void on_words(void *cls, const char *fmt, va_list ap)
{
    struct kl_http_server *s = cls;
    char                   line[300];

    vsnprintf(line, sizeof line, fmt, ap);
    line[strcspn(line, "\n")] = '\0';
    kl_logf(s->options.log, KL_DEBUG, "http: %s", line);
}

struct kl_http_server *kl_http_server_new(const struct kl_http_options *o)
{
    static const double bounds[] = { 0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10, 60 };
    struct kl_http_server *s = kl_new(sizeof *s);

    s->options = *o;
    s->listen = kl_strdup(o->listen);
    s->options.listen = s->listen;
    if (s->options.connections_max == 0)
        s->options.connections_max = CONNECTIONS_DEFAULT;
    if (s->options.idle_timeout_s == 0)
        s->options.idle_timeout_s = IDLE_DEFAULT_S;
    s->bodies.cap_bytes = o->buffered_bytes_max > 0 ? o->buffered_bytes_max : BUFFERED_DEFAULT;
    s->fd = -1;
    atomic_store(&s->refs, 1);
    pthread_mutex_init(&s->lock, NULL);
    kl_http_routes_init(&s->routes, o->metrics);
    kl_http_teller_init(&s->teller, o);
    if (o->metrics != NULL)
        s->seconds = kl_metrics_hist(o->metrics, "koalemos_http_request_duration_seconds", "",
                                     "From the request line to the answer, waiting included.",
                                     bounds, sizeof bounds / sizeof bounds[0]);
    return s;
}

void kl_http_server_unref(struct kl_http_server *s)
{
    if (atomic_fetch_sub(&s->refs, 1) > 1)
        return;
    kl_http_routes_deinit(&s->routes);
    pthread_mutex_destroy(&s->lock);
    free(s->listen);
    free(s);
}

void kl_http_server_free(struct kl_http_server *s)
{
    if (s == NULL)
        return;
    kl_http_server_stop(s, 0);
    kl_http_server_unref(s);
}

void kl_http_guard(struct kl_http_server *s, const struct kl_guard *guard)
{
    assert(s->daemon == NULL);
    s->options.guard = guard;
}

void kl_http_tls(struct kl_http_server *s, struct kl_tls *tls)
{
    assert(s->daemon == NULL);
    s->tls = tls;
}

void kl_http_around(struct kl_http_server *s, const struct kl_http_around *around)
{
    assert(s->daemon == NULL);
    s->around = *around;
}

void kl_http_route_add(struct kl_http_server *s, const struct kl_http_route *route)
{
    assert(s->daemon == NULL);
    kl_http_routes_add(&s->routes, s->options.metrics, route);
}

enum kl_code kl_http_server_start(struct kl_http_server *s, struct kl_err *err)
{
    unsigned threads = s->options.threads;
    char    *ca = s->tls != NULL ? kl_tls_client_ca(s->tls) : NULL;
    sigset_t all, before;

    struct MHD_OptionItem plain[] = { { MHD_OPTION_END, 0, NULL } };
    struct MHD_OptionItem secure[] = {
        { MHD_OPTION_HTTPS_PRIORITIES, 0, (void *)(uintptr_t)kl_tls_priorities() },
        { MHD_OPTION_HTTPS_CERT_CALLBACK, 0, kl_tls_retrieve() },
        { ca != NULL ? MHD_OPTION_HTTPS_MEM_TRUST : MHD_OPTION_END, 0, ca },
        { MHD_OPTION_END, 0, NULL },
    };

    assert(s->daemon == NULL);
    if (kl_http_listen_open(s->listen, &s->fd, &s->port, err) != KL_OK)
        return err->code;
    if (threads == 0) {
        long cores = sysconf(_SC_NPROCESSORS_ONLN);
        threads = cores > 0 ? (unsigned)cores : 1;
    }
    if (threads > s->options.connections_max)
        threads = s->options.connections_max;          /* each needs one to keep */

    /* Its threads take no signals: main waits for them. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    s->daemon = MHD_start_daemon(
        MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG
            | (s->tls != NULL ? MHD_USE_TLS : 0), 0, may_connect,
        s, kl_http_on_request, s,
        MHD_OPTION_ARRAY, s->tls != NULL ? secure : plain,
        MHD_OPTION_EXTERNAL_LOGGER, on_words, (void *)s,
        MHD_OPTION_LISTEN_SOCKET, s->fd,
        MHD_OPTION_CONNECTION_LIMIT, s->options.connections_max,
        MHD_OPTION_THREAD_POOL_SIZE, threads > 1 ? threads : 0,
        MHD_OPTION_CONNECTION_TIMEOUT, s->options.idle_timeout_s,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)KL_HTTP_HEAD_MAX,
        MHD_OPTION_URI_LOG_CALLBACK, kl_http_on_target, (void *)s,
        MHD_OPTION_NOTIFY_COMPLETED, kl_http_on_completed, (void *)s,
        MHD_OPTION_NOTIFY_CONNECTION, on_connection, (void *)s,
        MHD_OPTION_END);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (s->daemon == NULL) {
        close(s->fd);
        s->fd = -1;
        return kl_fail(err, KL_EIO, "cannot serve on %s: %s", s->listen, strerror(errno));
    }
    return KL_OK;
}

unsigned kl_http_server_port(const struct kl_http_server *s) { return s->port; }

/* Waits until the library has let go of all requests; not longer than that. */
static void wait_for_answers(struct kl_http_server *s, int64_t for_ms)
{
    struct timespec pause = { .tv_nsec = 1000000 };

    for (int64_t i = 0; i < for_ms && atomic_load(&s->live) > 0; i++)
        nanosleep(&pause, NULL);
}

/* Until nobody is in the guard with an answer: from here on all that comes has been abandoned. */
static void wait_for_tellers(struct kl_http_server *s)
{
    struct timespec pause = { .tv_nsec = 1000000 };
    unsigned        telling;

    for (;;) {
        pthread_mutex_lock(&s->lock);
        telling = s->telling;
        pthread_mutex_unlock(&s->lock);
        if (telling == 0)
            return;
        nanosleep(&pause, NULL);
    }
}

void kl_http_server_stop(struct kl_http_server *s, int64_t drain_ms)
{
    if (s->daemon == NULL)
        return;
    pthread_mutex_lock(&s->lock);
    s->draining = true;
    pthread_mutex_unlock(&s->lock);
    wait_for_answers(s, drain_ms);

    pthread_mutex_lock(&s->lock);
    s->stopping = true;
    while (s->suspended != NULL) {
        struct kl_http_request *r = s->suspended;

        s->suspended = r->next;
        r->is_suspended = false;
        kl_http_abandon(r);
        MHD_resume_connection(r->connection);
    }
    pthread_mutex_unlock(&s->lock);
    wait_for_answers(s, ANSWERS_LEAVE_MS);
    MHD_stop_daemon(s->daemon);
    s->daemon = NULL;                                  /* and it has closed the socket */
    s->fd = -1;
    wait_for_tellers(s);
}
